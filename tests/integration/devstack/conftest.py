"""Servers of a test's own, to be killed and restarted, and whether their processes are gone."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that an unprivileged server can reach, which pytest's own is not where root runs the tests."""
    path = Path(tempfile.mkdtemp(prefix="ordermesh-devstack-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)
