"""The load generator: its requests, its counts, and its test for a healthy run."""

from collections import Counter
from uuid import UUID

import pytest

from simulator.load import Load, checkout, load, percentile, report
from simulator.returns import REFUSED, STUCK
from simulator.shoppers import LOST, Purchase, Shoppers
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
    """The nearest rank: a measured value that at least that share does not exceed."""
    assert percentile(values, percent) == value


def test_same_key_makes_the_same_basket() -> None:
    """The same key makes the same request, and different keys make different ones."""
    assert checkout(KEY) == checkout(KEY)
    assert len({checkout(UUID(int=number)).SerializeToString() for number in range(50)}) == 50


async def test_run_sends_all_orders_and_waits_for_all() -> None:
    """Rate × duration orders are sent, and each reaches its end. The staff also serve the orders of
    others, and each order is measured.
    """
    shop = Shop()
    world = World(shop, all_orders=True)
    async with living(world):
        run = await load(
            shop, Shoppers(shop, world, 10.0), rate=200, duration_s=0.1, progress=lambda _: None
        )
    assert len(shop.placed) == len(run.purchases) == 20
    assert {purchase.outcome for purchase in run.purchases} == {"delivered"}
    for purchase in run.purchases:
        assert purchase.created_s is not None
        assert purchase.confirmed_s is not None
        assert purchase.delivered_s is not None
        assert 0 <= purchase.created_s <= purchase.confirmed_s <= purchase.delivered_s
    assert run.healthy


async def test_load_sends_orders_at_its_rate() -> None:
    """Orders are sent when they are due, and their times count from then: a slow shop delays no
    other order.
    """
    shop = Shop()
    shop.unconfirmed = True
    world = World(shop, all_orders=True)
    async with living(world):
        run = await load(
            shop, Shoppers(shop, world, 0.3), rate=100, duration_s=0.2, progress=lambda _: None
        )
    assert 0.19 <= run.seconds < 3  # in sequence they would take 6
    assert {purchase.outcome for purchase in run.purchases} == {STUCK}


async def test_staff_of_a_load_run_serve_every_order(eventually: Eventually) -> None:
    """In a load run, pickers and carriers also serve orders that no shopper waits for."""
    shop = Shop()
    order_id = (await shop.ask("CreateOrder", checkout(KEY))).order.order_id
    shop.captured[order_id] = 0
    shop._confirm(order_id)
    async with living(World(shop, all_orders=True)):
        await eventually(lambda: shop.parcels and shop.calls["RecordTrackingEvent"] == 3)


def run_of(*purchases: Purchase) -> Load:
    """Returns a run with this result."""
    return Load(purchases, Counter({"CreateOrder OVERLOADED": 3}), 2.0)


@pytest.mark.parametrize("outcome", [REFUSED, "cancelled", "failed", LOST, STUCK])
def test_run_with_an_undelivered_order_is_unhealthy(outcome: str) -> None:
    """Any other end of an order is a fault, and is reported: a run with refused orders only proves
    nothing.
    """
    assert run_of(Purchase(outcome="delivered")).healthy
    run = run_of(Purchase(outcome="delivered"), Purchase(outcome=outcome, why="WHY"))
    assert not run.healthy
    assert list(report(run))[-1] == f"  {outcome}: no order: WHY"


def test_report_has_counts_percentiles_and_failures() -> None:
    """The report has counts by outcome, percentiles by measure (a dash without a value), failures
    by reason, and the undelivered orders.
    """
    lines = list(
        report(
            run_of(
                Purchase(outcome="delivered", created_s=0.1, confirmed_s=0.5),
                Purchase(outcome=STUCK, why="no picker works", created_s=0.2),
            )
        )
    )
    assert lines[0] == "2 orders sent in 2.0 s (1.0 a second): 1 delivered, 1 stuck"
    assert lines[2:5] == [
        "create                    0.100    0.200    0.200",
        "checkout to confirmed     0.500    0.500    0.500",
        "order to delivered            -        -        -",
    ]
    assert lines[6:] == ["       3 × CreateOrder OVERLOADED", "  stuck: no order: no picker works"]


def test_long_list_is_cut() -> None:
    """A run with many failures lists the first ones and their number."""
    assert list(report(run_of(*[Purchase(outcome=STUCK)] * 30)))[-1] == "  and 10 more"
