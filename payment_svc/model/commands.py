"""What may be asked of an account, or told to it. Each is about one account; `target` is the order's id."""

from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from chassis.money import Money
from payment_svc.model.answers import Answer
from payment_svc.model.records import Order


@dataclass(frozen=True, slots=True)
class Command:
    """What may be asked of an account: by whom (`actor`), and what for (`cause`).

    `cause` is an event's id, or a request_id.
    `claimed_actor` and `note` are those of the request; None where the command is no request's.
    """

    key: str
    digest: bytes
    target: UUID
    actor: str
    cause: str
    claimed_actor: str | None = field(default=None, kw_only=True)
    note: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteOrder(Command):
    """The order service tells of its order. `payment_id` is for the payment that an order of total zero gets by itself."""

    order: Order
    payment_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatePayment(Command):
    """The intent to charge an order. `order` is what the order service answered; None where it was out of reach.

    The settling worker asks for the operation's outcome `ask_after` from now, if nothing is heard of it before.
    """

    expected: Money | None
    manual_capture: bool
    processor: str
    payment_id: UUID
    operation_id: UUID
    ask_after: timedelta
    order: Order | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturePayment(Command):
    """The intent to take what a payment has set aside, as far as the order costs it.

    `order` is what the order service answered; None where it was out of reach. `expected`: what must be taken exactly.
    """

    payment_id: UUID
    operation_id: UUID
    expected_version: int | None
    ask_after: timedelta
    expected: Money | None = None
    order: Order | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VoidPayment(Command):
    """The intent to give back what a payment has set aside."""

    payment_id: UUID
    operation_id: UUID
    expected_version: int | None
    ask_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundPayment(Command):
    """The intent to give captured money back because somebody says so; `amount` None: all that is left.

    `return_id`: another try of that return's refund, which the processor has refused; `amount` is then the return's, or None.
    """

    payment_id: UUID
    operation_id: UUID
    amount: Money | None
    expected_version: int | None
    ask_after: timedelta
    return_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundReturn(Command):
    """Units of a return were accepted: they are worth `amount` of the money of the order's `attempt`."""

    return_id: str
    attempt: int
    amount: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle(Command):
    """A processor tells of an operation: in its answer, in a webhook, or when it is looked up.

    `payment_id` is for the payment that the order gets by itself where this one came to nothing and the order costs nothing by then.
    `payload_digest` identifies what it tells, as evidence. `reused`: the event id came before, with another report, so that this
    one is stored as a contradiction and never applied.
    """

    operation_id: UUID
    answer: Answer
    payment_id: UUID
    payload_digest: bytes
    reused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveContradiction(Command):
    """An operator has asked the processor what is true, and settled with it; `note` says how. No money moves."""

    payment_id: UUID
    contradiction_id: UUID
    expected_version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LoseAnswer(Command):
    """The processor's answer was lost: what came of the operation is unknown. The settling worker asks `ask_after` from now."""

    operation_id: UUID
    ask_after: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class AskAgain(Command):
    """The settling worker takes it upon itself to ask, as the `ask`th time; nobody else does for `ask_after`."""

    operation_id: UUID
    ask: int
    ask_after: timedelta


PaymentCommand = (
    NoteOrder
    | CreatePayment
    | CapturePayment
    | VoidPayment
    | RefundPayment
    | RefundReturn
    | Settle
    | LoseAnswer
    | AskAgain
    | ResolveContradiction
)
