"""An engine without a model: paints a seeded colour, instantly. It runs the whole stack in tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from editcritic.refine.capabilities import Capabilities
from editcritic.refine.engine import Candidate, Preview, advance_in_turn
from editcritic.refine.geometry import Frame, composite, plan_frame
from editcritic.refine.masks import edit_masks
from editcritic.refine.quality_options import QualityOptions
from editcritic.refine.solvers import step_places
from editcritic.refine.strength_map import check_strength_map
from editcritic.refine.suspended import State
from editcritic.v1.errors import InvalidInput

__all__ = ["DummyCandidate", "DummyEngine", "open_dummy"]

Pixels = NDArray[np.uint8]
Array = NDArray[np.float32]


class DummyCandidate:
    """Paints its seed's colour; a preview is that colour mixed with what noise is left."""

    def __init__(
        self, source: Pixels, masks: tuple[Array, Array], frame: Frame, seed: int, steps: int, large: int = 0
    ) -> None:
        self.seed, self.notes, self.frame = seed, (), frame
        self.denoise_mask, self.blend_mask = masks
        self._source, self._steps, self._done = source, steps, 0
        self._shown_by = large or steps
        self._state: State = "new"
        rng = np.random.default_rng(seed)
        self._colour = rng.uniform(0, 1, 3).astype(np.float32)
        self._noise = rng.uniform(0, 1, (frame.height, frame.width, 3)).astype(np.float32)

    @property
    def state(self) -> State:
        """What it is doing: new, waiting, done or dropped."""
        return self._state

    @property
    def fraction(self) -> float:
        """Share of the steps that are done."""
        return self._done / self._steps

    @property
    def evaluations(self) -> int:
        """Steps so far."""
        return self._done

    def advance(self, to_fraction: float) -> None:
        """Count steps up to that share."""
        if not 0 < to_fraction <= 1 or self._state == "dropped":
            raise InvalidInput(
                f"advance a {self._state} candidate to {to_fraction}: expected a share above 0, at most 1, not dropped"
            )
        self._done = max(self._done, int(np.ceil(to_fraction * self._steps - 1e-9)))
        self._state = self._state if self._state == "done" else "waiting"

    def preview(self, in_full: bool = False) -> Preview:
        """The colour, as far as it has come. Raises: InvalidInput before the first step."""
        if self._done == 0 or self._state == "dropped":
            raise InvalidInput(f"a candidate that is {self._state} has no preview: advance it first")
        del in_full
        frame = self.frame
        whole = self._painted(min(1.0, self._done / self._shown_by))
        return Preview(whole[frame.place].copy(), frame.region, self.fraction)

    def result(self) -> Pixels:
        """The finished edit, (H, W, 3) uint8."""
        self.advance(1.0)
        self._state = "done"
        return self._painted(1.0)

    def drop(self) -> None:
        """Give up; a finished candidate stays finished."""
        if self._state != "done":
            self._state = "dropped"

    def _painted(self, share: float) -> Pixels:
        picture = self._colour * share + self._noise * (1 - share)
        return composite(self._source, picture.astype(np.float32), self.blend_mask, self.frame)


class DummyEngine:
    """Answers any edit with a flat colour that its seed alone decides."""

    def __init__(self) -> None:
        self.capabilities = Capabilities(
            "dummy",
            "none",
            native=64,
            default_steps=10,
            guidance="none",
            default_guidance=0.0,
            strength_map=True,
            drafts=True,
        )

    def candidate(
        self,
        source: Pixels,
        mask: NDArray[Any],
        prompt: str,
        *,
        seed: int,
        steps: int | None = None,
        strength: float | None = None,
        guidance: float | None = None,
        negative_prompt: str = "",
        blend_mask: NDArray[Any] | None = None,
        quality: QualityOptions | None = None,
        large_steps: int = 0,
        strength_map: NDArray[np.floating[Any]] | None = None,
    ) -> DummyCandidate:
        """Prepare one answer; see `engine.Engine.candidate`. Strengths, guidance and prompts change nothing."""
        del prompt, guidance, negative_prompt
        marked, blend = edit_masks(source, mask, blend_mask)
        able = self.capabilities
        if strength_map is not None:
            check_strength_map(strength_map, marked.shape, able, strength)
        (quality or QualityOptions()).checked(able)
        frame = plan_frame(np.maximum(marked, blend), able.native, able.multiple, able.context)
        able.check_large_steps(large_steps, steps, strength, strength_map is not None)
        taken = steps or able.default_steps
        whole = len(step_places(taken, large_steps)) if large_steps else taken
        return DummyCandidate(source, (marked, blend), frame, seed, whole, large_steps)

    def advance(self, candidates: Sequence[Candidate], to_fraction: float) -> None:
        """Advance several; see `engine.Engine.advance`."""
        advance_in_turn(candidates, to_fraction)


def open_dummy(**_options: object) -> DummyEngine:
    """The dummy engine; it takes and ignores every option of `load_engine`."""
    return DummyEngine()
