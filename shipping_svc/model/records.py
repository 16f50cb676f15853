"""Shipments and their parts, closed orders and fulfilments, and rows of history. Pure."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from shipping_svc.lifecycle import Reason, Status

# The scripts that labels print with the extra `cjk`, as LABEL_NOT_PRINTABLE names them.
CJK_SCRIPTS = frozenset({"CJK", "HANGUL", "HIRAGANA", "KATAKANA"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Parcel:
    """A parcel as the carrier gets it, in grams and millimetres."""

    weight_grams: int
    length_mm: int
    width_mm: int
    height_mm: int


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Recipient:
    """The recipient of the order, for the carrier and the label.

    Shipping stores it only as part of the label, and no log line can show it.
    """

    name: str
    address_lines: tuple[str, ...]
    locality: str
    administrative_area: str
    postal_code: str
    country_code: str
    phone: str


@dataclass(frozen=True, slots=True)
class Label:
    """A label that the carrier sold: a tracking number, and the document to print.

    The document shows a name and an address.
    """

    tracking_number: str
    content: bytes = field(repr=False)
    content_type: str


class RecallAnswer(StrEnum):
    """A carrier's answer to a recall."""

    VOIDED = "voided"  # it has no parcel and accepts none: the label is void
    RETURNING = "returning"  # it has the parcels, and brings them back where it still can
    TOO_LATE = "too_late"  # it has the parcels, and takes them on to their recipient


@dataclass(frozen=True, slots=True, kw_only=True)
class ShipmentRequest:
    """The parcels of a fulfilment that a call or an event asks shipping to ship or to withdraw.

    `fulfillment_version` is the fulfilment's version when it became ready with these parcels. 0:
    the version is unknown; it counts as older than any other.
    """

    order_id: UUID
    attempt: int
    fulfillment_id: UUID
    warehouse_id: str
    parcels: tuple[Parcel, ...]
    fulfillment_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A report of the carrier: `carrier_event_id` is the carrier's id, `occur_time` its time."""

    carrier_event_id: str
    status: Status
    occur_time: datetime
    location: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipment:
    """The parcels of one fulfilment, in a carrier's hands.

    report_time       the carrier's time of the furthest report; None without a report
    recall_time       the time of the recall; None where there was none, or no label yet
    withdraw_version  the fulfilment's version when it withdrew its parcels; None where it did not
    contradict_time   the time of the carrier's first report after it had confirmed the label as
                      void; None without such a report

    `recorded_reports` are the ids of the present write's reports that are recorded already.
    `tracking_number_holders` are the carrier's other live shipments that have a tracking number of
    the present write, by that number.
    """

    id: UUID
    order_id: UUID
    attempt: int
    fulfillment_id: UUID
    warehouse_id: str
    status: Status
    reason: str
    carrier: str
    carrier_code: str | None  # the carrier's code of its refusal
    tracking_number: str | None
    version: int
    create_time: datetime
    update_time: datetime
    report_time: datetime | None
    recall_time: datetime | None = None
    fulfillment_version: int = 0  # the fulfilment's, when it packed these parcels
    # how often the parcels were packed again before a label was bought: each is another purchase
    purchase: int = 0
    withdraw_version: int | None = None
    contradict_time: datetime | None = None
    parcels: tuple[Parcel, ...] = ()
    recorded_reports: frozenset[str] = frozenset()
    tracking_number_holders: Mapping[str, UUID] = field(default_factory=dict)

    @property
    def deliver_time(self) -> datetime | None:
        """The carrier's time of the delivery, which is the furthest report."""
        return self.report_time if self.status is Status.DELIVERED else None

    def is_followed_by(self, request: ShipmentRequest) -> bool:
        """Returns whether the request needs another shipment.

        It does where this one was withdrawn and has ended without leaving, and its fulfilment was
        ready again.
        """
        ended = self.status in (Status.FAILED, Status.VOIDED)
        return (
            ended
            and self.withdraw_version is not None
            and request.fulfillment_version > self.withdraw_version
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedOrder:
    """An order that was cancelled or failed.

    Shipping ships nothing for this attempt of it, or for an earlier one.
    """

    order_id: UUID
    attempt: int
    status: str  # cancelled or failed; only operators read it and the time
    version: int  # the order's, when it closed
    close_time: datetime  # when shipping stored it


@dataclass(frozen=True, slots=True)
class ClosedFulfillment:
    """A cancelled fulfilment: its units go back on the shelf."""

    fulfillment_id: UUID
    version: int  # the fulfilment's, when it was cancelled
    close_time: datetime  # when shipping stored it


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """A row of history: one change of a shipment.

    `cause` is the causing event's id, the call's request_id, or the carrier's own id.
    `claimed_actor` and `note` are those of the request that led to it; else None.
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
    """A new row of a label."""

    shipment_id: UUID
    label: Label


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackingEvent:
    """A row of a report.

    `sequence` numbers the rows in the order in which they were recorded; 0: not stored yet.
    `claimed_actor` and `note` are those of the request that recorded it.
    """

    shipment_id: UUID
    report: Report
    record_time: datetime
    sequence: int = 0
    claimed_actor: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallOpened:
    """A new row of a recall: the sweeper asks the carrier to take back the label of this purchase.

    `tracking_number` is that of the label; None where the outcome of the purchase is unknown: the
    carrier may have sold a label. `bring_back`: parcels that the carrier has already come back;
    without it they go on to their recipient.
    """

    shipment_id: UUID
    purchase: int
    tracking_number: str | None
    time: datetime
    bring_back: bool = True


@dataclass(frozen=True, slots=True)
class RecallClosed:
    """A recall whose row is deleted: the carrier has answered, or the shipment's status is final.

    A row that has another tracking number by now stays.
    """

    shipment_id: UUID
    purchase: int
    tracking_number: str | None


Row = Transition | BoughtLabel | TrackingEvent | RecallOpened | RecallClosed


@dataclass(frozen=True, slots=True)
class ClosedOrders:
    """The closed orders and cancelled fulfilments among those that a search asked for."""

    orders: Mapping[UUID, ClosedOrder]
    fulfillments: Collection[UUID]

    def reason(self, shipment: ShipmentRequest | Shipment) -> Reason | None:
        """Returns why shipping ships nothing for it any more; None where it may ship."""
        if is_closed(self.orders.get(shipment.order_id), shipment.attempt):
            return Reason.ORDER_CLOSED
        cancelled = shipment.fulfillment_id in self.fulfillments
        return Reason.FULFILLMENT_CANCELLED if cancelled else None


def purchase_key(shipment_id: UUID, purchase: int) -> str:
    """Returns the carrier's key of a purchase: every request with it buys the same label."""
    return f"shipment:{shipment_id}:label" + (f":{purchase}" if purchase else "")


def is_closed(order: ClosedOrder | None, attempt: int) -> bool:
    """Returns whether this attempt of the order is closed."""
    return order is not None and attempt <= order.attempt
