"""Returns: the next step of a return (pure), and the return of a credit note's goods from request
to refund.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from ordermesh.order.v1 import order_pb2, return_pb2
from ordermesh.order.v1 import return_service_pb2 as api

from chassis.values.errors import Failure
from omctl.names import name_of
from simulator.credits import Credit
from simulator.requests import home, request_id
from simulator.services import Services, reason

LOOK_S: Final = 0.2
CLOSED: Final = "closed"
REFUSED: Final = "refused"
STUCK: Final = "stuck"
# Statuses of returns that wait for a step of the staff.
AT_DESK: Final = (
    return_pb2.RETURN_STATUS_REQUESTED,
    return_pb2.RETURN_STATUS_APPROVED,
    return_pb2.RETURN_STATUS_IN_TRANSIT,
    return_pb2.RETURN_STATUS_RECEIVED,
)
# Statuses after which no step of a return follows.
ENDS: Final = frozenset(
    {
        return_pb2.RETURN_STATUS_CLOSED,
        return_pb2.RETURN_STATUS_REJECTED,
        return_pb2.RETURN_STATUS_CANCELLED,
    }
)

Step = api.ApproveReturnRequest | api.ReceiveReturnRequest | api.InspectReturnRequest


@dataclass(frozen=True, slots=True)
class Returned:
    """The outcome of a credit's return. `outcome` is its last status (e.g. closed), REFUSED or
    STUCK; `why` explains it.
    """

    credit: Credit
    outcome: str
    why: str = ""


def next_step(item: return_pb2.Return) -> Step | None:
    """Returns the next step of the staff; None after the inspection, or if no goods will arrive.

    The staff approve every return, all announced units arrive, and all pass inspection. The
    request_id is derived from the return and its version: two concurrent calls of one step take
    effect once.
    """
    id = request_id(UUID(item.return_id), f"{item.status}@{item.version}")
    match item.status:
        case return_pb2.RETURN_STATUS_REQUESTED:
            return api.ApproveReturnRequest(request_id=id, return_id=item.return_id)
        case return_pb2.RETURN_STATUS_APPROVED | return_pb2.RETURN_STATUS_IN_TRANSIT:
            arrived = [
                api.ReceivedReturnLine(
                    line_number=line.line_number, quantity=line.announced_quantity
                )
                for line in item.lines
                if line.announced_quantity
            ]
            where = home(item.lines[0].sku)
            return api.ReceiveReturnRequest(
                request_id=id, return_id=item.return_id, warehouse_id=where, lines=arrived
            )
        case return_pb2.RETURN_STATUS_RECEIVED:
            looked_at = [
                api.InspectedReturnLine(line_number=line.line_number, passed_quantity=units)
                for line in item.lines
                if (units := line.received_quantity - line.passed_quantity - line.failed_quantity)
            ]
            return api.InspectReturnRequest(
                request_id=id, return_id=item.return_id, lines=looked_at
            )
    return None


def announced(credit: Credit, order: order_pb2.Order, label: str = "") -> api.CreateReturnRequest:
    """Returns the request for the return of a credit, of its invoice's order."""
    lines = [api.NewReturnLine(line_number=line, quantity=units) for line, units in credit.lines]
    return api.CreateReturnRequest(
        request_id=request_id(credit.key(label), "CreateReturn"),
        order_id=order.order_id,
        lines=lines,
        reason="CREDIT_NOTE",
    )


async def give_back(
    services: Services, credit: Credit, order: order_pb2.Order, *, label: str, wait_s: float
) -> Returned:
    """Takes a credit's return to its end, or finds one that ended in an earlier replay; returns the
    outcome. Reports each failure in the outcome.
    """
    deadline = time.monotonic() + wait_s
    try:
        request = announced(credit, order, label)
        item = (
            await services.ask(services.returns.CreateReturn, request, wait_s=wait_s)
        ).order_return
        item = await take_back(services, item, wait_s)
        while item.status not in ENDS:
            if time.monotonic() > deadline:
                return Returned(
                    credit,
                    STUCK,
                    f"the return is {_name(item)} ({item.status_reason}), and is stuck",
                )
            await asyncio.sleep(LOOK_S)
            read = api.GetReturnRequest(return_id=item.return_id)
            answer = await services.ask(services.returns.GetReturn, read, wait_s=wait_s)
            item = await take_back(services, answer.order_return, wait_s)
    except Failure as failure:
        return Returned(credit, REFUSED, f"{reason(failure)}: {failure}")
    return Returned(
        credit,
        _name(item),
        "" if item.status == return_pb2.RETURN_STATUS_CLOSED else item.status_reason,
    )


async def take_back(
    services: Services, item: return_pb2.Return, wait_s: float = 0.0
) -> return_pb2.Return:
    """Takes every step of the staff that the return waits for; returns it. Raises a Failure."""
    return await services.take_steps(
        services.returns, item, next_step, "order_return", wait_s=wait_s
    )


def _name(item: return_pb2.Return) -> str:
    return name_of(return_pb2.ReturnStatus, item.status)
