"""What a processor says against what it said before: kept as evidence until an operator resolves
it. Pure.
"""

from dataclasses import replace
from uuid import uuid5

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import NotFound
from payment_svc.decisions.steps import Decided, changed, put
from payment_svc.lifecycle import Outcome, Reason
from payment_svc.model import (
    Account,
    Awaited,
    Contradiction,
    Declined,
    Payment,
    ResolveContradiction,
    Settle,
    Succeeded,
)

# Contradictions that are stored for an operation; what comes after them says nothing new.
CONTRADICTIONS_MAX = 20


def contradicted(
    account: Account,
    payment: Payment,
    command: Settle,
    context: Context,
) -> Decided:
    """The answer, stored with its operation once for each payload. It moves no money."""
    operation, answer = payment.operation(command.operation_id), command.answer
    assert operation, "the payment is found by its operation"
    if isinstance(answer, Awaited):
        return Decision(account)
    id = uuid5(operation.id, command.payload_digest.hex())
    if operation.contradiction(id) or len(operation.contradictions) >= CONTRADICTIONS_MAX:
        return Decision(account)
    its = Contradiction(
        id=id,
        outcome=Outcome.SUCCEEDED if isinstance(answer, Succeeded) else Outcome.FAILED,
        reference=answer.reference,
        failure_code=answer.code if isinstance(answer, Declined) else None,
        report_id=context.cause,
        payload_digest=command.payload_digest,
        report_time=context.time,
    )
    operation = replace(operation, contradictions=(*operation.contradictions, its))
    payment, change = changed(payment, context, Reason.CONTRADICTED, operation)
    return Decision(put(account, payment), [change])


def resolve(
    account: Account,
    payment: Payment,
    command: ResolveContradiction,
    context: Context,
) -> Decided:
    """Marks a contradiction as resolved, once: a further note changes nothing."""
    for operation in payment.operations:
        if its := operation.contradiction(command.contradiction_id):
            if its.resolve_time:
                return Decision(account)
            resolved = replace(its, resolve_time=context.time, resolve_note=context.note)
            kept = tuple(resolved if each is its else each for each in operation.contradictions)
            after = replace(operation, contradictions=kept)
            payment, change = changed(payment, context, Reason.CONTRADICTION_RESOLVED, after)
            return Decision(put(account, payment), [change])
    raise NotFound(
        "CONTRADICTION_NOT_FOUND",
        f"Payment {payment.id} has no contradiction {command.contradiction_id}.",
        payment_id=str(payment.id),
        contradiction_id=str(command.contradiction_id),
    )
