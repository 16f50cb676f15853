"""What may be asked of an order, or told to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chassis.money import Money
from order_svc.lifecycle import End, Work
from order_svc.model.checkout import Checkout
from order_svc.model.order import Allocations


@dataclass(frozen=True, slots=True)
class Committed:
    """The warehouse has committed the order's stock, and says where it is (an expired
    reservation is replaced by a new one).
    """

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
    """What may be asked of an order.

    actor           the service that asks, or whose event it is
    cause           the event's id, or the call's request_id
    claimed_actor   the person or service that a call claims to act for
    note            why, in free text; for the history alone
    """

    key: str
    digest: bytes
    target: UUID
    actor: str
    cause: str
    claimed_actor: str | None = field(default=None, kw_only=True)
    note: str | None = field(default=None, kw_only=True)


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
class NoteRefund(Command):
    """Money of an attempt went back, or did not: `captured` and `refunded` are its payment's, so
    far.

    return_id      the return that it was for; None where it was for something else
    amount         this refund's, in minor units of the same currency
    failure_code   why it did not go back; None where it did
    """

    attempt: int
    captured: Money
    refunded: Money
    return_id: UUID | None = None
    amount: int = 0
    failure_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder(Command):
    """The whole order is not wanted any more."""

    reason: str
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelItems(Command):
    """So many more units by line are not wanted any more."""

    units: Mapping[int, int]
    reason: str
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOrder(Command):
    """A failed order is to be tried again, with the stock that was reserved for that attempt;
    None: nothing was reserved.
    """

    attempt: int
    allocations: Allocations | None
    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireOrder(Command):
    """The time to pay is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteFulfillment(Command):
    """A fulfilment tells how far its work is, and of which units.

    work        None: a status that we do not know (yet): no change
    reason      why it stands there, or why units left its picklist
    units       those that it works on, by line: 0 where none stays
    committed   its stock is committed, and the units are final but for those that leave the
                picklist
    """

    attempt: int
    warehouse_id: str
    fulfillment_id: UUID
    version: int
    work: Work | None
    reason: str = ""
    units: Mapping[int, int] = field(default_factory=dict)
    committed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteShipment(Command):
    """Shipping tells that a fulfilment's goods are with the carrier, or delivered (`deliver_time`).

    `fulfillment_version`: the version of the fulfilment whose parcels these are; 0: unknown.
    """

    attempt: int
    warehouse_id: str
    shipment_id: UUID
    tracking_number: str | None
    deliver_time: datetime | None = None
    fulfillment_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteShipmentEnd(Command):
    """Shipping tells how a parcel ended that did not reach its customer; None: it has not ended so.

    `withdrawn`: its label is void, for its fulfilment is unpacked and packed anew; its units go on
    with another shipment. `withdraw_version`: of a void or failed shipment, the version at which
    its fulfilment withdrew it; 0: none.
    """

    attempt: int
    warehouse_id: str
    shipment_id: UUID
    tracking_number: str | None
    ended: End | None
    withdrawn: bool = False
    withdraw_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteReservation(Command):
    """The warehouse tells what is committed for an attempt (nothing yet: no allocations), or that
    the commit is refused for good.

    `freed`: nothing of the attempt is reserved or committed any more, and nothing of it has
    shipped.
    """

    attempt: int
    allocations: Allocations
    refused: str | None
    freed: bool = False


# What is told of one attempt of an order, and means nothing to another one.
Told = (
    ConfirmPayment
    | FailPayment
    | NoteRefund
    | NoteFulfillment
    | NoteShipment
    | NoteShipmentEnd
    | NoteReservation
)
# What is asked of an order, and refused where it may not be.
Asked = CancelOrder | CancelItems | RetryOrder
OrderCommand = PlaceOrder | ExpireOrder | Asked | Told
