"""Stand-ins for the peers: an order service that has every order, and a carrier that counts its
sales.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from uuid import UUID

from chassis.values.errors import Deferred, Failure
from shipping_svc.model.records import Label, Parcel, RecallAnswer, Recipient
from shipping_svc.peers import Orders
from shipping_svc.providers.sandbox import NAME, SandboxCarrier

AWAY = Deferred("DEPENDENCY_UNAVAILABLE", "away", peer="sandbox")
ADA = Recipient(
    name="Ada Lovelace",
    address_lines=("1 High Street",),
    locality="Dover",
    administrative_area="",
    postal_code="CT16 1AA",
    country_code="GB",
    phone="",
)


class KnownOrders(Orders):
    """Has every order but the `missing` ones, with its recipient; while `failure` is set, that is
    its answer.
    """

    def __init__(self) -> None:
        self.failure: Failure | None = None
        self.missing: set[UUID] = set()
        self.asked_for: list[set[UUID]] = []
        self.addresses: dict[UUID, dict[str, str]] = {}
        self.asked = 0

    async def get_recipient(self, order_id: UUID) -> Recipient:
        self.asked += 1
        if self.failure:
            raise self.failure
        # The values of an address that tests change are text.
        return replace(ADA, **self.addresses.get(order_id, {}))  # type: ignore[arg-type]

    async def find_existing(self, order_ids: Collection[UUID]) -> set[UUID]:
        self.asked_for.append(set(order_ids))
        if self.failure:
            raise self.failure
        return set(order_ids) - self.missing


class Crash(BaseException):
    """The process ends here: it is no Exception, so that no handler of the service runs after
    it.
    """


class CountingCarrier(SandboxCarrier):
    """The sandbox carrier. `calls` counts the purchases by their key, `recalls` the recalls by
    their tracking number, or by the key of a purchase with an unknown outcome.

    While set, `failure` is raised instead of a sale or a recall, `after_sale` after the sale, and
    `after_recall` after the label is void. `bugs` are raised for the recipients of these postal
    codes.

    `sale` and `recall_answer` delay its answers. While set, `number` replaces the tracking number
    that it sells; `called` is its name.
    """

    def __init__(self, reported: Callable[[str], Awaitable[bool]]) -> None:
        super().__init__(reported)
        self.calls: Counter[str] = Counter()
        self.recalls: Counter[str] = Counter()
        self.after_recall: BaseException | None = None
        self.sale, self.recall_answer = asyncio.Event(), asyncio.Event()
        self.sale.set()
        self.recall_answer.set()
        self.failure: BaseException | None = None
        self.after_sale: BaseException | None = None
        self.bugs: dict[str, Exception] = {}
        self.number, self.called = "", NAME

    @property
    def name(self) -> str:
        return self.called

    async def buy_label(
        self, key: str, parcels: Sequence[Parcel], recipient: Recipient, warehouse_id: str
    ) -> Label:
        self.calls[key] += 1
        if trouble := self.failure or self.bugs.get(recipient.postal_code):
            raise trouble
        label = await super().buy_label(key, parcels, recipient, warehouse_id)
        if self.after_sale:
            raise self.after_sale
        await self.sale.wait()
        return replace(label, tracking_number=self.number or label.tracking_number)

    async def recall(
        self, key: str, purchase: str, tracking_number: str | None, *, bring_back: bool
    ) -> RecallAnswer:
        self.recalls[tracking_number or purchase] += 1
        if self.failure:
            raise self.failure
        answer = await super().recall(key, purchase, tracking_number, bring_back=bring_back)
        if self.after_recall:
            raise self.after_recall
        await self.recall_answer.wait()
        return answer
