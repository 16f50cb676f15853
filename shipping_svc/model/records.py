"""Shipments and their parts, closed orders and fulfilments, rows of history; rules about them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from shipping_svc.lifecycle import Reason, Status

# The scripts that labels print with the extra `cjk`, as LABEL_NOT_PRINTABLE names them.
CJK_SCRIPTS = frozenset({"CJK", "HANGUL", "HIRAGANA", "KATAKANA"})


@dataclass(frozen=True, slots=True)
class Parcel:
    """A parcel as the carrier sees it: grams and millimetres."""

    weight_grams: int
    length_mm: int
    width_mm: int
    height_mm: int


@dataclass(frozen=True, slots=True, repr=False)
class Recipient:
    """The recipient of the order. It goes to the carrier and onto the label, and is stored nowhere
    else; no log line can show it.
    """

    name: str
    address_lines: tuple[str, ...]
    locality: str
    administrative_area: str
    postal_code: str
    country_code: str
    phone: str

    def __repr__(self) -> str:
        return "Recipient(hidden)"


@dataclass(frozen=True, slots=True, repr=False)
class Label:
    """What the carrier sold: its name for the shipment, and the document to print, which shows a
    name and an address.
    """

    tracking_number: str
    content: bytes
    content_type: str

    def __repr__(self) -> str:
        return f"Label({self.tracking_number!r}, {self.content_type!r}, {len(self.content)} bytes)"


class RecallAnswer(StrEnum):
    """A carrier's answer to a recall."""

    VOIDED = "voided"  # it has not accepted the parcels, and will not: the label is void
    RETURNING = "returning"  # it has accepted them: it brings them back where it still can
    TOO_LATE = "too_late"  # it has accepted them, and takes them on to their recipient


@dataclass(frozen=True, slots=True)
class ShipmentRequest:
    """The parcels of a fulfilment that a call or an event asks shipping to ship or to withdraw.

    `fulfillment_version` is the fulfilment's version when it became ready with these parcels; 0 is
    unknown, and older than any other.
    """

    order_id: UUID
    attempt: int
    fulfillment_id: UUID
    warehouse_id: str
    parcels: tuple[Parcel, ...]
    fulfillment_version: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that the carrier reported; `carrier_event_id` is its own id of it, `occur_time`
    by its own clock.
    """

    carrier_event_id: str
    status: Status
    occur_time: datetime
    location: str


@dataclass(frozen=True, slots=True)
class Shipment:
    """The parcels of one fulfilment, in a carrier's hands.

    `report_time` is when, by the carrier's clock, the parcels were where the status says; None
    while nothing was reported. `recall_time` is when the shipment was recalled; None where it was
    not, or had no label yet. `withdraw_version` is the fulfilment's version at which it withdrew
    its parcels; None where it did not. `contradict_time` is when the carrier reported the parcels
    of a label that it had confirmed as void; None where it has not.
    `recorded_reports` are the ids of those reports that are recorded already, among those of the
    present write. `tracking_number_holders` are other live shipments of the carrier by tracking
    number, for the numbers of the present write.
    """

    id: UUID
    order_id: UUID
    attempt: int
    fulfillment_id: UUID
    warehouse_id: str
    status: Status
    reason: str
    carrier: str
    carrier_code: str | None  # the carrier's own code for its refusal
    tracking_number: str | None
    version: int
    create_time: datetime
    update_time: datetime
    report_time: datetime | None
    deliver_time: datetime | None
    recall_time: datetime | None = None
    fulfillment_version: int = 0  # of the fulfilment when it packed these parcels
    # how often they were packed anew before a label was bought: each time another purchase
    purchase: int = 0
    withdraw_version: int | None = None
    contradict_time: datetime | None = None
    parcels: tuple[Parcel, ...] = ()
    recorded_reports: frozenset[str] = frozenset()
    tracking_number_holders: Mapping[str, UUID] = field(default_factory=dict)

    def is_followed_by(self, request: ShipmentRequest) -> bool:
        """Whether the request needs another shipment: this one was withdrawn, will not leave,
        and its fulfilment was ready again.
        """
        ended = self.status in (Status.FAILED, Status.VOIDED)
        return (
            ended
            and self.withdraw_version is not None
            and request.fulfillment_version > self.withdraw_version
        )


@dataclass(frozen=True, slots=True)
class ClosedOrder:
    """An order that was cancelled or failed: nothing is shipped for this attempt of it, or for
    an earlier one.
    """

    order_id: UUID
    attempt: int
    status: str  # cancelled or failed; for operators only, as is the time
    version: int  # the order's, when it closed
    close_time: datetime  # when shipping stored it


@dataclass(frozen=True, slots=True)
class ClosedFulfillment:
    """A fulfilment that was cancelled: its goods are back on the shelf, or on their way there."""

    fulfillment_id: UUID
    version: int  # the fulfilment's, when it was cancelled
    close_time: datetime  # when shipping stored it


@dataclass(frozen=True, slots=True)
class Transition:
    """A row of history: one step of a shipment.

    `cause` is the causing event's id, the call's request_id, or the carrier's own id.
    `claimed_actor` and `note` are those of the request that made it; None where none did, or it
    gave none.
    """

    shipment_id: UUID
    version: int
    old: Status | None
    new: Status
    reason: str
    actor: str
    cause: str
    time: datetime
    claimed_actor: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class BoughtLabel:
    """A row beside the history: the label that was bought."""

    shipment_id: UUID
    label: Label


@dataclass(frozen=True, slots=True)
class TrackingEvent:
    """A row beside the history: a report, and when it was recorded.

    `sequence` numbers them in the order in which they were recorded; 0: not stored yet.
    `claimed_actor` and `note` are those of the request that recorded it.
    """

    shipment_id: UUID
    report: Report
    record_time: datetime
    sequence: int = 0
    claimed_actor: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class RecallOpened:
    """A row beside the history: the carrier is to be asked to take back the label of this purchase.

    `tracking_number` is that of the label; None where the outcome of the purchase is unknown: the
    carrier may have sold a label. `bring_back`: where it is too late for the label to be void, the
    parcels are to come back; else they go on to their recipient.
    """

    shipment_id: UUID
    purchase: int
    tracking_number: str | None
    time: datetime
    bring_back: bool = True


@dataclass(frozen=True, slots=True)
class RecallClosed:
    """Deletes the row of a recall: the carrier has answered, or the parcels are at their end.

    A row that has another tracking number by now stays.
    """

    shipment_id: UUID
    purchase: int
    tracking_number: str | None


Row = Transition | BoughtLabel | TrackingEvent | RecallOpened | RecallClosed


@dataclass(frozen=True, slots=True)
class ClosedOrders:
    """Those of some orders and fulfilments that are closed."""

    orders: Mapping[UUID, ClosedOrder]
    fulfillments: Collection[UUID]

    def reason(self, shipment: ShipmentRequest | Shipment) -> Reason | None:
        """Why nothing may be shipped for it any more; None where something may."""
        if is_closed(self.orders.get(shipment.order_id), shipment.attempt):
            return Reason.ORDER_CLOSED
        cancelled = shipment.fulfillment_id in self.fulfillments
        return Reason.FULFILLMENT_CANCELLED if cancelled else None


def purchase_key(shipment_id: UUID, purchase: int) -> str:
    """The carrier's key of a purchase: every request under it buys the same label."""
    return f"shipment:{shipment_id}:label" + (f":{purchase}" if purchase else "")


def is_closed(order: ClosedOrder | None, attempt: int) -> bool:
    """Whether nothing may be shipped any more for this attempt of the order."""
    return order is not None and attempt <= order.attempt
