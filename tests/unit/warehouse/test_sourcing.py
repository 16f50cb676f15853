"""The warehouses that serve an order, by tables. (tests/property/test_stock_sourcing.py proves that
they are the fewest.)
"""

from collections.abc import Mapping

import pytest

from tests.unit.warehouse.world import basket
from warehouse_svc.decisions.sourcing import EXACT_STEPS_MAX, fewest, shortages, source
from warehouse_svc.model.records import Availability

Parts = dict[str, list[tuple[int, int]]]


def sourced(
    lines: tuple[tuple[str, int], ...],
    sellable: Mapping[str, Mapping[str, int]],
    preferred: tuple[str, ...] = (),
) -> Parts:
    """Returns (line, units) by warehouse."""
    served = source(basket(*lines), sellable, preferred)
    return {
        warehouse: [(part.number, part.quantity) for part in parts]
        for warehouse, parts in served.items()
    }


@pytest.mark.parametrize(
    ("lines", "sellable", "served"),
    [
        # one warehouse if one can serve all, although another has most units
        (
            (("tea", 2), ("cup", 1)),
            {"a": {"tea": 99}, "b": {"tea": 2, "cup": 1}},
            {"b": [(1, 2), (2, 1)]},
        ),
        # of equal ones, the first by name
        ((("tea", 2),), {"b": {"tea": 2}, "a": {"tea": 2}}, {"a": [(1, 2)]}),
        # the fewest, if no single one can serve all
        (
            (("tea", 1), ("cup", 1), ("jam", 1)),
            {"a": {"tea": 1}, "b": {"cup": 1, "tea": 1}, "c": {"jam": 1}},
            {"b": [(1, 1), (2, 1)], "c": [(3, 1)]},
        ),
        # a line is split only if necessary
        ((("tea", 5),), {"a": {"tea": 3}, "b": {"tea": 4}}, {"a": [(1, 1)], "b": [(1, 4)]}),
        (
            (("tea", 4), ("tea", 3)),
            {"a": {"tea": 3}, "b": {"tea": 4}},
            {"a": [(2, 3)], "b": [(1, 4)]},
        ),
        # the same SKU in several lines: its sum must be sellable
        ((("tea", 2), ("tea", 2)), {"a": {"tea": 3}, "b": {"tea": 4}}, {"b": [(1, 2), (2, 2)]}),
    ],
)
def test_sourcing_uses_the_fewest_warehouses(
    lines: tuple[tuple[str, int], ...], sellable: Mapping[str, Mapping[str, int]], served: Parts
) -> None:
    """One warehouse serves all lines if possible, else the fewest; lines stay whole if possible."""
    assert sourced(lines, sellable) == served


def test_sourcing_prefers_the_former_warehouse() -> None:
    """Units are reserved again in their former warehouse, unless that needs a second warehouse."""
    assert sourced((("tea", 1),), {"a": {"tea": 1}, "b": {"tea": 1}}, ("b",)) == {"b": [(1, 1)]}
    assert sourced((("tea", 2),), {"a": {"tea": 2}, "b": {"tea": 1}}, ("b",)) == {"a": [(1, 2)]}


def test_sourcing_ignores_warehouses_without_the_skus() -> None:
    """Warehouses whose stock levels another command of the set has locked change no choice. With
    them the exact search would be too long, and another one would choose york.
    """
    sellable = {"leeds": {"tea": 2}, "london": {"tea": 2}, "york": {"tea": 3}}
    others = {f"w{n:04}": {"cup": 1} for n in range(1000)}
    assert EXACT_STEPS_MAX < 1003 * 1002
    served = {"leeds": [(1, 2)], "london": [(1, 2)]}
    assert sourced((("tea", 4),), sellable) == served
    assert sourced((("tea", 4),), sellable | others) == served


def test_shortages_are_summed_over_lines_and_warehouses() -> None:
    """Each short SKU is named once, in the order of the lines, with all requested and all sellable
    units; unknown SKUs have none.
    """
    lines = basket(("tea", 3), ("cup", 1), ("tea", 2), ("moon", 1))
    sellable = {"a": {"tea": 2, "cup": 1}, "b": {"tea": 2}}
    assert shortages(lines, sellable) == [Availability("tea", 5, 4), Availability("moon", 1, 0)]


def test_sourcing_beyond_the_exact_search_serves_all() -> None:
    """Beyond the bound of the exact search, the answer serves all lines, and each named warehouse
    is needed.
    """
    sellable = {f"w{n:03}": {"tea": 1, f"sku{n}": 1} for n in range(400)}
    asked = {"tea": 40} | {f"sku{n}": 1 for n in range(0, 60, 2)}
    chosen = fewest(asked, sellable, sorted(sellable))
    assert 400 * 399 * len(asked) > EXACT_STEPS_MAX
    assert len(chosen) == 40
    assert sum(sellable[w]["tea"] for w in chosen) == 40
