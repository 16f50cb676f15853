"""The spans that a test's code makes. No tests here."""

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter


@contextmanager
def recorded() -> Iterator[InMemorySpanExporter]:
    """Records every span that ends meanwhile. A process has one provider of tracers, which the
    first call sets and the others share.
    """
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider(shutdown_on_exit=False)
        trace.set_tracer_provider(provider)
    exporter = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    try:
        yield exporter
    finally:
        exporter.shutdown()


def named(exporter: InMemorySpanExporter, name: str, kind: trace.SpanKind) -> list[ReadableSpan]:
    """The spans of this name (its end will do) and kind."""
    return [
        span
        for span in exporter.get_finished_spans()
        if span.name.endswith(name) and span.kind is kind
    ]
