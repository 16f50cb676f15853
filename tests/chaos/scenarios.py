"""The plan of each shopper and of its order's treatment: baskets, cards, changes of mind. Pure, all
from a seed.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

# The catalogue: each SKU with the units in each warehouse.
STOCK: Final = {
    "lamp": {"london": 5000},
    "bulb": {"paris": 5000},
    "shade": {"london": 5000, "paris": 5000},
    "cable": {"london": 5000, "paris": 60},
    "clock": {"london": 5000, "paris": 5000},
    "mug": {"paris": 5000},
    "rug": {"london": 5000},
    "chair": {"london": 60},
    "vase": {"paris": 60},
}
SCARCE: Final = ("chair", "vase")  # so that they run out, and shoppers compete for them
SCARCE_SHARE: Final = 0.15
PRICES: Final = {
    "lamp": 3333,
    "bulb": 250,
    "shade": 1999,
    "cable": 101,
    "clock": 4500,
    "mug": 899,
    "rug": 9900,
    "chair": 12900,
    "vase": 777,
}

# Cards in the order that a shopper tries them, and the frequency of each row. The sandbox's tokens
# determine the processor's answers.
CARDS: Final = (
    (8, ("tok_ok",)),
    (2, ("tok_timeout_charged",)),
    (1, ("tok_timeout_not_charged",)),
    (1, ("tok_unavailable_once",)),
    (1, ("tok_slow",)),
    (2, ("tok_ok_late",)),
    (1, ("tok_declined_insufficient_funds", "tok_ok")),
    (1, ("tok_declined_expired_card", "tok_declined_late", "tok_declined_insufficient_funds")),
    (1, ("tok_declined_stolen",)),
    (1, ("tok_capture_timeout",)),
    (2, ("tok_refund_timeout",)),
    (1, ("tok_refund_lost",)),
    (1, ("tok_refund_late",)),
    (1, ("tok_refund_unavailable_once",)),
    (1, ("tok_void_timeout",)),
)
# authorised first, captured by another call
MANUAL: Final = frozenset({"tok_capture_timeout", "tok_void_timeout"})
# pending first, then declined: a repeat gets the present state
CHANGE_THEIR_MIND: Final = frozenset({"tok_declined_late"})
# the order expires, and its authorisation is voided
NEVER_CAPTURED: Final = frozenset({"tok_void_timeout"})


class Turn(StrEnum):
    """The event between a shopper and the delivery of the whole order."""

    NONE = "none"
    ABANDON = "abandon"  # never pays: the order expires
    CANCEL = "cancel"
    CANCEL_ITEMS = "cancel_items"
    BOTH = "cancel_items and cancel"
    GIVE_UP = "give_up"  # the warehouse cancels the fulfilment


class Picking(StrEnum):
    """The treatment in the warehouse."""

    FINE = "fine"
    SHORT = "short"
    SPOILED = "spoiled"


class Travel(StrEnum):
    """The treatment of the parcel."""

    ARRIVES = "arrives"
    LOST = "lost"
    RETURNED = "returned"


class Afterwards(StrEnum):
    """The treatment after the delivery."""

    NOTHING = "nothing"
    RETURN = "return"
    RETURN_SOME = "return_some"
    CALL_OFF = "call_off"  # a return that is cancelled
    WITHOUT_GOODS = "without_goods"
    GOODWILL = "goodwill"  # a refund by request
    REFUND_MEETS_RETURN = "refund_meets_return"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One shopper. `again`: answered calls are repeated, as after a lost answer."""

    number: int
    at_s: float
    basket: tuple[tuple[str, int], ...]
    cards: tuple[str, ...]
    turn: Turn
    turn_s: float
    picking: Picking
    travel: Travel
    afterwards: Afterwards
    retries: bool
    again: bool

    @property
    def name(self) -> str:
        """Returns the order's external_reference, by which the order is found."""
        return f"shopper-{self.number}"


def scenarios(seed: int, duration_s: float, rate: float) -> Iterator[Scenario]:
    """Yields shoppers, `rate` a second on average, for `duration_s`."""
    chance = random.Random(f"shoppers of {seed}")
    at_s, number = chance.expovariate(rate), 0
    while at_s < duration_s:
        number += 1
        yield _scenario(chance, number, at_s)
        at_s += chance.expovariate(rate)


def _scenario(chance: random.Random, number: int, at_s: float) -> Scenario:
    skus = chance.sample([sku for sku in STOCK if sku not in SCARCE], chance.randint(1, 3))
    if chance.random() < SCARCE_SHARE:
        skus.append(chance.choice(SCARCE))
    return Scenario(
        number=number,
        at_s=at_s,
        basket=tuple((sku, chance.randint(1, 4)) for sku in skus),
        cards=chance.choices([cards for _, cards in CARDS], [weight for weight, _ in CARDS])[0],
        turn=chance.choices(list(Turn), [12, 1, 4, 4, 1, 1])[0],
        turn_s=chance.choice([chance.uniform(0, 0.5), chance.uniform(0, 4), chance.uniform(0, 12)]),
        picking=chance.choices(list(Picking), [8, 1, 1])[0],
        travel=chance.choices(list(Travel), [10, 1, 1])[0],
        afterwards=chance.choices(list(Afterwards), [6, 2, 2, 1, 1, 1, 1])[0],
        retries=chance.random() < 0.5,
        again=chance.random() < 0.3,
    )
