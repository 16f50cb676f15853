"""Reports of a processor that contradict an earlier one: stored as evidence until an operator
resolves them. Pure.
"""

from dataclasses import replace
from uuid import uuid5

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import NotFound
from payment_svc.decisions.transitions import Decided, change_payment, with_record
from payment_svc.lifecycle import Outcome, Reason
from payment_svc.model.answers import Declined, Pending, Succeeded
from payment_svc.model.commands import ResolveContradiction, Settle
from payment_svc.model.records import Account, Contradiction, Payment

# The most contradictions that are stored for an operation.
CONTRADICTIONS_MAX = 20


def store_contradiction(
    account: Account,
    payment: Payment,
    command: Settle,
    context: Context,
) -> Decided:
    """The account with the answer stored as evidence, once for each payload. It moves no money."""
    operation, answer = payment.operation(command.operation_id), command.answer
    id = uuid5(operation.id, command.payload_sha256.hex())
    is_full = len(operation.contradictions) >= CONTRADICTIONS_MAX
    if isinstance(answer, Pending) or operation.contradiction(id) or is_full:
        return Decision(account)
    contradiction = Contradiction(
        id=id,
        outcome=Outcome.SUCCEEDED if isinstance(answer, Succeeded) else Outcome.FAILED,
        reference=answer.reference,
        failure_code=answer.code if isinstance(answer, Declined) else None,
        report_id=context.cause,
        payload_sha256=command.payload_sha256,
        report_time=context.time,
    )
    operation = replace(operation, contradictions=(*operation.contradictions, contradiction))
    return change_payment(account, payment, context, Reason.CONTRADICTED, operation)


def resolve_contradiction(
    account: Account,
    payment: Payment,
    command: ResolveContradiction,
    context: Context,
) -> Decided:
    """Marks a contradiction as resolved, once: a further note changes nothing."""
    for operation in payment.operations:
        if contradiction := operation.contradiction(command.contradiction_id):
            if contradiction.resolve_time:
                return Decision(account)
            resolved = replace(contradiction, resolve_time=context.time, resolve_note=context.note)
            contradictions = with_record(operation.contradictions, resolved)
            after = replace(operation, contradictions=contradictions)
            return change_payment(account, payment, context, Reason.CONTRADICTION_RESOLVED, after)
    raise NotFound(
        "CONTRADICTION_NOT_FOUND",
        f"Payment {payment.id} has no contradiction {command.contradiction_id}.",
        payment_id=str(payment.id),
        contradiction_id=str(command.contradiction_id),
    )
