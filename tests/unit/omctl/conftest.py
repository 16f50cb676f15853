"""omctl against services that answer as a test says."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.omctl.server import Fake, Omctl, serving


@pytest.fixture
def fake() -> Fake:
    """The services."""
    kind: Any = Fake
    made: Fake = kind()
    return made


@pytest.fixture
def omctl(fake: Fake) -> Iterator[Omctl]:
    """The command line."""
    with serving(fake) as address:
        yield Omctl(fake, address)
