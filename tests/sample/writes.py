"""Writes of the sample's orders in tests: envelopes with new keys, and their outcomes."""

from typing import Any, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import event, func, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.values.decision import Done, Outcome, unwrap
from chassis.values.envelope import Envelope
from chassis.values.errors import Failure
from chassis.write.database import Database
from chassis.write.writer import Writer
from tests.sample import model, store
from tests.sample.model import CreateOrder, Order, Status
from tests.support import measured

C = TypeVar("C")


async def write(
    database: Database, *envelopes: Envelope[Any], **functions: Any
) -> list[Outcome[Order]]:
    """Writes the envelopes as one set, with the sample's functions unless others are stated."""
    usual: dict[str, Any] = {
        "load": store.lock_orders,
        "decide": model.decide,
        "save": store.save_orders,
    }
    writer: Writer[Order] = Writer(database, **(usual | functions))
    return await writer.write(envelopes)


def key() -> str:
    """Returns a new key."""
    return f"test:{uuid4()}"


def envelope(command: C, target: UUID, **parts: Any) -> Envelope[C]:
    """Returns an envelope with these parts around the command; without a `key`, it has a new
    one.
    """
    usual: dict[str, Any] = {"key": key(), "request_hash": b"", "actor": "tester"}
    usual |= parts
    cause = usual["key"].partition(":")[2]
    return Envelope(target=target, cause=cause, command=command, **usual)


def create(
    total: int = 100,
    *,
    reference: str | None = None,
    new: bool = True,
    target: UUID | None = None,
    **parts: Any,
) -> Envelope[CreateOrder]:
    """Returns a new checkout in an envelope with these parts."""
    command = CreateOrder(reference=reference or str(uuid4()), total=total, new=new)
    return envelope(command, target or uuid4(), **parts)


async def placed(database: Database, number: int = 1) -> list[UUID]:
    """Returns the ids of so many new orders."""
    return [unwrap(o).id for o in await write(database, *(create() for _ in range(number)))]


async def count(engine: AsyncEngine, table: Any, *where: Any) -> int:
    """Returns the number of rows."""
    async with engine.connect() as connection:
        return (
            await connection.execute(select(func.count()).select_from(table).where(*where))
        ).scalar_one()


def status(outcome: Outcome[Order]) -> Status:
    """Returns the status of the written order."""
    return unwrap(outcome).status


def reason(outcome: Outcome[Order]) -> str:
    """Returns the reason of the failure."""
    assert isinstance(outcome, Failure), repr(outcome)
    return outcome.reason


def kinds(outcomes: list[Outcome[Order]]) -> list[str]:
    """Returns for each outcome Done, or the class of the failure."""
    return [type(o).__name__ for o in outcomes]


def repeats(outcomes: list[Outcome[Order]]) -> list[bool]:
    """Returns for each outcome whether it is a repeat."""
    return [o.repeat for o in outcomes if isinstance(o, Done)]


def retried(error_class: str) -> float:
    """Returns how many sets this process has written again so far, because of that error class."""
    return measured("write_retries_total", error_class=error_class)


async def query_waits(engine: AsyncEngine, on: str = "Lock") -> bool:
    """Whether a connection of this database waits for a lock, or for the event of `on` (PgSleep is
    of the class Timeout).
    """
    query = text(
        "select count(*) from pg_stat_activity where datname = current_database() and"
        " wait_event_type = :kind"
    )
    async with engine.connect() as connection:
        return bool((await connection.execute(query, {"kind": on})).scalar_one())


class Recorder:
    """Records each statement to a database, with COMMIT and ROLLBACK."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.statements: list[str] = []
        event.listen(engine.sync_engine, "before_cursor_execute", self._note)
        event.listen(engine.sync_engine, "commit", lambda _: self.statements.append("COMMIT"))
        event.listen(engine.sync_engine, "rollback", lambda _: self.statements.append("ROLLBACK"))

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        self.statements.append(" ".join(statement.split()))
