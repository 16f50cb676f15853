"""What the commands of one write share: one picture of stock, whatever each of them is about."""

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from warehouse_svc.lifecycle import MovementKind
from warehouse_svc.model.held import Holding
from warehouse_svc.model.stock import Place, StockLevel

# What was booked for a source: for which line of which order, if any, and what.
Booked = Mapping[tuple[UUID | None, int | None, MovementKind], int]


@dataclass(frozen=True, slots=True)
class View:
    """What one decision sees: all the stock that the set has locked, and what is held for its
    order.

    `booked` are the units that already stand in the ledger for requests and returns of the set, by
    these sources.
    """

    stock: Mapping[Place, StockLevel]
    holding: Holding | None = None
    booked: Mapping[UUID, Booked] = field(default_factory=dict)


class Picture(MutableMapping[UUID, View]):
    """Views by command target, over one stock: whatever a decision leaves of it, the next decision
    finds, whichever its target.

    `get` answers with a view of the stock as it stands now; by index stands what a decision on that
    very target has left.
    """

    def __init__(
        self,
        levels: Iterable[StockLevel],
        holdings: Iterable[Holding],
        requests: Collection[UUID],
        booked: Mapping[UUID, Booked],
    ) -> None:
        self._stock: Mapping[Place, StockLevel] = {
            (level.warehouse_id, level.sku): level for level in levels
        }
        self._booked = booked
        self._views = {
            holding.order_id: View(self._stock, holding, self._booked) for holding in holdings
        }
        self._views |= {request: View(self._stock, None, self._booked) for request in requests}

    def get(self, target: UUID, default: Any = None) -> View:
        """The target's view; of an unknown target one without a holding."""
        known = self._views.get(target)
        return View(self._stock, known.holding if known else None, self._booked)

    def __getitem__(self, target: UUID) -> View:
        return self._views[target]

    def __setitem__(self, target: UUID, view: View) -> None:
        known = self._views.get(target)
        # else it was a skip: nothing to save
        if known is None or view.holding is not known.holding or view.stock is not self._stock:
            self._stock, self._booked, self._views[target] = view.stock, view.booked, view

    def __delitem__(self, target: UUID) -> None:
        del self._views[target]

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)
