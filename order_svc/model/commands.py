"""The commands about an order and its returns, with domain data only.

The target of each is the order: its returns are decided under its lock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chassis.values.money import Money
from order_svc.lifecycle import Disposition, End, ReturnStatus, Work
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A caller's request to change what is there.

    `expected_version` is the version that the caller has read; None allows any version.
    """

    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OfAttempt:
    """A report about one attempt of the order. It changes nothing of another attempt."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """A checkout, with the stock that was reserved for it.

    `checkout_key` is the key of the request. The order keeps it, and is found by it.
    """

    checkout_key: str
    checkout: Checkout
    allocations: Allocations


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmPayment(OfAttempt):
    """An attempt of the order is paid; `stock` is what the warehouse said to committing it."""

    captured: Money
    not_required: bool
    stock: CommitAnswer = Owed()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailPayment(OfAttempt):
    """An attempt of the order is finally not paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteRefund(OfAttempt):
    """Money of an attempt went back, or did not: `captured` and `refunded` are its payment's, so
    far.

    return_id      the return that it was for; None where it was for something else
    amount         this refund's, in minor units of the same currency
    failure_code   why it did not go back; None where it did
    """

    captured: Money
    refunded: Money
    return_id: UUID | None = None
    amount: int = 0
    failure_code: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder(Request):
    """The whole order is not wanted any more."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelItems(Request):
    """So many more units by line are not wanted any more."""

    units: Mapping[int, int]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOrder(Request):
    """A failed order is to be tried again, with the stock that was reserved for that attempt;
    None: nothing was reserved.
    """

    attempt: int
    allocations: Allocations | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireOrder:
    """The time to pay is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteFulfillment(OfAttempt):
    """A fulfilment tells how far its work is, and of which units.

    work        None: a status that we do not know (yet): no change
    reason      why it stands there, or why units left its picklist
    units       those that it works on, by line: 0 where none stays
    committed   its stock is committed, and the units are final but for those that leave the
                picklist
    """

    warehouse_id: str
    fulfillment_id: UUID
    version: int
    work: Work | None
    reason: str = ""
    units: Mapping[int, int] = field(default_factory=dict)
    committed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteShipment(OfAttempt):
    """Shipping tells that a fulfilment's goods are with the carrier, or delivered (`deliver_time`).

    `fulfillment_version`: the version of the fulfilment whose parcels these are; 0: unknown.
    """

    warehouse_id: str
    shipment_id: UUID
    tracking_number: str | None
    deliver_time: datetime | None = None
    fulfillment_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteShipmentEnd(OfAttempt):
    """Shipping tells how a parcel ended that did not reach its customer; None: it has not ended so.

    `withdrawn`: its label is void, for its fulfilment is unpacked and packed anew; its units go on
    with another shipment. `withdraw_version`: of a void or failed shipment, the version at which
    its fulfilment withdrew it; 0: none.
    """

    warehouse_id: str
    shipment_id: UUID
    tracking_number: str | None
    ended: End | None
    withdrawn: bool = False
    withdraw_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteReservation(OfAttempt):
    """The warehouse tells what is committed for an attempt (nothing yet: no allocations), or that
    the commit is refused for good.

    `freed`: nothing of the attempt is reserved or committed any more, and nothing of it has
    shipped.
    """

    allocations: Allocations
    refused: str | None
    freed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OfReturn(Request):
    """A request about one return.

    `expected_version` is that of the return, or of the order where the request creates the return.
    """

    return_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateReturn(OfReturn):
    """Units by line are to come back."""

    lines: Mapping[int, int]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundWithoutGoods(OfReturn):
    """Units by line are refunded without coming back; what happens to stock happens at
    `warehouse_id`.
    """

    lines: Mapping[int, tuple[int, Disposition]]
    reason: str = ""
    warehouse_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReturn(OfReturn):
    """Approved, rejected, on its way or called off."""

    to: ReturnStatus
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveReturn(OfReturn):
    """So many more units by line have arrived."""

    warehouse_id: str
    lines: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Findings:
    """Units of a line that were just inspected; `unrefunded` of them are not to be refunded."""

    passed: int
    failed: int
    unrefunded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectReturn(OfReturn):
    """So many more units by line were looked at."""

    lines: Mapping[int, Findings]
