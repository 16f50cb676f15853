"""Sets a false stored version of another service's record right, for an operator. Every event up to
a stored version is skipped.
"""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Column, case, select, update

from chassis.values.errors import NotFound
from chassis.values.request_context import RequestContext
from chassis.write.database import Database
from chassis.write.error_classification import deferring_outages
from chassis.write.idempotency_keys import IdempotencyKey
from chassis.write.tables import StoredVersion

log = structlog.get_logger()


async def set_stored_version(
    database: Database,
    versions: Sequence[StoredVersion],
    request: RequestContext,
    *,
    order_id: UUID,
    fulfillment_id: UUID | None,
    version: int,
) -> int:
    """Stores this version of an order, or of one of its fulfilments; returns the version that is
    stored then. A withdrawal above it is lowered to it. A repeat of the request changes nothing.

    Raises Invalid REQUEST_ID_REUSED, NotFound STORED_VERSION_NOT_FOUND, Deferred.
    """
    with deferring_outages():
        async with database.engine.begin() as connection:
            first = await database.idempotency_keys.insert_one(
                connection, IdempotencyKey.of(request, order_id)
            )
            found: list[int] = []
            for stored in versions:
                if (stored.fulfillment_id is None) != (fulfillment_id is None):
                    continue
                which = [stored.order_id == order_id, stored.version.is_not(None)]
                if stored.fulfillment_id is not None:
                    which.append(stored.fulfillment_id == fulfillment_id)
                found += (
                    await connection.execute(select(stored.version).where(*which).with_for_update())
                ).scalars()
                if first:
                    await connection.execute(
                        update(stored.version.table).where(*which).values(_values(stored, version))
                    )
            if not found:
                raise _not_found(order_id, fulfillment_id)
    if first:
        log.warning(
            "stored version set", order_id=str(order_id), before=max(found), version=version
        )
    return version if first else max(found)


def _values(stored: StoredVersion, version: int) -> dict[Column[Any], Any]:
    withdrawn = stored.withdraw_version
    if withdrawn is None:
        return {stored.version: version}
    lowered = case((withdrawn > version, version), else_=withdrawn)
    return {stored.version: version, withdrawn: lowered}


def _not_found(order_id: UUID, fulfillment_id: UUID | None) -> NotFound:
    record = (
        f"fulfilment {fulfillment_id} of order {order_id}"
        if fulfillment_id
        else f"order {order_id}"
    )
    return NotFound(
        "STORED_VERSION_NOT_FOUND",
        f"This service stores no version of {record}.",
        order_id=str(order_id),
    )
