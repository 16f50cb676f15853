"""Reports of a processor that contradict an earlier one: stored as evidence until an operator
resolves them. Pure.
"""

from dataclasses import replace
from uuid import uuid5

from chassis.values.decision import Decision
from chassis.values.envelope import Context
from chassis.values.errors import NotFound
from payment_svc.decisions.steps import Decided, next_version, with_payment
from payment_svc.lifecycle import Outcome, Reason
from payment_svc.model.answers import Declined, Pending, Succeeded
from payment_svc.model.commands import ResolveContradiction, Settle
from payment_svc.model.records import Account, Contradiction, Payment

# Contradictions that are stored for an operation; further ones are not stored.
CONTRADICTIONS_MAX = 20


def store_contradiction(
    account: Account,
    payment: Payment,
    command: Settle,
    context: Context,
) -> Decided:
    """The account with the answer stored as evidence, once for each payload. It moves no money."""
    operation, answer = payment.operation(command.operation_id), command.answer
    assert operation, "the payment is found by its operation"
    if isinstance(answer, Pending):
        return Decision(account)
    id = uuid5(operation.id, command.payload_sha256.hex())
    if operation.contradiction(id) or len(operation.contradictions) >= CONTRADICTIONS_MAX:
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
    payment, transition = next_version(payment, context, Reason.CONTRADICTED, operation)
    return Decision(with_payment(account, payment), [transition])


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
            contradictions = tuple(
                resolved if each is contradiction else each for each in operation.contradictions
            )
            after = replace(operation, contradictions=contradictions)
            payment, transition = next_version(
                payment, context, Reason.CONTRADICTION_RESOLVED, after
            )
            return Decision(with_payment(account, payment), [transition])
    raise NotFound(
        "CONTRADICTION_NOT_FOUND",
        f"Payment {payment.id} has no contradiction {command.contradiction_id}.",
        payment_id=str(payment.id),
        contradiction_id=str(command.contradiction_id),
    )
