"""Goods that come back: what is done with a return next (pure), and a credit note's goods given
back, from request to refund.
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
from simulator.services import Services, reason, verb

LOOK_S: Final = 0.2
CLOSED: Final = "closed"
REFUSED: Final = "refused"
STUCK: Final = "stuck"
# The returns that wait for somebody at the desk.
AT_DESK: Final = (
    return_pb2.RETURN_STATUS_REQUESTED,
    return_pb2.RETURN_STATUS_APPROVED,
    return_pb2.RETURN_STATUS_IN_TRANSIT,
    return_pb2.RETURN_STATUS_RECEIVED,
)
# Nothing more is to be expected of a return that stands there.
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
    """How the return of a credit went. `outcome` is its last status (closed, say), or REFUSED or
    STUCK; `why` explains it.
    """

    credit: Credit
    outcome: str
    why: str = ""


def next_step(its: return_pb2.Return) -> Step | None:
    """What is to be done with the goods now; None where nothing is: they have been looked at, or do
    not come.

    Everything may come, all that was announced arrives, and all that has arrived is good. The
    request_id is made of the return and its version: two who take the same step at once take it
    once.
    """
    id = request_id(UUID(its.return_id), f"{its.status}@{its.version}")
    match its.status:
        case return_pb2.RETURN_STATUS_REQUESTED:
            return api.ApproveReturnRequest(request_id=id, return_id=its.return_id)
        case return_pb2.RETURN_STATUS_APPROVED | return_pb2.RETURN_STATUS_IN_TRANSIT:
            arrived = [
                api.ReceivedReturnLine(
                    line_number=line.line_number, quantity=line.announced_quantity
                )
                for line in its.lines
                if line.announced_quantity
            ]
            where = home(its.lines[0].sku)
            return api.ReceiveReturnRequest(
                request_id=id, return_id=its.return_id, warehouse_id=where, lines=arrived
            )
        case return_pb2.RETURN_STATUS_RECEIVED:
            looked_at = [
                api.InspectedReturnLine(line_number=line.line_number, passed_quantity=units)
                for line in its.lines
                if (units := line.received_quantity - line.passed_quantity - line.failed_quantity)
            ]
            return api.InspectReturnRequest(request_id=id, return_id=its.return_id, lines=looked_at)
    return None


def announced(credit: Credit, order: order_pb2.Order, label: str = "") -> api.CreateReturnRequest:
    """The return that a credit asks for, of the order that its invoice became."""
    lines = [api.NewReturnLine(line_number=line, quantity=units) for line, units in credit.lines]
    return api.CreateReturnRequest(
        request_id=request_id(credit.key(label), "CreateReturn"),
        order_id=order.order_id,
        lines=lines,
        reason="CREDIT_NOTE",
    )


async def give_back(
    services: Services, credit: Credit, order: order_pb2.Order, *, label: str, patience_s: float
) -> Returned:
    """Walks the return of a credit to its end; one that ended in an earlier replay is found.
    Raises nothing but bugs.
    """
    deadline = time.monotonic() + patience_s
    try:
        request = announced(credit, order, label)
        its = (
            await services.ask(services.returns.CreateReturn, request, patience_s=patience_s)
        ).order_return
        while its.status not in ENDS:
            if time.monotonic() > deadline:
                return Returned(
                    credit,
                    STUCK,
                    f"the return is {_name(its)} ({its.status_reason}), and goes no further",
                )
            its = await _on(services, its, patience_s)
    except Failure as failure:
        return Returned(credit, REFUSED, f"{reason(failure)}: {failure}")
    return Returned(
        credit,
        _name(its),
        "" if its.status == return_pb2.RETURN_STATUS_CLOSED else its.status_reason,
    )


async def take_back(services: Services, its: return_pb2.Return) -> None:
    """Takes every step that waits for somebody at the desk. Raises a Failure."""
    while (step := next_step(its)) is not None:
        its = (await services.ask(getattr(services.returns, verb(step)), step)).order_return


async def _on(services: Services, its: return_pb2.Return, patience_s: float) -> return_pb2.Return:
    """The return one step on; where it is the services' turn, as it stands after a moment."""
    if (step := next_step(its)) is None:
        await asyncio.sleep(LOOK_S)
        request = api.GetReturnRequest(return_id=its.return_id)
        answer = await services.ask(services.returns.GetReturn, request, patience_s=patience_s)
    else:
        answer = await services.ask(
            getattr(services.returns, verb(step)), step, patience_s=patience_s
        )
    found: return_pb2.Return = answer.order_return
    return found


def _name(its: return_pb2.Return) -> str:
    return name_of(return_pb2.ReturnStatus, its.status)
