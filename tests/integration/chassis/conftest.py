"""The sample service's database for tests of the chassis."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.broker import stream
from chassis.broker.stream import Broker
from chassis.broker.stream import connect as connect_broker
from chassis.publish import relay
from chassis.write.database import Database, connect
from chassis.write.outbox import Outbox
from devstack.nats import Nats
from tests.sample import store
from tests.sample.operators import Sample, operated
from tests.streams import ensure_streams
from tests.support import Databases, FreshDatabase


@pytest.fixture(autouse=True, scope="module")
def plain_tracebacks() -> Iterator[None]:
    """Tracebacks as Python writes them: structlog's own for terminals, with every local
    variable, take seconds on a busy machine.
    """
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            renderer,
        ]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def sample_template(databases: Databases) -> Iterator[str]:
    """The URL of a database with the sample's tables, to be copied."""
    url = databases.create()
    engine = create_engine(url)
    store.metadata.create_all(engine)
    engine.dispose()
    yield url
    databases.drop(url)


@pytest.fixture
def sample_url(fresh_database: FreshDatabase, sample_template: str) -> str:
    """The URL of a database with the sample's tables, this test's alone."""
    return fresh_database(sample_template)


@pytest.fixture
async def engine(sample_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the sample's database, with enough connections for concurrent writers."""
    engine = connect(sample_url, name="sample", pool_size=20)
    yield engine
    await engine.dispose()


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    """The database of the sample service."""
    return Database(engine, store.idempotency_keys, Outbox(store.outbox, encode=store.event))


@pytest.fixture
async def listener(fresh_database: FreshDatabase, sample_template: str) -> AsyncIterator[Database]:
    """The database of another service, which consumes the sample's events; no relay publishes its
    own events.
    """
    engine = connect(fresh_database(sample_template), name="listener")
    yield Database(engine, store.idempotency_keys, Outbox(store.outbox, encode=store.event))
    await engine.dispose()


@pytest.fixture
def short_idle_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a connection notice soon that the server does not answer."""
    monkeypatch.setattr(stream, "BEAT_S", 0.1)
    monkeypatch.setattr(stream, "IDLE_TIMEOUT_S", 1.0)


@pytest.fixture
async def broker(nats_url: str, short_idle_timeout: None) -> AsyncIterator[Broker]:
    """A connection to this test's account of the broker, which notices soon that the server does
    not answer.
    """
    broker = await connect_broker(nats_url, name="sample")
    await ensure_streams(broker)
    yield broker
    await broker.close()


@pytest.fixture
def short_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shortens the broker's deduplication window to half a second; the relay tries again sooner
    than that.
    """
    monkeypatch.setattr(stream, "DUPLICATE_WINDOW_S", 0.5)
    monkeypatch.setattr(relay, "REPEAT_RETRY_S", 0.2)


@pytest.fixture
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the relay look often for events that it was not woken for."""
    monkeypatch.setattr(relay, "POLL_S", 0.05)


@pytest.fixture
def own_nats(tmp_path: Path) -> Iterator[Nats]:
    """A NATS server of this test's own, which the test can stop, kill, freeze and start again."""
    server = Nats(tmp_path / "nats")
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def own_broker(own_nats: Nats, short_idle_timeout: None) -> AsyncIterator[Broker]:
    """A connection to `own_nats`, which notices soon that the server does not answer."""
    broker = await connect_broker(own_nats.url, name="sample")
    await ensure_streams(broker)
    yield broker
    await broker.close()


@pytest.fixture
async def sample(sample_url: str, nats_url: str) -> AsyncIterator[Sample]:
    """The sample service, at a port of its own, for its operators' calls."""
    async with operated(sample_url, nats_url) as sample:
        yield sample
