"""What may be asked of an order, or told to it."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from chassis.money import Money
from order_svc.lifecycle import Work
from order_svc.model.order import Allocations, Checkout


@dataclass(frozen=True, slots=True)
class Committed:
    """The warehouse has committed the order's stock, and says where it is (an expired reservation is replaced by a new one)."""

    allocations: Allocations


@dataclass(frozen=True, slots=True)
class Owed:
    """The warehouse could not be asked: the commit stays owed."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The warehouse says no, for good."""

    reason: str


CommitAnswer = Committed | Owed | Unavailable


@dataclass(frozen=True, slots=True)
class Command:
    """What may be asked of an order: by whom (`actor`), and what for (`cause`: an event's id, or a request_id)."""

    key: str
    digest: bytes
    target: UUID
    actor: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder(Command):
    """A checkout, with the stock that was reserved for it."""

    checkout: Checkout
    allocations: Allocations


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmPayment(Command):
    """An attempt of the order is paid; `stock` is what the warehouse said to committing it."""

    attempt: int
    captured: Money
    not_required: bool
    stock: CommitAnswer = Owed()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailPayment(Command):
    """An attempt of the order is finally not paid."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteFulfillment(Command):
    """A fulfilment tells how far its work is."""

    attempt: int
    warehouse_id: str
    fulfillment_id: UUID
    version: int
    work: Work | None  # None: a status that we do not know (yet): no change


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteShipment(Command):
    """Shipping tells that a fulfilment's goods are with the carrier, or delivered (`deliver_time`)."""

    attempt: int
    warehouse_id: str
    shipment_id: UUID
    tracking_number: str | None
    deliver_time: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteReservation(Command):
    """The warehouse tells what is committed for an attempt (nothing yet: no allocations), or that the commit is refused for good."""

    attempt: int
    allocations: Allocations
    refused: str | None


OrderCommand = PlaceOrder | ConfirmPayment | FailPayment | NoteFulfillment | NoteShipment | NoteReservation
