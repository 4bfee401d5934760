"""One edit from the selection to a layer: what was read, what came back, what is shown. No widget; no waiting."""

from __future__ import annotations

import threading
import uuid
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .background import Background, Steps
from .candidates import Board, Candidate
from .canvas import Canvas, Snapshot
from .http_client import HttpClient
from .messages import (
    EditPictures,
    critique_body,
    picture_of,
    reason_of,
    refine_body,
    score_of,
    summary_of,
    with_files,
)
from .pictures import decode_grey, decode_picture, sent_mask, sent_picture
from .provenance import ANNOTATION, appended, record_of
from .rasters import change_mask, heat_layer, limited, rows_of, widened, with_alpha
from .regions import Region, fitted
from .settings import Settings

__all__ = ["PREVIEW_NAME", "Session"]

Json = Dict[str, Any]

PREVIEW_NAME = "editcritic preview"
_RIM_SHARE, _RIM_PX = 0.08, (4, 32)  # how far round a selection tools blend; farther out nothing may change


class Session:
    """An edit of one document.

    Attributes:
        board: the candidates. canvas: the document. shown_id: the candidate in the preview layer; empty without one.
        focus: where the selection lies in the crop. size: width and height of the crop in pixels of the canvas.
    """

    def __init__(self, canvas: Canvas, background: Background, settings: Settings, prompt: str) -> None:
        self.canvas, self.board, self.prompt = canvas, Board(), prompt
        self._background, self._settings = background, settings
        self.client = HttpClient(settings.address, settings.token)
        self.shown_id, self._ants_hidden = "", False
        self._preview: Any = None
        self.region, self.focus = Region(0, 0, 0, 0), Region(0, 0, 0, 0)
        self._before: Sequence[bytes] = ()
        self._selection: Sequence[bytes] = ()
        self._wider: Sequence[bytes] = ()
        self._edit = EditPictures(b"", b"", prompt, "")
        self._left = threading.Event()

    @property
    def size(self) -> Any:
        """Width and height of the crop."""
        return self.region.width, self.region.height

    # In threads of their own.

    def take(self, snapshot: Snapshot) -> None:
        """Make files of what was read. Raises: ValueError when the selection is too faint."""
        self.region = snapshot.region
        width, height = self.size
        self._before, self._selection = snapshot.picture, snapshot.selection
        if not any(part.translate(None, delete=bytes(range(128))) for part in self._selection):
            raise ValueError("The selection is fainter than one half everywhere. Select with less feather.")
        self.focus = _bounds(self._selection, width)
        source = sent_picture(self._before, width, height)
        mask = sent_mask(self._selection, width, height)
        rim = round(_RIM_SHARE * max(self.focus.width, self.focus.height))
        self._wider = widened(self._selection, width, min(max(rim, _RIM_PX[0]), _RIM_PX[1]))
        self._edit = EditPictures(source, mask, self.prompt, "krita-" + uuid.uuid4().hex[:12])

    def refine(self, on_event: Callable[[Json], Any]) -> None:
        """Have the edit carried out; every event goes to `on_event`. Raises: Unreachable, ServerError."""
        if self._left.is_set():
            return
        body = refine_body(self._edit, self._settings)
        for event in self.client.stream("RefineService", "Refine", body):
            if self._left.is_set():
                return
            on_event(with_files(event))

    def judge(self, after: List[bytes], name: str) -> Candidate:
        """Have what a layer shows judged against what lies below it. after: BGRA rows. Raises as `refine`."""
        width, height = self.size
        if after == self._before:
            raise ValueError(
                "The active layer changes nothing here. Choose the layer that has the inpainted part."
            )
        picture = sent_picture(after, width, height)
        critique = self._critique("layer", picture, after, heat_map=False)
        candidate = Candidate("layer", f"layer {name}", picture=picture, critique=critique, fraction=1.0)
        candidate.score, candidate.reason = score_of(critique), reason_of(critique)
        candidate.state = "abstained" if candidate.score is None else "scored"
        candidate.details = summary_of(critique)
        return candidate

    def heat(self, candidate: Candidate) -> Tuple[List[bytes], Region]:
        """Where a candidate's faults are: BGRA rows in slices, and the part of the canvas that they cover.

        Raises as `refine`, and ValueError without a map.
        """
        after = decode_picture(candidate.picture, *self.size)
        critique = self._critique(candidate.candidate_id, candidate.picture, after, heat_map=True)
        maps = critique.get("heatMaps", [])
        if not maps:
            raise ValueError("This critic draws no heat map.")
        region = self._on_canvas(maps[0]["region"])
        levels = decode_grey(picture_of(maps[0].get("image")), region.width, region.height)
        return [heat_layer(part, region.width) for part in levels], region

    def _on_canvas(self, box: Json) -> Region:
        """A box in pixels of what was sent, on the canvas."""
        across = self.region.width / fitted(*self.size)[0]
        down = self.region.height / fitted(*self.size)[1]
        left, top = round(int(box.get("x", 0)) * across), round(int(box.get("y", 0)) * down)
        width, height = round(int(box["width"]) * across), round(int(box["height"]) * down)
        return Region(self.region.x + left, self.region.y + top, max(1, width), max(1, height))

    def layer_pixels(self, candidate: Candidate) -> List[bytes]:
        """A candidate as BGRA of the crop in slices, clear where it neither differs from the picture nor was selected.

        What was scaled on its way differs everywhere; there the layer shows the selection and its rim.
        """
        width, height = self.size
        after = decode_picture(candidate.picture, width, height)
        alpha = self._changed(after) if fitted(width, height) == (width, height) else self._wider
        return [with_alpha(part, levels, width) for part, levels in zip(after, alpha)]

    def _changed(self, after: Sequence[bytes]) -> List[bytes]:
        slices = zip(self._before, after, self._selection)
        return [change_mask(*each, self.region.width) for each in slices]

    def _blended(self, after: Sequence[bytes]) -> List[bytes]:
        """Where a result was laid over the picture: the selection, and what changed in its rim, but not farther out."""
        return [limited(part, wider) for part, wider in zip(self._changed(after), self._wider)]

    def tell_verdict(self, candidate: Candidate, kind: str) -> None:
        """Tell the server what the person did, so that it can learn. Raises as `refine`."""
        told = {
            "verdictId": uuid.uuid4().hex,
            "editId": self.board.edit_id or self._edit.edit_id,
            "candidateId": candidate.candidate_id,
            "kind": "VERDICT_KIND_" + kind,
            "critique": candidate.critique,
        }
        HttpClient(self._settings.address, self._settings.token, 10.0).call(
            "CriticService", "RecordVerdict", told
        )

    def _critique(self, candidate_id: str, picture: bytes, after: Sequence[bytes], heat_map: bool) -> Json:
        blend = sent_mask(self._blended(after), *self.size)
        body = critique_body(self._edit, candidate_id, picture, blend, heat_map)
        answer: Json = self.client.call("CriticService", "Critique", body)["critique"]
        return answer

    def leave(self) -> None:
        """End what runs on the server. Safe from any thread."""
        self._left.set()
        self.client.close()

    # On Krita's thread, in steps.

    def show(self, candidate_id: str, pixels: Sequence[bytes]) -> Steps:
        """Put a candidate into the preview layer and have it seen."""
        yield from self.canvas.idle()
        if not self.canvas.holds(self._preview):
            previous = self.canvas.document.activeNode()
            self._preview = yield from self.canvas.new_layer(PREVIEW_NAME)
            if self.canvas.holds(previous):
                self.canvas.document.setActiveNode(previous)
                yield 0
        yield from self.canvas.write(self._preview, pixels, self.region)
        self.shown_id = candidate_id

    def compare(self, original: bool) -> Steps:
        """Show the picture as it was, or the candidate again; without marching ants from the first time on."""
        self._ants_hidden = self.canvas.show_selection_outline(False) or self._ants_hidden
        yield 0
        yield from self.canvas.set_visible(self._preview, not original)

    def end_preview(self) -> Steps:
        """Take the preview layer away and bring the marching ants back."""
        self._restore_ants()
        yield 0
        preview, self._preview, self.shown_id = self._preview, None, ""
        yield from self.canvas.set_visible(preview, False)  # so that an undo of the removal shows nothing
        yield from self.canvas.remove(preview)

    def apply(self, candidate_id: str) -> Steps:
        """Keep the preview layer under a name that tells, its outline as a mask; note in the document how it came."""
        candidate = self.board[candidate_id]
        layer = self._preview
        score = "unjudged" if candidate.score is None else f"{candidate.score:.0f}"
        name = f"{self.prompt or 'removed'} (editcritic {score})"
        yield from self.canvas.set_visible(layer, True)
        layer.setName(name)
        self._preview, self.shown_id = None, ""
        yield from self.canvas.mask_alpha(layer, "blend mask")
        self._restore_ants()
        self.board.mark_applied(candidate_id)
        record = record_of(self.board, candidate, self.prompt, self.region, name)
        kept = appended(self.canvas.records(ANNOTATION), record)
        self.canvas.keep_records(ANNOTATION, "What was inpainted and how it was judged (JSON)", kept)
        return name

    def add_heat(self, candidate: Candidate, pixels: Sequence[bytes], region: Region) -> Steps:
        """Put a heat map on top as a layer that the user may delete."""
        yield from self.canvas.idle()
        previous = self.canvas.document.activeNode()
        layer = yield from self.canvas.new_layer(f"heat map of {candidate.origin or candidate.candidate_id}")
        layer.setOpacity(160)
        if self.canvas.holds(previous):
            self.canvas.document.setActiveNode(previous)
            yield 0
        yield from self.canvas.write(layer, pixels, region)

    def _restore_ants(self) -> None:
        if self._ants_hidden:
            self._ants_hidden = False
            self.canvas.show_selection_outline(True)


def _bounds(levels: Sequence[bytes], width: int) -> Region:
    """Where a mask in slices is above 0."""
    rows = list(rows_of(levels, width))
    used = [place for place, row in enumerate(rows) if row.strip(b"\0")]
    left = min(width - len(rows[place].lstrip(b"\0")) for place in used)
    right = max(len(rows[place].rstrip(b"\0")) for place in used)
    first: Optional[int] = used[0]
    return Region(left, first or 0, right - left, used[-1] + 1 - used[0])
