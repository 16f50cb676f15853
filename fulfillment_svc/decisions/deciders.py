"""The table of deciders, one for each command, and the checks that several have in common."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

from chassis.values.decision import Decision
from chassis.values.envelope import Context, Decider, decider
from chassis.values.versions import check_jump
from fulfillment_svc.decisions.commits import record_commit
from fulfillment_svc.decisions.inspections import record_inspection, record_spoiled
from fulfillment_svc.decisions.orders import close_attempt, confirm_withdrawal, cut, plan
from fulfillment_svc.decisions.packing import pack, start_packing
from fulfillment_svc.decisions.picking import complete_picking, scan_items, start_picking
from fulfillment_svc.decisions.shipping import cancel_fulfillment, complete, ship
from fulfillment_svc.decisions.transitions import (
    Decided,
    DecidedOne,
    append_each,
    find_target,
    require_version,
)
from fulfillment_svc.model.commands import (
    CancelFulfillment,
    CloseAttempt,
    Complete,
    CompletePicking,
    ConfirmWithdrawal,
    Cut,
    OrderCommand,
    Pack,
    Plan,
    RecordCommit,
    RecordInspection,
    RecordSpoiled,
    Request,
    ScanItems,
    Ship,
    StartPacking,
    StartPicking,
)
from fulfillment_svc.model.records import Fulfillment, OrderFulfillments, Transition

C = TypeVar("C")
N = TypeVar("N", bound=OrderCommand)


def of_order(
    verb: Callable[[OrderFulfillments, N, Context], Decided],
) -> Decider[OrderFulfillments, Transition]:
    """Returns the decider of a command about an order: its first command creates the record.

    The decider raises Refused VERSION_JUMP for an order version that is too far ahead.
    """

    @wraps(verb)
    def decide(order: OrderFulfillments | None, command: N, context: Context) -> Decided:
        version = order.remaining.version if order and order.remaining else 0
        check_jump(version, command.version, f"Order {context.target}")
        return verb(order or OrderFulfillments(order_id=context.target), command, context)

    return decide


def of_fulfillment(
    verb: Callable[[Fulfillment, C, Context], DecidedOne],
) -> Decider[OrderFulfillments, Transition]:
    """Returns the decider of a command about one fulfilment: the others of its order stay.

    The decider raises NotFound FULFILLMENT_NOT_FOUND, and Stale VERSION_MISMATCH for a request that
    expects another version.
    """

    @wraps(verb)
    def decide(order: OrderFulfillments | None, command: C, context: Context) -> Decided:
        order, fulfillment = find_target(order, context)
        if isinstance(command, Request):
            require_version(fulfillment, command)
        return append_each(Decision(order), [verb(fulfillment, command, context)])

    return decide


DECIDERS: Final[Mapping[type[Any], Decider[OrderFulfillments, Transition]]] = {
    Plan: of_order(plan),
    RecordCommit: of_order(record_commit),
    Cut: of_order(cut),
    CloseAttempt: of_order(close_attempt),
    ConfirmWithdrawal: confirm_withdrawal,
    Ship: of_fulfillment(ship),
    Complete: of_fulfillment(complete),
    StartPicking: of_fulfillment(start_picking),
    ScanItems: of_fulfillment(scan_items),
    CompletePicking: of_fulfillment(complete_picking),
    StartPacking: of_fulfillment(start_packing),
    Pack: of_fulfillment(pack),
    RecordSpoiled: of_fulfillment(record_spoiled),
    RecordInspection: of_fulfillment(record_inspection),
    CancelFulfillment: of_fulfillment(cancel_fulfillment),
}

decide = decider(DECIDERS)
