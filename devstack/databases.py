"""Creates the services' missing databases on one PostgreSQL server. The services create their
tables.
"""

from collections.abc import Mapping

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from devstack.errors import DevstackError

CONNECT_TIMEOUT_S = 5


def ensure(server: str, names: Mapping[str, str]) -> dict[str, str]:
    """Creates the databases `names` (by service) that are missing on the server at the URL
    `server`; returns their URLs.

    The URL may name any database. If that one does not exist, the function connects to `postgres`.
    Raises DevstackError.
    """
    try:
        url = make_url(server).set(drivername="postgresql+psycopg")
    except ArgumentError:
        raise DevstackError(
            "DATABASE_URL is no URL: write it like postgresql://user:password@host:5432/postgres."
        ) from None
    missing: list[str] = []
    try:
        with _connect(url) as connection:
            present = {name for (name,) in connection.execute("SELECT datname FROM pg_database")}
            missing += [name for name in names.values() if name not in present]
            for name in missing:
                connection.execute(
                    sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING 'UTF8'").format(
                        sql.Identifier(name)
                    )
                )
    except psycopg.errors.InsufficientPrivilege:
        raise DevstackError(
            "The user of DATABASE_URL may not create databases: create these for it:"
            f" {' '.join(missing)}"
        ) from None
    except psycopg.OperationalError as error:
        raise DevstackError(
            f"The PostgreSQL server at {url.host}:{url.port or 5432} does not let us in:"
            f" {str(error).strip()}"
        ) from None
    return {
        service: url.set(database=name).render_as_string(hide_password=False)
        for service, name in names.items()
    }


def _connect(url: URL) -> psycopg.Connection[tuple[str, ...]]:
    # A missing database and an unreachable server both give an OperationalError without a code, so
    # the database that always exists comes first.
    errors: list[psycopg.OperationalError] = []
    for database in (url.database or "postgres", "postgres"):
        target = url.set(drivername="postgresql", database=database).render_as_string(
            hide_password=False
        )
        try:
            return psycopg.connect(target, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S)
        except psycopg.OperationalError as error:
            errors.append(error)
    raise errors[0]
