"""Reads stored idempotency keys. No tests here."""

from uuid import UUID

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncEngine

Row = tuple[str, bytes, UUID]


async def stored_keys(table: Table, engine: AsyncEngine, start: str = "") -> set[Row]:
    """Returns the key, request hash and target of the keys with this prefix."""
    keys = table.c
    query = select(keys.key, keys.request_hash, keys.target).where(keys.key.startswith(start))
    async with engine.connect() as connection:
        return {
            (key, request_hash, target)
            for key, request_hash, target in await connection.execute(query)
        }
