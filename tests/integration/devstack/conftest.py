"""Folders for servers of a test's own, which it kills and restarts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import reachable_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that an unprivileged server can reach, removed after the test."""
    with reachable_folder("ordermesh-devstack-") as folder:
        yield folder
