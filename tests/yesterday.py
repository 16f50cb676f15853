"""A service's database as an older version left it, brought up to date. No tests here."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, make_url, text

from chassis.migration import migrate

Fill = Callable[[Connection], object]


@contextmanager
def upgraded(url: str, service: str, fill: Fill, *, since: str = "0001") -> Iterator[Engine]:
    """An empty database gets the tables of revision `since`, is filled, and gets all later
    revisions; then it is the caller's.
    """
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
    config = Config()
    config.set_main_option(
        "script_location", str(Path(import_module(f"{service}.migrations").__path__[0]))
    )
    try:
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, since)
            fill(connection)
            connection.commit()
        migrate(url, service)
        yield engine
    finally:
        engine.dispose()


def rows(*statements: str) -> Fill:
    """Fills by these statements."""

    def fill(connection: Connection) -> None:
        for statement in statements:
            connection.execute(text(statement))

    return fill
