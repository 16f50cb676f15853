"""The domain events of fulfilments."""

from dataclasses import dataclass

from fulfillment_svc.lifecycle import Reason, Status
from fulfillment_svc.model.records import Fulfillment, VoidLabel


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """A domain event: the status changed. The fulfilment is as it was right after the change.

    `actor`, `cause` and `claimed_actor`: see Transition. `never_started`: its attempt is closed,
    and fulfilment never recorded a commit of its stock: no work on it started or will start.
    """

    fulfillment: Fulfillment
    old: Status | None
    reason: Reason
    actor: str
    cause: str
    claimed_actor: str | None = None
    never_started: bool = False


@dataclass(frozen=True, slots=True)
class LinesChanged:
    """A domain event: the lines changed, and the status stays. The fulfilment is as it was right
    after the change; `never_started`: see StatusChanged. `shipped_after_void`: the parcels that
    shipped with a void label.
    """

    fulfillment: Fulfillment
    reason: Reason
    actor: str
    cause: str
    claimed_actor: str | None = None
    never_started: bool = False
    shipped_after_void: VoidLabel | None = None


DomainEvent = StatusChanged | LinesChanged
