"""The commands of the shipping service."""

from dataclasses import dataclass, field
from uuid import UUID

from shipping_svc.lifecycle import Reason
from shipping_svc.model.records import Label, Recalled, Report, Wanted


@dataclass(frozen=True, slots=True)
class Command:
    """What may be asked: by whom (`actor`), and what for (`cause`).

    `cause` is an event's id, a request_id, or the carrier's id of a report.
    `claimed_actor` and `note` are those of the request; None where the command is no request's.
    """

    key: str
    digest: bytes
    target: UUID
    actor: str
    cause: str
    claimed_actor: str | None = field(default=None, kw_only=True)
    note: str | None = field(default=None, kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskForShipment(Command):
    """A fulfilment is ready for its carrier. `target` is the id that its shipment takes, unless it
    has one already.

    `stored_version` is the fulfilment's highest version that its earlier shipments state (0: it has
    none).
    """

    wanted: Wanted
    carrier: str
    stored_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepLabel(Command):
    """The carrier has sold the label."""

    label: Label
    purchase: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp(Command):
    """There will be no label: the carrier refuses (`carrier_code`) this `purchase`, or (None)
    order or fulfilment is dead.
    """

    reason: Reason
    carrier_code: str | None = None
    purchase: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordReport(Command):
    """The carrier reports."""

    report: Report


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(Command):
    """Somebody wants the parcels back. `expected_version` is the one that he looked at; None:
    whatever it is.
    """

    expected_version: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Close(Command):
    """The shipment's order is dead, or its fulfilment is cancelled: `reason`."""

    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw(Command):
    """The fulfilment wants its parcels back before they leave, at this version of it."""

    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepRecall(Command):
    """The carrier has answered the recall of what it has sold by this purchase, and calls so, as
    far as we had heard.
    """

    answer: Recalled
    purchase: int
    tracking_number: str | None


ShipmentCommand = (
    AskForShipment | KeepLabel | GiveUp | RecordReport | Cancel | Close | Withdraw | KeepRecall
)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuryOrder(Command):
    """An order was cancelled or failed; `target` is its id."""

    attempt: int
    status: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BuryFulfillment(Command):
    """A fulfilment was cancelled; `target` is its id."""

    version: int
