"""How the log looks in tests that provoke defects. No tests here."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True, scope="module")
def plain_tracebacks() -> Iterator[None]:
    """Tracebacks as Python writes them: structlog's own for terminals, with every local
    variable, take seconds on a busy machine.
    """
    renderer = structlog.dev.ConsoleRenderer(
        colors=False, exception_formatter=structlog.dev.plain_traceback
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            renderer,
        ]
    )
    yield
    structlog.reset_defaults()
