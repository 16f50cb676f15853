"""The domain events of fulfilments."""

from dataclasses import dataclass

from fulfillment_svc.lifecycle import Reason, Status
from fulfillment_svc.model.records import Fulfillment, VoidLabel


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainEvent:
    """A fulfilment has changed; `fulfillment` is the record right after the change.

    `actor`, `cause` and `claimed_actor`: see Transition. `never_started`: its attempt is closed,
    and fulfilment never recorded a commit of its stock: no work on it started or will start.
    """

    fulfillment: Fulfillment
    reason: Reason
    actor: str
    cause: str
    claimed_actor: str | None = None
    never_started: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusChanged(DomainEvent):
    """The status changed; `old` is None for a new fulfilment."""

    old: Status | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesChanged(DomainEvent):
    """The lines changed, or a withdrawal or a void label was recorded; the status is the same.

    `shipped_after_void`: the parcels that shipped with a void label.
    """

    shipped_after_void: VoidLabel | None = None
