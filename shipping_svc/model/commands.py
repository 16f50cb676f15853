"""The commands of the shipping service.

A command has domain data only: chassis.values.envelope carries the rest. The target of its envelope
is a shipment, and for the two last ones an order and a fulfilment.
"""

from dataclasses import dataclass

from shipping_svc.lifecycle import Reason
from shipping_svc.model.records import Label, Recalled, Report, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class AskForShipment:
    """Ship the parcels of a fulfilment.

    The envelope's target is a proposed id: the shipment takes it, unless the fulfilment has a
    shipment already. `stored_version` is the highest version of the fulfilment that its earlier
    shipments have (0: there are none).
    """

    wanted: Wanted
    carrier: str
    stored_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLabel:
    """The carrier has sold the label for this purchase."""

    label: Label
    purchase: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """No label is bought: the carrier refuses this purchase with `carrier_code`.

    A `purchase` of None: the order or the fulfilment is closed.
    """

    reason: Reason
    carrier_code: str | None = None
    purchase: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReport:
    """The carrier reports."""

    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """A caller recalls the parcels.

    `expected_version` is the version that the caller decided on; None: any version will do.
    """

    expected_version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Recall the parcels, for this reason."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw:
    """The fulfilment withdraws its parcels before they leave, at this version of it."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRecall:
    """The carrier has answered a recall.

    `purchase` and `tracking_number` are those of the recall: a `tracking_number` of None stands
    for a purchase whose sale was unknown.
    """

    answer: Recalled
    purchase: int
    tracking_number: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class BuryOrder:
    """An order was cancelled or has failed."""

    attempt: int
    status: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuryFulfillment:
    """A fulfilment was cancelled.

    `stored_version` is the version of it that its shipments state; 0 where it has none.
    """

    version: int
    stored_version: int = 0
