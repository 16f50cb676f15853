"""Plans of faults and of shoppers: a seed determines the run, and the plans cover every kind,
target and scenario.
"""

from collections import Counter

from tests.chaos.intents import STOCK, Afterwards, Turn, intents
from tests.chaos.plan import SERVERS, SERVICES, STREAMS, Kind, faults
from tests.chaos.roads import known_roads

ROADS = known_roads()


def test_plan_with_the_same_seed_is_the_same() -> None:
    """The seed alone determines faults and shoppers; another seed gives another plan."""
    assert faults(7, 60, ROADS) == faults(7, 60, ROADS) != faults(8, 60, ROADS)
    assert list(intents(7, 60, 3)) == list(intents(7, 60, 3)) != list(intents(8, 60, 3))


def test_plan_injects_each_kind_of_fault_equally_often() -> None:
    """The counts of two kinds differ by one at most, and each fault ends before the run does."""
    for seed in range(50):
        planned = faults(seed, 40 + seed, ROADS)
        counts = Counter(fault.kind for fault in planned)
        assert max(counts.values()) - min(counts[kind] for kind in Kind) <= 1
        assert all(fault.at_s + fault.lasts_s <= 40 + seed + 0.2 for fault in planned)


def test_plan_of_a_long_run_covers_every_target() -> None:
    """A long run has a fault for each process, each connection and each stream."""
    assert {fault.target for fault in faults(1, 900, ROADS)} == {
        *SERVICES,
        *SERVERS,
        *ROADS,
        *STREAMS.values(),
    }


def test_plan_lists_every_connection_between_services() -> None:
    """A service is connected to its database, to the broker and to the peers that its settings
    name.
    """
    assert len(ROADS) == len(set(ROADS))
    for service in SERVICES:
        assert {f"{service}>postgres", f"{service}>nats"} <= set(ROADS)
    assert {
        "order>warehouse",
        "payment>order",
        "fulfillment>warehouse",
        "fulfillment>shipping",
        "shipping>order",
    } <= set(ROADS)


def test_shoppers_cover_every_action_and_ending() -> None:
    """A few hundred shoppers cover each action and each ending; their baskets have only SKUs of the
    catalogue.
    """
    many = list(intents(1, 200, 3))
    assert {intent.turn for intent in many} == set(Turn)
    assert {intent.afterwards for intent in many} == set(Afterwards)
    assert {sku for intent in many for sku, _ in intent.basket} == set(STOCK)
    assert len({intent.name for intent in many}) == len(many)
