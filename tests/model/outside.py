"""A bank and a carrier in memory, with the ports of payment_svc and shipping_svc."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from payment_svc.model.answers import NOT_PROCESSED, Answer, Declined, Report, Succeeded
from payment_svc.providers.port import Authorization
from shipping_svc.model.records import Label, Parcel, RecallAnswer, Recipient

DECLINED = "tok_declined"


class Bank:
    """A card processor that is idempotent on its keys; `lost` returns whether this answer is lost
    after its effect.
    """

    def __init__(self, lost: Callable[[], bool]) -> None:
        self._lost = lost
        self._answers: dict[UUID, Answer] = {}
        self.taken: Counter[str] = Counter()  # by charge: captured minor units
        self.given: Counter[str] = Counter()  # by charge: refunded minor units

    async def authorize(self, request: Authorization) -> Answer:
        if request.key not in self._answers:
            if request.token == DECLINED:
                self._answers[request.key] = Declined("stolen_card", final=True)
            else:
                self._answers[request.key] = Succeeded(f"charge {request.key}")
                self.taken[f"charge {request.key}"] += request.amount if request.capture else 0
        return self._answer(request.key)

    async def refund(self, key: UUID, charge: str, amount: int) -> Answer:
        if key not in self._answers:
            self._answers[key] = Succeeded(f"refund {key}")
            self.given[charge] += amount
        return self._answer(key)

    async def capture(self, key: UUID, authorization: str, amount: int) -> Answer:
        raise AssertionError("the model has no captures by request")

    async def void(self, key: UUID, authorization: str) -> Answer:
        raise AssertionError("the model has no separate authorisations")

    async def lookup(self, key: UUID) -> Answer | None:
        return self._answers.get(key)

    async def abandon(self, key: UUID) -> Answer:
        return self._answers.setdefault(key, Declined(NOT_PROCESSED))

    def parse_webhook(self, body: bytes, headers: Mapping[str, str], now: datetime) -> Report:
        raise AssertionError("this bank sends no webhooks")

    def _answer(self, key: UUID) -> Answer:
        if self._lost():
            raise TimeoutError
        return self._answers[key]


class Carrier:
    """A carrier that voids labels until it has reported anything of a parcel; `lost` returns
    whether this answer is lost after its effect.
    """

    name = "carrier"

    def __init__(self, reported: Callable[[str], bool], lost: Callable[[], bool]) -> None:
        self._reported, self._lost = reported, lost
        # by the key of the purchase: the label, and its parcels
        self.bought: dict[str, tuple[Label, Sequence[Parcel]]] = {}
        self.recalled: dict[str, RecallAnswer] = {}  # by the key of the purchase

    async def buy_label(
        self, key: str, parcels: Sequence[Parcel], recipient: Recipient, warehouse_id: str
    ) -> Label:
        label, _ = self.bought.setdefault(
            key, (Label(f"T{len(self.bought) + 1}", b"label", "text/plain"), parcels)
        )
        if self._lost():
            raise TimeoutError
        return label

    async def recall(
        self, key: str, purchase: str, tracking_number: str | None, *, bring_back: bool
    ) -> RecallAnswer:
        reported = tracking_number and self._reported(tracking_number)
        if self.recalled.get(purchase) is not RecallAnswer.VOIDED:
            self.recalled[purchase] = (
                (RecallAnswer.RETURNING if bring_back else RecallAnswer.TOO_LATE)
                if reported
                else RecallAnswer.VOIDED
            )
        return self.recalled[purchase]
