"""Writing the sample's orders in tests: envelopes with fresh keys, and what came of them."""

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
    """Writes the envelopes as one set, with the sample's functions unless others are given."""
    usual: dict[str, Any] = {
        "load": store.lock_orders,
        "decide": model.decide,
        "save": store.save_orders,
    }
    writer: Writer[Order] = Writer(database, **(usual | functions))
    return await writer.write(envelopes)


def key() -> str:
    """A key that was never used."""
    return f"test:{uuid4()}"


def envelope(command: C, target: UUID, **parts: Any) -> Envelope[C]:
    """An envelope with these parts around the command; without a `key`, it has one of its own."""
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
    """A checkout of its own in an envelope with these parts."""
    command = CreateOrder(reference=reference or str(uuid4()), total=total, new=new)
    return envelope(command, target or uuid4(), **parts)


async def placed(database: Database, number: int = 1) -> list[UUID]:
    """The ids of so many new orders."""
    return [unwrap(o).id for o in await write(database, *(create() for _ in range(number)))]


async def count(engine: AsyncEngine, table: Any, *where: Any) -> int:
    """How many rows there are."""
    async with engine.connect() as connection:
        return (
            await connection.execute(select(func.count()).select_from(table).where(*where))
        ).scalar_one()


def status(outcome: Outcome[Order]) -> Status:
    """The status of the order that was written."""
    return unwrap(outcome).status


def reason(outcome: Outcome[Order]) -> str:
    """Why the command was not done."""
    assert isinstance(outcome, Failure), repr(outcome)
    return outcome.reason


def kinds(outcomes: list[Outcome[Order]]) -> list[str]:
    """Done, or the class of the failure, of each."""
    return [type(o).__name__ for o in outcomes]


def repeats(outcomes: list[Outcome[Order]]) -> list[bool]:
    """Whether each was done before."""
    return [o.repeat for o in outcomes if isinstance(o, Done)]


def retried(blame: str) -> float:
    """How many sets this process has written again so far, through that fault."""
    return measured("write_retries_total", blame=blame)


async def someone_waits(engine: AsyncEngine, on: str = "Lock") -> bool:
    """Whether a connection of this database waits for a lock, or for what `on` says (PgSleep is
    of the class Timeout).
    """
    query = text(
        "select count(*) from pg_stat_activity where datname = current_database() and"
        " wait_event_type = :kind"
    )
    async with engine.connect() as connection:
        return bool((await connection.execute(query, {"kind": on})).scalar_one())


class Recorder:
    """What a database is told, statement by statement, with COMMIT and ROLLBACK."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.statements: list[str] = []
        event.listen(engine.sync_engine, "before_cursor_execute", self._note)
        event.listen(engine.sync_engine, "commit", lambda _: self.statements.append("COMMIT"))
        event.listen(engine.sync_engine, "rollback", lambda _: self.statements.append("ROLLBACK"))

    def _note(self, _connection: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        self.statements.append(" ".join(statement.split()))
