"""The learned critic that comes with the package."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from editcritic.server.critics.alignment import load_head
from editcritic.server.critics.base import CritiqueTask, DecodedEdit, Outcome, judge_each
from editcritic.server.critics.evidence.preservation import find_leak
from editcritic.server.critics.explain import summarise
from editcritic.server.critics.finding import DIMENSION_OF, Finding
from editcritic.server.critics.network.border import BorderScene, measure_border, prepare_border
from editcritic.server.critics.network.calibration import read_calibration
from editcritic.server.critics.network.findings import edited_region, join_border, read_findings
from editcritic.server.critics.network.forecast import PreviewReaders, load_readers, preview_features
from editcritic.server.critics.network.model import EditOutput
from editcritic.server.critics.network.runner import BUCKETS, Look, NetworkRunner, climb, load_network
from editcritic.server.critics.network.verdict import foresee, judge, reportable
from editcritic.server.critics.network.view import EditView, look_at, view_edit, view_whole
from editcritic.server.critics.reporting import Frame, make_defect, make_maps, worst_first
from editcritic.server.critics.views import outside_of
from editcritic.v1 import critic_pb2 as pb

__all__ = ["WEIGHTS", "NetworkCritic", "PreparedEdit"]

VERSION = "6"
WEIGHTS = Path(__file__).with_name("weights")
"""Folder with `network.safetensors`, `calibration.json`, `alignment.safetensors` and `previews.safetensors`."""
ALIGNMENT = "alignment.safetensors"
PREVIEWS = "previews.safetensors"


@dataclass(frozen=True, eq=False)
class PreparedEdit:
    """An edit, cut once for all its candidates.

    Attributes:
        view: what the network looks at.
        frame: the photograph's part of it, for boxes and maps.
        outside: (H, W) bool; where nothing may change.
        border: the mask's border; None where it has none within the photograph.
    """

    view: EditView
    frame: Frame
    outside: NDArray[np.bool_]
    border: BorderScene | None


class NetworkCritic:
    """Sees what measured evidence cannot: melted texture, bent shapes, foreign, doubled and missing parts.

    A few million parameters, learned from photographs whose faults were put in (no labels). What is outside the
    mask, and whether anything changed inside, is measured exactly as by `evidence`.

    Args:
        weights: folder with weights and calibration; the shipped ones by default. The shipped alignment head is
            used where the folder has none; the shipped readers of previews are not, as they read these weights only.
        device: "cpu" or "cuda".
        batched: judge candidates together; None for on a GPU, where it pays.

    Raises:
        InvalidInput: the folder does not hold them.
    """

    def __init__(
        self, weights: Path | str = WEIGHTS, device: str = "cpu", *, batched: bool | None = None
    ) -> None:
        weights = Path(weights)
        self._run = NetworkRunner(load_network(weights / "network.safetensors"), device)
        self._is_batched = self._run.device.type != "cpu" if batched is None else batched
        self._calibration = read_calibration(weights / "calibration.json")
        own = weights / ALIGNMENT
        self._alignment = load_head(own if own.exists() else WEIGHTS / ALIGNMENT)
        self._readers = load_readers(weights / PREVIEWS)

    @property
    def info(self) -> pb.CriticInfo:
        """Name, version, and what is judged."""
        return pb.CriticInfo(
            identity=self._identity(),
            description=(
                "A small network that learned from photographs with faults put in: seams, colour, light, sharpness,"
                " grain, melted and repeated texture, bent, doubled, missing and foreign parts, each with a map."
                " Reads prompts of the embedded engine's vocabulary, abstains on others."
            ),
            dimensions=[
                pb.DIMENSION_NATURALNESS,
                pb.DIMENSION_HARMONY,
                pb.DIMENSION_PRESERVATION,
                pb.DIMENSION_PROMPT_ALIGNMENT,
            ],
            defect_kinds=sorted(DIMENSION_OF),
            judges_previews=True,
            device=str(self._run.device),
            batch_count=BUCKETS[-1] if self._is_batched else 0,
        )

    def prepare(self, edit: DecodedEdit) -> PreparedEdit:
        """Cut the edit's window and name its regions."""
        view = view_edit(edit)
        height, width = edit.denoise_mask.shape
        inside = view.within_photo(view.alpha >= 0.5)
        frame = Frame(view.photo, view.side / view.window.width, (height, width), inside)
        return PreparedEdit(view, frame, outside_of(edit), prepare_border(edit))

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        """One outcome for each task, which does not depend on the others."""
        if not self._is_batched:
            return judge_each(tasks, self._judge_alone, is_cancelled)
        looks = [_look(task) for task in tasks]
        seen = dict(zip(tasks, zip(looks, self._run.together(looks), strict=True), strict=True))
        return judge_each(tasks, lambda task: self._judge(task, *seen[task]), is_cancelled)

    def find_edit(self, source: NDArray[np.uint8], candidate: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Where a candidate was edited, without being told the mask (EPAIQA's grounding).

        Args:
            source: (H, W, 3) uint8.
            candidate: (H, W, 3) uint8, of the source's size.

        Returns:
            (H, W) float32 in [0, 1]: how surely each pixel was edited.
        """
        view = view_whole(source)
        window, whole = look_at(view, candidate)
        found = edited_region(self._run(Look(view, window, whole, mask_known=False)), view)
        size = (source.shape[1], source.shape[0])
        return np.asarray(cv2.resize(found, size, interpolation=cv2.INTER_LINEAR), np.float32)

    def features(
        self, prepared: PreparedEdit, preview: NDArray[np.uint8], share: float
    ) -> NDArray[np.float64]:
        """What the network makes of a preview, (H, W, 3) uint8, at a share of the steps; see `preview_features`."""
        window, whole = look_at(prepared.view, preview)
        return preview_features(self._run(Look(prepared.view, window, whole, share)))

    def read_prompt(self, edit: DecodedEdit, image: NDArray[np.uint8]) -> pb.Score:
        """Prompt alignment alone of a picture, (H, W, 3) uint8."""
        return self._alignment.read(edit, image).score

    def ascend(
        self, prepared: PreparedEdit, candidate: NDArray[np.uint8], levels: float, steps: int
    ) -> NDArray[np.uint8]:
        """A candidate whose inside is moved by at most `levels` of 255 towards a higher visual quality.

        For measuring how far the score can be flattered; nothing in the loop uses it.
        """
        return climb(self._run, prepared.view, candidate, levels, steps)

    def _judge_alone(self, task: CritiqueTask) -> pb.Critique:
        start = time.perf_counter()
        look = _look(task)
        critique = self._judge(task, look, self._run(look))
        critique.timings.critique_ms = 1000 * (time.perf_counter() - start)
        return critique

    def _judge(self, task: CritiqueTask, look: Look, output: EditOutput) -> pb.Critique:
        prepared: PreparedEdit = task.prepared
        progress = task.candidate.progress.fraction if task.candidate.progress is not None else None
        leak = find_leak(task.edit, task.candidate.image, prepared.outside)
        findings = read_findings(output, self._calibration, prepared.view, look.window, leak, task)
        if prepared.border is not None:
            measured = measure_border(prepared.border, task.candidate.image)
            findings = join_border(findings, measured, prepared.border, prepared.view, self._calibration)
        reading = self._alignment.read(task.edit, task.candidate.image, progress)
        mismatch = reading.finding()
        findings += [mismatch] if mismatch else []
        scores = judge(
            output, self._calibration, prepared.view, prepared.outside, findings, reading.score, progress
        )
        readers = self._readers_of(task)
        if readers is not None and progress is not None:
            scores = foresee(scores, readers, preview_features(output), progress, findings)
        return self._write(task, prepared, findings, scores, progress)

    def _readers_of(self, task: CritiqueTask) -> PreviewReaders | None:
        """What reads this preview; None for a finished candidate, an unknown engine, or too early a preview."""
        told = task.candidate.progress
        readers = self._readers.get(told.engine) if told is not None else None
        return readers if readers is not None and told is not None and readers.covers(told.fraction) else None

    def _write(
        self,
        task: CritiqueTask,
        prepared: PreparedEdit,
        findings: Sequence[Finding],
        scores: pb.Scores,
        progress: float | None,
    ) -> pb.Critique:
        told = [finding for finding in findings if reportable(finding, progress)]
        named = worst_first(told, task.options.max_defect_count)
        defects = [make_defect(finding, prepared.frame) for finding in named]
        critique = pb.Critique(
            candidate_id=task.candidate.candidate_id,
            critic=self._identity(),
            scores=scores,
            defects=defects,
            explanation=summarise(defects, ["all that this critic looks for"], self._notes(task)),
            measurements=[measured for finding in findings for measured in finding.evidence],
        )
        if task.options.heat_map:
            critique.heat_maps.extend(make_maps(named, prepared.frame, task.options))
        if task.candidate.progress is not None:
            critique.progress.CopyFrom(task.candidate.progress)
        return critique

    def _notes(self, task: CritiqueTask) -> list[str]:
        if self._readers_of(task) is None or task.candidate.progress is None:
            return []
        told = task.candidate.progress
        return [
            f"Forecast: the scores are those expected of the finished candidate, from a preview at"
            f" {100 * told.fraction:.0f} % of the steps of {told.engine}."
        ]

    def _identity(self) -> pb.CriticIdentity:
        return pb.CriticIdentity(
            name="network",
            version=VERSION,
            calibration=self._calibration.name,
            score_meaning=(
                "100 for an untouched photograph's own content, falling with the severity of faults that were put"
                " into photographs; fitted on photographs that the network did not learn from."
            ),
        )


def _look(task: CritiqueTask) -> Look:
    window, whole = look_at(task.prepared.view, task.candidate.image)
    progress = task.candidate.progress
    return Look(task.prepared.view, window, whole, 1.0 if progress is None else progress.fraction)
