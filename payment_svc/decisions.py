"""The verbs: what an order's account becomes when something is asked of it or told to it. Pure: no I/O, no clock, no ids made."""

from dataclasses import replace
from datetime import datetime
from typing import Any

from chassis.decision import Decision
from chassis.errors import Exists, NotFound, Refused, Stale
from payment_svc.lifecycle import MOVES, OPEN, SUCCESS_MEANS, Kind, OrderStatus, Outcome, Status, may
from payment_svc.model import (
    UNCOUNTED,
    Account,
    AskAgain,
    Awaited,
    CapturePayment,
    Change,
    Command,
    Confirmed,
    CreatePayment,
    Declined,
    Failed,
    LoseAnswer,
    NoteOrder,
    Operation,
    Order,
    Payment,
    PaymentCommand,
    Settle,
    Succeeded,
)

DECLINES_MAX = 3  # the third one is final, whatever its code
Decided = Decision[Account, Change]


def decide(account: Account | None, command: PaymentCommand, now: datetime) -> Decided:
    """What becomes of the account; raises a Failure where nothing may. The same record back: the command is skipped."""
    match command:
        case NoteOrder():
            return note_order(account, command, now)
        case CreatePayment():
            return create(account, command, now)
        case CapturePayment():
            return capture(account, command, now)
        case Settle():
            return settle(*asked(account, command), command, now)
        case LoseAnswer():
            return lose_answer(*asked(account, command), command, now)
        case AskAgain():
            return ask_again(*asked(account, command), command, now)


def note_order(account: Account | None, command: NoteOrder, now: datetime) -> Decided:
    if account and command.order.version <= account.order.version:
        return Decision(account)  # heard before, or told late
    account = Account(command.order, account.payments if account else ())
    if account.live or account.order.status is not OrderStatus.PENDING or account.order.total.minor:
        return Decision(account)
    return nothing_to_pay(account, command, now)


def nothing_to_pay(account: Account, command: NoteOrder | CreatePayment, now: datetime) -> Decided:
    """The payment of an order of total zero, which nobody has to ask for."""
    unpaid = new_payment(account, command, now, processor="")
    payment, change = changed(unpaid, command, now, "NOTHING_TO_PAY", status=Status.NOT_REQUIRED)
    return Decision(put(account, payment), [change], [Confirmed(payment)])


def create(account: Account | None, command: CreatePayment, now: datetime) -> Decided:
    account = known(account, command.order)
    if account is None:
        raise NotFound("ORDER_NOT_FOUND", f"There is no order {command.target}.", order_id=str(command.target))
    if account.requested_by(command.key):
        return Decision(account)  # a repeat whose claim is gone by now
    free = not account.order.total.minor
    if free and account.live:
        return Decision(account)  # the payment that it got by itself
    check_payable(account, command)
    if free:
        return nothing_to_pay(account, command, now)
    unpaid = new_payment(account, command, now, processor=command.processor)
    kind = Kind.AUTHORIZE if command.manual_capture else Kind.CHARGE
    operation = request(command, kind, unpaid.amount, now)
    payment, change = changed(unpaid, command, now, "PAYMENT_REQUESTED", operation)
    return Decision(put(account, payment), [change])


def known(account: Account | None, order: Order | None) -> Account | None:
    """The account, with what the order service has just said where that is news."""
    if order is None or (account and order.version <= account.order.version):
        return account
    return Account(order, account.payments if account else ())


def check_payable(account: Account, command: CreatePayment) -> None:
    """Refuses what the order does not wait for: a second payment, one for a dead order, another amount than its total."""
    order, live = account.order, account.live
    if live and live.status is not Status.FAILED:
        raise Exists("PAYMENT_ALREADY_EXISTS", "This attempt of the order has a live payment.", payment_id=str(live.id))
    if live:
        text = "Payment for this attempt of the order has finally failed."
        raise Refused("ORDER_NOT_PAYABLE", text, status=order.status, payment_id=str(live.id))
    if order.status is not OrderStatus.PENDING:
        raise Refused("ORDER_NOT_PAYABLE", f"The order is {order.status} and waits for no payment.", status=order.status)
    if command.expected and command.expected != order.total:
        text = f"The order costs {order.total}, and {command.expected} was expected."
        raise Refused("PAYMENT_AMOUNT_MISMATCH", text, expected=str(order.total))


def capture(account: Account | None, command: CapturePayment, now: datetime) -> Decided:
    payment = account.payment(command.payment_id) if account else None
    if account is None or payment is None:
        raise NotFound("PAYMENT_NOT_FOUND", f"There is no payment {command.payment_id}.", payment_id=str(command.payment_id))
    if account.requested_by(command.key):
        return Decision(account)  # a repeat whose claim is gone by now
    if command.expected_version not in (None, payment.version):
        raise Stale(expected=str(command.expected_version), actual=str(payment.version))
    if payment.status is not Status.AUTHORIZED:
        raise illegal(payment, Status.CAPTURED)
    if payment.open_operation:
        return Decision(account)  # another request is at it: both wait for the one answer
    operation = request(command, Kind.CAPTURE, payment.authorized, now)
    payment, change = changed(payment, command, now, "CAPTURE_REQUESTED", operation)
    return Decision(put(account, payment), [change])


def settle(account: Account, payment: Payment, operation: Operation, command: Settle, now: datetime) -> Decided:
    match command.answer:
        case Awaited(reference):
            if operation.outcome not in OPEN or operation.reference:
                return Decision(account)
            payment, change = changed(payment, command, now, "AWAITED", replace(operation, reference=reference))
            return Decision(put(account, payment), [change])
        case Succeeded(reference):
            if is_settled(payment, operation, Outcome.SUCCEEDED):
                return Decision(account)
            done = replace(operation, outcome=Outcome.SUCCEEDED, reference=reference, settle_time=now, ask_time=None)
            return succeed(account, payment, done, command, now)
        case Declined() as answer:
            if is_settled(payment, operation, Outcome.FAILED):
                return Decision(account)
            failed = replace(operation, outcome=Outcome.FAILED, failure_code=answer.code, settle_time=now, ask_time=None)
            failed = replace(failed, reference=answer.reference or operation.reference)
            return decline(account, payment, failed, answer, command, now)


def is_settled(payment: Payment, operation: Operation, told: Outcome) -> bool:
    """Whether the operation has come out as told already. Refused where the processor contradicts what it said before."""
    if operation.outcome in OPEN:
        return False
    if operation.outcome is told:
        return True
    raise Refused(
        "ILLEGAL_TRANSITION",
        f"The processor says that the operation has {told}, and has said before that it has {operation.outcome}.",
        status=operation.outcome,
        allowed="",
        payment_id=str(payment.id),
        operation_id=str(operation.id),
    )


def succeed(account: Account, payment: Payment, operation: Operation, command: Command, now: datetime) -> Decided:
    status = SUCCESS_MEANS[operation.kind]
    if not may(payment.status, status):
        raise illegal(payment, status)
    authorized = payment.authorized if operation.kind is Kind.CAPTURE else operation.amount
    captured = payment.captured if operation.kind is Kind.AUTHORIZE else operation.amount
    payment, change = changed(payment, command, now, status.upper(), operation, status=status, authorized=authorized, captured=captured)
    return Decision(put(account, payment), [change], [Confirmed(payment)] if status is Status.CAPTURED else [])


def decline(account: Account, payment: Payment, operation: Operation, answer: Declined, command: Command, now: datetime) -> Decided:
    if operation.kind is Kind.CAPTURE:  # what was set aside stays so, and may be captured again
        payment, change = changed(payment, command, now, "CAPTURE_DECLINED", operation)
        return Decision(put(account, payment), [change])
    status = Status.FAILED if is_final(account, payment, answer) else Status.DECLINED
    if not may(payment.status, status):
        raise illegal(payment, status)
    payment, change = changed(payment, command, now, status.upper(), operation, status=status, decline_code=answer.code)
    return Decision(put(account, payment), [change], [Failed(payment)] if status is Status.FAILED else [])


def is_final(account: Account, payment: Payment, answer: Declined) -> bool:
    """Whether no other try may follow for the payment's attempt: its code says so, or it is the third that a card has declined."""
    if answer.code in UNCOUNTED:
        return False
    before = [p for p in account.payments if p.attempt == payment.attempt and p.status is Status.DECLINED]
    return answer.final or sum(p.decline_code not in UNCOUNTED for p in before) + 1 >= DECLINES_MAX


def lose_answer(account: Account, payment: Payment, operation: Operation, command: LoseAnswer, now: datetime) -> Decided:
    if operation.outcome is not Outcome.REQUESTED:
        return Decision(account)
    lost = replace(operation, outcome=Outcome.UNKNOWN, ask_time=now + command.ask_after)
    payment, change = changed(payment, command, now, "ANSWER_LOST", lost)
    return Decision(put(account, payment), [change])


def ask_again(account: Account, payment: Payment, operation: Operation, command: AskAgain, now: datetime) -> Decided:
    if operation.outcome not in OPEN or operation.asks >= command.ask:
        return Decision(account)
    asking = replace(operation, asks=command.ask, ask_time=now + command.ask_after)
    return Decision(put(account, with_operation(payment, asking)))  # nothing that anybody sees has changed: no version, no history


def asked(account: Account | None, command: Settle | LoseAnswer | AskAgain) -> tuple[Account, Payment, Operation]:
    """The account with the payment and the operation that a command is about. Raises NotFound where there is none."""
    payment = account.of_operation(command.operation_id) if account else None
    operation = payment.operation(command.operation_id) if payment else None
    if account is None or payment is None or operation is None:
        text = f"No payment has asked for operation {command.operation_id}."
        raise NotFound("PAYMENT_NOT_FOUND", text, operation_id=str(command.operation_id))
    return account, payment, operation


# --- how records change


def new_payment(account: Account, command: NoteOrder | CreatePayment, now: datetime, *, processor: str) -> Payment:
    """The next try to pay the order's current attempt, before anything has happened to it."""
    return Payment(
        id=command.payment_id,
        order_id=account.order.id,
        attempt=account.order.attempt,
        try_number=len(account.tries) + 1,
        status=Status.PENDING,
        currency=account.order.total.currency,
        amount=account.order.total.minor,
        authorized=0,
        captured=0,
        refunded=0,
        processor=processor,
        decline_code=None,
        version=0,
        create_time=now,
        update_time=now,
    )


def request(command: CreatePayment | CapturePayment, kind: Kind, amount: int, now: datetime) -> Operation:
    return Operation(command.operation_id, kind, amount, Outcome.REQUESTED, command.key, now, now + command.ask_after)


def changed(
    payment: Payment, command: Command, now: datetime, reason: str, operation: Operation | None = None, **fields: Any
) -> tuple[Payment, Change]:
    """The payment's next version, with the operation and the fields as they are then, and the row of history that tells of it."""
    old = payment.status if payment.version else None
    payment = replace(payment, version=payment.version + 1, update_time=now, **fields)
    change = Change(
        payment_id=payment.id,
        version=payment.version,
        old=old,
        new=payment.status,
        operation_id=operation.id if operation else None,
        outcome=operation.outcome if operation else None,
        reason=reason,
        actor=command.actor,
        cause=command.cause,
        time=now,
    )
    return with_operation(payment, operation) if operation else payment, change


def with_operation(payment: Payment, operation: Operation) -> Payment:
    """The payment, with the operation in the place of what it was before, or as its newest."""
    if payment.operation(operation.id) is None:
        return replace(payment, operations=(*payment.operations, operation))
    return replace(payment, operations=tuple(operation if o.id == operation.id else o for o in payment.operations))


def put(account: Account, payment: Payment) -> Account:
    """The account, with the payment in the place of what it was before, or as its newest."""
    if account.payment(payment.id) is None:
        return replace(account, payments=(*account.payments, payment))
    return replace(account, payments=tuple(payment if p.id == payment.id else p for p in account.payments))


def illegal(payment: Payment, there: Status) -> Refused:
    allowed = ", ".join(sorted(MOVES[payment.status]))
    text = f"A payment that is {payment.status} cannot become {there}."
    return Refused("ILLEGAL_TRANSITION", text, status=payment.status, allowed=allowed, payment_id=str(payment.id))
