"""The sample service's database for tests of the chassis."""

from collections.abc import AsyncIterator, Iterator

import pytest
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncEngine

from chassis.database import Database, connect
from chassis.outbox import Outbox
from tests.sample import store
from tests.support import Databases, FreshDatabase


@pytest.fixture(scope="session")
def sample_template(databases: Databases) -> Iterator[str]:
    """A database with the sample's tables, to be copied."""
    url = databases.create()
    engine = create_engine(url)
    store.metadata.create_all(engine)
    engine.dispose()
    yield url
    databases.drop(url)


@pytest.fixture
def sample_url(fresh_database: FreshDatabase, sample_template: str) -> str:
    """The URL of a database with the sample's tables, this test's alone."""
    return fresh_database(sample_template)


@pytest.fixture
async def engine(sample_url: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the sample's database, with enough connections for tests of rivals."""
    engine = connect(sample_url, name="sample", pool_size=20)
    yield engine
    await engine.dispose()


@pytest.fixture
def database(engine: AsyncEngine) -> Database:
    """The sample's database."""
    return Database(engine, store.claims, Outbox(store.outbox, encode=store.event))
