"""The verbs: what fulfilments become when something is asked of them, or heard of their order. Pure: no I/O, no clock, no chance.

orders.py   what the order makes of all its fulfilments: planned, settled, cut, ended; and what becomes of one that was withdrawn
picking.py  scans, and the picklist closed
packing.py  packages and their inspection
leaving.py  given up, or gone with a shipment
steps.py    a step and what is told of it, and what may not be done
"""

from datetime import datetime

from chassis.decision import Decision
from chassis.errors import NotFound
from chassis.versions import check_jump
from fulfillment_svc.decisions import leaving, orders, packing, picking
from fulfillment_svc.decisions.steps import Decided, DecidedOne, expect, move, walk
from fulfillment_svc.lifecycle import Reason, Status, Trigger
from fulfillment_svc.model import (
    AnyCommand,
    Complete,
    CompletePicking,
    Cut,
    End,
    Fulfillment,
    FulfillmentCommand,
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
)

__all__ = ["decide", "decide_one", "expect"]


def decide(job: Job | None, command: AnyCommand, now: datetime) -> Decided:
    """What becomes of an order's fulfilments (None: nothing was heard of it). Raises a Failure where it cannot be done, or not yet."""
    if isinstance(command, OfOrder):
        check_jump(job.kept.version if job and job.kept else 0, command.version, f"Order {command.target}")
    match command:
        case Plan():
            return orders.plan(job or Job(command.target), command, now)
        case Settle():
            return orders.settle(job or Job(command.target), command, now)
        case Cut():
            return orders.cut(job or Job(command.target), command, now)
        case End():
            return orders.end(job or Job(command.target), command, now)
    fulfillment = job.find(command.target) if job else None
    if not job or not fulfillment:
        raise NotFound("FULFILLMENT_NOT_FOUND", f"there is no fulfilment {command.target}", fulfillment_id=str(command.target))
    if isinstance(command, Release):
        return orders.release(job, command, now)
    decided = decide_one(fulfillment, command, now)
    if decided.record is fulfillment:
        return Decision(job)
    return Decision(job.having(decided.record), decided.history, decided.facts)


def decide_one(fulfillment: Fulfillment, command: FulfillmentCommand, now: datetime) -> DecidedOne:
    """What becomes of a fulfilment by itself."""
    if isinstance(command, Request):
        expect(fulfillment, command)
    match command:
        case Ship():
            return leaving.arrive(fulfillment, Status.SHIPPED, command, now)
        case Complete():
            return leaving.arrive(fulfillment, Status.COMPLETED, command, now)
        case StartPicking():
            return picking.start_picking(fulfillment, command, now)
        case ScanItems():
            return picking.scan_items(fulfillment, command, now)
        case CompletePicking():
            return picking.complete_picking(fulfillment, command, now)
        case StartPacking():
            path = [(move(fulfillment, Trigger.START_PACKING), Reason.PACKING_STARTED)]
            return walk(fulfillment, path, command, now)
        case Pack():
            return packing.pack(fulfillment, command, now)
        case NoteSpoiled():
            return packing.note_spoiled(fulfillment, command, now)
        case RecordInspection():
            return packing.record_inspection(fulfillment, command, now)
        case GiveUp():
            return leaving.give_up(fulfillment, command, now)
