"""The node pack in a real ComfyUI: real graphs over its HTTP and WebSocket interface, a real critic server.

    COMFYUI=/path/to/ComfyUI pytest -m comfyui tests/e2e/test_comfyui.py

COMFYUI_PYTHON is its interpreter. Pictures and logs are left in e2e-out/comfyui.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from editcritic.plugin.embedded import EmbeddedServer
from tests.e2e import comfyui_examples as examples
from tests.e2e import comfyui_graphs as graphs
from tests.e2e.comfyui_graphs import node
from tests.e2e.comfyui_program import ROOT, ComfyProgram, Run, running

pytestmark = [pytest.mark.comfyui, pytest.mark.timeout(600)]

OUT = ROOT / "e2e-out" / "comfyui"
NODES = {
    "EditCriticServer",
    "EditCriticCritique",
    "EditCriticBest",
    "EditCriticGate",
    "EditCriticRaceSampler",
    "EditCriticRefine",
}
SLOW = "dummy@150"
STEP_S = 0.15


@pytest.fixture(scope="module")
def program() -> tuple[Path, str]:
    if not os.environ.get("COMFYUI"):
        pytest.skip("COMFYUI does not name the folder of a ComfyUI")
    folder = Path(os.environ["COMFYUI"]).resolve()
    beside = folder.parent / "venv" / "bin" / "python"
    python = os.environ.get("COMFYUI_PYTHON") or str(beside if beside.exists() else sys.executable)
    pytest.importorskip("websockets", reason="events are read with websockets")
    return folder, python


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    base = tmp_path_factory.mktemp("comfyui")
    examples.write_inputs(base / "input")
    yield base
    OUT.mkdir(parents=True, exist_ok=True)
    shutil.copy(base / "comfyui.log", OUT)


@pytest.fixture(scope="module")
def comfy(program: tuple[Path, str], folder: Path) -> Iterator[ComfyProgram]:
    with running(*program, folder, {"TESTING_STEP_S": str(STEP_S)}) as started:
        yield started


@pytest.fixture(scope="module")
def critic() -> Iterator[EmbeddedServer]:
    with EmbeddedServer(["evidence", "dummy"], ["--no-verdicts"]) as server:
        yield server


def keep(name: str, content: bytes) -> Image.Image:
    """Leave a picture for people to look at."""
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / name).write_bytes(content)
    return Image.open(io.BytesIO(content))


def judging(asked_server: EmbeddedServer, levels: str, **more: Any) -> dict[str, Any]:
    """A graph in which node 10 judges a batch by brightness."""
    asked = graphs.judged(edited=["3", 0], **{"critic": "dummy", **more})
    return {
        **graphs.photo(),
        **graphs.server(asked_server.address),
        **graphs.candidates(levels),
        "10": node("EditCriticCritique", **asked),
    }


def test_all_nodes_are_there_and_explain_themselves(comfy: ComfyProgram) -> None:
    known = comfy.get("/object_info")
    assert known.keys() >= NODES
    for name in NODES:
        told = known[name]
        assert told["category"] == "editcritic"
        assert told["description"]
        assert len(told["output_tooltips"]) == len(told["output"]), name
        for inputs in (told["input"].get("required", {}), told["input"].get("optional", {})):
            assert all(options[1]["tooltip"] for options in inputs.values()), name


def test_nothing_of_other_packs_is_shadowed(
    comfy: ComfyProgram, program: tuple[Path, str], tmp_path: Path
) -> None:
    graph = {"1": node("TestModules"), "2": node("RudeNode")}
    graphs.write_photo(tmp_path / "input")
    only = ["--disable-all-custom-nodes", "--whitelist-custom-nodes", "testing_pack", "rude_pack"]
    with running(*program, tmp_path, {}, only) as without_us:
        assert not without_us.get("/object_info").keys() & NODES
        alone = without_us.run(graph)
    beside = comfy.run(graph)
    words = "rude plugin,rude refine,rude server,rude utils,rude plugin"
    assert beside.text("2") == alone.text("2") == f"{words},{program[0].name}"
    before, after = (json.loads(run.text("1")) for run in (alone, beside))
    changed = {
        name: (file, after["modules"].get(name))
        for name, file in before["modules"].items()
        if file.startswith(str(program[0])) and file != after["modules"].get(name)
    }
    assert changed == {}, "a module of ComfyUI's own is another one with our pack"
    ours = {name for name, file in after["modules"].items() if "editcritic" in file and "/" not in name}
    assert ours <= {"editcritic"}, "nothing of ours has a top-level name but the package"
    assert not [path for path in after["path"] if "comfyui-editcritic" in path]


def test_a_critique_has_score_reason_map_mask_and_segments(
    comfy: ComfyProgram, critic: EmbeddedServer
) -> None:
    graph = {
        **judging(critic, "250", critic="evidence"),
        "11": node("SaveImage", images=["10", 2], filename_prefix="heat"),
        "12": node("TestSegs", segs=["10", 4], image=["3", 0]),
        "13": node("MaskToImage", mask=["10", 3]),
        "14": node("SaveImage", images=["13", 0], filename_prefix="mask"),
        "15": node("TestShow", value=["10", 0]),
    }
    run = comfy.run(graph)
    assert run.ending == "execution_success", run.error
    (score,) = json.loads(run.text("15"))
    assert 0 <= score < 60, "a white box in an evening sky"
    assert run.text("10").startswith(f"0: {score:.0f}/100")
    heat = np.asarray(keep("critique heat map.png", comfy.picture(run, "11")[0]))
    where = np.asarray(keep("critique defects.png", comfy.picture(run, "14")[0]).convert("L")) > 127
    assert heat.shape[:2] == where.shape == (graphs.SIDE, graphs.SIDE)
    assert where[80:, 64:144].any()
    assert where[:40].sum() == 0
    told = json.loads(run.text("12"))
    assert told["size"] == [graphs.SIDE, graphs.SIDE]
    assert told["segs"]
    for segment in told["segs"]:
        assert segment["fits"]
        assert segment["inside"]
        assert segment["mask"][1] == 1
        assert segment["rest"] == [None, None]
        assert segment["confidence"] >= 0.3


@pytest.fixture(scope="module")
def page(comfy: ComfyProgram) -> Iterator[Any]:
    pytest.importorskip("playwright", reason="ComfyUI's page is driven by Playwright")
    if not Path(os.environ.get("CHROMIUM", "/usr/bin/chromium")).exists():
        pytest.skip("there is no browser: CHROMIUM names one")
    # The browser has an event loop in its thread, which the tests of this file must not share.
    with ThreadPoolExecutor(1) as pool:
        opening = examples.page_of(comfy)
        opened = pool.submit(opening.__enter__).result()
        yield lambda work, *rest: pool.submit(work, opened, *rest).result()
        pool.submit(opening.__exit__, None, None, None).result()


@pytest.mark.parametrize("name", examples.GRAPHS)
def test_an_example_runs_as_a_person_would_run_it(comfy: ComfyProgram, page: Any, name: str) -> None:
    workflow = json.loads((examples.EXAMPLES / f"{name}.json").read_text())
    entry = page(lambda opened: examples.run_in_page(comfy, opened, workflow, name))
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    keep(f"example {name}.png", _bytes(examples.picture_of(comfy, entry, examples.GRAPHS[name][1])))
    page(lambda opened: opened.evaluate(examples.FIT))
    page(lambda opened: opened.wait_for_timeout(800))
    page(lambda opened: opened.screenshot(path=str(OUT / f"page {name}.png")))
    badges = page(lambda opened: opened.evaluate("() => app.graph._nodes.flatMap((n) => n.editcritic ?? [])"))
    assert badges
    assert all(0 <= each["score"] <= 100 and each["reason"] for each in badges), "shown on the nodes"

    picture = examples.EXAMPLES / f"{name}.png"
    with Image.open(picture) as opened:
        assert json.loads(opened.info["workflow"]) == workflow
    assert page(examples.load_file, picture) == len(workflow["nodes"])


def _bytes(picture: Image.Image) -> bytes:
    with io.BytesIO() as file:
        picture.save(file, "png")
        return file.getvalue()


def calls_of_stream(port: str) -> int:
    text = urllib.request.urlopen(f"http://{port}/metrics", timeout=10).read().decode()
    lines = [line for line in text.splitlines() if line.startswith("editcritic_calls_total")]
    return sum(int(float(line.split()[-1])) for line in lines if "CritiqueStream" in line)


def test_a_batch_of_eight_is_one_call(comfy: ComfyProgram) -> None:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with EmbeddedServer(["dummy"], ["--no-verdicts", f"--metrics-port={port}"]) as counted:
        run = comfy.run(judging(counted, "10,240,30,40,50,60,70,80"))
        deadline = time.monotonic() + 10
        while calls_of_stream(f"127.0.0.1:{port}") < 1 and time.monotonic() < deadline:
            time.sleep(0.05)  # a call is counted when it has ended
        assert calls_of_stream(f"127.0.0.1:{port}") == 1
    assert run.ending == "execution_success", run.error
    told = run.named("editcritic.critique")
    assert sorted(each["index"] for each in told) == list(range(8))
    assert all(each["count"] == 8 and each["node"] == "10" for each in told)
    assert len(run.text("10").splitlines()) == 8


def test_events_come_in_order_while_the_node_runs(comfy: ComfyProgram, critic: EmbeddedServer) -> None:
    run = comfy.run(judging(critic, "11,241,31"))
    kinds = [kind for _, kind, data in run.events if data.get("node") == "10" and kind != "progress_state"]
    assert kinds == ["executing", *["editcritic.critique", "progress"] * 3, "executed"]
    assert [each["value"] for each in run.named("progress")] == [1, 2, 3]
    assert run.ending == "execution_success"


def test_the_best_of_a_batch_and_the_gate(comfy: ComfyProgram, critic: EmbeddedServer) -> None:
    graph = {
        **graphs.photo(),
        **graphs.server(critic.address),
        **graphs.candidates("20,220,120,250"),
        "10": node("EditCriticBest", keep=2, first_index=0, **graphs.judged(edited=["3", 0], critic="dummy")),
        "11": node("SaveImage", images=["10", 0], filename_prefix="best"),
        "12": node("TestShow", value=["10", 1]),
        "13": node("SaveImage", images=["10", 3], filename_prefix="sorted"),
        "20": node(
            "EditCriticGate",
            edited=["3", 0],
            critiques=["10", 5],
            least_score=60.0,
            unscored="reject",
            override="by score",
            accept="0",
            reject="3",
        ),
        "21": node("SaveImage", images=["20", 0], filename_prefix="accepted"),
        "22": node("SaveImage", images=["20", 1], filename_prefix="rejected"),
    }
    run = comfy.run(graph, workflow={"nodes": []})
    assert run.ending == "execution_success", run.error
    assert json.loads(run.text("12")) == ["3,1"]
    inside = [np.asarray(Image.open(io.BytesIO(each)))[200, 100, 0] for each in comfy.picture(run, "13")]
    assert inside == [250, 220, 120, 20], "best first"
    best = keep("best of batch.png", comfy.picture(run, "11")[0])
    kept = json.loads(best.info["editcritic"])["best 10"]
    assert kept["chosen"] == [3, 1]
    assert kept["prompt"] == graphs.PROMPT
    assert [round(each["score"]) for each in kept["candidates"]] == [8, 86, 47, 98]
    accepted, rejected = (len(comfy.picture(run, name)) for name in ("21", "22"))
    assert (accepted, rejected) == (2, 2), "by score 1 and 3; by hand 0 in and 3 out"
    report = run.text("20").splitlines()
    assert [line.split()[1] for line in report] == ["accepted", "accepted", "rejected", "rejected"]


def test_a_gate_that_lets_nobody_through_blocks_what_is_behind_it(
    comfy: ComfyProgram, critic: EmbeddedServer
) -> None:
    graph = {
        **judging(critic, "20,30"),
        "20": node(
            "EditCriticGate",
            edited=["3", 0],
            critiques=["10", 5],
            least_score=60.0,
            unscored="reject",
            override="by score",
            accept="",
            reject="",
        ),
        "21": node("SaveImage", images=["20", 0], filename_prefix="accepted"),
        "22": node("SaveImage", images=["20", 1], filename_prefix="rejected"),
    }
    run = comfy.run(graph)
    assert run.ending == "execution_success", run.error
    assert "21" not in [each["node"] for each in run.named("executed")]
    assert len(comfy.picture(run, "22")) == 2, "nothing is lost"


def test_the_mask_of_a_picture_without_alpha_is_explained(
    comfy: ComfyProgram, critic: EmbeddedServer
) -> None:
    graph = judging(critic, "20")
    graph["10"]["inputs"]["mask"] = ["9", 1]
    graph["9"] = node("LoadImage", image="plain.png")
    run = comfy.run(graph)
    assert run.ending == "execution_error"
    assert "64x64 zeros" in run.error
    assert "MaskEditor" in run.error
    (failed,) = run.named("execution_error")
    assert failed["node_id"] == "10"


def test_a_workflow_cannot_send_pictures_elsewhere(comfy: ComfyProgram, critic: EmbeddedServer) -> None:
    graph = judging(critic, "20")
    graph["2"]["inputs"]["address"] = "collector.example:50551"
    told = json.dumps(comfy.refused(graph))
    assert "must not choose where your pictures are sent" in told


def test_an_embedded_server_starts_and_is_used_again(comfy: ComfyProgram, critic: EmbeddedServer) -> None:
    graph = judging(critic, "200", critic="")
    graph["2"] = node("EditCriticServer", mode="embedded", address="", critic="evidence")
    first = comfy.run(graph)
    assert first.ending == "execution_success", first.error
    graph["3"]["inputs"]["levels"] = "201"
    again = comfy.run(graph)
    assert again.ending == "execution_success", again.error
    assert "2" in [name for each in again.named("execution_cached") for name in each["nodes"]]


def cancelling(comfy: ComfyProgram, graph: dict[str, Any], kind: str, count: int) -> tuple[Run, float]:
    """Press Cancel at the count-th event of a kind; the run, and when Cancel had been taken."""
    seen, moment = [], []

    def watch(event: str, data: dict[str, Any]) -> None:
        if event == kind and data.get("node") == "10":
            seen.append(event)
            if len(seen) == count:
                comfy.post("/interrupt", {})
                moment.append(time.monotonic())

    run = comfy.run(graph, watch)
    return run, moment[0]


def test_cancel_ends_scoring(comfy: ComfyProgram) -> None:
    with EmbeddedServer([SLOW], ["--no-verdicts"]) as slow:
        levels = ",".join(str(10 * index) for index in range(1, 25))
        graph = judging(slow, levels, critic="dummy")
        run, _ = cancelling(comfy, graph, "editcritic.critique", 2)
        assert run.ending == "execution_interrupted"
        assert len(run.named("editcritic.critique")) < 16, "it did not wait for the other pictures"
        graph["3"]["inputs"]["levels"] = "15,25"
        assert comfy.run(graph).ending == "execution_success", "the next run is not disturbed"


@pytest.mark.parametrize("kind", ["race", "refine"])
def test_cancel_ends_sampling_within_one_step(comfy: ComfyProgram, critic: EmbeddedServer, kind: str) -> None:
    make = {"race": graphs.race, "refine": graphs.refine}[kind]
    graph = make(critic.address, critic="evidence", seed=77)
    run, moment = cancelling(comfy, graph, "progress", 3)
    assert run.ending == "execution_interrupted"
    later = [each for each in comfy.step_times() if each > moment]
    assert len(later) <= 1, "one step may have been under way"
    threads = comfy.run({"1": node("TestModules")})
    assert threads.ending == "execution_success"


def test_a_race_stops_hopeless_candidates_and_hands_on_the_best(
    comfy: ComfyProgram, critic: EmbeddedServer
) -> None:
    graph = graphs.race(critic.address, critic="evidence", candidates=5, price=2.0, seed=20, steps=10)
    graph |= {
        "12": node("TestShow", value=["10", 4]),
        "13": node("TestShow", value=["10", 5]),
    }
    before = len(comfy.step_times())
    run = comfy.run(graph, workflow={"nodes": []})
    assert run.ending == "execution_success", run.error
    (steps,), (saved,) = (json.loads(run.text(name)) for name in ("12", "13"))
    assert len(comfy.step_times()) - before == steps, "what is told is what the denoiser was called for"
    assert steps + saved <= 5 * 10
    picture = keep("race.png", comfy.picture(run, "11")[0])
    told = json.loads(picture.info["editcritic"])["race 10"]
    assert told["steps"] == steps
    dropped = [each["candidate"] for each in told["decisions"] if each["what"] == "drop"]
    finished = {each["candidate"] for each in run.named("editcritic.critique") if each["fraction"] == 1}
    assert dropped
    assert saved > 0
    assert "seed-20" in finished, "the first is always finished"
    assert not set(dropped) & finished
    source = np.asarray(Image.open(comfy.folder / "input" / "photo.png").convert("RGB"))
    assert (np.asarray(picture)[:60] == source[:60]).all(), "outside the mask nothing changes"
    assert run.previews > 0


def test_without_dropping_the_race_is_ksampler_with_a_batch(
    comfy: ComfyProgram, critic: EmbeddedServer
) -> None:
    """Candidate i equals the i-th picture of KSampler's batch, although it waited in the middle."""
    graph = graphs.race(critic.address, critic="dummy", candidates=3, method="plain", seed=5)
    graph |= {
        **graphs.latents(3),
        "20": node("VAEDecode", samples=["10", 2], vae=["4", 2]),
        "21": node("SaveImage", images=["20", 0], filename_prefix="raced"),
        "30": node(
            "KSampler",
            model=["4", 0],
            positive=["5", 0],
            negative=["6", 0],
            latent_image=["9", 0],
            **graphs.sampler(seed=5),
        ),
        "31": node("VAEDecode", samples=["30", 0], vae=["4", 2]),
        "32": node("SaveImage", images=["31", 0], filename_prefix="batch"),
    }
    run = comfy.run(graph)
    assert run.ending == "execution_success", run.error
    raced, batch = (
        np.stack([np.asarray(Image.open(io.BytesIO(each)), int) for each in comfy.picture(run, name)])
        for name in ("21", "32")
    )
    assert raced.shape == batch.shape
    assert np.abs(raced - batch).max() <= 1
    assert np.abs(batch[0] - batch[1]).max() > 8, "the candidates differ"


def test_the_race_runs_on_a_unet(comfy: ComfyProgram, critic: EmbeddedServer) -> None:
    graph = graphs.race(critic.address, "unet", critic="evidence", candidates=2, steps=4)
    run = comfy.run(graph)
    assert run.ending == "execution_success", run.error
    assert len([line for line in run.text("10").splitlines() if "/100" in line]) >= 1


def test_refine_mends_and_keeps_what_nothing_beats(comfy: ComfyProgram, critic: EmbeddedServer) -> None:
    graph = graphs.refine(critic.address, critic="evidence", clip=["4", 1])
    run = comfy.run(graph, workflow={"nodes": []})
    assert run.ending == "execution_success", run.error
    picture = keep("refine.png", comfy.picture(run, "11")[0])
    told = json.loads(picture.info["editcritic"])["refine 10"]
    assert told["verdict"]["score"] >= told["plain_score"], "never worse than the first seed"
    source = np.asarray(Image.open(comfy.folder / "input" / "photo.png").convert("RGB"))
    assert (np.asarray(picture)[:50] == source[:50]).all(), "outside the mask nothing changes"

    # What came is by far the best by this critic: white. Nothing beats it, so it is handed back.
    graph = graphs.refine(critic.address, critic="dummy", edited=["3", 0], acceptance="none")
    graph |= {**graphs.candidates("255"), "12": node("TestShow", value=["10", 3])}
    run = comfy.run(graph)
    assert run.ending == "execution_success", run.error
    assert json.loads(run.text("12")) == [False]
    kept = np.asarray(Image.open(io.BytesIO(comfy.picture(run, "11")[0])))
    assert (kept[120:, 80:130] == 255).all()
    assert "kept the edit that came" in run.text("10")


def test_a_server_that_is_killed_is_told_and_the_graph_can_be_queued_again(comfy: ComfyProgram) -> None:
    first = EmbeddedServer([SLOW], ["--no-verdicts"])
    first.start()
    port = first.address.rpartition(":")[2]
    levels = ",".join(str(10 * index) for index in range(1, 25))
    graph = judging(first, levels)
    killed = threading.Event()

    def kill(event: str, _data: dict[str, Any]) -> None:
        if event == "editcritic.critique" and not killed.is_set():
            killed.set()
            os.kill(first.pid or 0, 9)

    run = comfy.run(graph, kill)
    first.stop()
    assert run.ending == "execution_error"
    assert "cannot be reached" in run.error
    assert "editcritic serve" in run.error
    assert "Critic Server node" in run.error
    with EmbeddedServer(["dummy"], ["--no-verdicts", f"--port={port}"]) as second:
        assert second.address == graph["2"]["inputs"]["address"]
        again = comfy.run(graph)
    assert again.ending == "execution_success", again.error
    assert len(again.text("10").splitlines()) == 24
