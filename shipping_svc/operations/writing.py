"""Writes of shipments."""

from collections.abc import Sequence
from typing import Any

from chassis.rpc.watch import Watches
from chassis.values.decision import Outcome
from chassis.values.envelope import Envelope
from chassis.write.writer import Writer
from shipping_svc.model.records import Shipment


class ShipmentWriter:
    """Writes shipments, and wakes the watches of this process after each write."""

    def __init__(self, writer: Writer[Shipment], watches: Watches) -> None:
        self._writer, self._watches = writer, watches

    async def write(self, envelopes: Sequence[Envelope[Any]]) -> list[Outcome[Shipment]]:
        outcomes = await self._writer.write(envelopes)
        self._watches.wake()
        return outcomes

    async def write_by_key(
        self, envelopes: Sequence[Envelope[Any]]
    ) -> dict[str, Outcome[Shipment]]:
        """Writes the envelopes, and returns their outcomes by key."""
        return dict(zip((each.key for each in envelopes), await self.write(envelopes), strict=True))
