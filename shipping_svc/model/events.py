"""The domain events of a shipment, each with its row of history."""

from dataclasses import dataclass

from shipping_svc.model.records import Shipment, Transition


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """A shipment has changed; `transition` is its row of history."""

    shipment: Shipment
    transition: Transition


@dataclass(frozen=True, slots=True)
class Created(DomainEvent):
    """A label was bought."""


@dataclass(frozen=True, slots=True)
class StatusChanged(DomainEvent):
    """A shipment changed after its creation.

    A recall changes no status: the row's old status is the new one.
    """


@dataclass(frozen=True, slots=True)
class Delivered(DomainEvent):
    """A shipment was delivered."""
