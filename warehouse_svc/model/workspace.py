"""The workspace: the locked records that the commands of one set work on."""

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from typing import Any
from uuid import UUID

from warehouse_svc.model.records import (
    OrderReservations,
    OrderStock,
    Place,
    PostedUnits,
    StockLevel,
)


class Workspace(MutableMapping[UUID, OrderStock]):
    """Records by command target, over shared stock levels: each decision sees the stock levels as
    the decision before it left them, also where the targets differ.

    `get` returns the target's record with the current stock levels; indexing returns the record
    that the last decision on that target left.
    """

    def __init__(
        self,
        levels: Iterable[StockLevel],
        order_reservations: Iterable[OrderReservations],
        requests: Collection[UUID],
        posted: Mapping[UUID, PostedUnits],
    ) -> None:
        self._levels: Mapping[Place, StockLevel] = {
            (level.warehouse_id, level.sku): level for level in levels
        }
        self._posted = posted
        self._records = {
            each.order_id: OrderStock(self._levels, each, self._posted)
            for each in order_reservations
        }
        self._records |= {
            request: OrderStock(self._levels, None, self._posted) for request in requests
        }

    def get(self, target: UUID, default: Any = None) -> OrderStock:
        """Returns the target's record; for an unknown target, one without reservations."""
        known = self._records.get(target)
        return OrderStock(self._levels, known.order_reservations if known else None, self._posted)

    def __getitem__(self, target: UUID) -> OrderStock:
        return self._records[target]

    def __setitem__(self, target: UUID, record: OrderStock) -> None:
        known = self._records.get(target)
        # Otherwise the decider skipped the command, and there is nothing to save.
        if (
            known is None
            or record.order_reservations is not known.order_reservations
            or record.levels is not self._levels
        ):
            self._levels, self._posted, self._records[target] = record.levels, record.posted, record

    def __delitem__(self, target: UUID) -> None:
        del self._records[target]

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)
