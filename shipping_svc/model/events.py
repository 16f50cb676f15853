"""The domain events of a shipment, each with the row of history that it made."""

from dataclasses import dataclass

from shipping_svc.model.records import Shipment, Transition


@dataclass(frozen=True, slots=True)
class Created:
    """A label was bought; `step` is the row of history that this made."""

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
    """A shipment was delivered; `step` is the row of history that this made."""

    shipment: Shipment
    step: Transition


DomainEvent = Created | StatusChanged | Delivered
