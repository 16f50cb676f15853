"""The domain events of a shipment, each with the row of history that it made."""

from dataclasses import dataclass

from shipping_svc.model.records import Shipment, Transition


@dataclass(frozen=True, slots=True)
class Created:
    """The fact that a label was bought, and the row of history that it made."""

    shipment: Shipment
    step: Transition


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """The fact that a shipment took a step other than its creation, and its row of history.

    A recall is a step on the spot: the row's old status is the new one.
    """

    shipment: Shipment
    step: Transition


@dataclass(frozen=True, slots=True)
class Delivered:
    """The fact that a shipment was received, and the row of history that it made."""

    shipment: Shipment
    step: Transition


Fact = Created | StatusChanged | Delivered
