"""Stand-ins at the edges of the process: an order service that knows everybody, and a carrier that remembers what it sold."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from chassis.errors import Failure
from shipping_svc.model import Label, Parcel, Recipient
from shipping_svc.peers import Orders
from shipping_svc.providers.sandbox import SandboxCarrier

ADA = Recipient("Ada Lovelace", ("1 High Street",), "Dover", "", "CT16 1AA", "GB", "")


class KnownOrders(Orders):
    """Knows a recipient for every order; `failure` is what it answers instead while it is set."""

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.addresses: dict[UUID, dict[str, str]] = {}
        self.asked = 0

    async def recipient(self, order_id: UUID) -> Recipient:
        self.asked += 1
        if self.failure:
            raise self.failure
        # The values of an address that tests change are text.
        return replace(ADA, **self.addresses.get(order_id, {}))  # type: ignore[arg-type]


class Crash(BaseException):
    """The process dies here: not an Exception, so that nothing of ours can go on after it."""


class CountingCarrier(SandboxCarrier):
    """The sandbox carrier. `calls` counts the purchases by their key.

    `failure` is raised instead of selling while it is set, `after_sale` after the sale, `bugs` to the recipients of these postal codes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.failure: BaseException | None = None
        self.after_sale: BaseException | None = None
        self.bugs: dict[str, Exception] = {}

    async def buy_label(self, key: str, parcels: Sequence[Parcel], recipient: Recipient, warehouse_id: str) -> Label:
        self.calls[key] += 1
        if trouble := self.failure or self.bugs.get(recipient.postal_code):
            raise trouble
        label = await super().buy_label(key, parcels, recipient, warehouse_id)
        if self.after_sale:
            raise self.after_sale
        return label
