"""Traces: one for a candidate's whole way, from the client to its stages, with the batch beside it."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from editcritic.plugin.async_client import AsyncClient
from editcritic.plugin.traced import traced_steps
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2, tracing
from editcritic.v1.errors import InvalidInput
from tests.server.speaking import refusal, wait_until

STAGES = ["decode", "prepare", "queue", "critique"]


class Spans:
    """What was traced so far."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> Any:
        (span,) = self.named(name)
        return span

    def under(self, parent: Any) -> list[str]:
        found = [each for each in self.all() if each.parent and each.parent.span_id == parent.context.span_id]
        return [each.name for each in sorted(found, key=lambda each: each.start_time or 0)]


@pytest.fixture
def spans() -> Iterator[Spans]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracing.enable(provider)
    yield Spans(exporter)
    tracing.disable()
    provider.shutdown()


async def test_a_call_is_one_trace_from_the_client_to_the_stages(
    spans: Spans, serving: Any, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    async with serving() as (server, _), AsyncClient(server.address) as client:
        await client.critique(edit, make_candidate())
        await wait_until(lambda: bool(spans.named("CriticService/Critique")))
    outer, call, item = (
        spans.one(name) for name in ("client Critique", "CriticService/Critique", "candidate")
    )
    assert outer.parent is None
    assert spans.under(outer) == ["CriticService/Critique"]
    assert spans.under(call) == ["candidate"]
    assert spans.under(item) == STAGES
    assert call.attributes["rpc.grpc.status"] == "OK"
    ends = [spans.one(stage) for stage in STAGES]
    assert all(one.end_time == next_one.start_time for one, next_one in itertools.pairwise(ends))
    batch = spans.one("batch")
    assert batch.parent is None
    assert [link.context.span_id for link in batch.links] == [item.context.span_id]
    assert batch.attributes["count"] == 1


async def test_candidates_of_a_stream_belong_to_the_trace_of_its_opener(
    spans: Spans, serving: Any, edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    async with serving() as (server, _), AsyncClient(server.address) as client:
        async with await client.open_edit(edit) as stream:
            for name in ("a", "b"):
                await stream.candidate(name, make_candidate(name))
            async for _event in stream.finish():
                pass
        await wait_until(lambda: bool(spans.named("CriticService/CritiqueStream")))
    call = spans.one("CriticService/CritiqueStream")
    assert call.parent.span_id == spans.one("client CritiqueStream").context.span_id
    assert spans.under(call) == ["candidate", "candidate"]
    linked = {link.context.span_id for batch in spans.named("batch") for link in batch.links}
    assert linked == {item.context.span_id for item in spans.named("candidate")}


async def test_a_trace_of_another_program_is_gone_on_with_and_named_in_the_log(
    spans: Spans, serving: Any, caplog: pytest.LogCaptureFixture
) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    with caplog.at_level(logging.INFO, "editcritic.server.calls"):
        async with serving() as (_, stub):
            headers = (("traceparent", f"00-{trace}-{parent}-01"),)
            await stub.ListCritics(pb.ListCriticsRequest(), metadata=headers)
            await wait_until(lambda: bool(spans.named("CriticService/ListCritics")))
    call = spans.one("CriticService/ListCritics")
    assert format(call.context.trace_id, "032x") == trace
    assert format(call.parent.span_id, "016x") == parent
    assert [record.trace_id for record in caplog.records if hasattr(record, "trace_id")] == [trace]


async def test_a_failure_is_marked_and_nothing_that_was_sent_is_told(
    spans: Spans, serving: Any, edit: pb.Edit
) -> None:
    edit.prompt, edit.edit_id = "a very private prompt", "private-edit"
    broken = pb.Image(encoded=pb.EncodedImage(data=b"private bytes", format=pb.IMAGE_FORMAT_PNG))
    request = pb.CritiqueRequest(edit=edit, candidate=pb.Candidate(candidate_id="private-id", image=broken))
    async with serving(token="a-private-token") as (_, stub):
        metadata = (("authorization", "Bearer a-private-token"),)
        await refusal(stub.Critique(request, metadata=metadata))
        await wait_until(lambda: bool(spans.named("CriticService/Critique")))
    for name in ("CriticService/Critique", "candidate"):
        assert not spans.one(name).status.is_ok
    assert spans.one("CriticService/Critique").attributes["rpc.grpc.status"] == "INVALID_ARGUMENT"
    assert "private" not in "".join(span.to_json() for span in spans.all())


def test_the_steps_of_the_loop_are_spans_with_the_calls_that_they_make(spans: Spans) -> None:
    def events() -> Iterator[refine_pb2.RefineResponse]:
        yield refine_pb2.RefineResponse(started=refine_pb2.RunStarted())
        with tracing.span("client Critique"):
            pass
        yield refine_pb2.RefineResponse(result=refine_pb2.RefineResult())

    assert [event.WhichOneof("event") for event in traced_steps(events())] == ["started", "result"]
    assert spans.under(spans.one("refine")) == ["refine started", "refine result", "refine end"]
    assert spans.under(spans.one("refine result")) == ["client Critique"]


def test_a_run_that_is_left_or_fails_ends_its_span(spans: Spans) -> None:
    def events() -> Iterator[refine_pb2.RefineResponse]:
        yield refine_pb2.RefineResponse(started=refine_pb2.RunStarted())
        raise InvalidInput("no")

    left = traced_steps(events())
    next(left)
    left.close()  # type: ignore[attr-defined]
    with pytest.raises(InvalidInput):
        list(traced_steps(events()))
    assert len(spans.named("refine")) == 2


def test_without_an_endpoint_nothing_of_it_is_loaded_and_nothing_is_sent_along() -> None:
    program = (
        "import sys, editcritic.server.app, editcritic.plugin.client\n"
        "from editcritic.plugin.channels import Endpoint\n"
        "assert Endpoint().metadata() == ()\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'prometheus_client'))])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


async def test_a_server_without_the_packages_says_so_and_serves(
    serving: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.grpc.trace_exporter", None)
    async with serving(traces_endpoint="http://127.0.0.1:1") as (_, stub):
        assert (await stub.ListCritics(pb.ListCriticsRequest())).critics
    assert "editcritic[telemetry]" in caplog.text
    assert not tracing.is_on()
