"""Plans of faults and of shoppers: a seed determines the run, and the plans cover every kind,
target and scenario.
"""

from collections import Counter

from tests.chaos.connections import known_connections
from tests.chaos.plan import SERVERS, SERVICES, STREAMS, Kind, faults
from tests.chaos.scenarios import STOCK, Afterwards, Turn, scenarios

CONNECTIONS = known_connections()


def test_plan_with_the_same_seed_is_the_same() -> None:
    """The seed alone determines faults and shoppers; another seed gives another plan."""
    assert faults(7, 60, CONNECTIONS) == faults(7, 60, CONNECTIONS) != faults(8, 60, CONNECTIONS)
    assert list(scenarios(7, 60, 3)) == list(scenarios(7, 60, 3)) != list(scenarios(8, 60, 3))


def test_plan_injects_each_kind_of_fault_equally_often() -> None:
    """The counts of two kinds differ by one at most, and each fault ends before the run does."""
    for seed in range(50):
        planned = faults(seed, 40 + seed, CONNECTIONS)
        counts = Counter(fault.kind for fault in planned)
        assert max(counts.values()) - min(counts[kind] for kind in Kind) <= 1
        assert all(fault.at_s + fault.lasts_s <= 40 + seed + 0.2 for fault in planned)


def test_plan_of_a_long_run_covers_every_target() -> None:
    """A long run has a fault for each process, each connection and each stream."""
    assert {fault.target for fault in faults(1, 900, CONNECTIONS)} == {
        *SERVICES,
        *SERVERS,
        *CONNECTIONS,
        *STREAMS.values(),
    }


def test_plan_lists_every_connection_between_services() -> None:
    """A service is connected to its database, to the broker and to the peers that its settings
    name.
    """
    assert len(CONNECTIONS) == len(set(CONNECTIONS))
    for service in SERVICES:
        assert {f"{service}>postgres", f"{service}>nats"} <= set(CONNECTIONS)
    assert {
        "order>warehouse",
        "payment>order",
        "fulfillment>warehouse",
        "fulfillment>shipping",
        "shipping>order",
    } <= set(CONNECTIONS)


def test_shoppers_cover_every_action_and_ending() -> None:
    """A few hundred shoppers cover each action and each ending; their baskets have only SKUs of the
    catalogue.
    """
    many = list(scenarios(1, 200, 3))
    assert {scenario.turn for scenario in many} == set(Turn)
    assert {scenario.afterwards for scenario in many} == set(Afterwards)
    assert {sku for scenario in many for sku, _ in scenario.basket} == set(STOCK)
    assert len({scenario.name for scenario in many}) == len(many)
