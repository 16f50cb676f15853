"""A set of shipping's commands equals its commands one by one, on PostgreSQL."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, given, settings

from chassis.values.decision import unwrap
from chassis.values.envelope import Envelope
from chassis.values.versions import JUMP_MAX
from shipping_svc import tables
from shipping_svc.decisions.deciders import decide, decide_fulfillment, decide_order
from shipping_svc.lifecycle import REPORTABLE, Reason, Status
from shipping_svc.model.commands import (
    CancelShipment,
    CloseFulfillment,
    CloseOrder,
    CloseShipment,
    CreateShipment,
    FailLabel,
    RecordLabel,
    RecordRecallAnswer,
    RecordReport,
    WithdrawShipment,
)
from shipping_svc.model.records import (
    Label,
    RecallAnswer,
    Report,
    Shipment,
    ShipmentRequest,
    purchase_key,
)
from shipping_svc.store.closed import (
    lock_closed_fulfillments,
    lock_closed_orders,
    save_closed_fulfillments,
    save_closed_orders,
)
from shipping_svc.store.recalls import find_recalls
from shipping_svc.store.workspace import lock_shipments, save_shipments
from shipping_svc.wire.events_out import outgoing_event
from tests.property.set_histories import (
    NOON,
    Commands,
    History,
    Records,
    Step,
    histories,
    openings,
    steps,
    write_history,
)
from tests.property.sets import BothWays, RecordKind, both_ways, examples
from tests.unit.shipping.samples import (
    NEW_PARCELS,
    PARCELS,
    changed,
    close_shipment,
    create_shipment,
    record_label,
    record_recall_answer,
    report,
    withdraw_shipment,
)

MINUTES = count(1)  # a later time for each set
FULFILLMENTS = [UUID(int=300 + number) for number in range(3)]
OPENING = ["create", "create", "label"]
KINDS = [
    "create",
    "create",
    "create",
    "label",
    "label",
    "label",
    "fail",
    "report",
    "report",
    "cancel",
    "close",
    "withdraw",
    "withdraw",
    "answer",
    "answer",
]


@pytest.fixture
async def both(migrated_database: Callable[[str], str]) -> AsyncIterator[BothWays]:
    async with both_ways(migrated_database, "shipping_svc", tables, outgoing_event) as both:
        yield both


def create(step: Step, number: int, records: Records) -> Envelope[CreateShipment]:
    """Returns the request to ship a fulfilment, at one of six versions, by a call or an event.

    One in six names another warehouse.
    """
    fulfillment_id = FULFILLMENTS[step.first % 3]
    version = step.second + 1
    request = ShipmentRequest(
        order_id=UUID(int=200 + step.first % 3 // 2),
        attempt=1,
        fulfillment_id=fulfillment_id,
        warehouse_id="W2" if step.first == 5 else "W1",
        parcels=PARCELS if version % 2 else NEW_PARCELS,
        fulfillment_version=version,
    )
    earlier = [s for s in records.values() if s.fulfillment_id == fulfillment_id]
    stored = max((max(s.fulfillment_version, s.withdraw_version or 0) for s in earlier), default=0)
    return Envelope(
        key=f"{'event' if number % 2 else 'call'}:{number}",
        request_hash=b"",
        target=UUID(int=number),
        actor="fulfillment",
        cause=f"cause {number}",
        command=CreateShipment(request=request, carrier="sandbox", stored_version=stored),
    )


def command_of(step: Step, number: int, shipment: Shipment) -> Any:
    """Returns a command about an existing shipment."""
    purchase = max(0, shipment.purchase - (step.second == 5))
    match step.kind:
        case "label":
            # most shipments get the same number
            number_sold = f"T-{shipment.id}-{purchase}" if step.second % 3 == 2 else "T1"
            label = Label(number_sold, b"%PDF", "application/pdf")
            return RecordLabel(label=label, purchase=purchase)
        case "fail":
            reason = Reason.CARRIER_REFUSED if step.second % 2 else Reason.ORDER_CLOSED
            code = "NO_SUCH_PLACE" if step.second % 2 else None
            return FailLabel(
                reason=reason, carrier_code=code, purchase=purchase if step.second % 2 else None
            )
        case "report":
            status = sorted(REPORTABLE)[step.second]
            report = Report(
                carrier_event_id=f"{status}@{number % 3}",
                status=status,
                occur_time=NOON,
                location="Dover hub",
            )
            return RecordReport(report=report)
        case "cancel":
            return CancelShipment(expected_version=shipment.version if step.second % 2 else None)
        case "close":
            closed = Reason.ORDER_CLOSED, Reason.FULFILLMENT_CANCELLED
            return CloseShipment(reason=closed[step.second % 2])
        case "withdraw":
            return WithdrawShipment(version=shipment.fulfillment_version + step.second // 2)
    return RecordRecallAnswer(
        answer=list(RecallAnswer)[step.second % 3],
        purchase=purchase,
        tracking_number=shipment.tracking_number if step.second < 4 else None,
    )


def make(step: Step, number: int, records: Records) -> Envelope[Any] | None:
    """Returns the command of a step. The purchase of a label has one key."""
    if step.kind == "create":
        return create(step, number, records)
    known = [records[id] for id in sorted(records)]
    if step.kind == "answer":  # to a recall or a withdrawal
        known = [s for s in known if s.recall_time or s.withdraw_version]
    if not known:
        return None
    shipment = step.choose(known)
    command = command_of(step, number, shipment)
    sold = isinstance(command, RecordLabel)
    key = purchase_key(shipment.id, command.purchase) if sold else f"{step.kind}:{number}"
    report = command.report if isinstance(command, RecordReport) else None
    return Envelope(
        key=key,
        request_hash=b"",
        target=shipment.id,
        actor="tester",
        cause=report.carrier_event_id if report else key,
        command=command,
        note="a note" if step.kind in ("cancel", "report") else None,
    )


def renew(envelope: Envelope[Any], number: int) -> Envelope[Any]:
    """Returns the repeat: a creation proposes a new id."""
    is_creation = isinstance(envelope.command, CreateShipment)
    return replace(envelope, target=UUID(int=number)) if is_creation else envelope


def close(step: Step, number: int, _: Records) -> Envelope[CloseOrder | CloseFulfillment]:
    """Returns the command that closes an order or a fulfilment. One version is too far ahead."""
    version = (1, 2, 3, 4, 5, 2 + JUMP_MAX)[step.second]
    key = f"{step.kind}:{number}"
    command: CloseOrder | CloseFulfillment = (
        CloseOrder(attempt=1 + step.second // 3, status="cancelled", version=version)
        if step.kind == "order"
        else CloseFulfillment(version=version, stored_version=step.first % 3)
    )
    return Envelope(
        key=key,
        request_hash=b"",
        target=FULFILLMENTS[step.first % 3],
        actor="tester",
        cause=key,
        command=command,
    )


SHIPMENTS = Commands(
    kind=RecordKind(load=lock_shipments, decide=decide, save=save_shipments),
    make=make,
    id_of=lambda shipment: shipment.id,
    renew=renew,
)
CLOSED_ORDERS = Commands(
    kind=RecordKind(load=lock_closed_orders, decide=decide_order, save=save_closed_orders),
    make=close,
    id_of=lambda order: order.order_id,
)
CLOSED_FULFILLMENTS = Commands(
    kind=RecordKind(
        load=lock_closed_fulfillments, decide=decide_fulfillment, save=save_closed_fulfillments
    ),
    make=close,
    id_of=lambda fulfillment: fulfillment.fulfillment_id,
)
FEW = settings(
    max_examples=examples(8), suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(histories(openings(OPENING), steps(KINDS)))
async def test_a_set_of_shipments_equals_its_commands(both: BothWays, history: History) -> None:
    """Creations by calls and events, labels, refusals, reports, recalls, withdrawals and the
    carrier's answers, several of one fulfilment in a set: outcomes, rows and events are those of
    the same commands one by one.
    """
    await write_history(both, SHIPMENTS, history)


@FEW
@given(histories(openings(["order"]), steps(["order"])))
async def test_a_set_of_closed_orders_equals_its_commands(both: BothWays, history: History) -> None:
    """Several closings of one order in a set, at versions in any order."""
    await write_history(both, CLOSED_ORDERS, history)


@FEW
@given(histories(openings(["fulfilment"]), steps(["fulfilment"])))
async def test_a_set_of_closed_fulfilments_equals_its_commands(
    both: BothWays, history: History
) -> None:
    """Several closings of one fulfilment in a set, at versions in any order."""
    await write_history(both, CLOSED_FULFILLMENTS, history)


async def write(both: BothWays, *envelopes: Envelope[Any]) -> list[Shipment]:
    """Writes the commands as one set and one by one; returns the shipments of their outcomes."""
    time = NOON + timedelta(minutes=next(MINUTES))
    return [unwrap(each) for each in await both.write(SHIPMENTS.kind, envelopes, time)]


def request(version: int, **more: Any) -> Envelope[CreateShipment]:
    """Returns a request to ship the parcels of the fulfilment at this version; it proposes an id of
    its own.
    """
    target = uuid5(FULFILLMENTS[0], f"{next(MINUTES)}")
    creation = create_shipment(target, fulfillment_version=version, **more)
    return replace(creation, cause=str(target))


async def withdrawn(both: BothWays) -> Shipment:
    """Returns a shipment with a label, whose fulfilment has withdrawn it at version 4."""
    [pending] = await write(both, request(3))
    withdraw = withdraw_shipment(target=pending.id, version=4)
    return (await write(both, record_label(target=pending.id), withdraw))[-1]


async def test_call_and_event_in_one_set_make_one_shipment(both: BothWays) -> None:
    """A call and an event ask for the same fulfilment, each with an id of its own: the second gets
    the shipment of the first. It is also the fulfilment's shipment where the first has failed.
    """
    first, second = await write(both, request(3), request(3))
    assert first == second
    close = replace(close_shipment(), target=first.id)
    failed, again = await write(both, close, request(3))
    assert (again.id, failed.status, again.status) == (first.id, Status.FAILED, Status.FAILED)


async def test_void_label_and_next_parcels_in_one_set_make_another(both: BothWays) -> None:
    """The carrier confirms that the label is void, and the fulfilment is ready again: the second
    command of the set makes the next shipment. The same request before the answer does not.
    """
    before = await withdrawn(both)
    early, ended, following = await write(both, request(5), voided(before), request(6))
    assert (early.id, ended.status) == (before.id, Status.VOIDED)
    assert (following.id == before.id, following.status) == (False, Status.PENDING)


async def test_recall_closed_and_opened_in_one_set_is_open(both: BothWays) -> None:
    """The carrier does not void the label any more, and then the order is closed: the second
    command opens the recall again, and the sweeper sends it.
    """
    before = await withdrawn(both)
    late = changed(voided(before), answer=RecallAnswer.TOO_LATE)
    await write(both, late, replace(close_shipment(), target=before.id))
    async with both.together.engine.connect() as connection:
        [recall] = await find_recalls(connection, [before.id])
    assert recall.bring_back


async def test_number_freed_in_a_set_is_sold_again_in_it(both: BothWays) -> None:
    """A shipment ends, and the carrier sells its number for another one. Without the end, or where
    two labels of one set have the number, the second shipment fails.
    """
    first, other, third = await write(both, *(request(1, fulfillment_id=id) for id in FULFILLMENTS))
    await write(both, record_label(target=first.id))
    delivered = report("delivered", target=first.id)
    _, sold, twice = await write(
        both, delivered, record_label(target=other.id), record_label(target=third.id)
    )
    assert sold.status is Status.CREATED
    assert (twice.status, twice.reason) == (Status.FAILED, Reason.TRACKING_NUMBER_IN_USE)


def voided(shipment: Shipment) -> Envelope[RecordRecallAnswer]:
    """Returns the carrier's answer that the label is void."""
    answer = replace(record_recall_answer(), target=shipment.id)
    return changed(answer, tracking_number=shipment.tracking_number)
