"""The context of a service follows its settings."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, ClassVar

import grpc
import pytest
from nats.js.errors import NotFoundError
from prometheus_client import REGISTRY
from sqlalchemy import insert, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker.stream import Broker, Limits, connect
from chassis.consume import inbox, pull
from chassis.consume.delivery import Delivery
from chassis.observe import telemetry
from chassis.publish import relay
from chassis.rpc.circuit_breaker import Breaker
from chassis.service import service_context
from chassis.values.config import ServiceConfig
from chassis.values.decision import Done, Outcome
from chassis.values.errors import Deferred
from chassis.write import probe
from chassis.write.idempotency_keys import NO_TARGET, RETENTION
from devstack.nats import Nats
from tests.proxy import Proxy
from tests.sample import store
from tests.sample.events import SampleNoted
from tests.support import Eventually


class Config(ServiceConfig):
    """The sample's settings."""

    service: ClassVar[str] = "sample"
    listen_address: str = "127.0.0.1:0"
    metrics_address: str = "127.0.0.1:0"


async def test_stream_has_the_limits_of_its_publisher(
    sample_url: str, nats_url: str, eventually: Eventually
) -> None:
    """A service creates its stream with the size and the number of copies of its settings. (The
    test's broker allows one copy.)
    """
    settings = {"database_url": sample_url, "nats_url": nats_url}
    listener = await connect(nats_url, name="listener")
    async with service_context(
        Config.model_validate(settings | {"stream_replicas": 3}),
        store,
        stream_name="ORDERS",
        encode=store.event,
    ) as context:
        assert context.broker.limits == Limits(replicas=3)
    async with service_context(
        Config.model_validate(settings | {"stream_bytes_max": 2**21}),
        store,
        stream_name="ORDERS",
        encode=store.event,
    ):
        await eventually(lambda: _exists(listener))
    config = (await listener.streams.stream_info("ORDERS")).config
    assert (config.max_bytes, config.num_replicas) == (2**21, 1)
    await listener.close()


async def test_tasks_end_before_their_channels(
    sample_url: str, nats_url: str, eventually: Eventually
) -> None:
    """At the end a running task can still call: a call over a closed channel would count as a
    defect of its event.
    """
    settings = {"database_url": sample_url, "nats_url": nats_url}
    states: list[grpc.ChannelConnectivity] = []

    async def working(channel: grpc.aio.Channel) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            states.append(channel.get_state())

    async with service_context(
        Config.model_validate(settings), store, stream_name="ORDERS", encode=store.event
    ) as context:
        channel = await context.channel("127.0.0.1:1", Breaker("peer"))
        context.tasks.start("working", working(channel))
        await asyncio.sleep(0)  # it begins
    assert states == [grpc.ChannelConnectivity.IDLE]
    assert channel.get_state() is grpc.ChannelConnectivity.SHUTDOWN


async def test_service_makes_partitions_and_deletes_old_keys(
    sample_url: str, nats_url: str, engine: AsyncEngine, eventually: Eventually
) -> None:
    """After its start the outbox has a partition for each of the coming days, and expired keys are
    deleted.
    """
    async with engine.begin() as connection:
        await connection.execute(
            insert(store.idempotency_keys).values(
                key="old",
                request_hash=b"",
                target=NO_TARGET,
                create_time=datetime.now(UTC) - 2 * RETENTION,
            )
        )

    async def is_kept() -> bool:
        async with engine.connect() as connection:
            days = await connection.execute(
                text("select count(*) from pg_inherits where inhparent = 'outbox'::regclass")
            )
            return (
                days.scalar_one() > 1
                and (await connection.execute(select(store.idempotency_keys))).first() is None
            )

    assert not await is_kept()
    async with service_context(
        Config.model_validate({"database_url": sample_url, "nats_url": nats_url}),
        store,
        stream_name="ORDERS",
        encode=store.event,
    ):
        await eventually(is_kept)


async def _exists(broker: Broker) -> bool:
    try:
        await broker.streams.stream_info("ORDERS")
    except NotFoundError:
        return False
    return True


GAUGES = (
    "outbox_waiting",
    "outbox_oldest_waiting_seconds",
    "outbox_comparison_remaining",
    "outbox_unknown_events",
    "failed_events",
)


@pytest.fixture
def no_readings() -> None:
    """Resets all gauges: services of other tests in this process left values."""
    for collector in REGISTRY._collector_to_names:
        if isinstance(collector, telemetry.Reading):
            collector.drop()


@pytest.mark.usefixtures("no_readings")
@pytest.mark.parametrize("frozen", [False, True], ids=["cut", "frozen"])
async def test_gauges_of_an_unreachable_database_have_no_value(
    sample_url: str,
    nats_url: str,
    eventually: Eventually,
    monkeypatch: pytest.MonkeyPatch,
    frozen: bool,
) -> None:
    """While the database is unreachable, `database_up` is 0 and gauges that are read from it have
    no value; afterwards all have values again.
    """
    for module, name in ((relay, "MEASURE_S"), (inbox, "SURVEY_S"), (probe, "PROBE_S")):
        monkeypatch.setattr(module, name, 0.1)
    url = make_url(sample_url)
    async with Proxy(url.port or 5432).serving() as proxy:
        database_url = url.set(port=proxy.port).render_as_string(hide_password=False)
        config = Config.model_validate({"database_url": database_url, "nats_url": nats_url})
        async with service_context(
            config, store, stream_name="ORDERS", encode=store.event
        ) as context:
            await context.open([], {SampleNoted: _nothing})

            async def all_are_read() -> bool:
                return _value("database_up") == 1 and all(
                    _value(name) is not None for name in GAUGES
                )

            async def none_is_read() -> bool:
                return _value("database_up") == 0 and all(_value(name) is None for name in GAUGES)

            await eventually(all_are_read, what="all gauges are read")
            target, proxy.target = proxy.target, 1
            if frozen:
                proxy.stop()
            else:
                proxy.cut()
            await eventually(none_is_read, timeout_s=60, what="no gauge is left")
            with pytest.raises(Deferred) as caught:
                async with context.database.read() as connection:
                    await connection.execute(select(store.idempotency_keys))
            assert (caught.value.reason, caught.value.metadata["peer"]) == (
                "DEPENDENCY_UNAVAILABLE",
                "database",
            )
            proxy.target = target
            proxy.go()
            await eventually(all_are_read, timeout_s=60, what="all gauges are read again")


@pytest.mark.usefixtures("no_readings")
async def test_gauges_of_an_unreachable_broker_have_no_value(
    sample_url: str, own_nats: Nats, eventually: Eventually, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the broker is unreachable, `broker_connected` is 0 and gauges that are read from it
    have no value; the database's gauges stay.
    """
    monkeypatch.setattr(pull, "MEASURE_S", 0.1)
    monkeypatch.setattr(relay, "MEASURE_S", 0.1)
    config = Config.model_validate({"database_url": sample_url, "nats_url": own_nats.url})
    async with service_context(config, store, stream_name="ORDERS", encode=store.event) as context:
        await context.open([], {SampleNoted: _nothing})

        async def all_are_read() -> bool:
            return _value("broker_connected") == 1 and None not in (
                _value("inbox_pending"),
                _value("broker_max_payload_bytes"),
            )

        async def none_is_read() -> bool:
            without_value = [
                _value(name) is None
                for name in ("inbox_pending", "broker_max_payload_bytes", "outbox_unknown_events")
            ]
            return _value("broker_connected") == 0 and all(without_value)

        await eventually(
            all_are_read, timeout_s=30, what="all gauges are read, though no event arrives"
        )
        own_nats.kill()
        await eventually(none_is_read, timeout_s=30, what="no gauge is left")
        assert _value("outbox_waiting") == 0
        own_nats.start()
        await eventually(all_are_read, timeout_s=30, what="all gauges are read again")


async def _nothing(deliveries: Sequence[Delivery[Any]]) -> Sequence[Outcome[None]]:
    return [Done(record=None) for _ in deliveries]


def _value(name: str) -> float | None:
    """Returns the value of a gauge on the metrics page, for any labels; None where the page has
    none.
    """
    return next(
        (s.value for family in REGISTRY.collect() if family.name == name for s in family.samples),
        None,
    )
