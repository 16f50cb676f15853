"""Defects that a run must find: each breaks one guarantee of a service in its process, as a wrong
change of the code might.

tests/chaos/service.py alone plants them. `python -m tests.chaos.prove` shows that a run finds each.
"""

import importlib
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import uuid4

from tests.chaos.plan import Fault, Kind
from tests.chaos.scenarios import Afterwards, Picking, Scenario, Travel, Turn, scenarios

EVERY_SERVICE: Final = ("order", "warehouse", "payment", "fulfillment", "shipping")
SEED: Final = 1
RATE: Final = 2.0
# The actions of all shoppers, unless the run is for another one.
PLAIN: Final[Mapping[str, Any]] = {
    "cards": ("tok_ok",),
    "basket": (("shade", 2), ("lamp", 1)),
    "turn": Turn.NONE,
    "picking": Picking.FINE,
    "travel": Travel.ARRIVES,
    "afterwards": Afterwards.NOTHING,
    "again": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A defect: the guarantee that it breaks, its code, its services, and the run that finds it."""

    guarantee: str
    services: Sequence[str]
    plant: Callable[[], None]
    shoppers: Mapping[str, Any]
    faults: Sequence[tuple[float, float, Kind, str]] = ()
    duration_s: float = 12.0

    def scenarios(self) -> list[Scenario]:
        """Returns shoppers that all reach the defect."""
        wishes = dict(PLAIN) | dict(self.shoppers)
        return [replace(scenario, **wishes) for scenario in scenarios(SEED, self.duration_s, RATE)]

    def plan(self) -> list[Fault]:
        """Returns the faults that reach the defect."""
        return [
            Fault(number=number, at_s=at_s, lasts_s=lasts_s, kind=kind, target=target)
            for number, (at_s, lasts_s, kind, target) in enumerate(self.faults, 1)
        ]


def plant(name: str, service: str) -> None:
    """Plants the defect, if this service is one of its services."""
    if service in BUGS[name].services:
        BUGS[name].plant()


def _module(name: str) -> Any:
    """Returns a module of a service, to be changed."""
    return importlib.import_module(name)


def _replace(owner: Any, name: str, by: Any) -> Any:
    """Replaces an existing attribute; returns the former value."""
    before = getattr(owner, name)
    setattr(owner, name, by)
    return before


def _replace_decider(service: str, command: str, by: Any) -> Any:
    """Replaces a decider in the table that the service reads; returns the former one."""
    table = _module(f"{service}_svc.decisions.deciders").DECIDERS
    kind = getattr(_module(f"{service}_svc.model.commands"), command)
    before, table[kind] = table[kind], by
    return before


def _acks_before_commit() -> None:
    async def acks_first(self: Any, messages: Sequence[Any]) -> None:
        for message in messages:
            await message.ack()
        await handle(self, messages)

    handle = _replace(_module("chassis.consume.inbox").Consumer, "_handle", acks_first)


def _marks_what_was_not_published() -> None:
    stream = _module("chassis.broker.stream")
    number = itertools.count(1)

    async def publishes_most(self: Any, subject: str, *message: Any, **rest: Any) -> Any:
        if next(number) % 20:
            return await publish(self, subject, *message, **rest)
        return stream.PubAck(stream=rest["stream"], seq=1)  # a position that was compared long ago

    publish = _replace(stream.Broker, "publish", publishes_most)


def _ignores_repeats() -> None:
    async def ignores_repeats(
        self: Any, connection: Any, commands: Sequence[Any]
    ) -> dict[str, Any]:
        await insert(self, connection, commands)
        return {}

    insert = _replace(
        _module("chassis.write.idempotency_keys").IdempotencyKeys, "insert", ignores_repeats
    )


def _releases_twice() -> None:
    deciders = _module("warehouse_svc.decisions.deciders").DECIDERS
    kinds = _module("warehouse_svc.lifecycle").MovementKind
    kind = _module("warehouse_svc.model.commands").CloseAttempt
    close_attempt = deciders[kind]

    def again(record: Any, command: Any, context: Any) -> Any:
        posting = _module("warehouse_svc.decisions.posting").StockPosting(record, command, context)
        released = [
            (r, line)
            for r in (record.order_reservations.reservations if record.order_reservations else ())
            for line in r.lines
            if line.released
        ]
        for reservation, line in released:
            place, cumulative = (reservation.warehouse_id, line.sku), line.released + line.quantity
            posting._moved_kinds[reservation.id].add(kinds.RELEASE)
            posting._post(
                place,
                kinds.RELEASE,
                line.released,
                reservation.id,
                reservation.order_id,
                line.number,
                cumulative,
            )
        return (
            posting.decision(closed_attempt=command.attempt)
            if released
            else close_attempt(record, command, context)
        )

    deciders[kind] = again


def _restocks_twice() -> None:
    deciders = _module("warehouse_svc.decisions.deciders").DECIDERS
    kind = _module("warehouse_svc.model.commands").PostReturn
    post_return = deciders[kind]
    deciders[kind] = lambda record, command, context: post_return(
        record,
        replace(command, source=uuid4()),
        context,
    )


def _refunds_without_ceiling() -> None:
    payment = _module("payment_svc.model.records").Payment
    _replace(payment, "refundable", property(lambda self: self.captured))


def _refunds_twice() -> None:
    compensation = _module("payment_svc.decisions.compensation")
    _replace(compensation, "compensated_amount", lambda _payment: 0)
    _replace(compensation, "_cause_id", lambda _payment, _kind, _version: f"version:{uuid4()}")


def _charges_with_a_new_key() -> None:
    operations = _module("payment_svc.operations.payments")
    authorization: Any = _replace(
        operations, "Authorization", lambda **fields: authorization(**fields | {"key": uuid4()})
    )


def _never_restocks() -> None:
    kinds = _module("warehouse_svc.lifecycle").MovementKind

    def skips_restock(self: Any, reservation: Any, number: int, kind: Any, quantity: int) -> None:
        if kind is not kinds.UNCOMMIT:
            move_units(self, reservation, number, kind, quantity)

    move_units = _replace(
        _module("warehouse_svc.decisions.posting").StockPosting, "move_units", skips_restock
    )


def _reopens_closed_orders() -> None:
    statuses = _module("order_svc.lifecycle").Status

    def reopens(order: Any, command: Any, context: Any) -> Any:
        if order and order.status is statuses.CANCELLED:
            order = replace(order, status=statuses.PENDING)
        return confirm(order, command, context)

    confirm = _replace_decider("order", "ConfirmPayment", reopens)


def _applies_older_versions() -> None:
    def applies_any_version(order: Any, command: Any, context: Any) -> Any:
        if order:
            older = tuple(replace(each, version=0) for each in order.fulfillments)
            order = replace(order, fulfillments=older)
        return apply(order, command, context)

    apply = _replace_decider("order", "ApplyFulfillmentStatus", applies_any_version)


def _never_releases() -> None:
    kinds = _module("warehouse_svc.lifecycle").MovementKind

    def skips_release(self: Any, reservation: Any, kind: Any) -> None:
        if kind is not kinds.RELEASE:
            move_all(self, reservation, kind)

    move_all = _replace(
        _module("warehouse_svc.decisions.posting").StockPosting, "move_all", skips_release
    )


BUGS: Final[Mapping[str, Bug]] = {
    "acks_before_commit": Bug(
        guarantee="an event is acknowledged only after its effect is committed",
        services=EVERY_SERVICE,
        plant=_acks_before_commit,
        shoppers={},
        faults=(
            (6.0, 9.0, Kind.HOLD, "fulfillment>postgres"),
            (14.0, 0.5, Kind.KILL, "fulfillment"),
            (20.0, 9.0, Kind.HOLD, "fulfillment>postgres"),
            (28.0, 0.5, Kind.KILL, "fulfillment"),
        ),
        duration_s=30.0,
    ),
    "lost_event": Bug(
        guarantee="an event is marked as published only after its publication",
        services=EVERY_SERVICE,
        plant=_marks_what_was_not_published,
        shoppers={},
        faults=((5.0, 4.0, Kind.KILL, "nats"), (14.0, 4.0, Kind.KILL, "nats")),
        duration_s=20.0,
    ),
    "no_dedup": Bug(
        guarantee="a repeat has no effect",
        services=EVERY_SERVICE,
        plant=_ignores_repeats,
        shoppers={"again": True, "turn": Turn.CANCEL, "turn_s": 1.0},
    ),
    "release_twice": Bug(
        guarantee="reserved units are released once",
        services=["warehouse"],
        plant=_releases_twice,
        shoppers={"turn": Turn.CANCEL, "turn_s": 0.1},
    ),
    "release_never": Bug(
        guarantee="the units that a cancelled order reserved are free",
        services=["warehouse"],
        plant=_never_releases,
        shoppers={"cards": ("tok_declined_stolen",)},
    ),
    "restock_twice": Bug(
        guarantee="a returned unit is posted once",
        services=["warehouse"],
        plant=_restocks_twice,
        shoppers={"afterwards": Afterwards.RETURN_SOME},
    ),
    "refund_without_ceiling": Bug(
        guarantee="no more is refunded than was captured",
        services=["payment"],
        plant=_refunds_without_ceiling,
        shoppers={"afterwards": Afterwards.REFUND_MEETS_RETURN},
    ),
    "refund_twice": Bug(
        guarantee="a cause is refunded once",
        services=["payment"],
        plant=_refunds_twice,
        shoppers={"turn": Turn.CANCEL_ITEMS, "turn_s": 2.0},
    ),
    "charge_with_new_key": Bug(
        guarantee="a charge is never repeated",
        services=["payment"],
        plant=_charges_with_a_new_key,
        shoppers={"cards": ("tok_timeout_charged",)},
    ),
    "never_uncommitted": Bug(
        guarantee="units of a cancelled order are back on the shelf",
        services=["warehouse"],
        plant=_never_restocks,
        shoppers={"turn": Turn.CANCEL, "turn_s": 3.0},
        faults=((0.5, 11.0, Kind.KILL, "shipping"),),  # so that no parcel leaves before that
    ),
    "revived": Bug(
        guarantee="a closed order stays closed",
        services=["order"],
        plant=_reopens_closed_orders,
        shoppers={"turn": Turn.CANCEL, "turn_s": 0.5, "cards": ("tok_ok_late",)},
    ),
    "old_news": Bug(
        guarantee="an event of an older version changes nothing",
        services=["order"],
        plant=_applies_older_versions,
        shoppers={},
        faults=[(4.0 + number, 8.0, Kind.STEAL, "FULFILLMENTS") for number in range(8)],
        duration_s=20.0,
    ),
}
