"""The invariants of sourcing for any stock: everything is served, nothing twice, from the fewest
warehouses.
"""

from collections import Counter
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.warehouse.world import basket
from warehouse_svc.decisions.sourcing import demand, few, shortages, source
from warehouse_svc.model.records import WantedLine

SKUS = ["tea", "cup", "jam"]
baskets = st.lists(st.tuples(st.sampled_from(SKUS), st.integers(1, 5)), min_size=1, max_size=6).map(
    lambda wanted: basket(*wanted)
)
stocks = st.dictionaries(
    st.sampled_from("abcdef"), st.dictionaries(st.sampled_from(SKUS), st.integers(0, 6))
)


def can_serve(
    warehouses: tuple[str, ...], asked: Counter[str], sellable: dict[str, dict[str, int]]
) -> bool:
    return all(sum(sellable[w].get(sku, 0) for w in warehouses) >= n for sku, n in asked.items())


@given(baskets, stocks)
def test_everything_is_served_from_the_fewest(
    lines: tuple[WantedLine, ...], sellable: dict[str, dict[str, int]]
) -> None:
    """Lines get their units, warehouses give no more than they have, and no smaller set of
    warehouses could do it.
    """
    asked = demand(lines)
    if shortages(lines, sellable):
        assert not can_serve(tuple(sellable), asked, sellable)
        return
    served = source(lines, sellable)
    by_line = Counter[int]()
    for warehouse, parts in served.items():
        assert parts, "a warehouse is named that serves nothing"
        given_out = Counter[str]()
        for part in parts:
            by_line[part.number] += part.quantity
            given_out[part.sku] += part.quantity
        assert len({part.number for part in parts}) == len(parts), (
            "a line stands twice in a reservation"
        )
        assert all(sellable[warehouse].get(sku, 0) >= n for sku, n in given_out.items())
    assert by_line == {line.number: line.quantity for line in lines}
    assert not any(
        can_serve(fewer, asked, sellable) for fewer in combinations(sellable, len(served) - 1)
    )


@given(baskets, stocks)
def test_the_quick_search_serves_everything_too(
    lines: tuple[WantedLine, ...], sellable: dict[str, dict[str, int]]
) -> None:
    """What is used for very many warehouses finds enough of them, and none that is not needed."""
    asked = demand(lines)
    if shortages(lines, sellable):
        return
    chosen = few(asked, sellable, sorted(sellable))
    assert can_serve(chosen, asked, sellable)
    assert not any(
        can_serve(tuple(w for w in chosen if w != left_out), asked, sellable) for left_out in chosen
    )
