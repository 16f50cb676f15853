"""Each service's migrations, on a real PostgreSQL: from nothing, and from each released version."""

import importlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import MetaData, create_engine, make_url, text
from sqlalchemy.schema import CreateSchema

from chassis.write.migration import migrate
from payment_svc.providers import sandbox_ledger
from tests.support import FreshDatabase
from tools.release_dump import RELEASES, dump

SERVICES = sorted(path.parent.name for path in Path(__file__).parents[2].glob("*_svc/migrations"))
# A service's metadata beside its tables.metadata.
MORE_METADATA = {"payment_svc": [sandbox_ledger.metadata]}
OURS = "n.nspname !~ '^(pg_|information_schema$)' and c.relname !~ '^(alembic_version|outbox_\\d)'"
CATALOGUE = {
    "relation": f"""
        select c.oid::regclass::text, c.relkind::text, c.relispartition::text, c.reloptions::text,
            pg_get_partkeydef(c.oid), pg_get_expr(c.relpartbound, c.oid),
            obj_description(c.oid, 'pg_class')
        from pg_class c join pg_namespace n on n.oid = c.relnamespace
        where {OURS}
    """,
    "column": f"""
        select c.oid::regclass::text, attname, format_type(atttypid, atttypmod), attnotnull::text,
            attidentity::text, pg_get_expr(adbin, adrelid)
        from pg_attribute join pg_class c on c.oid = attrelid
            join pg_namespace n on n.oid = c.relnamespace
            left join pg_attrdef on adrelid = attrelid and adnum = attnum
        where {OURS} and attnum > 0 and not attisdropped
    """,
    "constraint": f"""
        select c.oid::regclass::text, conname, pg_get_constraintdef(k.oid)
        from pg_constraint k join pg_class c on c.oid = conrelid
            join pg_namespace n on n.oid = c.relnamespace
        where {OURS}
    """,
    "index": f"""
        select c.oid::regclass::text, pg_get_indexdef(indexrelid)
        from pg_index join pg_class c on c.oid = indrelid
            join pg_namespace n on n.oid = c.relnamespace
        where {OURS}
    """,
    "enum": """
        select enumtypid::regtype::text, row_number() over (partition by enumtypid
            order by enumsortorder)::text, enumlabel
        from pg_enum
    """,
}


def catalogue(url: str) -> set[tuple[str | None, ...]]:
    """Returns the schema of the database at `url`, as rows of PostgreSQL's catalogue.

    It leaves out the order of columns, Alembic's table and the outbox's partitions by day.
    """
    engine = create_engine(url)
    try:
        with engine.connect() as connection:
            return {
                (kind, *row)
                for kind, query in CATALOGUE.items()
                for row in connection.execute(text(query))
            }
    finally:
        engine.dispose()


def declared(url: str, service: str) -> set[tuple[str | None, ...]]:
    """Returns the schema that the code of a service declares, created in the empty database."""
    own: MetaData = importlib.import_module(f"{service}.tables").metadata
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            for metadata in (own, *MORE_METADATA.get(service, [])):
                if metadata.schema:
                    connection.execute(CreateSchema(metadata.schema))
                metadata.create_all(connection)
    finally:
        engine.dispose()
    return catalogue(url)


def load(url: str, sql: str) -> None:
    """Executes a dump in the empty database at `url`."""
    target = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(target) as connection:
        connection.execute(sql.encode())


@pytest.mark.parametrize("service", SERVICES)
def test_migrations_create_the_declared_schema(service: str, fresh_database: FreshDatabase) -> None:
    """Tables, columns, defaults, constraints, indexes, enums and comments equal those that the code
    declares. A second run changes nothing.
    """
    url = fresh_database()
    migrate(url, service)
    migrate(url, service)
    assert catalogue(url) == declared(fresh_database(), service)


def test_concurrent_migrations_run_once(fresh_database: FreshDatabase) -> None:
    """Three replicas that start together run each migration once."""
    url = fresh_database()
    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(migrate, url, "order_svc") for _ in range(3)]:
            done.result()


def test_released_databases_upgrade_to_the_declared_schema(fresh_database: FreshDatabase) -> None:
    """Later migrations upgrade the dump of each released version to the schema of the code.

    RELEASES is absent until the first release, and this test has no dump to try: `make
    release-dump` writes the dumps of a release. A change to a released migration fails here: the
    dumps keep the schema that the release had.
    """
    for released in sorted(RELEASES.glob("*/*.sql")):
        url = fresh_database()
        load(url, released.read_text())
        migrate(url, released.stem)
        assert catalogue(url) == declared(fresh_database(), released.stem), released


@pytest.mark.parametrize("service", SERVICES)
def test_release_dump_recreates_its_database(
    service: str, migrated_database: Callable[[str], str], fresh_database: FreshDatabase
) -> None:
    """A dump of `make release-dump` has the schema, the rows and the revision of a database. The
    database that it creates equals the dumped one, and no migration is due.
    """
    url, copy = migrated_database(service), fresh_database()
    row = "'é', '\\x00', gen_random_uuid()"
    load(url, f"insert into idempotency_keys (key, request_hash, target) values ({row})")
    load(copy, dump(url))
    migrate(copy, service)
    assert catalogue(copy) == catalogue(url)
    assert dump(copy) == dump(url)
