"""The table of deciders, one for each command, and the rules that several have in common."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final, TypeVar

from chassis.values.decision import Decision
from chassis.values.envelope import Context, Decider, decider
from chassis.values.errors import NotFound, Stale
from payment_svc.decisions.compensation import compensated
from payment_svc.decisions.contradictions import resolve
from payment_svc.decisions.orders import note
from payment_svc.decisions.payments import capture, create, void
from payment_svc.decisions.refunds import by_request, of_return
from payment_svc.decisions.settlement import ask_again, lose_answer, settle
from payment_svc.decisions.steps import Decided, with_status_changes
from payment_svc.model import (
    Account,
    AskAgain,
    CapturePayment,
    Change,
    CreatePayment,
    LoseAnswer,
    NoteOrder,
    OfOperation,
    Operation,
    Payment,
    RefundPayment,
    RefundReturn,
    Request,
    ResolveContradiction,
    Settle,
    VoidPayment,
)

N = TypeVar("N", bound=OfOperation)
Q = TypeVar("Q", bound=Request)
PaymentDecider = Decider[Account, Change]
Table = Mapping[type[Any], PaymentDecider]


def of_payment(verb: Callable[[Account, Payment, Q, Context], Decided]) -> PaymentDecider:
    """Returns the decider of a request about one payment.

    The decider raises NotFound PAYMENT_NOT_FOUND, and Stale VERSION_MISMATCH for a request that
    expects another version.
    """

    @wraps(verb)
    def decide(account: Account | None, command: Q, context: Context) -> Decided:
        payment = account.payment(command.payment_id) if account else None
        if account is None or payment is None:
            text = f"There is no payment {command.payment_id}."
            raise NotFound("PAYMENT_NOT_FOUND", text, payment_id=str(command.payment_id))
        expected = command.expected_version
        if expected not in (None, payment.version):
            raise Stale(expected=str(expected), actual=str(payment.version))
        return verb(account, payment, command, context)

    return decide


def once(verb: PaymentDecider) -> PaymentDecider:
    """Returns the decider that skips a request whose operation is there.

    It is a repeat whose idempotency key was deleted in the meantime.
    """

    @wraps(verb)
    def decide(
        account: Account | None,
        command: CapturePayment | VoidPayment | RefundPayment,
        context: Context,
    ) -> Decided:
        if account and account.requested_by(command.operation.requested_by):
            return Decision(account)
        return verb(account, command, context)

    return decide


def of_operation(
    verb: Callable[[Account, Payment, Operation, N, Context], Decided],
) -> PaymentDecider:
    """Returns the decider of a command about one operation.

    The decider raises NotFound PAYMENT_NOT_FOUND where no payment has it.
    """

    @wraps(verb)
    def decide(account: Account | None, command: N, context: Context) -> Decided:
        payment = account.of_operation(command.operation_id) if account else None
        operation = payment.operation(command.operation_id) if payment else None
        if account is None or payment is None or operation is None:
            text = f"No payment has asked for operation {command.operation_id}."
            raise NotFound("PAYMENT_NOT_FOUND", text, operation_id=str(command.operation_id))
        return verb(account, payment, operation, command, context)

    return decide


def completed(verb: PaymentDecider) -> PaymentDecider:
    """Returns the decider with what follows from every command, a skipped one included.

    Money that the order does not cost goes back, and changes of status become facts.
    """

    @wraps(verb)
    def decide(account: Account | None, command: Any, context: Context) -> Decided:
        return with_status_changes(compensated(verb(account, command, context), context))

    return decide


VERBS: Final[Table] = {
    NoteOrder: note,
    CreatePayment: create,
    CapturePayment: once(of_payment(capture)),
    VoidPayment: once(of_payment(void)),
    RefundPayment: once(of_payment(by_request)),
    RefundReturn: of_return,
    Settle: of_operation(settle),
    LoseAnswer: of_operation(lose_answer),
    AskAgain: of_operation(ask_again),
    ResolveContradiction: of_payment(resolve),
}
DECIDERS: Final[Table] = {kind: completed(verb) for kind, verb in VERBS.items()}

decide = decider(DECIDERS)
