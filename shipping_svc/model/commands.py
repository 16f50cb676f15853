"""The commands of the shipping service.

A command has domain data only: chassis.values.envelope carries the rest. The target of its envelope
is a shipment; that of CloseOrder is an order, and that of CloseFulfillment a fulfilment.
"""

from dataclasses import dataclass

from shipping_svc.lifecycle import Reason
from shipping_svc.model.records import Label, RecallAnswer, Report, ShipmentRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateShipment:
    """Ship the parcels of a fulfilment.

    The envelope's target is a proposed id: the new shipment has it, unless the fulfilment has a
    shipment already. `stored_version` is the highest version of the fulfilment that its earlier
    shipments have; 0 where there are none.
    """

    request: ShipmentRequest
    carrier: str
    stored_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordLabel:
    """Store the label that the carrier sold for this purchase."""

    label: Label
    purchase: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FailLabel:
    """Fail the shipment: the carrier refuses this purchase with `carrier_code`.

    A `purchase` of None: the order or the fulfilment is closed.
    """

    reason: Reason
    carrier_code: str | None = None
    purchase: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReport:
    """Record a report of the carrier."""

    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelShipment:
    """Recall the parcels for a caller.

    `expected_version` is the version that the caller read; None: any version.
    """

    expected_version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseShipment:
    """Recall the parcels for this reason."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawShipment:
    """Withdraw the parcels before they leave; `version` is the fulfilment's at its withdrawal."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordRecallAnswer:
    """Store the carrier's answer to a recall.

    `purchase` and `tracking_number` are those of the recall. A `tracking_number` of None: the
    outcome of the purchase was unknown.
    """

    answer: RecallAnswer
    purchase: int
    tracking_number: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOrder:
    """Store that an attempt of an order is closed: cancelled or failed."""

    attempt: int
    status: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseFulfillment:
    """Store that a fulfilment is closed: it was cancelled.

    `stored_version` is the highest version of it that its shipments have; 0 where there are none.
    """

    version: int
    stored_version: int = 0
