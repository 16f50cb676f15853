"""The commit of an attempt's stock, once the warehouse has answered."""

from dataclasses import replace

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from fulfillment_svc.decisions.orders import (
    apply_cuts,
    assign_picklists,
    cancel_picklists,
    is_commit_pending,
    mark_never_started,
)
from fulfillment_svc.decisions.transitions import Decided, advance, append_each
from fulfillment_svc.lifecycle import Reason, Status
from fulfillment_svc.model.commands import RecordCommit
from fulfillment_svc.model.records import OrderFulfillments


def record_commit(order: OrderFulfillments, command: RecordCommit, context: Context) -> Decided:
    """Picking can begin in the warehouses that committed the stock. A fulfilment that waited in
    another warehouse is cancelled without units.

    Units that moved to another warehouse keep their inspection rule.
    """
    if command.attempt <= order.closed_attempt:
        return mark_never_started(
            cancel_picklists(Decision(order), command, command.picklists, context), command
        )
    fulfillments = order.of_attempt(command.attempt)
    if not any(map(is_commit_pending, fulfillments)):
        return Decision(order)
    rule = next((each.inspection_rule for each in fulfillments if each.inspection_rule), None)
    picklists = [replace(each, inspection_rule=rule) for each in command.picklists]
    done = assign_picklists(order, command, picklists, True, context)
    committed_in = {picklist.warehouse_id for picklist in command.picklists}
    idle = [
        each
        for each in done.record.of_attempt(command.attempt)
        if is_commit_pending(each) and each.key.warehouse_id not in committed_in
    ]
    path = [(Status.CANCELLED, Reason.STOCK_COMMITTED_ELSEWHERE)]
    moved = [advance(replace(each, lines=()), path, context) for each in idle]
    return apply_cuts(append_each(done, moved), command, context)
