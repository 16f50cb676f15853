"""The verbs: what an order becomes when something is asked of it or told to it. Pure: no I/O, no
clock, no chance.

placing.py      a checkout becomes an order
paying.py       the outcome of its payment, and money that goes back
cancelling.py   it, or units of it, are not wanted any more; or it is tried again
following.py    what fulfilment, shipping and the warehouse tell; what is recalled
returning.py    its units on their way back
steps.py        what all of them share: a step with its history and its fact; units that go; axes
"""

from dataclasses import replace
from datetime import datetime

from chassis.decision import Decision
from chassis.errors import NotFound
from order_svc.decisions import cancelling, following, paying, placing, returning
from order_svc.decisions.cancelling import check_retry
from order_svc.decisions.paying import accepts
from order_svc.decisions.placing import PAYMENT_WINDOW, check
from order_svc.decisions.steps import Decided
from order_svc.model import (
    AnyCommand,
    Asked,
    CancelItems,
    CancelOrder,
    ConfirmPayment,
    ExpireOrder,
    FailPayment,
    NoteFulfillment,
    NoteRefund,
    NoteReservation,
    NoteShipment,
    NoteShipmentEnd,
    OfReturn,
    Order,
    PlaceOrder,
    RetryOrder,
    ReturnCommand,
    Told,
)

__all__ = ["PAYMENT_WINDOW", "Decided", "accepts", "check", "check_retry", "decide"]


def decide(order: Order | None, command: AnyCommand, now: datetime) -> Decided:
    """What becomes of the order; raises a Failure where nothing may. The same record back: the
    command is skipped.
    """
    if isinstance(command, PlaceOrder):
        return placing.place(order, command, now)
    if order is None:
        raise NotFound(
            "ORDER_NOT_FOUND", f"There is no order {command.target}.", order_id=str(command.target)
        )
    decided = _decide(order, command, now)
    if decided.record is order:
        return decided
    decided = following.recalls(decided, command, now)
    return replace(decided, record=returning.axes(decided.record))


def _decide(
    order: Order, command: ExpireOrder | Asked | Told | ReturnCommand, now: datetime
) -> Decided:
    if isinstance(command, OfReturn):
        return returning.decide(order, command, now)
    match command:
        case CancelOrder():
            return cancelling.cancel(order, command, now)
        case CancelItems():
            return cancelling.cancel_items(order, command, now)
        case RetryOrder():
            return cancelling.retry(order, command, now)
        case ExpireOrder():
            return cancelling.expire(order, command, now)
    if command.attempt != order.attempt:
        return Decision(order)  # of an earlier life of the order
    return _told(order, command, now)


def _told(order: Order, command: Told, now: datetime) -> Decided:
    match command:
        case ConfirmPayment():
            return paying.confirm(order, command, now)
        case FailPayment():
            return paying.fail(order, command, now)
        case NoteRefund():
            return paying.note_refund(order, command, now)
        case NoteFulfillment():
            return following.note_fulfillment(order, command, now)
        case NoteShipment():
            return following.note_shipment(order, command, now)
        case NoteShipmentEnd():
            return following.note_shipment_end(order, command, now)
        case NoteReservation():
            return following.note_reservation(order, command, now)
