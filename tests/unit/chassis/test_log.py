"""Log lines: one JSON object each, with trace ids, and without personal data."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from chassis.observe import telemetry

# The texts of PostgreSQL's driver and SQLAlchemy.
QUOTING = (
    "new row violates check\nDETAIL:  Failing row contains (Jane Doe, Baker Street).\nCONTEXT: "
    " COPY Jane\n[parameters: {'a': 'Jane'}]"
)


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    """Restores the process's logging after the test."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    """The stream that the log is written to."""
    stream = io.StringIO()
    telemetry.configure_log("sample", "info", stream)
    return stream


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_line_is_a_json_object(stream: io.StringIO) -> None:
    """A line has the event, time, level, service, module and its own fields. A library's line has
    the same form.
    """
    structlog.get_logger("our.room").info("done", order_id="1")
    logging.getLogger("their.library").warning("slow %s", "disk")
    own_line, library_line = _lines(stream)
    assert own_line.pop("time").endswith("Z")
    assert own_line == {
        "event": "done",
        "order_id": "1",
        "level": "info",
        "logger": "our.room",
        "service": "sample",
    }
    assert (
        library_line["event"],
        library_line["level"],
        library_line["logger"],
        library_line["service"],
    ) == (
        "slow disk",
        "warning",
        "their.library",
        "sample",
    )


def test_lines_below_the_level_are_left_out(stream: io.StringIO) -> None:
    """A line below the level is not written, neither the service's nor a library's."""
    structlog.get_logger("our.room").debug("detail")
    logging.getLogger("their.library").debug("detail")
    assert stream.getvalue() == ""


def test_line_names_its_trace(stream: io.StringIO) -> None:
    """Inside a span, a line has the span's ids in the form that tracing systems use."""
    with telemetry.consuming("orders.order.status_changed", [f"00-{7:032x}-{8:016x}-01"]):
        structlog.get_logger("our.room").info("inside")
    structlog.get_logger("our.room").info("outside")
    inside, outside = _lines(stream)
    assert inside["trace_id"] == f"{7:032x}"
    assert len(inside["span_id"]) == 16
    assert "trace_id" not in outside


def test_log_hides_personal_data_and_secrets(stream: io.StringIO) -> None:
    """Fields with personal data or secrets are hidden. Passwords are removed from addresses, and
    PostgreSQL's quotations of rows from tracebacks. The rest of the traceback stays.
    """
    log = structlog.get_logger("our.room")
    for field in sorted(telemetry.PRIVATE_FIELDS):
        log.info("private", **{field: "Jane Doe"})
    log.info("connecting", url="postgresql://jane:Sesame@127.0.0.1:15432/orders")
    try:
        raise ValueError(QUOTING)
    except ValueError:
        log.exception("failed")
    written = stream.getvalue()
    assert "Jane" not in written
    assert "Sesame" not in written
    assert written.count(telemetry.HIDDEN) == len(telemetry.PRIVATE_FIELDS)
    *_, address, failed = _lines(stream)
    assert address["url"] == "postgresql://127.0.0.1:15432/orders"
    assert "Traceback" in failed["exception"]
    assert "new row violates check" in failed["exception"]


def test_tracebacks_have_no_local_variables(stream: io.StringIO) -> None:
    """A traceback has the code's lines without the values of variables."""
    customer = "Jane Doe"
    try:
        customer.index("John")
    except ValueError:
        structlog.get_logger("our.room").exception("failed")
    assert "Jane" not in stream.getvalue()


def test_log_on_a_terminal_is_text() -> None:
    """On a terminal the same line is text, not JSON."""
    stream = Terminal()
    telemetry.configure_log("sample", "info", stream)
    structlog.get_logger("our.room").info("done", order_id="1")
    assert "done" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
