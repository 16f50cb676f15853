"""The sample's nouns and verbs: an order, what may be asked of it, what becomes of it. Pure."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from chassis.decision import Decision
from chassis.errors import Deferred, Exists, Refused


class Status(StrEnum):
    PENDING = "pending"
    CONFIRMED = "confirmed"
    PROCESSING = "processing"
    SHIPPED = "shipped"
    CANCELLED = "cancelled"


FORWARD = (Status.PENDING, Status.CONFIRMED, Status.PROCESSING, Status.SHIPPED)
PAYMENT_WINDOW = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class Order:
    id: UUID
    reference: str  # the checkout that it came from: its natural key
    total: int
    status: Status
    version: int
    deadline: datetime


@dataclass(frozen=True, slots=True)
class Transition:
    """A row of history, and a fact for the world: one for each step."""

    order_id: UUID
    version: int
    old: Status | None
    new: Status
    reason: str
    cause: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Command:
    key: str
    target: UUID
    digest: bytes = b""

    @property
    def cause(self) -> str:
        return self.key.partition(":")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOrder(Command):
    reference: str
    total: int
    new: bool = True  # an order that there is already: refuse, or skip


@dataclass(frozen=True, slots=True)
class ConfirmPayment(Command):
    pass


@dataclass(frozen=True, slots=True)
class CancelOrder(Command):
    pass


@dataclass(frozen=True, slots=True)
class ShipmentCreated(Command):
    pass


OrderCommand = CreateOrder | ConfirmPayment | CancelOrder | ShipmentCreated
Decided = Decision[Order, Transition]


def decide(order: Order | None, command: OrderCommand, now: datetime) -> Decided:
    """What becomes of the order, or why not."""
    if isinstance(command, CreateOrder):
        return create(order, command, now)
    if order is None:
        raise Deferred("ORDER_NOT_FOUND")
    match command:
        case ConfirmPayment():
            return steps(
                order, way(order.status, Status.CONFIRMED), command, "PAYMENT_CONFIRMED", now
            )
        case ShipmentCreated():
            if order.status is Status.PENDING:
                raise Deferred("PAYMENT_OUTSTANDING")
            return steps(order, way(order.status, Status.SHIPPED), command, "SHIPMENT_CREATED", now)
        case CancelOrder():
            if order.status is Status.CANCELLED:
                raise Refused("ORDER_ALREADY_CANCELLED")
            return steps(order, (Status.CANCELLED,), command, "CANCEL_REQUESTED", now)


def create(order: Order | None, command: CreateOrder, now: datetime) -> Decided:
    """A new order, pending."""
    if order and command.new:
        # of the published reasons, the nearest
        raise Exists("PAYMENT_ALREADY_EXISTS", order_id=str(order.id))
    if order:
        return Decision(order)
    order = Order(
        id=command.target,
        reference=command.reference,
        total=command.total,
        status=Status.PENDING,
        version=1,
        deadline=now + PAYMENT_WINDOW,
    )
    step = Transition(
        order_id=order.id,
        version=1,
        old=None,
        new=Status.PENDING,
        reason="CREATED",
        cause=command.key,
        time=now,
    )
    return Decision(order, [step], [step])


def way(here: Status, there: Status) -> tuple[Status, ...]:
    """The steps forward from here to there; none where the order is there already, or beyond."""
    return FORWARD[FORWARD.index(here) + 1 : FORWARD.index(there) + 1] if here in FORWARD else ()


def steps(
    order: Order, path: tuple[Status, ...], command: OrderCommand, reason: str, now: datetime
) -> Decided:
    """The order at the end of the path; no path: the same order, a skip."""
    history = []
    for new in path:
        history.append(
            Transition(
                order_id=order.id,
                version=order.version + 1,
                old=order.status,
                new=new,
                reason=reason,
                cause=command.key,
                time=now,
            )
        )
        order = replace(order, status=new, version=order.version + 1)
    return Decision(order, history, history)
