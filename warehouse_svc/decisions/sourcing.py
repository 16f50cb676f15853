"""The choice of the warehouses that serve an order: one where one can, else the fewest. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from math import comb

from warehouse_svc.model.records import Availability, WantedLine

# The most steps of the exact search, in sums over (warehouses of a combination × SKUs): some 50 ms
# at worst. Twelve warehouses and fifty SKUs stay below it. Above it a faster search may choose more
# warehouses than the fewest.
EXACT_STEPS_MAX = 500_000

Sellable = Mapping[str, Mapping[str, int]]  # units by warehouse and SKU


def demand(lines: Sequence[WantedLine]) -> Counter[str]:
    """Returns the units by SKU, in the order in which the lines first name them."""
    requested: Counter[str] = Counter()
    for line in lines:
        requested[line.sku] += line.quantity
    return requested


def shortages(lines: Sequence[WantedLine], sellable: Sellable) -> list[Availability]:
    """Returns the SKUs with fewer sellable units than the lines ask for, over all warehouses."""
    totals = {sku: sum(units.get(sku, 0) for units in sellable.values()) for sku in demand(lines)}
    return [
        Availability(sku, requested, totals[sku])
        for sku, requested in demand(lines).items()
        if requested > totals[sku]
    ]


def source(
    lines: Sequence[WantedLine], sellable: Sellable, preferred: Sequence[str] = ()
) -> dict[str, list[WantedLine]]:
    """Returns the lines, or parts of them, by the warehouse that serves them.

    The lines must have no `shortages`. Of several sets of the fewest warehouses it chooses the
    first in the order of their names, with `preferred` ones before all others. It splits a line
    only where no chosen warehouse has all its units.
    """
    asked = demand(lines)
    # other commands of the set may have locked other SKUs, in other warehouses
    candidates = [name for name, units in sellable.items() if asked.keys() & units.keys()]
    chosen = fewest(
        asked,
        sellable,
        sorted(candidates, key=lambda warehouse: (warehouse not in preferred, warehouse)),
    )
    remaining = {warehouse: Counter(sellable[warehouse]) for warehouse in chosen}
    served: dict[str, list[WantedLine]] = {warehouse: [] for warehouse in chosen}
    # Large lines first: small ones fit into the units that remain.
    for line in sorted(lines, key=lambda line: -line.quantity):
        for warehouse, quantity in spread(line, remaining).items():
            remaining[warehouse][line.sku] -= quantity
            served[warehouse].append(WantedLine(line.number, line.sku, quantity))
    return {
        warehouse: sorted(parts, key=lambda line: line.number)
        for warehouse, parts in served.items()
        if parts
    }


def spread(line: WantedLine, remaining: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Returns one line's units by warehouse: from one that has them all, else from the fewest."""
    for warehouse, units in remaining.items():
        if units[line.sku] >= line.quantity:
            return {warehouse: line.quantity}
    parts, missing = {}, line.quantity
    for warehouse in sorted(remaining, key=lambda warehouse: -remaining[warehouse][line.sku]):
        if part := min(missing, remaining[warehouse][line.sku]):
            parts[warehouse] = part
            missing -= part
    return parts


def fewest(
    requested: Mapping[str, int], sellable: Sellable, candidates: Sequence[str]
) -> tuple[str, ...]:
    """Returns the fewest warehouses that together have all requested units.

    Of several sets of the same size it returns the first in the order of `candidates`. Above
    EXACT_STEPS_MAX it returns `few` warehouses.
    """
    scarce_first = sorted(
        requested, key=lambda sku: sum(1 for units in sellable.values() if units.get(sku, 0))
    )
    steps = 0
    for size in range(1, len(candidates) + 1):
        steps += comb(len(candidates), size) * size * len(requested)
        if steps > EXACT_STEPS_MAX and size > 1:
            break
        for chosen in combinations(candidates, size):
            if covers(chosen, scarce_first, requested, sellable):
                return chosen
    return few(requested, sellable, candidates)


def few(
    requested: Mapping[str, int], sellable: Sellable, candidates: Sequence[str]
) -> tuple[str, ...]:
    """Returns few warehouses that together have all requested units.

    It repeatedly chooses the warehouse with the most missing units, then leaves out each one that
    the others can replace.
    """
    chosen: list[str] = []
    missing = Counter(requested)
    while missing:
        gains = {
            w: sum(min(n, sellable[w].get(sku, 0)) for sku, n in missing.items())
            for w in candidates
            if w not in chosen
        }
        chosen.append(max(gains, key=lambda warehouse: gains[warehouse]))
        missing = Counter(
            {
                sku: rest
                for sku, n in missing.items()
                if (rest := n - sellable[chosen[-1]].get(sku, 0)) > 0
            }
        )
    for warehouse in reversed(chosen[:]):
        others = [other for other in chosen if other != warehouse]
        if covers(others, list(requested), requested, sellable):
            chosen = others
    return tuple(chosen)


def covers(
    chosen: Sequence[str], skus: Sequence[str], requested: Mapping[str, int], sellable: Sellable
) -> bool:
    """Returns whether the warehouses together have all requested units.

    It checks the SKUs in the order of `skus`.
    """
    return all(
        sum(sellable[warehouse].get(sku, 0) for warehouse in chosen) >= requested[sku]
        for sku in skus
    )
