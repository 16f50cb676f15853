"""Automatic refunds and voids."""

import asyncio
import contextlib

from payment_svc.operations.settlement import SettlementOperations
from payment_svc.operations.writing import AccountWriter

# The longest time that `compensate` waits before it looks for due operations.
COMPENSATE_EVERY_S = 30.0


class CompensationOperations:
    """Sends automatic operations right after their write."""

    def __init__(self, writer: AccountWriter, settlement: SettlementOperations) -> None:
        self.writer, self.settlement = writer, settlement

    async def compensate(self) -> None:
        """Waits until a write has added an automatic operation, and sends it.

        No caller waits for this: `settle_due` sends the operations that it cannot send now.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(COMPENSATE_EVERY_S):
                await self.writer.automatic_requested.wait()
        self.writer.automatic_requested.clear()
        await self.settlement.settle_due()
