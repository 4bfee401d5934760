"""The report and the overlay: self-contained, safe with hostile text, honest about what was not judged."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.plugin.overlay import heat_of, overlay_heat_map
from editcritic.plugin.report import write_report
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ImageError
from editcritic.v1.images import encode_image

HOSTILE = "\"><script>alert('x')</script><img src=http://evil.example/x.png>"
Fill = Callable[[int], NDArray[np.uint8]]


def scored(value: float) -> pb.Score:
    return pb.Score(value=value, stddev=2.0, status=pb.SCORE_STATUS_SCORED)


def abstained(detail: str) -> pb.Score:
    reason = pb.ABSTENTION_REASON_NOT_JUDGED
    return pb.Score(status=pb.SCORE_STATUS_ABSTAINED, abstention_reason=reason, abstention_detail=detail)


@pytest.fixture
def critique() -> pb.Critique:
    heat = np.full((8, 8), 255, np.uint8)
    return pb.Critique(
        critic=pb.CriticIdentity(name="evidence", version="1", score_meaning="a meaning"),
        scores=pb.Scores(
            overall=scored(31), harmony=scored(20), prompt_alignment=abstained(f"cannot read {HOSTILE}")
        ),
        defects=[
            pb.Defect(
                kind=pb.DEFECT_KIND_SEAM,
                severity=0.7,
                box=pb.Box(x=20, y=20, width=24, height=4),
                explanation=f"seam on the top edge {HOSTILE}",
                evidence=[
                    pb.Measurement(
                        name="luma_step", value=11, unit="levels", reference=3, spread=1, z_score=8
                    )
                ],
                actions=[pb.SuggestedAction(kind=pb.ACTION_KIND_BLEND, grow_px=8)],
            )
        ],
        heat_maps=[pb.HeatMap(region=pb.Box(x=20, y=20, width=24, height=24), image=encode_image(heat))],
        explanation="a seam",
    )


@pytest.fixture
def page(tmp_path: Path, edit: pb.Edit, critique: pb.Critique, filled: Fill) -> str:
    edit.prompt = HOSTILE
    candidate = pb.Candidate(candidate_id="one", image=encode_image(filled(90)), seed=4711)
    failure = ImageError("the picture breaks off", reason=pb.ERROR_REASON_IMAGE_UNDECODABLE).to_status()
    ranking = [
        pb.RankedCandidate(candidate_id="one", place=1, critique=critique),
        pb.RankedCandidate(candidate_id="two", error=failure),
    ]
    path = write_report(tmp_path / "r.html", edit=edit, candidates={"one": candidate}, ranking=ranking)
    return path.read_text(encoding="utf-8")


class Reader(HTMLParser):
    """Collects elements, addresses and text as a browser would see them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.handlers: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_loads_nothing(page: str) -> None:
    assert all(address.startswith("data:image/") for address in Reader(page).addresses)
    assert not re.search(r"url\(|@import", page)
    assert "default-src 'none'" in page


def test_hostile_text_is_shown_and_not_run(page: str) -> None:
    seen = Reader(page)
    assert seen.tags.count("script") == 1, "the page's own"
    assert seen.handlers == []
    assert seen.text.count("alert('x')") == 3, "prompt, abstention and explanation are shown as they are"


def test_what_was_not_judged_has_no_number(page: str) -> None:
    assert "no score: cannot read" in Reader(page).text
    assert "the picture breaks off" in Reader(page).text


def test_the_figures_stand_beside_their_reference(page: str) -> None:
    text = Reader(page).text
    for told in ("luma step", "11 levels", "3 ± 1", "+8.0", "blend by 8 px", "seed 4711", "a meaning"):
        assert told in text


def test_the_same_critique_makes_the_same_page(
    tmp_path: Path, edit: pb.Edit, critique: pb.Critique, filled: Fill
) -> None:
    candidates = {"one": pb.Candidate(candidate_id="one", image=encode_image(filled(90)))}
    ranking = [pb.RankedCandidate(candidate_id="one", place=1, critique=critique)]
    pages = [
        write_report(tmp_path / name, edit=edit, candidates=candidates, ranking=ranking).read_bytes()
        for name in ("a.html", "b.html")
    ]
    assert pages[0] == pages[1]


def test_an_overlay_paints_the_heat_and_leaves_the_rest(
    source: NDArray[np.uint8], critique: pb.Critique
) -> None:
    painted = overlay_heat_map(source, critique.heat_maps[0])
    outside = np.ones(source.shape[:2], bool)
    outside[20:44, 20:44] = False
    assert np.array_equal(painted[outside], source[outside])
    red, green, blue = painted[~outside].reshape(-1, 3).mean(axis=0)
    assert red > 2 * max(green, blue) - 40


def test_a_map_of_few_pixels_is_stretched_over_its_region() -> None:
    levels = np.array([[0, 255]], np.uint8)
    heat = heat_of(
        pb.HeatMap(region=pb.Box(x=4, y=4, width=20, height=10), image=encode_image(levels)), (32, 32)
    )
    assert heat[8, 5] < 0.1
    assert heat[8, 22] > 0.9
    assert heat[:4].max() == 0


def test_the_masks_outline_is_drawn_once_light_and_once_dark(
    source: NDArray[np.uint8], mask: NDArray[np.float32]
) -> None:
    painted = overlay_heat_map(source, None, mask)
    assert (painted[19, 20:44] == 255).all()
    assert (painted[20, 20:44] == 0).all()
    assert np.array_equal(painted[24:40, 24:40], source[24:40, 24:40])
