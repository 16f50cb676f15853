"""Domain events, as published events."""

from collections.abc import Mapping
from typing import Any

from google.protobuf.message import Message
from ordermesh.payment.events.v1 import payment_events_pb2

from chassis.values.convert import timestamp
from chassis.values.money import to_message
from chassis.values.outgoing_event import OutgoingEvent
from payment_svc.lifecycle import Outcome, Status
from payment_svc.model.events import (
    DomainEvent,
    PaymentConfirmed,
    PaymentFailed,
    PaymentStatusChanged,
    RefundSettled,
)
from payment_svc.model.records import Payment, Transition
from payment_svc.wire.enums import STATUS, status_value
from payment_svc.wire.responses import refund


def outgoing_event(event: DomainEvent) -> OutgoingEvent:
    """Returns the published form of a domain event; its aggregate is the payment."""
    payment = event.payment
    return OutgoingEvent(aggregate=payment.id, order_id=payment.order_id, message=_message(event))


def _message(event: DomainEvent) -> Message:
    """Returns the message without the note of the change, which only the history has."""
    payment, transition = event.payment, event.transition
    reason_fields: dict[str, Any] = {
        "reason": transition.reason,
        "actor": transition.actor,
        "claimed_actor": transition.claimed_actor,
        "cause_id": transition.cause,
    }
    match event:
        case PaymentStatusChanged():
            return _status_changed(payment, transition, reason_fields)
        case PaymentConfirmed():
            return payment_events_pb2.PaymentConfirmed(
                payment_id=str(payment.id),
                order_id=str(payment.order_id),
                attempt=payment.attempt,
                captured_amount=to_message(payment.money(payment.captured)),
                not_required=payment.status is Status.NOT_REQUIRED,
                payment_version=payment.version,
                occur_time=timestamp(payment.update_time),
                **reason_fields,
            )
        case PaymentFailed():
            return payment_events_pb2.PaymentFailed(
                payment_id=str(payment.id),
                order_id=str(payment.order_id),
                attempt=payment.attempt,
                decline_code=payment.decline_code or "",
                payment_version=payment.version,
                occur_time=timestamp(payment.update_time),
                **reason_fields,
            )
        case RefundSettled():
            kind = (
                payment_events_pb2.RefundCompleted
                if event.refund.outcome is Outcome.SUCCEEDED
                else payment_events_pb2.RefundFailed
            )
            return kind(
                refund=refund(event.refund),
                captured_amount=to_message(payment.money(payment.captured)),
                refunded_amount=to_message(payment.money(payment.refunded)),
                payment_version=payment.version,
                occur_time=timestamp(payment.update_time),
                **reason_fields,
            )


def _status_changed(
    payment: Payment, transition: Transition, reason_fields: Mapping[str, Any]
) -> payment_events_pb2.PaymentStatusChanged:
    return payment_events_pb2.PaymentStatusChanged(
        payment_id=str(payment.id),
        order_id=str(payment.order_id),
        attempt=payment.attempt,
        try_number=payment.try_number,
        old_status=status_value(transition.old),
        new_status=STATUS[transition.new],
        amount=to_message(payment.money(payment.amount)),
        authorized_amount=to_message(payment.money(payment.authorized)),
        captured_amount=to_message(payment.money(payment.captured)),
        processor=payment.processor,
        decline_code=payment.decline_code,
        payment_version=transition.version,
        occur_time=timestamp(transition.time),
        **reason_fields,
    )
