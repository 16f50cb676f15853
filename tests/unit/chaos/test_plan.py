"""Plans of faults and of shoppers: the same seed, the same run; and nothing is left out."""

from collections import Counter

from tests.chaos.intents import STOCK, Afterwards, Turn, intents
from tests.chaos.plan import SERVERS, SERVICES, STREAMS, Kind, faults
from tests.chaos.roads import known_roads

ROADS = known_roads()


def test_the_same_seed_gives_the_same_run_and_another_another() -> None:
    """Faults and shoppers come from the seed alone."""
    assert faults(7, 60, ROADS) == faults(7, 60, ROADS) != faults(8, 60, ROADS)
    assert list(intents(7, 60, 3)) == list(intents(7, 60, 3)) != list(intents(8, 60, 3))


def test_every_kind_strikes_as_often_as_any_other() -> None:
    """However short a run is, no kind comes twice more than another; and each fault is over when
    the run is.
    """
    for seed in range(50):
        planned = faults(seed, 40 + seed, ROADS)
        counts = Counter(fault.kind for fault in planned)
        assert max(counts.values()) - min(counts[kind] for kind in Kind) <= 1
        assert all(fault.at_s + fault.lasts_s <= 40 + seed + 0.2 for fault in planned)


def test_every_target_is_struck_in_a_long_run() -> None:
    """All processes, all roads and all streams have their turn."""
    assert {fault.target for fault in faults(1, 900, ROADS)} == {
        *SERVICES,
        *SERVERS,
        *ROADS,
        *STREAMS.values(),
    }


def test_every_road_between_services_is_known() -> None:
    """Each service has its database and the broker, and whomever its settings name."""
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


def test_shoppers_do_everything_there_is_to_do() -> None:
    """Among a few hundred of them each turn and each ending is taken, and baskets hold what is
    sold.
    """
    many = list(intents(1, 200, 3))
    assert {intent.turn for intent in many} == set(Turn)
    assert {intent.afterwards for intent in many} == set(Afterwards)
    assert {sku for intent in many for sku, _ in intent.basket} == set(STOCK)
    assert len({intent.name for intent in many}) == len(many)
