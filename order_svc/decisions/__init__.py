"""The verbs: what an order becomes when something is asked of it or told to it. Pure: no I/O, no clock, no ids made.

placing.py      a checkout becomes an order
paying.py       the outcome of its payment
following.py    what fulfilment, shipping and the warehouse tell
returning.py    its units on their way back
steps.py        what all of them share: a step with its history and its fact; allocations
"""

from datetime import datetime

from chassis.decision import Decision
from chassis.errors import NotFound
from order_svc.decisions import following, paying, placing, returning
from order_svc.decisions.placing import PAYMENT_WINDOW, TOTAL_MAX, check
from order_svc.decisions.steps import Decided
from order_svc.model import (
    AnyCommand,
    ConfirmPayment,
    FailPayment,
    NoteFulfillment,
    NoteReservation,
    NoteShipment,
    OfReturn,
    Order,
    PlaceOrder,
)

__all__ = ["PAYMENT_WINDOW", "TOTAL_MAX", "Decided", "check", "decide"]


def decide(order: Order | None, command: AnyCommand, now: datetime) -> Decided:
    """What becomes of the order; raises a Failure where nothing may. The same record back: the command is skipped."""
    if isinstance(command, PlaceOrder):
        return placing.place(order, command, now)
    if order is None:
        raise NotFound("ORDER_NOT_FOUND", f"There is no order {command.target}.", order_id=str(command.target))
    if isinstance(command, OfReturn):
        return returning.decide(order, command, now)
    if command.attempt != order.attempt:
        return Decision(order)  # of an earlier life of the order
    match command:
        case ConfirmPayment():
            return paying.confirm(order, command, now)
        case FailPayment():
            return paying.fail(order, command, now)
        case NoteFulfillment():
            return following.note_fulfillment(order, command, now)
        case NoteShipment():
            return following.note_shipment(order, command, now)
        case NoteReservation():
            return following.note_reservation(order, command, now)
