"""The load generator: what it sends, how it counts, when it calls a run healthy."""

from collections import Counter
from uuid import UUID

import pytest

from simulator.load import Load, checkout, load, percentile, report
from simulator.shoppers import LOST, REFUSED, STUCK, Purchase, Shoppers
from simulator.world import World
from tests.support import Eventually
from tests.unit.simulator.shop import Shop, living

KEY = UUID(int=7)


@pytest.mark.parametrize(
    ("values", "percent", "value"),
    [
        ([1.0], 50, 1.0),
        ([1.0], 99, 1.0),
        ([3.0, 1.0, 2.0], 50, 2.0),
        (list(range(1, 101)), 95, 95),
        (list(range(1, 101)), 99, 99),
        ([1, 2], 100, 2),
    ],
)
def test_percentiles(values: list[float], percent: float, value: float) -> None:
    """The nearest rank: a value that was measured, which at least that share does not exceed."""
    assert percentile(values, percent) == value


def test_a_basket_is_its_keys() -> None:
    """A key always makes the same request, and different keys make different ones."""
    assert checkout(KEY) == checkout(KEY)
    assert len({checkout(UUID(int=number)).SerializeToString() for number in range(50)}) == 50


async def test_a_run_sends_all_and_waits_for_all() -> None:
    """Rate × duration orders are sent, each walks to its end, for orders of others is worked as
    well, and each is measured.
    """
    shop = Shop()
    world = World(shop, everybody=True)
    async with living(world):
        run = await load(
            shop, Shoppers(shop, world, 10.0), rate=200, duration_s=0.1, tell=lambda _: None
        )
    assert len(shop.placed) == len(run.purchases) == 20
    assert {purchase.outcome for purchase in run.purchases} == {"delivered"}
    for purchase in run.purchases:
        assert purchase.created_s is not None
        assert purchase.confirmed_s is not None
        assert purchase.delivered_s is not None
        assert 0 <= purchase.created_s <= purchase.confirmed_s <= purchase.delivered_s
    assert run.healthy


async def test_the_rate_is_kept() -> None:
    """Orders are sent when they are due, not all at once, and their times count from then: a
    slow shop delays no other order.
    """
    shop = Shop()
    shop.deaf = True
    world = World(shop, everybody=True)
    async with living(world):
        run = await load(
            shop, Shoppers(shop, world, 0.3), rate=100, duration_s=0.2, tell=lambda _: None
        )
    assert 0.19 <= run.seconds < 3  # one after the other they would take 6
    assert {purchase.outcome for purchase in run.purchases} == {STUCK}


async def test_everybody_is_served(eventually: Eventually) -> None:
    """In a load run pickers and carriers also work for orders that nobody follows."""
    shop = Shop()
    order_id = (await shop.ask("CreateOrder", checkout(KEY))).order.order_id
    shop.captured[order_id] = 0
    shop._confirm(order_id)
    async with living(World(shop, everybody=True)):
        await eventually(lambda: shop.parcels and shop.calls["RecordTrackingEvent"] == 3)


def run_of(*purchases: Purchase) -> Load:
    """A run that went so."""
    return Load(purchases, Counter({"CreateOrder OVERLOADED": 3}), 2.0)


@pytest.mark.parametrize("outcome", [REFUSED, "cancelled", "failed", LOST, STUCK])
def test_only_what_was_delivered_is_healthy(outcome: str) -> None:
    """Whatever else became of an order is a fault, and is told: a run in which all are refused
    has proven nothing.
    """
    assert run_of(Purchase("delivered")).healthy
    run = run_of(Purchase("delivered"), Purchase(outcome, "WHY"))
    assert not run.healthy
    assert list(report(run))[-1] == f"  {outcome}: no order: WHY"


def test_the_report() -> None:
    """Counts by outcome, percentiles by measure (a dash where nothing was measured), failures by
    reason, and who was unhappy.
    """
    lines = list(
        report(
            run_of(
                Purchase("delivered", created_s=0.1, confirmed_s=0.5),
                Purchase(STUCK, "nobody picks", created_s=0.2),
            )
        )
    )
    assert lines[0] == "2 orders sent in 2.0 s (1.0 a second): 1 delivered, 1 stuck"
    assert lines[2:5] == [
        "create                    0.100    0.200    0.200",
        "checkout to confirmed     0.500    0.500    0.500",
        "order to delivered            -        -        -",
    ]
    assert lines[6:] == ["       3 × CreateOrder OVERLOADED", "  stuck: no order: nobody picks"]


def test_a_long_list_is_cut() -> None:
    """A run that goes wrong altogether is told by its first failures and their number."""
    assert list(report(run_of(*[Purchase(STUCK)] * 30)))[-1] == "  and 10 more"
