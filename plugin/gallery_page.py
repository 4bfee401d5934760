"""The gallery's page: what is written about each edit, from its plan and its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from editcritic.plugin.report_parts import enum_words
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2

if TYPE_CHECKING:
    from editcritic.plugin.gallery import GalleryEdit

__all__ = ["gallery_page", "story_line"]

_CREDITS = {
    "coffee": "coffee cup by Rachel Michetti, CC0",
    "chelsea": "cat by Stéfan van der Walt, CC0",
    "rocket": "launch of DSCOVR by SpaceX, public domain",
    "astronaut": "Eileen Collins by NASA, public domain",
    "hubble_deep_field": "Hubble deep field by NASA, public domain",
    "grass": "grass, CC0",
    "brick": "bricks, CC0",
    "coins": "coins of Pompeii, Brooklyn Museum, no known restrictions",
}
"""By whom the photographs are, as scikit-image says."""

_HEAD = """# Gallery

Edits of photographs that come with scikit-image, by the small embedded engine `tabletop`, everything at its defaults:
four candidates, two rounds of repairs, `network` steers and `evidence` has to agree. All but the first, which has the
demo's place and seed, were chosen before any outcome was seen, and none was left out. What is in
*italics* a person wrote who looked at the pictures; everything else is what the run said. The engine is there to be
judged, not to be admired: it knows six solids in ten colours, and removal.

By eye, three of ten got better, five stayed as they were, and two got worse although their score rose. That is what
these critics are like on an engine whose faults neither learned from: see
[what a score does not see](score.md#what-it-does-not-see).

Heat is yellow where a fault is slight and red where it is grave. `make gallery` makes this page and its pictures again.
"""


def story_line(events: Sequence[refine_pb2.RefineResponse]) -> str:
    """What the loop decided in a run, in one line."""
    decisions = [event.decision for event in events if event.HasField("decision")]
    dropped = sum(each.kind == refine_pb2.DECISION_KIND_DROP for each in decisions)
    started = [event.candidate_started for event in events if event.HasField("candidate_started")]
    first = sum(not each.parent_candidate_id and not each.action for each in started)
    parts = [
        f"{first} candidate{'s' * (first != 1)}" + (f", {dropped} of them stopped early" if dropped else "")
    ]
    parts += _steps(decisions)
    result = events[-1].result
    reason = enum_words(refine_pb2.StopReason.Name(result.stop_reason), "STOP_REASON_")
    return "; ".join([*parts, f"stopped: {reason}; {result.evaluation_count} denoising steps"])


def _steps(decisions: Sequence[refine_pb2.Decision]) -> list[str]:
    told, action = [], ""
    for each in decisions:
        if each.kind == refine_pb2.DECISION_KIND_SELECT:
            told.append(f"{each.candidate_id} chosen")
        elif each.kind == refine_pb2.DECISION_KIND_REPAIR:
            action = enum_words(pb.ActionKind.Name(each.action.kind), "ACTION_KIND_")
        elif each.kind == refine_pb2.DECISION_KIND_KEEP:
            told.append(f"{action} kept")
        elif each.kind == refine_pb2.DECISION_KIND_ROLL_BACK:
            told.append(f"{action} rolled back")
        elif each.kind == refine_pb2.DECISION_KIND_ASK:
            told.append("a person should look")
    return told


def gallery_page(plan: Sequence[GalleryEdit], results: Mapping[str, Any], folder: str) -> str:
    """The page, Markdown.

    Args:
        plan: the edits, in their order.
        results: by name, as `gallery.carry_out` gives them; an edit without any is left out.
        folder: of the pictures, as the page names it.
    """
    told = [_section(edit, results[edit.name], folder) for edit in plan if edit.name in results]
    thanks = "; ".join(_CREDITS[photo] for photo in dict.fromkeys(edit.photo for edit in plan))
    return "\n".join([_HEAD, *told, f"Photographs: {thanks}.\n"])


def _section(edit: GalleryEdit, result: Mapping[str, Any], folder: str) -> str:
    wish = f"“{edit.prompt}”" if edit.prompt else "a removal"
    first, best = result["first"], result["result"]
    names = ("source and mask", f"first seed: **{_overall(first)}**", "where it was faulted")
    head = " | ".join([*names, f"handed back: **{_overall(best)}**"])
    kinds = ("source", "first", "heat", "result")
    row = " | ".join(f"![{edit.name}, {kind}]({folder}/{edit.name}-{kind}.jpg)" for kind in kinds)
    lines = [
        f"## {edit.name.capitalize()}: {wish}\n",
        f"| {head} |\n|---|---|---|---|\n| {row} |\n",
        f"- **First seed** ({edit.seed}): {_flat(first['reasons'])}",
        f"- **Handed back**: {_flat(best['reasons'])}",
        f"- **Numbers**: {_numbers(first, best)}.{_held_out(first, best)}",
        f"- **Story**: {result['story']}.",
    ]
    lines += [f"- *{edit.remark}*"] if edit.remark else []
    return "\n".join([*lines, ""])


def _overall(told: Mapping[str, Any]) -> str:
    return str(told["scores"].get("overall", "no score"))


def _numbers(first: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    names = [name for name in best["scores"] if name not in ("overall", "visual_quality")]
    pairs = [(name, first["scores"].get(name, "none"), best["scores"][name]) for name in names]
    return ", ".join(f"{name.replace('_', ' ')} {before} → {after}" for name, before, after in pairs)


def _held_out(first: Mapping[str, Any], best: Mapping[str, Any]) -> str:
    if "accepted_by" not in first:
        return ""
    return f" Overall by `evidence`: {first['accepted_by']} → {best['accepted_by']}."


def _flat(text: str) -> str:
    """One line, with nothing in it that Markdown would read as its own."""
    return " ".join(text.split()).replace("|", "/").replace("*", "")
