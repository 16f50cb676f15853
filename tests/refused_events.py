"""Helpers for events that a service refuses, and for the rows that it stores. No tests here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from google.protobuf.message import Message
from sqlalchemy import MetaData, select
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.consume.delivery import Delivery
from chassis.consume.dispatch import Handler
from chassis.values.decision import Outcome

# A version that no record reaches.
FORGED = 2**60
JUMP, REUSED = "VERSION_JUMP", "REQUEST_ID_REUSED"


async def consume(
    handlers: Mapping[type[Message], Handler[Any]], delivery: Delivery[Any]
) -> Outcome[Any]:
    """Returns the outcome of one event at the handler of its type."""
    [outcome] = await handlers[type(delivery.message)]([delivery])
    return outcome


def second_body(second: Delivery[Any], genuine: Delivery[Any]) -> Delivery[Any]:
    """The second event under the event id of the genuine one."""
    return replace(second, event_id=genuine.event_id, key=genuine.key, request_hash=b"second")


async def contents(engine: AsyncEngine, metadata: MetaData) -> dict[str, list[str]]:
    """Returns all rows of all tables of a service, by table."""
    async with engine.connect() as connection:
        return {
            table.name: sorted(map(repr, await connection.execute(select(table))))
            for table in metadata.sorted_tables
        }
