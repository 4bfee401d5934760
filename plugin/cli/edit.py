"""`editcritic edit`: carry out an edit, judged while it forms, and mended."""

from __future__ import annotations

import json
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from google.protobuf.json_format import MessageToDict
from rich.live import Live

from editcritic.plugin.cli.console import BELOW, command, fail, naming_files, stderr, stdout
from editcritic.plugin.cli.edit_view import EditView, decision_words
from editcritic.plugin.cli.inputs import (
    BlendMask,
    CriticGuidance,
    EngineQuality,
    Json,
    Mask,
    Prompt,
    QualityGuidance,
    Server,
    Source,
    connected,
)
from editcritic.plugin.editing import default_journal_path, make_refine_request
from editcritic.plugin.judging import EmbeddedCritic, ServedCritic
from editcritic.plugin.report_parts import enum_words
from editcritic.plugin.traced import traced_steps
from editcritic.server.critics import DEFAULT_CRITIC
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.enums import value_name
from editcritic.v1.errors import error_from_status

__all__ = ["ACCEPTANCE_CRITIC", "edit", "held_out", "judging", "run_and_show", "tell"]

ACCEPTANCE_CRITIC = "evidence"
_STOPPED = 130

JournalPath = Annotated[
    Path | None, typer.Option("--journal", help="File of past edits; by default the user's own.")
]


@command
def edit(
    source: Source,
    mask: Mask,
    prompt: Prompt = "",
    blend_mask: BlendMask = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The edited picture.")] = Path("edit.png"),
    report: Annotated[
        Path | None, typer.Option(help="The report; by default beside the picture, .html.")
    ] = None,
    engine: Annotated[
        str, typer.Option("--engine", "-e", help="tabletop, a diffusers pipeline folder, or a hub id.")
    ] = "tabletop",
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="Candidates to choose from.")] = 4,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the first; drawn without it.")] = None,
    steps: Annotated[int, typer.Option(min=0, help="Denoising steps of each; 0: the engine's own.")] = 0,
    strength: Annotated[float | None, typer.Option(help="Above 0, at most 1: how much is redrawn.")] = None,
    guidance: Annotated[float | None, typer.Option(help="How closely the prompt is followed.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What is to be avoided.")] = "",
    engine_quality: EngineQuality = None,
    quality_guidance: QualityGuidance = 0,
    critic_guidance: CriticGuidance = 0,
    rounds: Annotated[int, typer.Option(min=0, max=4, help="Repairs to try.")] = 2,
    target: Annotated[float, typer.Option(min=0, max=100, help="Overall score that is good enough.")] = 80,
    race: Annotated[
        str,
        typer.Option(help="margin: hopeless candidates are dropped half-way; halving; or plain, nobody is."),
    ] = "margin",
    price: Annotated[
        float | None, typer.Option(help="Points that a candidate must promise for its steps; by default 1.")
    ] = None,
    draft: Annotated[
        bool | None,
        typer.Option(
            help="Draft each candidate in few steps first; by default where the engine's drafts were measured."
        ),
    ] = None,
    max_seconds: Annotated[float, typer.Option(min=0, help="Time in all; 0: no limit.")] = 0,
    max_steps: Annotated[int, typer.Option(min=0, help="Denoising steps in all; 0: no limit.")] = 0,
    critic: Annotated[str, typer.Option(help="Critic that judges.")] = DEFAULT_CRITIC,
    acceptance: Annotated[
        str,
        typer.Option(
            help="Another critic, which has to agree to what replaces the first answer; none for nobody. By default "
            "evidence, where the critic is the default one and there is no --server."
        ),
    ] = "",
    rewriter: Annotated[
        Path | None, typer.Option(help="Folder of a chat model that words prompts anew; by default rules do.")
    ] = None,
    diagnosis: Annotated[
        Path | None,
        typer.Option(help="Which fault calls for which repair, as TOML; by default the package's own."),
    ] = None,
    server: Server = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, float16 or bfloat16.")] = "auto",
    offload: Annotated[str, typer.Option(help="Save GPU memory: none, model or sequential.")] = "none",
    offline: Annotated[bool, typer.Option(help="Never ask the hub.")] = False,
    journal: JournalPath = None,
    edit_id: Annotated[str, typer.Option("--id", help="Name of the edit in the journal.")] = "",
    resume: Annotated[bool, typer.Option(help="Go on with the edit of that --id.")] = False,
    fail_under: Annotated[
        float | None, typer.Option(help="End with 5 when the overall score is below this (0 to 100).")
    ] = None,
    as_json_only: Json = False,
) -> None:
    """Carry out an edit: candidates, judged while they form, the best one mended."""
    from editcritic.plugin.edit_report import write_edit_report
    from editcritic.plugin.steering import steerable
    from editcritic.refine.diagnosis import load_diagnosis
    from editcritic.refine.engine import load_engine
    from editcritic.refine.journal import Journal
    from editcritic.refine.loop import Refinement
    from editcritic.refine.request import completed_request
    from editcritic.refine.rewriter import open_rewriter

    kept = Journal(journal or default_journal_path())
    acceptance = held_out(acceptance, critic, server)
    files = {"source": source, "mask": mask, "blend_mask": blend_mask}
    with naming_files({**files, **{f"edit.{name}": path for name, path in files.items()}}):
        if resume:
            request = kept.request(edit_id)
        else:
            request = completed_request(
                make_refine_request(
                    source,
                    mask,
                    prompt,
                    blend_mask=blend_mask,
                    negative_prompt=negative_prompt,
                    edit_id=edit_id,
                    engine=engine,
                    candidates=count,
                    seed=seed,
                    steps=steps,
                    strength=strength,
                    guidance=guidance,
                    quality=engine_quality,
                    quality_guidance=quality_guidance,
                    critic_guidance=critic_guidance,
                    rounds=rounds,
                    target=target,
                    max_steps=max_steps,
                    max_seconds=max_seconds,
                    acceptance=acceptance,
                    race=race,
                    price=price,
                    draft=draft,
                )
            )
    name = request.sampling.engine or engine
    with stderr.status(f"opening {name}"):
        opened = steerable(
            load_engine(name, device=device, dtype=dtype, offload=offload, offline=offline)  # type: ignore[arg-type]
        )
    writer = open_rewriter(rewriter, device) if rewriter else None
    table = load_diagnosis(diagnosis) if diagnosis else None
    with judging(server, critic) as judge, judging(server, acceptance) as other:
        run = Refinement(opened, judge, request, kept, other, writer, table)
        events = run_and_show(run)
    result = events[-1].result
    out.write_bytes(result.image.encoded.data)
    page = write_edit_report(report or out.with_suffix(".html"), request, events)
    if as_json_only:
        stdout.print_json(json.dumps(_as_json(events, out, page)))
    else:
        tell(events, out, page)
    _end(result, fail_under)


def held_out(acceptance: str, critic: str, server: str) -> str:
    """The acceptance critic's name; empty for none. A server need not have the default one."""
    if not acceptance:
        acceptance = ACCEPTANCE_CRITIC if critic == DEFAULT_CRITIC and not server else "none"
    return "" if acceptance in ("none", critic) else acceptance


@contextmanager
def judging(server: str, critic: str) -> Iterator[Any]:
    """The named critic at a server, or at one that starts by itself; None for an empty name."""
    if not critic:
        yield None
    elif server:
        with connected(server) as client:
            yield ServedCritic(client, critic)
    else:
        yield EmbeddedCritic(critic)


def run_and_show(run: Any) -> list[refine_pb2.RefineResponse]:
    """Run the loop with a live table; the first Ctrl-C ends it with the best so far, the second at once."""
    view, events = EditView(), []

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        run.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        with Live(console=stderr, refresh_per_second=8) as live, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for event in traced_steps(run.run()):
                events.append(event)
                view.take(event)
                live.update(view.table())
    finally:
        signal.signal(signal.SIGINT, before)
    return events


def _as_json(events: list[refine_pb2.RefineResponse], out: Path, page: Path) -> dict[str, Any]:
    result, started = events[-1].result, events[0].started
    values: dict[str, Any] = MessageToDict(_without_pictures(result), preserving_proto_field_name=True)
    facts = {
        "edit_id": started.edit_id,
        "seed": started.sampling.seed,
        "image": str(out),
        "report": str(page),
    }
    return values | facts


def tell(events: list[refine_pb2.RefineResponse], out: Path, page: Path) -> None:
    """Print decisions, the outcome, and where it was written."""
    result, started = events[-1].result, events[0].started
    for event in events:
        if event.HasField("decision"):
            stdout.print(decision_words(event.decision), markup=False)
    reason = enum_words(value_name(refine_pb2.StopReason, result.stop_reason), "STOP_REASON_")
    overall = result.critique.scores.overall
    score = f"overall {overall.value:.1f} ±{overall.stddev:.1f}, " if overall.stddev or overall.value else ""
    plain = f"the first seed alone {result.plain_score:.1f}, " if result.HasField("plain_score") else ""
    saved = f" ({result.saved_evaluation_count} saved)" if result.saved_evaluation_count else ""
    stdout.print(
        f"{result.candidate_id or 'the source'}: {score}{plain}{result.evaluation_count} denoising steps{saved}, "
        f"{events[-1].elapsed_ms / 1000:.1f} s; stopped: {reason}",
        markup=False,
    )
    for label, path in (("picture", out), ("report", page)):
        stdout.print(f"{label}: {path}", markup=False, soft_wrap=True)
    stdout.print(f"edit: {started.edit_id}, first seed {started.sampling.seed}", markup=False, soft_wrap=True)


def _without_pictures(result: refine_pb2.RefineResult) -> refine_pb2.RefineResult:
    bare = refine_pb2.RefineResult()
    bare.CopyFrom(result)
    bare.ClearField("image")
    bare.critique.ClearField("heat_maps")
    return bare


def _end(result: refine_pb2.RefineResult, fail_under: float | None) -> None:
    if result.stop_reason == refine_pb2.STOP_REASON_FAILED:
        raise error_from_status(result.error)
    if result.stop_reason == refine_pb2.STOP_REASON_CANCELLED:
        fail("stopped; the best so far was written, and --resume goes on", _STOPPED)
    overall = result.critique.scores.overall
    if fail_under is not None and (overall.status != pb.SCORE_STATUS_SCORED or overall.value < fail_under):
        fail(f"overall {overall.value:.1f} is below {fail_under:g}", BELOW)
