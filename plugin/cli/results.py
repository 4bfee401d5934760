"""What commands leave in a folder: heat maps, an explanation, JSON and a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from editcritic.plugin.cli.tables import as_json, explanation_lines
from editcritic.plugin.overlay import overlay_heat_map
from editcritic.plugin.report import write_report
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import decode_image, decode_mask, paste_region

__all__ = ["write_results"]


def write_results(
    folder: Path,
    edit: pb.Edit,
    candidates: Mapping[str, pb.Candidate],
    ranking: Sequence[pb.RankedCandidate],
) -> Path:
    """Write one overlay for each judged candidate, explanation.md, critiques.json and report.html.

    Returns:
        The report.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    judged = [entry for entry in ranking if entry.HasField("critique")]
    for entry in judged:
        _write_overlay(folder / f"{entry.candidate_id}-heat.png", edit, candidates[entry.candidate_id], entry)
    lines = [line for entry in judged for line in explanation_lines(entry.candidate_id, entry.critique)]
    (folder / "explanation.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    values = json.dumps([as_json(entry) for entry in ranking], indent=2)
    (folder / "critiques.json").write_text(values + "\n", encoding="utf-8")
    return write_report(folder / "report.html", edit=edit, candidates=candidates, ranking=ranking)


def _write_overlay(path: Path, edit: pb.Edit, candidate: pb.Candidate, entry: pb.RankedCandidate) -> None:
    source = decode_image(edit.source)
    region = candidate.region if candidate.HasField("region") else None
    picture = paste_region(source, decode_image(candidate.image), region)
    mask = decode_mask(edit.denoise_mask)
    heat_map = entry.critique.heat_maps[0] if entry.critique.heat_maps else None
    Image.fromarray(overlay_heat_map(picture, heat_map, mask)).save(path)
