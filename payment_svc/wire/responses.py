"""Records, as messages of responses. None holds a payment-method token."""

from ordermesh.payment.v1 import payment_pb2

from chassis.values.convert import timestamp, timestamp_or_none
from chassis.values.money import Money, to_message
from payment_svc.lifecycle import REFUND_STATUS, Cause, Kind
from payment_svc.model.excerpt import excerpt
from payment_svc.model.records import Contradiction, Operation, Payment, Refund, Transition
from payment_svc.wire.enums import CAUSE, KIND, OUTCOME, REFUND, STATUS, status_value


def payment(payment: Payment) -> payment_pb2.Payment:
    return payment_pb2.Payment(
        payment_id=str(payment.id),
        order_id=str(payment.order_id),
        attempt=payment.attempt,
        status=STATUS[payment.status],
        amount=to_message(payment.money(payment.amount)),
        authorized_amount=to_message(payment.money(payment.authorized)),
        captured_amount=to_message(payment.money(payment.captured)),
        refunded_amount=to_message(payment.money(payment.refunded)),
        refund_pending_amount=to_message(payment.money(payment.refund_pending)),
        processor=payment.processor,
        decline_code=payment.decline_code,
        try_number=payment.try_number,
        order_version=payment.order_version,
        operations=[_operation(payment, operation) for operation in excerpt(payment.operations)],
        version=payment.version,
        create_time=timestamp(payment.create_time),
        update_time=timestamp(payment.update_time),
    )


def refund(refund: Refund) -> payment_pb2.Refund:
    return payment_pb2.Refund(
        refund_id=str(refund.id),
        payment_id=str(refund.payment_id),
        order_id=str(refund.order_id),
        attempt=refund.attempt,
        amount=to_message(Money(refund.amount, refund.currency)),
        status=REFUND[REFUND_STATUS[refund.outcome]],
        cause=CAUSE[refund.cause],
        cause_id=refund.cause_id,
        failure_code=refund.failure_code,
        create_time=timestamp(refund.request_time),
        settle_time=timestamp_or_none(refund.settle_time),
        return_id=refund.cause_id.partition(":")[0] if refund.cause is Cause.RETURN else None,
        update_time=timestamp(refund.update_time),
    )


def transition(transition: Transition, kind: Kind | None) -> payment_pb2.PaymentTransition:
    """Returns the row of history; `kind` is the kind of the operation."""
    no_outcome = payment_pb2.PAYMENT_OPERATION_OUTCOME_UNSPECIFIED
    return payment_pb2.PaymentTransition(
        payment_id=str(transition.payment_id),
        payment_version=transition.version,
        old_status=status_value(transition.old),
        new_status=STATUS[transition.new],
        reason=transition.reason,
        actor=transition.actor,
        cause_id=transition.cause,
        occur_time=timestamp(transition.time),
        claimed_actor=transition.claimed_actor,
        note=transition.note,
        operation_id=str(transition.operation_id) if transition.operation_id else None,
        operation_kind=KIND[kind] if kind else payment_pb2.PAYMENT_OPERATION_KIND_UNSPECIFIED,
        operation_outcome=OUTCOME[transition.outcome] if transition.outcome else no_outcome,
    )


def _operation(payment: Payment, operation: Operation) -> payment_pb2.PaymentOperation:
    return payment_pb2.PaymentOperation(
        operation_id=str(operation.id),
        kind=KIND[operation.kind],
        amount=to_message(payment.money(operation.amount)),
        outcome=OUTCOME[operation.outcome],
        processor_reference=operation.reference,
        failure_code=operation.failure_code,
        request_time=timestamp(operation.request_time),
        settle_time=timestamp_or_none(operation.settle_time),
        contradictions=map(_contradiction, operation.contradictions),
    )


def _contradiction(contradiction: Contradiction) -> payment_pb2.ProcessorContradiction:
    return payment_pb2.ProcessorContradiction(
        contradiction_id=str(contradiction.id),
        outcome=OUTCOME[contradiction.outcome],
        processor_reference=contradiction.reference,
        failure_code=contradiction.failure_code,
        report_id=contradiction.report_id,
        payload_sha256=contradiction.payload_sha256.hex(),
        report_time=timestamp(contradiction.report_time),
        resolve_time=timestamp_or_none(contradiction.resolve_time),
        resolve_note=contradiction.resolve_note,
    )
