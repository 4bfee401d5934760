"""The commands as people and scripts use them: what they print, what they write, how they end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.plugin.fake_server import FakeCritic, answering, die, serving_fake
from tests.protos.test_images import REFUSED

Run = Callable[..., "subprocess.CompletedProcess[str]"]
EDIT = ("--image", "photo.png", "--mask", "mask.png", "--critic", "dummy")
CANDIDATES = ("-c", "dark.png", "-c", "bright.png", "-c", "middle.png")


@pytest.fixture
def run(files: Path, address: str) -> Run:
    """``run("score", ...)``: the command in the folder of the files, against the session's server."""

    def start(*arguments: str, server: str = address) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "EDITCRITIC_SERVER": server, "COLUMNS": "100", "NO_COLOR": "1"}
        program = "from editcritic.plugin.cli import main; main()"
        return subprocess.run(
            [sys.executable, "-c", program, *arguments],
            cwd=files,
            env=environment,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    return start


def test_score_prints_numbers_abstentions_and_the_reason(run: Run) -> None:
    done = run("score", *EDIT, "-c", "bright.png")
    assert done.returncode == 0, done.stderr
    assert "94 ±1" in done.stdout
    assert "does not read prompts" in done.stdout
    assert "mean brightness of 94 %" in done.stdout


def test_score_starts_a_critic_by_its_full_name(run: Run) -> None:
    done = run("score", *EDIT[:4], "--critic", "ensemble@dummy:1", "-c", "bright.png", "--json", server="")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["critic"]["name"] == "ensemble"


def test_a_critic_that_cannot_be_loaded_is_told_with_its_reason(run: Run) -> None:
    done = run("score", *EDIT[:4], "--critic", "network@nowhere", "-c", "bright.png", server="")
    assert done.returncode == 2
    told = " ".join(done.stderr.split())
    assert "'network@nowhere' could not be loaded: nowhere/network.safetensors holds no weights" in told
    assert "log says why" not in told


def test_score_as_json_is_json_and_nothing_else(run: Run) -> None:
    done = run("score", *EDIT, "-c", "bright.png", "--json", "--out", "result")
    values = json.loads(done.stdout)
    assert values["scores"]["overall"]["value"] == pytest.approx(240 / 2.55, abs=0.1)
    assert values["scores"]["prompt_alignment"]["status"] == "SCORE_STATUS_ABSTAINED"
    assert "heat_maps" not in values


def test_score_writes_what_can_be_looked_at(run: Run, files: Path) -> None:
    run("score", *EDIT, "-c", "dark.png", "--out", "result")
    heat = np.asarray(Image.open(files / "result" / "dark-heat.png"))
    dark = np.asarray(Image.open(files / "dark.png"))
    assert heat.shape == dark.shape
    assert np.array_equal(heat[:16], dark[:16]), "nothing is painted where there is no fault"
    assert not np.array_equal(heat[24:40, 24:40], dark[24:40, 24:40])
    assert "mean brightness" in (files / "result" / "explanation.md").read_text()
    assert "<html" in (files / "result" / "report.html").read_text()


@pytest.mark.parametrize(("threshold", "code"), [("90", 0), ("95", 5)])
def test_a_threshold_decides_the_exit_code(run: Run, threshold: str, code: int) -> None:
    assert run("score", *EDIT, "-c", "bright.png", "--fail-under", threshold).returncode == code


def test_rank_orders_best_first(run: Run) -> None:
    done = run("rank", *EDIT, *CANDIDATES)
    assert done.returncode == 0, done.stderr
    places = [done.stdout.index(name) for name in ("bright", "middle", "dark")]
    assert places == sorted(places)


def test_rank_as_json(run: Run) -> None:
    ranking = json.loads(run("rank", *EDIT, *CANDIDATES, "--json").stdout)
    assert [(entry["place"], entry["candidate_id"]) for entry in ranking] == [
        (1, "bright"),
        (2, "middle"),
        (3, "dark"),
    ]


def test_rank_judges_the_others_when_one_is_broken(run: Run, files: Path) -> None:
    (files / "broken.png").write_bytes(b"no picture")
    done = run("rank", *EDIT, "-c", "broken.png", "-c", "gone.png", *CANDIDATES, "--out", "result")
    assert done.returncode == 4
    assert "bright" in done.stdout
    assert "broken.png: " in done.stdout
    assert "gone.png" in done.stdout
    assert "2 of 5 candidates could not be judged" in done.stderr
    assert (files / "result" / "report.html").exists()


def test_what_was_judged_before_the_server_went_away_is_kept(run: Run, files: Path) -> None:
    fake = FakeCritic(answering(2, then=die), lambda requests, context: die(context) or iter(()))
    with serving_fake(fake) as address:
        done = run("rank", *EDIT, *CANDIDATES, "--json", server=address)
    assert done.returncode == 4
    ranking = json.loads(done.stdout)
    assert sum("critique" in entry for entry in ranking) == 2
    assert "error" in ranking[-1]


def test_files_of_one_name_are_told_apart(run: Run, files: Path) -> None:
    (files / "other").mkdir()
    (files / "other" / "bright.png").write_bytes((files / "dark.png").read_bytes())
    done = run("rank", *EDIT, "-c", "bright.png", "-c", "other/bright.png", "--json")
    assert [entry["candidate_id"] for entry in json.loads(done.stdout)] == ["bright", "bright-2"]


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("file", ["photo.png", "mask.png", "bright.png"])
def test_a_bad_file_is_named_in_one_line(run: Run, files: Path, case: str, file: str) -> None:
    (files / file).write_bytes(REFUSED[case][0])
    done = run("score", *EDIT, "-c", "bright.png")
    assert done.returncode == 2
    assert file in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a mask of another shape": (
        lambda folder: Image.new("L", (64, 20), 255).save(folder / "mask.png"),
        "mask.png",
    ),
    "an empty mask": (lambda folder: Image.new("L", (64, 64), 0).save(folder / "mask.png"), "empty"),
    "a missing photograph": (lambda folder: (folder / "photo.png").unlink(), "No such file"),
    "a folder for a photograph": (
        lambda folder: ((folder / "photo.png").unlink(), (folder / "photo.png").mkdir()),
        "photo.png",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_says_what_is_wrong(run: Run, files: Path, case: str) -> None:
    spoil, says = BAD[case]
    spoil(files)
    done = run("score", *EDIT, "-c", "bright.png")
    assert done.returncode == 2
    assert says in done.stderr.replace("\n", " ")


def test_a_prompt_that_is_too_long_is_told(run: Run) -> None:
    done = run("score", *EDIT, "-c", "bright.png", "--prompt", "x" * 10_000)
    assert done.returncode == 2
    assert "10,000 characters" in done.stderr


def test_an_unknown_critic_lists_those_there_are(run: Run) -> None:
    done = run("score", *EDIT[:4], "--critic", "mars", "-c", "bright.png")
    assert done.returncode == 2
    assert "dummy, evidence" in done.stderr


def test_a_server_that_is_down_is_told(run: Run) -> None:
    done = run("score", *EDIT, "-c", "bright.png", server="127.0.0.1:1")
    assert done.returncode == 3
    assert "editcritic serve" in done.stderr.replace("\n", " ")


def test_a_server_starts_by_itself_when_none_is_named(run: Run) -> None:
    done = run("score", *EDIT, "-c", "bright.png", "--json", server="")
    assert json.loads(done.stdout)["critic"]["name"] == "dummy"


def test_an_unwritable_folder_is_told_after_the_scores(run: Run, files: Path) -> None:
    (files / "result").write_text("a file, not a folder")
    done = run("score", *EDIT, "-c", "bright.png", "--out", "result")
    assert done.returncode == 2
    assert "94 ±1" in done.stdout
    assert "result" in done.stderr


def test_a_verdict_is_kept(run: Run) -> None:
    done = run("verdict", "rejected", "--edit", "e1", "--candidate", "c1", "--rating", "20")
    assert (done.returncode, done.stdout.strip()) == (0, "kept")


def test_usage_is_told_with_the_code_of_bad_input(run: Run) -> None:
    assert run("score").returncode == 2
    assert run("nonsense").returncode == 2


def test_serve_refuses_to_be_unsafe(run: Run) -> None:
    done = run("serve", "--host", "0.0.0.0")
    assert done.returncode == 1
    assert "clear text" in done.stderr


def test_of_ready_made_answers_the_good_one_is_ranked_first_and_the_others_are_explained(
    run: Run, files: Path
) -> None:
    done = run("demo", "--answers", "--out", "demo", server="")
    assert done.returncode == 0, done.stderr
    ranking = json.loads((files / "demo" / "critiques.json").read_text())
    assert ranking[0]["candidate_id"] == "good"
    found: dict[str, set[Any]] = {
        entry["candidate_id"]: {defect["kind"] for defect in entry["critique"].get("defects", [])}
        for entry in ranking
    }
    assert found["good"] == set()
    assert "DEFECT_KIND_TONE_SHIFT" in found["seamed"]
    assert "DEFECT_KIND_SHARPNESS_MISMATCH" in found["blurred"]
    assert "DEFECT_KIND_FLAT_FILL" in found["empty"]
    assert (files / "demo" / "report.html").exists()


def test_the_demo_carries_out_an_edit(run: Run, files: Path) -> None:
    done = run("demo", "--out", "demo", server="")
    assert done.returncode == 0, done.stderr
    source, edit, mask = (
        np.asarray(Image.open(files / "demo" / f"{name}.png")) for name in ("source", "edit", "mask")
    )
    assert np.abs(edit[mask > 127].astype(int) - source[mask > 127]).mean() > 10
    assert np.array_equal(edit[:200, :300], source[:200, :300])
    assert "denoising steps" in done.stdout
    assert "As it formed" in (files / "demo" / "report.html").read_text()


def test_eval_measures_a_folder(run: Run, files: Path) -> None:
    done = run("eval", "--images", ".", "--limit", "2", "--workers", "1", "--critic", "dummy", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["photographs"] == 2
    assert report["clean_flagged"]["value"] == 0.0
    assert {kind["name"] for kind in report["kinds"]} >= {"seam", "blur", "leftover"}


def test_eval_of_an_empty_folder_is_told(run: Run, files: Path) -> None:
    (files / "empty").mkdir()
    done = run("eval", "--images", "empty")
    assert done.returncode == 2
    assert "no photographs" in done.stderr


def test_bench_says_how_the_figures_came_about(run: Run) -> None:
    done = run("bench", "critic", "--repeats", "2", "--critic", "dummy", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["machine"]["cores"] == os.cpu_count()
    grpc = result["grpc"]
    assert grpc["call_ratio"] == pytest.approx(
        grpc["call_ms"]["median"] / grpc["call_in_process_ms"]["median"]
    )
    assert result["in_process"]["critique_batch_16_ms_each"]["count"] == 2
