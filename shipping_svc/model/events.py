"""The domain events of a shipment, each with its row of history."""

from dataclasses import dataclass

from shipping_svc.model.records import Shipment, Transition


@dataclass(frozen=True, slots=True)
class Created:
    """A label was bought; `step` is its row of history."""

    shipment: Shipment
    step: Transition


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """A shipment changed after its creation; `step` is its row of history.

    A recall changes no status: the row's old status is the new one.
    """

    shipment: Shipment
    step: Transition


@dataclass(frozen=True, slots=True)
class Delivered:
    """A shipment was delivered; `step` is its row of history."""

    shipment: Shipment
    step: Transition


DomainEvent = Created | StatusChanged | Delivered
