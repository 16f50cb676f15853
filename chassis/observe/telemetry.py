"""A process's log lines, metrics and traces.

This module sets them up, once per process, and has the functions with which other modules log,
count and trace. Only this file and chassis/observe/tracing.py use OpenTelemetry. No log line or
span carries a person's name, address, card or password: log lines are cleaned of them, and spans
carry no exception texts.

Log: `structlog.get_logger(__name__)` anywhere. Metrics: `counter`, `gauge`, `histogram` below, in
constructors.
"""

import asyncio
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager, suppress
from copy import copy
from functools import cache, partial
from typing import Any, Final, Self, TextIO
from wsgiref.simple_server import WSGIRequestHandler, make_server

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from prometheus_client import REGISTRY, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import ThreadingWSGIServer
from prometheus_client.registry import Collector

# Log fields that would carry personal data or a secret: their values are never written.
PRIVATE_FIELDS: Final = frozenset(
    (
        "address",
        "card",
        "card_number",
        "cvc",
        "email",
        "full_name",
        "line1",
        "line2",
        "phone",
        "postal_code",
        "recipient",
        "street",
        "authorization",
        "body",
        "headers",
        "password",
        "payload",
        "request",
        "response",
        "secret",
        "token",
    )
)
HIDDEN: Final = "(hidden)"
# The edges of the histograms, in seconds. The objectives at the 95th percentile are edges (0.2 an
# event, 0.3 a change of status, 0.5 a checkout, 5 until it is confirmed), so that the share of
# calls within an objective is exact.
SECONDS: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.2,
    0.3,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)

# How long the end of a process waits for the export of its last spans.
FLUSH_S: Final = 3.0
# How long a client of the metrics may send nothing.
SCRAPE_S: Final = 5.0

_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
_PASSWORD: Final = re.compile(r"(?<=://)[^/\s@]*@")
_QUOTED_ROWS: Final = re.compile(r"^(DETAIL:|CONTEXT:|\[parameters:).*\n?", re.MULTILINE)

Event = MutableMapping[str, Any]


# --- log lines


def configure_log(service: str, level: str = "info", stream: TextIO = sys.stderr) -> None:
    """Writes every log line, the project's and the libraries', to `stream`: one JSON object a line,
    or readable lines on a terminal.
    """
    common: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        partial(_add_service, service),
        _add_trace,
        structlog.processors.format_exc_info,
        _clean,
    ]
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(timestamp_key="time")
        if stream.isatty()
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *common,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


def _add_service(service: str, _logger: object, _method: str, event: Event) -> Event:
    event["service"] = service
    return event


def _add_trace(_logger: object, _method: str, event: Event) -> Event:
    """Adds the ids that connect a log line with its trace."""
    span = trace.get_current_span().get_span_context()
    if span.is_valid:
        event["trace_id"], event["span_id"] = (
            format(span.trace_id, "032x"),
            format(span.span_id, "016x"),
        )
    return event


def _clean(_logger: object, _method: str, event: Event) -> Event:
    """Hides private fields, passwords in addresses, and the parts of rows that a database's error
    text quotes.
    """
    for key, value in event.items():
        if key in PRIVATE_FIELDS:
            event[key] = HIDDEN
        elif isinstance(value, str):
            event[key] = _PASSWORD.sub(
                "", _QUOTED_ROWS.sub("", value) if key == "exception" else value
            )
    return event


# --- metrics


@cache
def counter(name: str, what: str, *labels: str) -> Counter:
    """Returns the process's counter of this name: made at the first call, then the same."""
    return Counter(name, what, labels)


@cache
def gauge(name: str, what: str, *labels: str) -> Gauge:
    """Returns the process's gauge of this name: made at the first call, then the same."""
    return Gauge(name, what, labels)


class Reading(Collector):
    """A gauge whose value is read from elsewhere. If the reading fails, it has no value, and is not
    on the metrics page, until the next reading.

    A reader of the page never sees a value from before the failure. With labels there is a reading
    for each of their values.
    """

    def __init__(self, name: str, what: str, names: Sequence[str]) -> None:
        self._name, self._what, self._names = name, what, names
        self._values: dict[tuple[str, ...], float] = {}
        self._labels: tuple[str, ...] = ()

    def labels(self, *values: str) -> Self:
        """Returns the reading of these labels, after those that are chosen already."""
        chosen = copy(self)
        chosen._labels = (*self._labels, *values)
        return chosen

    def set(self, value: float) -> None:
        """Sets the value that was read."""
        self._values[self._labels] = value

    def drop(self) -> None:
        """Removes the value, and those of all readings that have more labels after these."""
        for labels in [each for each in self._values if each[: len(self._labels)] == self._labels]:
            del self._values[labels]

    def collect(self) -> Iterator[Metric]:
        """Yields the gauge with the values of all labels. It runs in the threads of the page's
        readers.
        """
        family = GaugeMetricFamily(self._name, self._what, labels=self._names)
        for labels, value in self._values.copy().items():
            family.add_metric(labels, value)
        yield family


@cache
def reading(name: str, what: str, *labels: str) -> Reading:
    """Returns the process's reading of this name: made at the first call, then the same."""
    made = Reading(name, what, labels)
    REGISTRY.register(made)
    return made


@contextmanager
def reading_of(*readings: Reading) -> Iterator[None]:
    """Surrounds the reading of these values. If it fails or is cancelled, they have no value until
    the next reading.
    """
    try:
        yield
    except BaseException:  # a cancelled reading has no value either; the exception is raised again
        for each in readings:
            each.drop()
        raise


@cache
def histogram(name: str, what: str, *labels: str) -> Histogram:
    """Returns the process's histogram of this name, in seconds: made at the first call, then the
    same.
    """
    return Histogram(name, what, labels, buckets=SECONDS)


def at_end(report: Callable[[], object]) -> None:
    """Calls `report`, from a `finally`: at once, or in the loop's next turn where a generator is
    being closed.

    The garbage collector may close a coroutine at any moment, also while a metric's lock is held.
    That lock is not reentrant: a `report` at that moment would block the process for ever.
    `report` is not called for garbage that is collected in a thread without a loop.
    """
    if not isinstance(sys.exception(), GeneratorExit):
        report()
        return
    with suppress(RuntimeError):
        asyncio.get_running_loop().call_soon(report)


@contextmanager
def serve_metrics(address: str) -> Iterator[int]:
    """Serves the process's metrics over HTTP at `address` (host:port, port 0: any free one)
    meanwhile; yields the port.

    It has threads of its own, so that metrics are served while the event loop is blocked. Each
    client has a thread, so that no client waits for another and the process's end waits for none.
    Raises OSError when the address cannot be had.
    """
    host, _, port = address.rpartition(":")
    try:
        server = make_server(
            host.strip("[]"),
            int(port),
            make_wsgi_app(REGISTRY),
            server_class=ThreadingWSGIServer,
            handler_class=_Scrape,
        )
    except OSError as error:
        raise OSError(
            error.errno, f"METRICS_ADDRESS {address} cannot be listened on: {error.strerror}"
        ) from error
    thread = threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.05}, name="metrics", daemon=True
    )
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Scrape(WSGIRequestHandler):
    """Handles a scrape without a log line. It closes the connection of a client that sends nothing
    for SCRAPE_S.
    """

    timeout = SCRAPE_S

    def handle(self) -> None:
        with suppress(TimeoutError, ConnectionError):
            super().handle()

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


# --- traces


@contextmanager
def tracing(service: str) -> Iterator[None]:
    """Makes spans meanwhile. They are exported if the standard OTEL_EXPORTER_OTLP_ENDPOINT names an
    address.

    Otherwise spans have ids (for log lines, and to pass on a caller's trace), at almost no other
    cost. OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER and the exporter's other standard variables apply
    as usual; OTLP goes over gRPC.
    """
    resource = Resource.create(
        {SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or f"ordermesh-{service}"}
    )
    if any(os.environ.get(name) for name in _ENDPOINTS):
        # Imported here: the import takes a third of a second, and most processes do not need it.
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    else:
        provider = TracerProvider(
            resource=resource, sampler=ParentBased(ALWAYS_OFF), shutdown_on_exit=False
        )
    trace.set_tracer_provider(provider)
    try:
        yield
    finally:
        # In a thread, because a collector that does not answer would hold up the end of the
        # process.
        flush = threading.Thread(target=provider.shutdown, name="flush", daemon=True)
        flush.start()
        flush.join(FLUSH_S)


def traceparent() -> str | None:
    """Returns the W3C traceparent of the current span, to be stored or sent with its effects; None
    outside any trace.
    """
    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get("traceparent")


@contextmanager
def consuming(subject: str, traceparents: Sequence[str | None]) -> Iterator[None]:
    """Makes a CONSUMER span around the handling of events of `subject`, linked to the traces that
    they come from.

    One event's span is a child of its trace. A batch belongs to several traces and is a child of
    none.
    """
    contexts = [
        TraceContextTextMapPropagator().extract({"traceparent": parent})
        for parent in traceparents
        if parent
    ]
    spans = [trace.get_current_span(context).get_span_context() for context in contexts]
    links = [trace.Link(span) for span in spans if span.is_valid]
    tracer = trace.get_tracer("ordermesh")
    with tracer.start_as_current_span(
        f"process {subject}",
        context=contexts[0] if len(traceparents) == len(links) == 1 else None,
        kind=trace.SpanKind.CONSUMER,
        links=links,
        attributes={
            "messaging.system": "nats",
            "messaging.operation.type": "process",
            "messaging.destination.name": subject,
            "messaging.batch.message_count": len(traceparents),
        },
        record_exception=False,
        set_status_on_exception=False,
    ) as span:
        try:
            yield
        except BaseException as error:  # a cancellation too; it is raised again
            span.set_status(trace.Status(trace.StatusCode.ERROR, type(error).__name__))
            raise
