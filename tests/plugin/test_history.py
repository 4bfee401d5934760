"""The journal: two edits side by side, and all of them as a data set that training reads."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editcritic.plugin.history_compare import KeptEdit, score_rows, write_comparison
from editcritic.plugin.history_export import export_history
from editcritic.refine.engine import load_engine
from editcritic.refine.journal import Journal
from editcritic.refine.loop import Refinement
from editcritic.refine.race import RaceOptions
from editcritic.server.training.instruction.opinions import opinion_lessons
from editcritic.server.training.suites.opinion import LAYOUTS, read_opinions
from editcritic.server.verdicts import VerdictStore
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.images import decode_image, decode_mask
from tests.plugin.test_commands import Run, run  # noqa: F401
from tests.plugin.test_editing import EDIT, KEPT
from tests.refine.critics import PlainCritic
from tests.refine.test_loop import defect, request_for

# ruff: noqa: F811
NAMES = ("first", "../second", "third")


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Journal:
    """Three edits of two candidates and two repairs each (one costs steps); one has a name that is no file name."""
    kept = Journal(tmp_path_factory.mktemp("kept") / "journal.sqlite3")
    critic = PlainCritic(defects=[defect(pb.ACTION_KIND_RECOLOUR)])
    for seed, name in enumerate(NAMES):
        request = request_for(name, seed=10 * seed, count=2, repair_round_count=1)
        list(Refinement(load_engine("dummy"), critic, request, kept).run())
    return kept


def said(edit: str, candidate: str, kind: pb.VerdictKind.ValueType, **fields: Any) -> pb.RecordVerdictRequest:
    return pb.RecordVerdictRequest(
        verdict_id=f"{edit}{candidate}{kind}", edit_id=edit, candidate_id=candidate, kind=kind, **fields
    )


VERDICTS = [
    said("first", "seed-0", pb.VERDICT_KIND_ACCEPTED, comment="good"),
    said("first", "seed-1", pb.VERDICT_KIND_REJECTED),
    said("../second", "seed-10", pb.VERDICT_KIND_ACCEPTED, rating=70.0),
    said("third", "seed-21", pb.VERDICT_KIND_PREFERRED, other_candidate_ids=["seed-20", "gone"]),
    said("third", "seed-20", pb.VERDICT_KIND_REJECTED, rating=30.0),
    said("elsewhere", "seed-0", pb.VERDICT_KIND_ACCEPTED),
]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "candidates.jsonl").read_text().splitlines()]


def test_every_candidate_has_a_line_and_its_picture(journal: Journal, tmp_path: Path) -> None:
    done = export_history(journal, tmp_path, VERDICTS)
    lines = lines_of(tmp_path)
    assert (done.edits, done.candidates) == (3, len(lines)) == (3, 12)
    assert {line["edit_id"] for line in lines} == set(NAMES)
    request = journal.request("first")
    for line in (line for line in lines if line["edit_id"] == "first"):
        finished = next(
            event.candidate_finished
            for event in journal.events("first")
            if event.candidate_finished.candidate_id == line["candidate_id"]
        )
        made = np.asarray(Image.open(tmp_path / line["image"]))
        np.testing.assert_array_equal(made, decode_image(finished.image))
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / line["source"])), decode_image(request.edit.source)
        )
        mask = np.asarray(Image.open(tmp_path / line["mask"])) / 255
        np.testing.assert_allclose(mask, decode_mask(request.edit.denoise_mask), atol=0.5 / 255)


def test_a_line_tells_scores_previews_decisions_and_verdicts(journal: Journal, tmp_path: Path) -> None:
    export_history(journal, tmp_path, VERDICTS)
    lines = {(line["edit_id"], line["candidate_id"]): line for line in lines_of(tmp_path)}
    plain, repair = lines["first", "seed-0"], lines["first", "repair-1"]
    judged = [event.critique for event in journal.events("first") if event.critique.candidate_id == "seed-0"]
    assert plain["scores"]["overall"]["value"] == judged[-1].scores.overall.value
    assert [
        (each["fraction"], each["scores"]["overall"]["value"]) for each in plain["previews"]
    ] == [(each.progress.fraction, each.scores.overall.value) for each in judged[:-1]]  # fmt: skip
    assert [each["fraction"] for each in plain["previews"]] == list(RaceOptions().rungs)
    assert plain["verdicts"] == [{"kind": "accepted", "rating": None, "comment": "good"}]
    assert (plain["is_plain"], plain["seed"], plain["steps"], plain["parent"]) == (True, 0, 10, None)
    assert repair["action"] == "recolour"
    assert repair["parent"] in ("seed-0", "seed-1")
    assert repair["defects"][0] == {
        "kind": "unspecified",
        "severity": pytest.approx(0.6),
        "box": [20, 16, 4, 4],
    }
    kinds = [
        each["kind"] for line in lines.values() if line["edit_id"] == "first" for each in line["decisions"]
    ]
    assert sorted(kinds) == sorted(
        refine_pb2.DecisionKind.Name(event.decision.kind).removeprefix("DECISION_KIND_").lower()
        for event in journal.events("first")
        if event.HasField("decision")
    )


def test_what_people_said_is_read_by_training_and_by_the_comparison_with_people(
    journal: Journal, tmp_path: Path
) -> None:
    done = export_history(journal, tmp_path, VERDICTS)
    rows = read_opinions(tmp_path / "opinions.csv", tmp_path, LAYOUTS["epaiqa"])
    assert sorted(row.opinion for row in rows) == [0.0, 30.0, 70.0, 100.0, 100.0]
    assert done.opinions == 5
    lessons = [lesson() for lesson in opinion_lessons(rows, "scoring")]
    best, worst = (rows.index(pick(rows, key=lambda row: row.opinion)) for pick in (max, min))
    assert (lessons[best].answer, lessons[worst].answer) == ("excellent", "bad")
    box = json.loads(opinion_lessons(rows, "grounding")[0]().answer)["box"]
    assert box == [round(1000 * edge) for edge in (20 / 64, 16 / 48, 40 / 64, 32 / 48)]


def test_a_preference_is_a_pair(journal: Journal, tmp_path: Path) -> None:
    done = export_history(journal, tmp_path, VERDICTS)
    rows = read_opinions(tmp_path / "pairs.csv", tmp_path, LAYOUTS["edit-pairs"])
    assert done.pairs == 1
    assert [(row.image.name, row.opinion) for row in rows] == [("seed-21.png", 1.0), ("seed-20.png", 0.0)]
    assert rows[0].pair == rows[1].pair


def test_without_verdicts_there_are_no_opinions_and_a_critics_scores_are_none(
    journal: Journal, tmp_path: Path
) -> None:
    done = export_history(journal, tmp_path, ())
    assert (done.opinions, done.pairs) == (0, 0)
    with (tmp_path / "opinions.csv").open() as table:
        assert list(csv.DictReader(table)) == []


def test_no_name_leads_out_of_the_folder_and_a_second_export_is_the_same(
    journal: Journal, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    export_history(journal, folder, VERDICTS)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert [each.name for each in tmp_path.iterdir()] == ["out"]
    export_history(journal, folder, VERDICTS)
    assert {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()} == before


def test_a_run_that_has_not_ended_is_exported_as_far_as_it_came(tmp_path: Path) -> None:
    kept = Journal(tmp_path / "journal.sqlite3")
    running = Refinement(load_engine("dummy"), PlainCritic(), request_for("cut"), kept).run()
    for _ in range(4):
        next(running)
    running.close()  # type: ignore[attr-defined]
    kept.begin("never begun", request_for("never begun"))
    assert export_history(kept, tmp_path / "out", ()).edits == 2
    (line,) = lines_of(tmp_path / "out")
    assert (line["candidate_id"], line["image"], line["scores"]) == ("seed-5", None, {})


def test_verdicts_are_read_back_as_they_were_kept(tmp_path: Path) -> None:
    store = VerdictStore(tmp_path / "verdicts.sqlite3")
    for verdict in VERDICTS:
        store.record(verdict)
    found = list(store.verdicts())
    assert [each.verdict_id for each in found] == [each.verdict_id for each in VERDICTS]
    assert found[3].other_candidate_ids == ["seed-20", "gone"]
    assert not found[0].HasField("rating")
    assert found[2].rating == 70


def kept_edit(journal: Journal, name: str) -> KeptEdit:
    return KeptEdit(journal.request(name), journal.events(name))


def test_scores_of_two_edits_are_compared_where_both_have_them(journal: Journal) -> None:
    first, second = (kept_edit(journal, name) for name in NAMES[:2])
    rows = {label: change for label, _, _, change in score_rows(first, second)}
    difference = second.result.critique.scores.overall.value - first.result.critique.scores.overall.value
    assert rows["overall"] == f"{difference:+.1f}"
    assert rows["harmony"] == ""


def test_numbers_of_two_critics_are_not_subtracted(journal: Journal) -> None:
    first, second = (kept_edit(journal, name) for name in NAMES[:2])
    second.result.critique.critic.version = "2"
    assert {change for _, _, _, change in score_rows(first, second)} == {""}


def test_the_page_of_two_edits_has_both_and_escapes_what_came_from_outside(tmp_path: Path) -> None:
    kept = Journal(tmp_path / "journal.sqlite3")
    for name, prompt in (("a", "<script>alert(1)</script>"), ("b", "a ball")):
        request = request_for(name, count=1, repair_round_count=0)
        request.edit.prompt = prompt
        list(Refinement(load_engine("dummy"), PlainCritic(), request, kept).run())
    text = write_comparison(tmp_path / "two.html", kept_edit(kept, "a"), kept_edit(kept, "b")).read_text()
    assert "a/seed-5" in text
    assert "b/seed-5" in text
    assert "<script>alert" not in text
    assert text.count("alert(1)") == 1


def test_the_command_compares_and_exports(run: Run, files: Path) -> None:
    for name, seed in (("one", "4"), ("two", "6")):
        run(
            "edit",
            *EDIT,
            *KEPT,
            "-n",
            "1",
            "--rounds",
            "0",
            "--seed",
            seed,
            "--id",
            name,
            "--prompt",
            f"a {name}",
        )
    done = run("history", "--compare", "one", "two", *KEPT, "--report", "two.html")
    assert done.returncode == 0, done.stderr
    for part in ("a one", "a two", "overall", "seed-4", "seed-6", "select"):
        assert part in done.stdout
    assert "one/seed-4" in (files / "two.html").read_text()
    told = json.loads(run("history", "--compare", "one", "two", *KEPT, "--json").stdout)
    assert told["facts"]["prompt"] == ["a one", "a two"]

    exported = json.loads(run("history", "--export", "set", *KEPT, "--json").stdout)
    assert (exported["edits"], exported["candidates"]) == (2, 2)
    assert len(lines_of(files / "set")) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--compare", "one", "gone"), "no edit 'one'"),
        (("one", "--export", "set"), "give one of them"),
        (("--export", "set", "--verdicts", "gone.sqlite3"), "no file of verdicts"),
        (("--export", "set", "--verdicts", "photo.png"), "no file of verdicts"),
    ],
)
def test_what_cannot_be_shown_is_told_in_one_line(
    run: Run, files: Path, arguments: tuple[str, ...], says: str
) -> None:
    assert (files / "photo.png").exists()
    done = run("history", *arguments, *KEPT)
    assert done.returncode == 2
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
