"""omctl against services whose answers the test sets."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.omctl.server import Fake, Omctl, serving


@pytest.fixture
def fake() -> Fake:
    """The services in memory."""
    kind: Any = Fake
    made: Fake = kind()
    return made


@pytest.fixture
def omctl(fake: Fake) -> Iterator[Omctl]:
    """The command line."""
    with serving(fake) as address:
        yield Omctl(fake, address)
