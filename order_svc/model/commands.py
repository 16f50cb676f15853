"""The commands about an order and its returns, with domain data only.

The target of each is the order: its returns are decided under its lock.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from chassis.values.money import Money
from order_svc.lifecycle import Disposition, FulfillmentState, ReturnStatus, ShipmentOutcome
from order_svc.model.checkout import Checkout
from order_svc.model.records import Allocations


@dataclass(frozen=True, slots=True)
class Committed:
    """The warehouse has committed the order's stock in these allocations (an expired reservation
    is replaced by a new one).
    """

    allocations: Allocations


@dataclass(frozen=True, slots=True)
class CommitPending:
    """The warehouse has not answered: the commit stays pending."""


@dataclass(frozen=True, slots=True)
class CommitRefused:
    """The warehouse refuses the commit for good."""

    reason: str


CommitResult = Committed | CommitPending | CommitRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A caller's request to change what is there.

    `expected_version` is the version that the caller has read; None allows any version.
    """

    expected_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReport:
    """A report about one attempt of the order. It changes nothing of another attempt."""

    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaceOrder:
    """A checkout, with the stock that was reserved for it.

    `checkout_key` is the request's idempotency key. The order keeps it, and is found by it.
    """

    checkout_key: str
    checkout: Checkout
    allocations: Allocations


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfirmPayment(AttemptReport):
    """An attempt of the order is paid; `stock` is the warehouse's answer to its commit."""

    captured: Money
    not_required: bool
    stock: CommitResult = CommitPending()


@dataclass(frozen=True, slots=True, kw_only=True)
class FailPayment(AttemptReport):
    """An attempt of the order is finally not paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyRefund(AttemptReport):
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
    """A failed order is to be tried again.

    attempt       the new one; 0 until the operation sets it
    allocations   its reserved stock; None: nothing was reserved
    """

    attempt: int
    allocations: Allocations | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpireOrder:
    """The time to pay is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyFulfillmentStatus(AttemptReport):
    """A fulfilment has a new status, or other lines on its picklist.

    state       None: a status that this version does not define: no change
    reason      of the status, or of the units that left the picklist
    units       on the picklist, by line: 0 where none remains
    committed   its stock is committed: from now on units only leave the picklist
    """

    warehouse_id: str
    fulfillment_id: UUID
    version: int
    state: FulfillmentState | None
    reason: str = ""
    units: Mapping[int, int] = field(default_factory=dict)
    committed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyShipment(AttemptReport):
    """A fulfilment's goods have a label, or are delivered (`deliver_time`).

    `fulfillment_version`: the version of the fulfilment whose parcels these are; 0: unknown.
    """

    warehouse_id: str
    shipment_id: UUID
    tracking_number: str | None
    deliver_time: datetime | None = None
    fulfillment_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyShipmentOutcome(AttemptReport):
    """The outcome of a parcel that did not reach its customer; None: the parcel has none.

    withdrawn          its label is void, because its fulfilment is unpacked and packed anew;
                       another shipment carries its units
    withdraw_version   of a void or failed shipment, the version at which its fulfilment withdrew
                       it; 0: none
    """

    warehouse_id: str
    shipment_id: UUID
    tracking_number: str | None
    outcome: ShipmentOutcome | None
    withdrawn: bool = False
    withdraw_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyReservation(AttemptReport):
    """The warehouse has committed these allocations for an attempt (none: nothing yet), or refuses
    the commit for good (`refused`).

    `freed`: nothing of the attempt is reserved or committed any more, and nothing of it has
    shipped.
    """

    allocations: Allocations
    refused: str | None
    freed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnRequest(Request):
    """A request about one return.

    `expected_version` is that of the return, or of the order where the request creates the return.
    """

    return_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateReturn(ReturnRequest):
    """Units by line are to come back."""

    lines: Mapping[int, int]
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundWithoutGoods(ReturnRequest):
    """Units by line are refunded without coming back; what happens to stock happens at
    `warehouse_id`.
    """

    lines: Mapping[int, tuple[int, Disposition]]
    reason: str = ""
    warehouse_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveReturn(ReturnRequest):
    """Approved, rejected, on its way or called off."""

    to: ReturnStatus
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiveReturn(ReturnRequest):
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
class InspectReturn(ReturnRequest):
    """So many more units by line were inspected."""

    lines: Mapping[int, Findings]
