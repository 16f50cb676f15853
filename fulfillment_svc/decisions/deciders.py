"""The table of deciders, one for each command, and the checks that several have in common."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

from chassis.values.decision import Decision
from chassis.values.envelope import Context, Decider, decider
from chassis.values.versions import check_jump
from fulfillment_svc.decisions.leaving import complete, give_up, ship
from fulfillment_svc.decisions.orders import cut, end, plan, release, settle
from fulfillment_svc.decisions.packing import note_spoiled, pack, record_inspection, start_packing
from fulfillment_svc.decisions.picking import complete_picking, scan_items, start_picking
from fulfillment_svc.decisions.steps import Decided, DecidedOne, expect, found
from fulfillment_svc.model import (
    Complete,
    CompletePicking,
    Cut,
    End,
    Fulfillment,
    GiveUp,
    Job,
    NoteSpoiled,
    OfOrder,
    Pack,
    Plan,
    RecordInspection,
    Release,
    Request,
    ScanItems,
    Settle,
    Ship,
    StartPacking,
    StartPicking,
    Transition,
)

C = TypeVar("C")
N = TypeVar("N", bound=OfOrder)


def of_order(verb: Callable[[Job, N, Context], Decided]) -> Decider[Job, Transition]:
    """Returns the decider of a command about an order: its first command creates the record.

    The decider raises Refused VERSION_JUMP for an order version that is too far ahead.
    """

    @wraps(verb)
    def decide(job: Job | None, command: N, context: Context) -> Decided:
        version = job.kept.version if job and job.kept else 0
        check_jump(version, command.version, f"Order {context.target}")
        return verb(job or Job(context.target), command, context)

    return decide


def of_fulfillment(
    verb: Callable[[Fulfillment, C, Context], DecidedOne],
) -> Decider[Job, Transition]:
    """Returns the decider of a command about one fulfilment: the others of its order stay.

    The decider raises NotFound FULFILLMENT_NOT_FOUND, and Stale VERSION_MISMATCH for a request that
    expects another version.
    """

    @wraps(verb)
    def decide(job: Job | None, command: C, context: Context) -> Decided:
        job, fulfillment = found(job, context)
        if isinstance(command, Request):
            expect(fulfillment, command)
        decided = verb(fulfillment, command, context)
        if decided.record is fulfillment:
            return Decision(job)
        return Decision(job.having(decided.record), decided.history, decided.facts)

    return decide


DECIDERS: Final[Mapping[type[Any], Decider[Job, Transition]]] = {
    Plan: of_order(plan),
    Settle: of_order(settle),
    Cut: of_order(cut),
    End: of_order(end),
    Release: release,
    Ship: of_fulfillment(ship),
    Complete: of_fulfillment(complete),
    StartPicking: of_fulfillment(start_picking),
    ScanItems: of_fulfillment(scan_items),
    CompletePicking: of_fulfillment(complete_picking),
    StartPacking: of_fulfillment(start_packing),
    Pack: of_fulfillment(pack),
    NoteSpoiled: of_fulfillment(note_spoiled),
    RecordInspection: of_fulfillment(record_inspection),
    GiveUp: of_fulfillment(give_up),
}

decide = decider(DECIDERS)
