"""What the shipped critic reads in pictures of the embedded engine, over a photograph that nothing learned from."""

from __future__ import annotations

from editcritic.plugin.demo import DEMO_PROMPT, demo_edit
from editcritic.refine.engine import load_engine
from editcritic.server.critics.alignment import load_head
from editcritic.server.critics.base import DecodedEdit
from editcritic.server.critics.network.critic import WEIGHTS


def test_a_painted_highlight_is_read_as_shiny_and_its_absence_as_matte() -> None:
    photo, mask = demo_edit()
    engine, head = load_engine("tabletop"), load_head(WEIGHTS / "alignment.safetensors")
    # Seen by eye: seed 11 has a white highlight; asked for a matte ball it has none.
    candidates = [
        engine.candidate(photo, mask, prompt, seed=11) for prompt in (DEMO_PROMPT, "a matte blue ball")
    ]
    engine.advance(candidates, 1.0)
    shiny, matte = (each.result() for each in candidates)
    assert head.likelihoods(shiny, mask)["finish"]["shiny"] > 0.7
    assert head.likelihoods(matte, mask)["finish"]["matte"] > 0.6
    edit = DecodedEdit("demo", photo, mask, prompt=DEMO_PROMPT)
    assert head.read(edit, shiny).score.value > 80
    assert head.read(edit, shiny).score.value > head.read(edit, matte).score.value
