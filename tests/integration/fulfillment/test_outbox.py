"""Keys and sequences of a fulfilment's events."""

from sqlalchemy.ext.asyncio import AsyncEngine

from fulfillment_svc import tables
from fulfillment_svc.app import Operations
from fulfillment_svc.lifecycle import Status
from tests.integration.fulfillment.working import planned, published, worked
from tests.support import numbered


async def test_events_of_a_fulfilment_have_gapless_sequences(
    operations: Operations, engine: AsyncEngine
) -> None:
    """The fulfilment's id is the key of its events. Their versions have gaps, their sequences have
    none.
    """
    several = [await planned(operations, {"london": [(1, "mug", 2)]}) for _ in range(2)]
    for fulfillment in several:
        await worked(operations, fulfillment, Status.READY)
    found = await numbered(engine, tables.outbox)
    assert set(found) == {fulfillment.id for fulfillment in several}
    for fulfillment in several:
        versions = [event.fulfillment.version for event in await published(engine, fulfillment.id)]
        assert versions == sorted(set(versions))
        assert versions != list(range(1, len(versions) + 1))
        assert [sequence for _, sequence in found[fulfillment.id]] == list(
            range(1, len(versions) + 1)
        )
