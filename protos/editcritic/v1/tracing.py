"""Traces through client, server and loop: spans, and W3C trace context in a call's metadata (`traceparent`).

Everything here is nothing until `start` or `enable`, and nothing of OpenTelemetry is imported before. Spans tell names,
times and outcomes; never pictures, prompts or tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

__all__ = [
    "begin",
    "begin_call",
    "disable",
    "enable",
    "here",
    "incoming",
    "is_on",
    "outgoing",
    "past",
    "span",
    "start",
]

_tracer: Any = None
_SCOPE = "editcritic"


def start(endpoint: str, service: str) -> Callable[[], None]:
    """Send traces to a collector.

    Args:
        endpoint: of OTLP over gRPC, such as http://localhost:4317; https:// for TLS.
        service: name of this process in the traces.

    Returns: what ends it, and sends what is left.

    Raises:
        ModuleNotFoundError: OpenTelemetry is not installed (the extra `telemetry`).
    """
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    exporter = OTLPSpanExporter(endpoint=endpoint, insecure=not endpoint.startswith("https://"))
    provider.add_span_processor(BatchSpanProcessor(exporter))
    enable(provider)

    def end() -> None:
        disable()
        provider.shutdown()

    return end


def enable(provider: Any) -> None:
    """Make spans with an OpenTelemetry TracerProvider from now on, in the whole process."""
    global _tracer
    _tracer = provider.get_tracer(_SCOPE)


def disable() -> None:
    """Make no more spans."""
    global _tracer
    _tracer = None


def is_on() -> bool:
    """Whether spans are made."""
    return _tracer is not None


@contextmanager
def span(
    name: str,
    *,
    links: Iterable[Any] = (),
    is_root: bool = False,
    within: Any = None,
    **attributes: str | int | float | bool,
) -> Iterator[Any]:
    """A span for as long as the block, within the present one.

    Args:
        name: of it.
        links: what `here` gave elsewhere; other spans that this one works for.
        is_root: begin a trace of its own.
        within: what `begin` gave; by default the present span.
        **attributes: of it.

    Yields: the span, or None when traces are off.
    """
    if _tracer is None:
        yield None
        return
    from opentelemetry.context import Context
    from opentelemetry.trace import Link, Status, StatusCode

    with _tracer.start_as_current_span(
        name,
        context=Context() if is_root else within,
        links=[Link(each) for each in links if each is not None],
        attributes=attributes,
        # An exception's text and traceback could hold what a client sent.
        record_exception=False,
        set_status_on_exception=False,
    ) as made:
        try:
            yield made
        except BaseException as error:
            made.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def begin(name: str) -> tuple[Any, Callable[[], None]]:
    """A span for what begins here and ends elsewhere: its context, for `span(within=...)`, and what ends it."""
    if _tracer is None:
        return None, _nothing
    from opentelemetry.trace import set_span_in_context

    made = _tracer.start_span(name)
    return set_span_in_context(made), made.end


def past(name: str, began_ns: int, seconds: float, **attributes: str | int | float | bool) -> None:
    """A span that is over, within the present one.

    Args:
        name: of it.
        began_ns: when it began, in nanoseconds since 1970.
        seconds: that it took.
        **attributes: of it.
    """
    if _tracer is not None:
        made = _tracer.start_span(name, start_time=began_ns, attributes=attributes)
        made.end(began_ns + round(seconds * 1e9))


def here() -> Any:
    """The present span, for the links of another; None when there is none."""
    if _tracer is None:
        return None
    from opentelemetry.trace import get_current_span

    found = get_current_span().get_span_context()
    return found if found.is_valid else None


def outgoing() -> tuple[tuple[str, str], ...]:
    """The present span as metadata of a call; nothing when traces are off."""
    if _tracer is None:
        return ()
    carrier: dict[str, str] = {}
    _propagator().inject(carrier)
    return tuple(carrier.items())


def incoming(metadata: Sequence[tuple[str, Any]] | None) -> Any:
    """The context that a call's metadata names."""
    carrier = {key: value for key, value in metadata or () if isinstance(value, str)}
    return _propagator().extract(carrier)


def begin_call(
    method: str, metadata: Sequence[tuple[str, Any]] | None
) -> tuple[str, Callable[[str, str], None]]:
    """Begin the span of a call that is answered here; it is the present one for the rest of the task.

    Args:
        method: ``Service/Method``.
        metadata: that came with it.

    Returns: the trace's id in hexadecimal, empty when traces are off, and what ends the span with the name of the
        status and of the caller.
    """
    if _tracer is None:
        return "", _end_nothing
    from opentelemetry.context import attach
    from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context

    made = _tracer.start_span(method, context=incoming(metadata), kind=SpanKind.SERVER)
    made.set_attribute("rpc.system", "grpc")
    # Never detached: a call's task has a context of its own, which ends with it.
    attach(set_span_in_context(made))

    def end(status: str, caller: str) -> None:
        made.set_attribute("rpc.grpc.status", status)
        made.set_attribute("editcritic.caller", caller)
        if status != "OK":
            made.set_status(Status(StatusCode.ERROR, status))
        made.end()

    return format(made.get_span_context().trace_id, "032x"), end


def _nothing() -> None:
    pass


def _end_nothing(_status: str, _caller: str) -> None:
    pass


def _propagator() -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator()
