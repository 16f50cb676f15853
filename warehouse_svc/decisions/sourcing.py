"""Which warehouses serve an order: one where one can, else the fewest. Pure arithmetic over what
is sellable; nothing is moved here.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

from warehouse_svc.model.records import WantedLine

# What may be spent on looking for the fewest exactly, in sums over (warehouses of a combination ×
# SKUs): some 50 ms at worst. Twelve warehouses and a basket of fifty SKUs stay below it; beyond it
# the answer is good, and not always the best.
EXACT_STEPS_MAX = 500_000

Sellable = Mapping[str, Mapping[str, int]]  # units by warehouse and SKU


@dataclass(frozen=True, slots=True)
class Shortage:
    """A SKU of which more is asked than is left, over all lines and all warehouses."""

    sku: str
    asked: int
    left: int


def demand(lines: Sequence[WantedLine]) -> Counter[str]:
    """Units by SKU, in the order in which the lines first name them."""
    asked: Counter[str] = Counter()
    for line in lines:
        asked[line.sku] += line.quantity
    return asked


def shortages(lines: Sequence[WantedLine], sellable: Sellable) -> list[Shortage]:
    """The SKUs that cannot be served; none: the lines can be sourced."""
    left = {sku: sum(units.get(sku, 0) for units in sellable.values()) for sku in demand(lines)}
    return [
        Shortage(sku, asked, left[sku]) for sku, asked in demand(lines).items() if asked > left[sku]
    ]


def source(
    lines: Sequence[WantedLine], sellable: Sellable, preferred: Sequence[str] = ()
) -> dict[str, list[WantedLine]]:
    """The lines, or parts of them, by the warehouse that serves them. Nothing may be short (see
    `shortages`).

    Where several sets of warehouses would do, the preferred ones win, then the first by name. A
    line is split only where no chosen warehouse can serve it whole.
    """
    chosen = fewest(
        demand(lines),
        sellable,
        sorted(sellable, key=lambda warehouse: (warehouse not in preferred, warehouse)),
    )
    left = {warehouse: Counter(sellable[warehouse]) for warehouse in chosen}
    served: dict[str, list[WantedLine]] = {warehouse: [] for warehouse in chosen}
    # the small ones fit where the big ones leave room
    for line in sorted(lines, key=lambda line: -line.quantity):
        for warehouse, quantity in spread(line, left).items():
            left[warehouse][line.sku] -= quantity
            served[warehouse].append(WantedLine(line.number, line.sku, quantity))
    return {
        warehouse: sorted(parts, key=lambda line: line.number)
        for warehouse, parts in served.items()
        if parts
    }


def spread(line: WantedLine, left: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """One line's units by warehouse: all from one where one has them, else from as few as can
    be.
    """
    for warehouse, units in left.items():
        if units[line.sku] >= line.quantity:
            return {warehouse: line.quantity}
    parts, missing = {}, line.quantity
    for warehouse in sorted(left, key=lambda warehouse: -left[warehouse][line.sku]):
        if part := min(missing, left[warehouse][line.sku]):
            parts[warehouse] = part
            missing -= part
    return parts


def fewest(
    asked: Mapping[str, int], sellable: Sellable, candidates: Sequence[str]
) -> tuple[str, ...]:
    """The fewest warehouses that together have all that is asked; among equals those that stand
    first in `candidates`.
    """
    scarce_first = sorted(
        asked, key=lambda sku: sum(1 for units in sellable.values() if units.get(sku, 0))
    )
    steps = 0
    for size in range(1, len(candidates) + 1):
        steps += comb(len(candidates), size) * size * len(asked)
        if steps > EXACT_STEPS_MAX and size > 1:
            break
        for chosen in combinations(candidates, size):
            if covers(chosen, scarce_first, asked, sellable):
                return chosen
    return few(asked, sellable, candidates)


def few(asked: Mapping[str, int], sellable: Sellable, candidates: Sequence[str]) -> tuple[str, ...]:
    """Few warehouses that together have all that is asked: the one that helps most, again and
    again; then none that is not needed.
    """
    chosen: list[str] = []
    missing = Counter(asked)
    while missing:
        helps = {
            w: sum(min(n, sellable[w].get(sku, 0)) for sku, n in missing.items())
            for w in candidates
            if w not in chosen
        }
        chosen.append(max(helps, key=lambda warehouse: helps[warehouse]))
        missing = Counter(
            {
                sku: rest
                for sku, n in missing.items()
                if (rest := n - sellable[chosen[-1]].get(sku, 0)) > 0
            }
        )
    for warehouse in reversed(chosen[:]):
        others = [other for other in chosen if other != warehouse]
        if covers(others, list(asked), asked, sellable):
            chosen = others
    return tuple(chosen)


def covers(
    chosen: Sequence[str], skus: Sequence[str], asked: Mapping[str, int], sellable: Sellable
) -> bool:
    """Whether the warehouses together have all that is asked; `skus` says in which order to
    look.
    """
    return all(
        sum(sellable[warehouse].get(sku, 0) for warehouse in chosen) >= asked[sku] for sku in skus
    )
