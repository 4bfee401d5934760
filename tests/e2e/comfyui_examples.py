"""Makes what the node pack shows: its example workflows (JSON, and PNG with the workflow in it) and docs/comfyui.png.

    COMFYUI=/path/to/ComfyUI python -m tests.e2e.comfyui_examples [NAME ...]

The graphs are laid out and saved by ComfyUI's own page, so they are what a person would have saved. The models behind
the pictures are the tests'; the workflows name the checkpoint of ComfyUI's own templates.
"""

from __future__ import annotations

import base64
import io
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.e2e import comfyui_graphs as graphs
from tests.e2e.comfyui_graphs import node
from tests.e2e.comfyui_program import ROOT, ComfyProgram, running

OUT = ROOT / "e2e-out" / "comfyui"
EXAMPLES = ROOT / "plugin" / "comfyui" / "example_workflows"
CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
TESTED = "field.safetensors"
_FLAGS = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update"
_SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Workflow.ShowMissingModelsWarning": False,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}

_ARRANGE = """
() => {
  const graph = app.graph, depth = new Map(), nodes = graph._nodes;
  const level = (node) => {
    if (!depth.has(node)) {
      depth.set(node, 0);
      const before = (node.inputs ?? []).map((_, slot) => node.getInputNode(slot)).filter(Boolean);
      depth.set(node, before.length ? 1 + Math.max(...before.map(level)) : 0);
    }
    return depth.get(node);
  };
  nodes.forEach(level);
  let x = 40;
  for (let column = 0; column <= Math.max(...depth.values()); column++) {
    const here = nodes.filter((node) => depth.get(node) === column);
    let y = 80, widest = 0;
    for (const node of here) {
      const least = node.computeSize();
      const picture = /LoadImage|SaveImage|PreviewImage/.test(node.type);
      const wide = picture ? 230 : node.type.startsWith("EditCritic") ? 330 : 300;
      node.setSize([Math.max(wide, least[0]), picture ? 310 : least[1] + (node.type === "CLIPTextEncode" ? 60 : 0)]);
      node.pos = [x, y];
      y += node.size[1] + (node.type.startsWith("EditCritic") ? 140 : 70);
      widest = Math.max(widest, node.size[0]);
    }
    x += widest + 60;
  }
  return JSON.stringify(graph.serialize());
}
"""

FIT = """
() => {
  const nodes = app.graph._nodes, canvas = app.canvas;
  const left = Math.min(...nodes.map((n) => n.pos[0])), top = Math.min(...nodes.map((n) => n.pos[1])) - 40;
  const right = Math.max(...nodes.map((n) => n.pos[0] + n.size[0]));
  const bottom = Math.max(...nodes.map((n) => n.pos[1] + n.size[1])) + 110;
  const width = canvas.canvas.clientWidth - 120, height = canvas.canvas.clientHeight - 110;
  const scale = Math.min(width / (right - left), height / (bottom - top), 1);
  canvas.low_quality_zoom_threshold = 0;
  canvas.ds.scale = scale;
  canvas.ds.offset = [(80 + (width - scale * (right - left)) / 2) / scale - left, 70 / scale - top];
  canvas.setDirty(true, true);
}
"""


def judge_and_gate() -> dict[str, Any]:
    """Two finished pictures are judged and sorted by score."""
    return {
        "1": node("LoadImage", image="photo.png"),
        "2": node("EditCriticServer", mode="embedded", address="", critic="ensemble"),
        "3": node("LoadImage", image="candidate_1.png"),
        "4": node("LoadImage", image="candidate_2.png"),
        "5": node("ImageBatch", image1=["3", 0], image2=["4", 0]),
        "10": node("EditCriticCritique", **graphs.judged(edited=["5", 0])),
        "11": node("SaveImage", images=["10", 2], filename_prefix="heat map"),
        "12": node(
            "EditCriticGate",
            edited=["5", 0],
            critiques=["10", 5],
            least_score=60.0,
            unscored="reject",
            override="by score",
            accept="",
            reject="",
        ),
        "13": node("SaveImage", images=["12", 0], filename_prefix="accepted"),
        "14": node("SaveImage", images=["12", 1], filename_prefix="rejected"),
    }


def _sampling(**last: Any) -> dict[str, Any]:
    own = {
        "1": node("LoadImage", image="photo.png"),
        "2": node("EditCriticServer", mode="embedded", address="", critic="network"),
        **graphs.model("field"),
        **graphs.latents(6),
    }
    own["4"]["inputs"]["ckpt_name"] = CHECKPOINT
    return {**own, **last}


def best_of_batch() -> dict[str, Any]:
    """Six candidates at once; the best is saved."""
    sampled = {"model": ["4", 0], "positive": ["5", 0], "negative": ["6", 0]}
    return _sampling(
        **{
            "10": node("KSampler", latent_image=["9", 0], **sampled, **graphs.sampler(steps=20, cfg=7.0)),
            "11": node("VAEDecode", samples=["10", 0], vae=["4", 2]),
            "12": node("EditCriticBest", keep=1, first_index=0, **graphs.judged(edited=["11", 0])),
            "13": node("SaveImage", images=["12", 0], filename_prefix="best"),
        }
    )


def sampler_with_race() -> dict[str, Any]:
    """Candidates that promise too little are stopped half-way."""
    graph = _sampling()
    del graph["9"]
    raced = graphs.race("")["10"]["inputs"] | graphs.sampler(steps=20, cfg=7.0) | {"candidates": 6}
    return {
        **graph,
        "10": node("EditCriticRaceSampler", **raced),
        "11": node("SaveImage", images=["10", 1], filename_prefix="race"),
    }


def refine_inpaint() -> dict[str, Any]:
    """The whole loop."""
    graph = _sampling()
    for name in ("7", "8", "9"):
        del graph[name]
    refined = (
        graphs.refine("")["10"]["inputs"]
        | graphs.sampler(steps=20, cfg=7.0)
        | {"target": 90.0, "max_tries": 2}
    )
    refined = {**refined, "working_size": 0, "clip": ["4", 1]}
    return {
        **graph,
        "10": node("EditCriticRefine", **refined),
        "11": node("SaveImage", images=["10", 0], filename_prefix="refined"),
    }


GRAPHS = {
    "judge_and_gate": (judge_and_gate, "11"),
    "best_of_batch": (best_of_batch, "13"),
    "sampler_with_race": (sampler_with_race, "11"),
    "refine_inpaint": (refine_inpaint, "11"),
}
"""Example by name, with the node whose picture stands for it."""


def write_inputs(folder: Path) -> None:
    """The photograph, and two answers to it: one that fits, one that does not."""
    graphs.write_photo(folder)
    with Image.open(folder / "photo.png") as opened:
        pixels = np.asarray(opened)
    photo, inside = pixels[..., :3].astype(np.float32), pixels[..., 3:] == 0
    rows = np.linspace(0, 1, 256)[:, None, None]
    sky, grey = np.roll(photo, -40, axis=1), photo * 0 + np.array([120, 118, 130]) + 30 * rows
    for name, fill in {"candidate_1": sky, "candidate_2": grey}.items():
        answer = np.where(inside, fill, photo)
        Image.fromarray(np.clip(answer, 0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    settings = folder.parent / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(_SETTINGS))


@contextmanager
def page_of(comfy: ComfyProgram, width: int = 2000, height: int = 1250) -> Iterator[Any]:
    """ComfyUI's page in a browser."""
    from playwright.sync_api import sync_playwright

    browser_path = os.environ.get("CHROMIUM", "/usr/bin/chromium")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=browser_path, args=_FLAGS.split())
        page = browser.new_page(viewport={"width": width, "height": height})
        page.goto(comfy.url, wait_until="domcontentloaded", timeout=120_000)
        page.wait_for_function(
            "() => window.app?.graph && window.app.vueAppReady !== false && window.LiteGraph"
            "?.registered_node_types?.EditCriticBest",
            timeout=120_000,
        )
        page.wait_for_timeout(1500)
        yield page
        browser.close()


def saved_by_page(page: Any, name: str, graph: dict[str, Any]) -> dict[str, Any]:
    """The workflow as the page saves it."""
    page.evaluate("([graph, name]) => app.loadApiJson(graph, name)", [graph, name])
    page.wait_for_timeout(500)
    workflow: dict[str, Any] = json.loads(page.evaluate(_ARRANGE))
    workflow.pop("id", None)  # new on every call
    return workflow


def run_in_page(comfy: ComfyProgram, page: Any, workflow: dict[str, Any], name: str) -> dict[str, Any]:
    """Load a workflow, press Run, and wait; the entry of ComfyUI's history."""
    tried = json.loads(json.dumps(workflow).replace(CHECKPOINT, TESTED))
    before = set(comfy.get("/history"))
    page.evaluate("([workflow, name]) => app.loadGraphData(workflow, true, true, name)", [tried, name])
    page.wait_for_timeout(500)
    page.evaluate("() => app.queuePrompt(0)")
    for _ in range(1200):
        new = {key: entry for key, entry in comfy.get("/history").items() if key not in before}
        if new:
            entry: dict[str, Any] = next(iter(new.values()))
            page.wait_for_timeout(800)
            return entry
        page.wait_for_timeout(250)
    raise TimeoutError("the workflow did not end")


def picture_of(comfy: ComfyProgram, entry: dict[str, Any], where: str) -> Image.Image:
    """The first picture that a node of a finished run saved."""
    told = entry["outputs"][where]["images"][0]
    path = comfy.folder / told["type"] / told["subfolder"] / told["filename"]
    return Image.open(io.BytesIO(path.read_bytes()))


def load_file(page: Any, path: Path) -> int:
    """Drop a file on the page; how many nodes it shows then."""
    content = base64.b64encode(path.read_bytes()).decode()
    drop = """async ([content, name]) => {
      const bytes = Uint8Array.from(atob(content), (each) => each.charCodeAt(0));
      app.graph.clear();
      await app.handleFile(new File([bytes], name, {type: "image/png"}));
    }"""
    page.evaluate(drop, [content, path.name])
    page.wait_for_timeout(1000)
    return int(page.evaluate("() => app.graph._nodes.length"))


def main() -> None:
    """Write all of it into the repository."""
    OUT.mkdir(parents=True, exist_ok=True)
    program = Path(os.environ["COMFYUI"]).resolve()
    python = os.environ.get("COMFYUI_PYTHON") or str(program.parent / "venv" / "bin" / "python")
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder) / "input")
        with running(program, python, Path(folder), {}) as comfy, page_of(comfy) as page:
            for name in sys.argv[1:] or GRAPHS:
                make, shown = GRAPHS[name]
                workflow = saved_by_page(page, name, make())
                (EXAMPLES / f"{name}.json").write_text(json.dumps(workflow, indent=1) + "\n")
                entry = run_in_page(comfy, page, workflow, name)
                sys.stdout.write(f"{name}: {entry['status']['status_str']}\n")
                with_workflow = PngInfo()
                with_workflow.add_text("workflow", json.dumps(workflow))
                picture_of(comfy, entry, shown).save(
                    EXAMPLES / f"{name}.png", pnginfo=with_workflow, optimize=True
                )
                page.evaluate(FIT)
                page.wait_for_timeout(1200)
                page.screenshot(path=str(OUT / f"page {name}.png"))
    _write_picture_of_guide()


def _write_picture_of_guide() -> None:
    """The part of the page that has nodes, small enough for the repository."""
    with Image.open(OUT / "page judge_and_gate.png") as page:
        shown = page.convert("RGB").crop((390, 130, 1710, 1150))
    shown.thumbnail((1100, 1100), Image.Resampling.LANCZOS)
    shown.save(ROOT / "docs" / "comfyui.png", optimize=True)


if __name__ == "__main__":
    main()
