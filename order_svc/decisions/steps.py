"""What all decisions share: a step of an order's life with its history and its fact; where its units come from."""

from collections import defaultdict
from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import Refused
from order_svc.lifecycle import MOVES, Status
from order_svc.model import Allocations, Command, Line, Order, ReturnStep, StatusChanged, Transition

Decided = Decision[Order, Transition | ReturnStep]


def steps(order: Order, path: tuple[Status, ...], reason: str, command: Command, now: datetime) -> Decided:
    """One row of history, one version and one fact for each step of the path."""
    history, facts = [], []
    for new in path:
        old = order.status if order.version else None
        if old and new not in MOVES[old]:
            raise Refused(
                "ILLEGAL_TRANSITION", f"An order that is {old} cannot become {new}.", status=old, allowed=", ".join(sorted(MOVES[old]))
            )
        order = replace(order, status=new, reason=reason, version=order.version + 1, update_time=now)
        step = Transition(order.id, order.version, order.attempt, old, new, reason, command.actor, command.cause, now)
        history.append(step)
        facts.append(StatusChanged(order, step))
    return Decision(order, history, facts)


def allocated(lines: tuple[Line, ...], allocations: Allocations) -> tuple[Line, ...]:
    """The lines, with where their units come from. Refused where the warehouse's answer is not what was asked for."""
    served: dict[int, int] = defaultdict(int)
    for number, several in allocations.items():
        served[number] = sum(allocation.quantity for allocation in several)
    for line in lines:
        if served[line.number] != line.quantity - line.cancelled:
            raise Refused(
                "RESERVATION_CLOSED", f"The warehouse serves {served[line.number]} of {line.quantity} units of line {line.number}."
            )
    return tuple(replace(line, allocations=tuple(allocations[line.number])) for line in lines)


def warehouses(lines: tuple[Line, ...]) -> list[str]:
    """The warehouses that serve the lines, sorted."""
    return sorted({allocation.warehouse_id for line in lines for allocation in line.allocations})
