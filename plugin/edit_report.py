"""One self-contained HTML page for a run of the loop: result, candidates as they formed, decisions, parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from editcritic.plugin.report import Stage, candidate_card, footer, judged_picture, page
from editcritic.plugin.report_parts import Markup, enum_words, escaped
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.enums import value_name
from editcritic.v1.images import decode_image, paste_region

__all__ = ["Story", "stories_of", "write_edit_report"]


@dataclass
class Story:
    """Everything that the events say about one candidate or repair."""

    started: refine_pb2.CandidateStarted
    previews: list[tuple[refine_pb2.PreviewTaken, pb.Critique | None]] = field(default_factory=list)
    finished: refine_pb2.CandidateFinished | None = None
    critique: pb.Critique | None = None
    error: str = ""
    decisions: list[refine_pb2.Decision] = field(default_factory=list)


def write_edit_report(
    path: Path, request: refine_pb2.RefineRequest, events: Sequence[refine_pb2.RefineResponse]
) -> Path:
    """Write the page of a run, finished or not.

    Returns:
        The path.

    Raises:
        ImageError: a picture cannot be decoded.
        OSError: the file cannot be written.
    """
    stage, stories = Stage(request.edit), stories_of(events)
    result = events[-1].result if events and events[-1].HasField("result") else None
    parts = [_head(request, result, stage, stories), _timeline(events)]
    parts += [_candidate(story, stories, stage) for story in _ordered(stories, result)]
    parts += [_parameters(request, events), footer(request.edit)]
    path.write_text(page(escaped("editcritic edit"), "".join(parts)), encoding="utf-8")
    return path


def stories_of(events: Sequence[refine_pb2.RefineResponse]) -> dict[str, Story]:
    """What the events of a run say about each candidate and repair, by name, in the order in which they began."""
    stories: dict[str, Story] = {}
    for event in events:
        kind = event.WhichOneof("event")
        if kind == "candidate_started":
            stories[event.candidate_started.candidate_id] = Story(event.candidate_started)
        elif kind == "preview":
            stories[event.preview.candidate_id].previews.append((event.preview, None))
        elif kind == "candidate_finished":
            stories[event.candidate_finished.candidate_id].finished = event.candidate_finished
        elif kind == "candidate_error" and event.candidate_error.candidate_id in stories:
            stories[event.candidate_error.candidate_id].error = event.candidate_error.status.message
        elif kind == "critique":
            _add_critique(stories[event.critique.candidate_id], event.critique)
        elif kind == "decision" and event.decision.candidate_id in stories:
            stories[event.decision.candidate_id].decisions.append(event.decision)
    return stories


def _add_critique(story: Story, critique: pb.Critique) -> None:
    if critique.HasField("progress") and story.previews:
        story.previews[-1] = (story.previews[-1][0], critique)
    elif story.critique is None:  # the acceptance critic's comes after it
        story.critique = critique


def _ordered(stories: dict[str, Story], result: refine_pb2.RefineResult | None) -> list[Story]:
    """The one handed back first, then by score; what failed stands last."""

    def key(story: Story) -> tuple[bool, float]:
        chosen = result is not None and result.candidate_id == story.started.candidate_id
        overall = story.critique.scores.overall.value if story.critique else -1.0
        return not chosen, -overall

    return sorted(stories.values(), key=key)


def _head(
    request: refine_pb2.RefineRequest,
    result: refine_pb2.RefineResult | None,
    stage: Stage,
    stories: dict[str, Story],
) -> Markup:
    prompt = f"“{escaped(request.edit.prompt)}”" if request.edit.prompt else "<i>no prompt: a removal</i>"
    before = (
        f'<figure><img alt="the source with the mask outlined" src="{stage.picture(stage.outline())}">'
        "<figcaption class='soft small'>the source; the outline is the mask</figcaption></figure>"
    )
    if result is None:
        told, after = "The run has not ended.", ""
    else:
        told, after = _outcome(result, stories), _after(result, stage)
    return Markup(
        f"<h1>{prompt}</h1><section class=card><h2>Before and after</h2><p>{told}</p>"
        f'<div class="columns even">{before}{after}</div></section>'
    )


def _outcome(result: refine_pb2.RefineResult, stories: dict[str, Story]) -> Markup:
    overall, reason = result.critique.scores.overall, value_name(refine_pb2.StopReason, result.stop_reason)
    name = f"<b>{escaped(result.candidate_id or 'the source')}</b>"
    score = f", overall {overall.value:.0f}" if overall.status == pb.SCORE_STATUS_SCORED else ""
    plain = ""
    if result.HasField("plain_score"):
        plain = f" The first seed alone, without choosing or mending, has {result.plain_score:.0f}."
    return Markup(
        f"Handed back: {name}{score}, of {len(stories)} candidates and repairs, after {result.evaluation_count} "
        f"denoising steps{_saved(result)}; stopped: {enum_words(reason, 'STOP_REASON_')}.{plain}"
    )


def _saved(result: refine_pb2.RefineResult) -> str:
    if not result.saved_evaluation_count:
        return ""
    return f" ({result.saved_evaluation_count} saved over finishing every candidate in whole)"


def _after(result: refine_pb2.RefineResult, stage: Stage) -> Markup:
    entry = pb.RankedCandidate(candidate_id=result.candidate_id or "source", critique=result.critique)
    bare = pb.RankedCandidate()
    bare.CopyFrom(entry)
    bare.critique.ClearField("heat_maps")
    bare.critique.ClearField("defects")
    picture = judged_picture(bare, pb.Candidate(image=result.image), stage)
    return Markup(f"<section class=plain>{picture}</section>")


def _timeline(events: Sequence[refine_pb2.RefineResponse]) -> Markup:
    rows = "".join(
        f"<tr><td class=number>{event.elapsed_ms / 1000:.1f} s<td><b>{_decided(event.decision)}</b>"
        f"<td>{escaped(event.decision.candidate_id)}<td>{escaped(event.decision.reason)}</tr>"
        for event in events
        if event.HasField("decision")
    )
    if not rows:
        return Markup("")
    return Markup(
        f"<section class=card><h2>Decisions</h2><div class=scroll><table class=decisions>{rows}</table></div></section>"
    )


def _decided(decision: refine_pb2.Decision) -> Markup:
    words = enum_words(value_name(refine_pb2.DecisionKind, decision.kind), "DECISION_KIND_")
    if decision.HasField("action"):
        words += ": " + enum_words(value_name(pb.ActionKind, decision.action.kind), "ACTION_KIND_")
    return escaped(words)


def _candidate(story: Story, stories: dict[str, Story], stage: Stage) -> Markup:
    started, before = story.started, None
    parent = stories.get(started.parent_candidate_id)
    if parent is not None and parent.finished is not None:
        before = (started.parent_candidate_id, decode_image(parent.finished.image))
    entry = pb.RankedCandidate(candidate_id=started.candidate_id)
    candidate = None
    if story.critique is not None and story.finished is not None:
        entry.critique.CopyFrom(story.critique)
        candidate = pb.Candidate(
            candidate_id=started.candidate_id, image=story.finished.image, seed=started.seed
        )
    else:
        dropped = [each.reason for each in story.decisions if each.kind == refine_pb2.DECISION_KIND_DROP]
        entry.error.message = story.error or (f"dropped: {dropped[0]}" if dropped else "not finished")
    return candidate_card(
        entry, candidate, stage, extra=_origin(started) + _previews(story, stage), before=before
    )


def _origin(started: refine_pb2.CandidateStarted) -> str:
    if not started.parent_candidate_id:
        return ""
    action = enum_words(value_name(pb.ActionKind, started.action), "ACTION_KIND_")
    return f"<p class=soft>Made from {escaped(started.parent_candidate_id)} by {escaped(action)}.</p>"


def _previews(story: Story, stage: Stage) -> str:
    if not story.previews:
        return ""
    shown = []
    for preview, critique in story.previews:
        box = preview.region
        whole = paste_region(stage.source, decode_image(preview.image), box)
        overall = critique.scores.overall if critique is not None else pb.Score()
        number = f", {overall.value:.0f}" if overall.status == pb.SCORE_STATUS_SCORED else ""
        shown.append(
            f'<figure><img alt="preview" src="{stage.picture(whole)}"><figcaption class="soft small">'
            f"{_stage(preview)}{number}</figcaption></figure>"
        )
    return f"<h3>As it formed</h3><div class=previews>{''.join(shown)}</div>"


def _stage(preview: refine_pb2.PreviewTaken) -> str:
    if preview.is_draft:
        return f"draft in {preview.progress.step} steps"
    return f"{preview.progress.fraction:.0%} denoised"


def _parameters(request: refine_pb2.RefineRequest, events: Sequence[refine_pb2.RefineResponse]) -> Markup:
    started = events[0].started if events and events[0].HasField("started") else refine_pb2.RunStarted()
    sampling, budget, critic = request.sampling, request.budget, started.search_critic
    command = (
        f"editcritic edit --image … --mask … --prompt {request.edit.prompt!r} --engine {started.engine.name} "
        f"--count {sampling.candidate_count} --seed {sampling.seed} --rounds {budget.repair_round_count} "
        f"--target {budget.target_score:g}"
    )
    optional = {"--steps": sampling.step_count, "--max-steps": budget.evaluation_count}
    command += "".join(f" {flag} {value}" for flag, value in optional.items() if value)
    if sampling.HasField("strength"):
        command += f" --strength {sampling.strength:g}"
    if sampling.HasField("guidance_scale"):
        command += f" --guidance {sampling.guidance_scale:g}"
    if sampling.HasField("quality_target"):
        command += f" --engine-quality {sampling.quality_target:g}"
    if sampling.quality_guidance:
        command += f" --quality-guidance {sampling.quality_guidance:g}"
    if sampling.critic_guidance:
        command += f" --critic-guidance {sampling.critic_guidance:g}"
    rows = {
        "engine": f"{started.engine.name} ({started.engine.pipeline_class})",
        "critic": f"{critic.name} {critic.version} {critic.calibration}",
        "edit": request.edit.edit_id,
        "again": command,
    }
    body = "".join(
        f"<tr><th scope=row>{name}<td><code>{escaped(text)}</code></tr>" for name, text in rows.items()
    )
    return Markup(f"<section class=card><h2>To do it again</h2><table class=scores>{body}</table></section>")
