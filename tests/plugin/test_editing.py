"""Edits carried out from the command line, over gRPC, and through the drop-in."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest
from PIL import Image

from editcritic.plugin.edit_report import write_edit_report
from editcritic.plugin.editing import make_refine_request
from editcritic.plugin.judging import EmbeddedCritic
from editcritic.plugin.refine_service import RefineService
from editcritic.refine.engine import load_engine
from editcritic.refine.journal import Journal
from editcritic.refine.loop import Refinement
from editcritic.refine.request import completed_request
from editcritic.server.app import CriticServer
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2, refine_pb2_grpc
from editcritic.v1.images import decode_image
from tests.plugin.test_commands import Run, run  # noqa: F401
from tests.refine.critics import PlainCritic

# ruff: noqa: F811
EDIT = ("--image", "photo.png", "--mask", "mask.png", "--engine", "dummy", "--critic", "dummy")
KEPT = ("--journal", "journal.sqlite3")


def test_an_edit_writes_the_picture_the_report_and_the_journal(run: Run, files: Path) -> None:
    done = run("edit", *EDIT, *KEPT, "-n", "3", "--seed", "4", "--id", "first", "--out", "made.png")
    assert done.returncode == 0, done.stderr
    assert "select seed-" in done.stdout
    assert "made.png" in done.stdout
    photo, mask = (np.asarray(Image.open(files / name)) for name in ("photo.png", "mask.png"))
    made = np.asarray(Image.open(files / "made.png"))
    assert np.array_equal(made[:8], photo[:8])
    assert not np.array_equal(made[mask > 127], photo[mask > 127])
    assert "before / after" in (files / "made.html").read_text()
    listed = json.loads(run("history", *KEPT, "--json").stdout)
    assert [edit["edit_id"] for edit in listed] == ["first"]


@pytest.mark.parametrize("command", ["edit", "generate"])
def test_an_engine_that_cannot_be_told_a_quality_refuses_and_nothing_is_written(
    run: Run, files: Path, command: str
) -> None:
    rest = ("--out", "told") if command == "generate" else (*EDIT[6:], *KEPT, "--out", "told.png")
    refused = run(command, *EDIT[:6], "--engine-quality", "90", *rest)
    assert refused.returncode != 0
    assert "the engine 'dummy' takes no quality target" in " ".join(refused.stderr.split())
    assert not list(files.glob("told*"))


def test_a_wish_for_quality_reaches_the_request_and_what_repeats_the_run(files: Path) -> None:
    wish: dict[str, Any] = {"quality": 0.0, "quality_guidance": 1.5, "critic_guidance": 0.25}
    request = make_refine_request(files / "photo.png", files / "mask.png", "", **wish)
    sampling = request.sampling
    assert sampling.HasField("quality_target")
    assert (sampling.quality_target, sampling.quality_guidance, sampling.critic_guidance) == (0.0, 1.5, 0.25)
    bare = make_refine_request(files / "photo.png", files / "mask.png").sampling
    assert not any(bare.HasField(name) for name in ("quality_target", "quality_guidance", "critic_guidance"))
    page = write_edit_report(files / "report.html", completed_request(request), []).read_text()
    assert "--engine-quality 0 --quality-guidance 1.5 --critic-guidance 0.25" in page


def test_the_best_of_the_candidates_is_what_the_dummy_critic_scores_highest(run: Run, files: Path) -> None:
    # It scores mean brightness, so the brightest of the three colours must come back.
    told = json.loads(run("edit", *EDIT, *KEPT, "-n", "3", "--seed", "4", "--rounds", "0", "--json").stdout)
    mask = np.asarray(Image.open(files / "mask.png")) > 127
    run("generate", *EDIT[:6], "-n", "3", "--seed", "4", "--out", "all")
    levels = {
        seed: np.asarray(Image.open(files / "all" / f"seed-{seed}.png"))[mask].mean() for seed in (4, 5, 6)
    }
    assert told["candidate_id"] == f"seed-{max(levels, key=levels.__getitem__)}"
    assert told["critique"]["scores"]["overall"]["value"] >= told["plain_score"]


def test_history_shows_an_edit_and_writes_it_again(run: Run, files: Path) -> None:
    run("edit", *EDIT, *KEPT, "-n", "2", "--id", "first", "--out", "made.png")
    done = run("history", "first", *KEPT, "--out", "again.png", "--report", "again.html")
    assert "select seed-" in done.stdout
    assert (files / "again.png").read_bytes() == (files / "made.png").read_bytes()
    assert (files / "again.html").read_text() == (files / "made.html").read_text()
    assert run("history", "gone", *KEPT).returncode == 2


def test_a_finished_edit_that_is_resumed_gives_the_same_picture(run: Run, files: Path) -> None:
    run("edit", *EDIT, *KEPT, "-n", "2", "--id", "first", "--out", "made.png")
    done = run("edit", *EDIT, *KEPT, "--id", "first", "--resume", "--out", "again.png")
    assert done.returncode == 0, done.stderr
    assert (files / "again.png").read_bytes() == (files / "made.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--fail-under", "101"), 5, "below 101"),
        (("--engine", "tabeltop"), 2, "did you mean"),
        (("--image", "gone.png"), 2, "gone.png"),
        (("--mask", "photo.png", "--image", "mask.png", "--resume", "--id", "gone"), 2, "'gone'"),
        (("--count", "65"), 2, "1 to 64"),
        (("--journal", "photo.png"), 2, "no journal"),
        (("--critic", "nobody"), 2, "nobody"),
        (("--engine", "tabletop", "--strength", "3"), 2, "strength 3"),
        (("--rewriter", "gone"), 2, "gone is no model folder"),
    ],
)
def test_what_goes_wrong_has_its_exit_code_and_one_line(
    run: Run, files: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    done = run("edit", *EDIT, *KEPT, "-n", "1", *arguments)
    assert done.returncode == code, done.stderr
    assert says in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def request_of(files: Path, **options: Any) -> refine_pb2.RefineRequest:
    return make_refine_request(
        files / "photo.png", files / "mask.png", "a ball", engine="dummy", seed=4, **options
    )


def test_the_report_shows_every_candidate_and_decision_and_escapes_what_came_from_outside(
    files: Path, tmp_path: Path
) -> None:
    request = completed_request(request_of(files, candidates=2, target=100.0))
    request.edit.prompt = "<script>alert(1)</script>"
    events = list(Refinement(load_engine("dummy"), PlainCritic(), request).run())
    text = write_edit_report(tmp_path / "r.html", request, events).read_text()
    assert "/ repair-1" in text, "a repair is compared with what it was made from"
    for name in ("seed-4", "seed-5", "repair-1", "Decisions", "To do it again", "--seed 4"):
        assert name in text
    assert "<script>alert" not in text
    assert text.count("% denoised") == 6
    assert "http" not in text.replace("http-equiv", "")


def test_a_server_that_dies_in_the_middle_is_started_again(files: Path) -> None:
    request = completed_request(request_of(files, candidates=3, rounds=0))
    critic = EmbeddedCritic("dummy")
    killed, events = 0, []
    for event in Refinement(load_engine("dummy"), critic, request).run():
        events.append(event)
        if event.HasField("candidate_finished") and killed < 2:
            assert critic.server.pid is not None
            os.kill(critic.server.pid, signal.SIGKILL)
            killed += 1
    finished = [e.candidate_finished.candidate_id for e in events if e.HasField("candidate_finished")]
    judged = [
        e.critique.candidate_id
        for e in events
        if e.HasField("critique") and not e.critique.HasField("progress")
    ]
    assert killed == 2
    assert finished == judged == ["seed-4", "seed-5", "seed-6"]


@pytest.fixture
async def refining(tmp_path: Path) -> AsyncIterator[Any]:
    """A stub of RefineService on a server with the dummy engine and the dummy critic."""
    journal = Journal(tmp_path / "journal.sqlite3")

    def add(hosts: Any, server: Any) -> str:
        refine_pb2_grpc.add_RefineServiceServicer_to_server(RefineService(hosts, ["dummy"], journal), server)
        return refine_pb2.DESCRIPTOR.services_by_name["RefineService"].full_name

    settings = ServerSettings(port=0, critics=("dummy", "evidence"), workers=2)
    async with CriticServer(settings, [add]) as server, grpc.aio.insecure_channel(server.address) as channel:
        yield refine_pb2_grpc.RefineServiceStub(channel)


async def test_refine_streams_the_run_and_the_journal_has_it(refining: Any, files: Path) -> None:
    request = request_of(files, candidates=2, edit_id="mine")
    events = [event async for event in refining.Refine(request)]
    kinds = [event.WhichOneof("event") for event in events]
    assert (kinds[0], kinds[-1]) == ("started", "result")
    assert kinds.count("candidate_finished") >= 2
    assert decode_image(events[-1].result.image).shape == (64, 64, 3)
    assert not any(event.preview.HasField("image") for event in events), "pictures come only when asked for"
    kept = await refining.GetEdit(refine_pb2.GetEditRequest(edit_id="mine"))
    assert [event.sequence for event in kept.events] == [event.sequence for event in events]
    listed = await refining.ListEdits(refine_pb2.ListEditsRequest())
    assert [(edit.edit_id, edit.prompt) for edit in listed.edits] == [("mine", "a ball")]


async def test_previews_come_with_pictures_when_asked_for(refining: Any, files: Path) -> None:
    request = request_of(files, candidates=1)
    request.events.preview_images = True
    events = [event async for event in refining.Refine(request)]
    previews = [event.preview for event in events if event.HasField("preview")]
    assert len(previews) == 3
    assert all(decode_image(preview.image).size for preview in previews)


async def test_engines_are_named_and_no_others_are_opened(refining: Any, files: Path) -> None:
    listed = await refining.ListEngines(refine_pb2.ListEnginesRequest())
    assert [engine.name for engine in listed.engines] == ["dummy"]
    request = request_of(files)
    request.sampling.engine = "/etc"
    with pytest.raises(grpc.aio.AioRpcError) as told:
        _ = [event async for event in refining.Refine(request)]
    assert told.value.code() == grpc.StatusCode.NOT_FOUND


async def test_closing_the_call_stops_the_run_and_it_can_be_resumed(refining: Any, files: Path) -> None:
    call = refining.Refine(request_of(files, candidates=40, edit_id="long", race="plain"))
    async for event in call:
        if event.HasField("candidate_finished"):
            break
    call.cancel()
    for _ in range(100):
        try:
            resumed = [
                event async for event in refining.Refine(refine_pb2.RefineRequest(resume_edit_id="long"))
            ]
            break
        except grpc.aio.AioRpcError as error:
            assert "is running" in str(error.details())
    assert resumed[-1].HasField("result")
    finished = [event for event in resumed if event.HasField("candidate_finished")]
    assert len(finished) >= 40
    assert [event.sequence for event in resumed] == list(range(1, len(resumed) + 1))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda r: r.ClearField("edit"), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: setattr(r.edit.source.encoded, "data", b"no picture"), grpc.StatusCode.INVALID_ARGUMENT),
        (lambda r: setattr(r, "resume_edit_id", "gone"), grpc.StatusCode.NOT_FOUND),
    ],
)
async def test_bad_requests_are_refused_and_the_server_goes_on(
    refining: Any, files: Path, change: Any, code: grpc.StatusCode
) -> None:
    request = request_of(files, candidates=1)
    change(request)
    with pytest.raises(grpc.aio.AioRpcError) as told:
        _ = [event async for event in refining.Refine(request)]
    assert told.value.code() == code
    assert [event async for event in refining.Refine(request_of(files, candidates=1))][-1].HasField("result")


async def test_another_critic_may_decide_what_is_kept(refining: Any, files: Path) -> None:
    named = []
    for acceptance in ("evidence", ""):
        request = request_of(files, candidates=1, acceptance=acceptance)
        events = [event async for event in refining.Refine(request)]
        started = events[0].started
        named.append((started.search_critic.name, started.acceptance_critic.name))
    assert named == [("dummy", "evidence"), ("dummy", "dummy")]


def test_the_command_takes_two_critics_and_tells_them_apart(run: Run, files: Path) -> None:
    done = run(
        "edit", *EDIT, *KEPT, "-n", "1", "--critic", "dummy", "--acceptance", "evidence", "--id", "two"
    )
    assert done.returncode == 0, done.stderr
    events = Journal(files / "journal.sqlite3").events("two")
    assert events[0].started.acceptance_critic.name == "evidence"
    assert events[0].started.search_critic.name == "dummy"


def test_a_critique_of_a_served_judge_carries_the_identity_of_the_critic(files: Path) -> None:
    request = completed_request(request_of(files, candidates=1, rounds=0))
    events = list(Refinement(load_engine("dummy"), EmbeddedCritic("dummy"), request).run())
    assert events[0].started.search_critic.name == "dummy"
    assert events[0].started.acceptance_critic == events[0].started.search_critic
    assert all(e.critique.critic.name == "dummy" for e in events if e.HasField("critique"))
    assert isinstance(events[-1].result.critique, pb.Critique)
