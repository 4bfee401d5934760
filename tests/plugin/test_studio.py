"""The studio's files as the server hands them out, and what its page makes of a run's events (needs Node.js)."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import json_format

from editcritic.plugin.studio import studio_pages
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2

STATIC = Path(__file__).parents[2] / "plugin" / "studio" / "static"
NODE = shutil.which("node")
in_node = pytest.mark.skipif(NODE is None, reason="there is no node here")


def run_js(script: str) -> Any:
    """What a module prints as JSON; `here` stands for the studio's folder."""
    code = script.replace("here/", f"{STATIC.as_uri()}/")
    done = subprocess.run(
        [NODE or "", "--input-type=module", "-"], input=code, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# What is handed out.


def test_every_file_that_the_page_names_is_handed_out() -> None:
    named = rb'(?:from|src=|href=|fetch\()\s*"(?:\./)?([a-z.]+\.(?:js|css|json|png))"'
    pages = studio_pages()
    for path, page in pages.items():
        for name in re.findall(named, page.content):
            assert f"/{name.decode()}" in pages, f"{path} names {name.decode()}"
    assert pages["/"].content.startswith(b"<!doctype html>")


def test_the_page_loads_nothing_from_elsewhere_and_may_not_be_framed() -> None:
    for path, page in studio_pages().items():
        policy = dict(page.headers)["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "frame-ancestors 'none'" in policy
        if path.endswith((".js", ".css")) or path == "/":
            assert b"https://" not in page.content
            assert b" onclick=" not in page.content


def test_the_example_fits_its_photograph() -> None:
    told = json.loads(studio_pages()["/config.json"].content)["example"]
    assert 0 < told["x"] < 600
    assert 0 < told["y"] < 400
    assert told["prompt"]


# What the page makes of it.


def event(**what: Any) -> dict[str, Any]:
    found: dict[str, Any] = json_format.MessageToDict(refine_pb2.RefineResponse(**what))
    return found


def critique(name: str, value: float | None, explanation: str = "") -> pb.Critique:
    overall = pb.Score(status=pb.SCORE_STATUS_ABSTAINED, abstention_detail="too dark to tell")
    if value is not None:
        overall = pb.Score(status=pb.SCORE_STATUS_SCORED, value=value, stddev=2.0)
    return pb.Critique(candidate_id=name, scores=pb.Scores(overall=overall), explanation=explanation)


def started(name: str) -> dict[str, Any]:
    return event(candidate_started=refine_pb2.CandidateStarted(candidate_id=name, seed=7))


def finished(name: str) -> dict[str, Any]:
    return event(candidate_finished=refine_pb2.CandidateFinished(candidate_id=name))


@pytest.fixture
def told() -> list[dict[str, Any]]:
    """A run in which one is dropped, one abstained from, one fails, and the third is best."""
    drop = refine_pb2.Decision(
        kind=refine_pb2.DECISION_KIND_DROP, candidate_id="c", reason="2 % likely to be best", probability=0.02
    )
    failed = pb.CandidateError(candidate_id="e")
    failed.status.message = "out of memory"
    half = pb.DenoisingProgress(fraction=0.5)
    return [
        *(started(name) for name in "abcde"),
        event(preview=refine_pb2.PreviewTaken(candidate_id="c", progress=half)),
        event(decision=drop),
        event(candidate_error=failed),
        *(finished(name) for name in "abd"),
        event(critique=critique("a", 40, "a seam")),
        event(critique=critique("b", 71, "clean")),
        event(critique=critique("d", None)),
        event(result=refine_pb2.RefineResult(candidate_id="b", saved_evaluation_count=12)),
    ]


SHOWN = """
import { newRun, ranked, scoreOf, stateText, take, why } from "here/run.js";
const run = newRun();
for (const event of EVENTS) take(run, event);
for (const id of REJECTED) run.candidates.get(id).isRejected = true;
const told = (one) => [one.id, stateText(one), scoreOf(one.critique)?.value ?? null, why(one)];
console.log(JSON.stringify({ saved: run.saved, shown: ranked(run).map(told) }));
"""


def shown(events: list[dict[str, Any]], rejected: tuple[str, ...] = ()) -> Any:
    return run_js(SHOWN.replace("EVENTS", json.dumps(events)).replace("REJECTED", json.dumps(rejected)))


@in_node
def test_candidates_stand_best_first_and_say_what_became_of_them(told: list[dict[str, Any]]) -> None:
    # The result's own critique is what a real run sends; here it is left out, so the candidate's stands.
    found = shown(told[:-1])["shown"]
    assert found == [
        ["b", "judged", 71, "clean"],
        ["a", "judged", 40, "a seam"],
        ["d", "not scored", None, "too dark to tell"],
        ["c", "dropped at 50 %", None, "2 % likely to be best"],
        ["e", "failed", None, "out of memory"],
    ]


@in_node
def test_the_result_is_marked_and_what_it_saved_is_told(told: list[dict[str, Any]]) -> None:
    result = refine_pb2.RefineResult(candidate_id="a", saved_evaluation_count=12, critique=critique("a", 80))
    result.image.encoded.data = b"picture"
    found = shown([*told[:-1], event(result=result)])
    assert found["saved"] == 12
    assert found["shown"][0][:3] == ["a", "best", 80]


@in_node
def test_a_dropped_candidate_that_is_taken_up_again_is_judged_like_the_others(
    told: list[dict[str, Any]],
) -> None:
    recall = refine_pb2.Decision(kind=refine_pb2.DECISION_KIND_RECALL, candidate_id="c")
    events = [*told[:-1], event(decision=recall), finished("c"), event(critique=critique("c", 90, "clean"))]
    assert shown(events)["shown"][0] == ["c", "judged", 90, "clean"]


@in_node
def test_a_rejected_candidate_is_kept_at_the_end(told: list[dict[str, Any]]) -> None:
    found = shown(told[:-1], ("b",))["shown"]
    assert found[3][:2] == ["b", "rejected"]
    assert len(found) == 5


AROUND = """
import { around } from "here/picture.js";
console.log(JSON.stringify(CASES.map(([box, width, height]) => around(box, width, height))));
"""


@in_node
def test_what_is_sent_holds_the_mask_lies_in_the_picture_and_stays_small() -> None:
    boxes = [
        ({"x": 10, "y": 12, "width": 60, "height": 40}, 5472, 3648),
        ({"x": 5400, "y": 3600, "width": 72, "height": 48}, 5472, 3648),
        ({"x": 1000, "y": 900, "width": 2000, "height": 1500}, 5472, 3648),
        ({"x": 0, "y": 0, "width": 200, "height": 100}, 200, 100),
    ]
    for (box, width, height), place in zip(
        boxes, run_js(AROUND.replace("CASES", json.dumps(boxes))), strict=True
    ):
        assert place["x"] >= 0
        assert place["y"] >= 0
        assert place["x"] + place["width"] <= width
        assert place["y"] + place["height"] <= height
        assert place["x"] <= box["x"]
        assert place["y"] <= box["y"]
        assert place["x"] + place["width"] >= box["x"] + box["width"]
        assert place["y"] + place["height"] >= box["y"] + box["height"]
    small = run_js(AROUND.replace("CASES", json.dumps(boxes[:1])))[0]
    assert small["width"] == 320
