"""Sets the metric `database_up` every few seconds: whether the database answers."""

import asyncio
from typing import NoReturn

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.observe import telemetry
from chassis.values.errors import Deferred
from chassis.write.error_classification import deferring_outages

PROBE_S = 5.0
# A database that has not answered for so long counts as away. The probe itself waits until the
# engine's time-out.
ANSWER_S = 2.0

_TAKES_WRITES = select(~func.pg_is_in_recovery())


async def run(engine: AsyncEngine) -> NoReturn:
    """Probes the database until it is cancelled."""
    up = telemetry.reading(
        "database_up", "Whether the database answers and takes writes (1) or not (0)"
    )
    while True:
        late = asyncio.get_running_loop().call_later(ANSWER_S, up.set, 0.0)
        try:
            up.set(float(await _takes_writes(engine)))
        finally:
            late.cancel()
        await asyncio.sleep(PROBE_S)


async def _takes_writes(engine: AsyncEngine) -> bool:
    """Returns whether the database answers, and is no standby."""
    try:
        with deferring_outages():
            async with engine.connect() as connection:
                return bool((await connection.execute(_TAKES_WRITES)).scalar_one())
    except Deferred:
        return False
