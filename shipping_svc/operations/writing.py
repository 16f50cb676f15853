"""Writes of shipments."""

from collections.abc import Sequence
from typing import Any

from chassis.values.decision import Outcome
from chassis.values.envelope import Envelope
from chassis.write.writer import Writer
from shipping_svc.model.records import Shipment


async def write_by_key(
    writer: Writer[Shipment], envelopes: Sequence[Envelope[Any]]
) -> dict[str, Outcome[Shipment]]:
    """Writes the envelopes, and returns their outcomes by key."""
    return dict(zip((each.key for each in envelopes), await writer.write(envelopes), strict=True))
