"""Events of orders: fulfilments are planned, cut and cancelled."""

from collections.abc import Sequence
from typing import Any

from uuid_utils.compat import uuid7

from chassis.values.decision import Outcome
from chassis.values.envelope import Envelope
from chassis.values.errors import Defect, Deferred
from chassis.values.versions import is_jump
from chassis.write.database import Database
from chassis.write.writer import Writer
from fulfillment_svc.model.commands import (
    CloseAttempt,
    CommitAnswer,
    Committed,
    Cut,
    OrderCommand,
    OrderEvent,
    OrderEventKind,
    Picklist,
    Plan,
)
from fulfillment_svc.model.inspection import InspectionPolicy
from fulfillment_svc.model.records import (
    Allocation,
    FulfillmentKey,
    OrderAttempt,
    OrderFulfillments,
    RemainingUnits,
)
from fulfillment_svc.operations.commits import commit_attempts
from fulfillment_svc.peers import Warehouse
from fulfillment_svc.store.fulfillments import find_keys
from fulfillment_svc.store.orders import find_versions


class OrderOperations:
    """The operation that applies events of orders."""

    def __init__(
        self,
        database: Database,
        writer: Writer[OrderFulfillments],
        warehouse: Warehouse,
        inspection: InspectionPolicy,
    ) -> None:
        self.database, self.writer = database, writer
        self.warehouse, self.inspection = warehouse, inspection

    async def apply_order_events(
        self,
        envelopes: Sequence[Envelope[OrderEvent]],
    ) -> list[Outcome[OrderFulfillments]]:
        """Plans, cuts and cancels fulfilments as the events of their orders say.

        A confirmed order gets one fulfilment for each of its warehouses.
        """
        attempts = await self._attempts_to_commit(envelopes)
        try:
            answers = await commit_attempts(self.warehouse, uuid7(), attempts)
        except (Deferred, Defect):
            # The warehouse may have committed the stock: the worker requests the commit again.
            answers = {}
        return await self.writer.write(
            [
                each.with_command(
                    self._order_command(each.command, answers.get(each.command.order_attempt))
                )
                for each in envelopes
            ]
        )

    async def _attempts_to_commit(
        self,
        envelopes: Sequence[Envelope[OrderEvent]],
    ) -> set[OrderAttempt]:
        """Returns the attempts with a pending commit and fulfilments that are still to be created.

        An event that the write refuses, by its key or by its version, names none.
        """
        if not any(needs_commit(each.command) for each in envelopes):
            return set()
        async with self.database.read() as connection:
            refusals = await self.database.reused(connection, envelopes)
            events = [
                each.command
                for each, refusal in zip(envelopes, refusals, strict=True)
                if refusal is None and needs_commit(each.command)
            ]
            orders = {each.order_id for each in events}
            known = await find_keys(connection, orders)
            versions = await find_versions(connection, orders)
        return {
            each.order_attempt
            for each in events
            if not is_jump(versions.get(each.order_id, 0), each.version)
            and not known.issuperset(each.fulfillment_keys)
        }

    def _order_command(self, event: OrderEvent, answer: CommitAnswer | None) -> OrderCommand:
        """Returns the command that the event means for the order's fulfilments."""
        lines_by_warehouse = (
            answer.lines_by_warehouse if isinstance(answer, Committed) else event.lines_by_warehouse
        )
        picklists = tuple(
            Picklist(
                id=uuid7(),
                warehouse_id=warehouse_id,
                lines=lines,
                inspection_rule=self.inspection.rule(
                    FulfillmentKey(event.order_id, warehouse_id, event.attempt), event.total, lines
                ),
            )
            for warehouse_id, lines in sorted(lines_by_warehouse.items())
        )
        fields: dict[str, Any] = {
            "attempt": event.attempt,
            "order_number": event.order_number,
            "version": event.version,
        }
        if event.kind is OrderEventKind.CANCELLED:
            return CloseAttempt(**fields, picklists=picklists)
        units = (
            Allocation(warehouse_id, line.line_number, line.quantity)
            for warehouse_id, lines in event.lines_by_warehouse.items()
            for line in lines
        )
        remaining = RemainingUnits(event.attempt, event.version, tuple(sorted(units)))
        if event.kind is OrderEventKind.CUT:
            return Cut(**fields, remaining=remaining)
        committed = isinstance(answer, Committed) or event.stock_committed
        return Plan(
            **fields,
            picklists=picklists,
            stock_committed=committed,
            remaining=None if event.stock_committed else remaining,
        )


def needs_commit(event: OrderEvent) -> bool:
    """Returns whether an order is confirmed whose stock is not committed yet."""
    return event.kind is OrderEventKind.CONFIRMED and not event.stock_committed
