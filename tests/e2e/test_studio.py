"""Whole journeys through the studio in a real Chromium: ``make e2e-studio``. Screenshots lie in e2e-out/studio."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

pytestmark = [pytest.mark.studio, pytest.mark.timeout(600)]
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or ""
OUT = Path(__file__).parents[2] / "e2e-out" / "studio"
WAIT_MS = 300_000
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync")
_QUIET = ("--disable-background-networking", "--disable-component-update")

if not os.environ.get("EDITCRITIC_E2E_STUDIO"):
    pytest.skip("make e2e-studio runs it", allow_module_level=True)
if not CHROMIUM:
    pytest.skip(
        "there is no chromium here: apt-get install chromium, or set CHROMIUM", allow_module_level=True
    )
playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")


class Studio:
    """`editcritic studio` as a process of its own."""

    def __init__(self, folder: Path, *flags: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._flags, self._folder = flags, folder
        self.start()

    def start(self) -> None:
        command = "from editcritic.plugin.cli import main; main()"
        flags = ["studio", "--no-browser", f"--port={self.port}", f"--journal={self._folder / 'j.sqlite3'}"]
        log = (self._folder / "studio.log").open("ab")
        environment = os.environ | {"XDG_DATA_HOME": str(self._folder)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", command, *flags, *self._flags], stdout=log, stderr=log, env=environment
        )
        log.close()
        for _ in range(600):
            with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(f"{self.url}v1/health"):
                return
            time.sleep(0.2)
        raise AssertionError((self._folder / "studio.log").read_text())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """With the embedded engine and the shipped critic."""
    server = Studio(tmp_path_factory.mktemp("studio"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=[*_FLAGS, *_QUIET])
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any, studio: Studio) -> Iterator[Callable[..., Any]]:
    """``opened()``: the page in a browser of its own. Whatever it writes to the console as an error fails the test."""
    errors: list[str] = []
    contexts = []

    def open_page(url: str = studio.url, **options: Any) -> Any:
        context = chromium.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        page.errors = errors
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []


def keep_for_docs(name: str) -> None:
    """The screenshot as the guide's picture, in few colours, where the command for it asks for one."""
    if target := os.environ.get("EDITCRITIC_DOCS_PICTURE"):
        with Image.open(OUT / f"{name}.png") as shot:
            small = shot.convert("RGB").resize(
                (shot.width * 4 // 5, shot.height * 4 // 5), Image.Resampling.LANCZOS
            )
            small.quantize(256, dither=Image.Dither.FLOYDSTEINBERG).save(target, optimize=True)


def until(page: Any, condition: str) -> None:
    """Wait for a condition in the page. Playwright's own way would need the page to allow `eval`, which it does not."""
    for _ in range(WAIT_MS // 100):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"never true: {condition}")


def shoot(page: Any, name: str) -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=OUT / f"{name}.png", full_page=True)


def begin(page: Any, candidates: int = 2, repairs: int = 0) -> None:
    """The example, its mask and its prompt; then *Edit*."""
    page.click("#example")
    page.wait_for_selector("#run:enabled")
    page.fill("#count", str(candidates))
    page.fill("#rounds", str(repairs))
    page.click("#run")


def ended(page: Any) -> str:
    page.wait_for_selector("#stop", state="hidden")
    until(page, "document.getElementById('status').textContent.startsWith('Best')")
    return str(page.inner_text("#status"))


def cards(page: Any) -> list[dict[str, str]]:
    told: list[dict[str, str]] = page.eval_on_selector_all(
        ".candidate",
        """items => items.map(item => ({
            id: item.dataset.id,
            state: item.dataset.state,
            rejected: String(item.classList.contains('rejected')),
            badge: item.querySelector('.badge').textContent,
            said: item.querySelector('.state').textContent,
        }))""",
    )
    return told


def downloaded(page: Any, button: str) -> bytes:
    with page.expect_download() as waiting:
        page.click(button)
    return Path(waiting.value.path()).read_bytes()


def png_texts(png: bytes) -> dict[str, str]:
    """The iTXt chunks of a PNG by keyword; every chunk's checksum is looked at."""
    found, at = {}, 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        (crc,) = struct.unpack(">I", png[at + 8 + length : at + 12 + length])
        assert crc == zlib.crc32(kind + body)
        if kind == b"iTXt":
            keyword, _, rest = body.partition(b"\0")
            found[keyword.decode()] = rest[4:].decode()
        at += 12 + length
    return found


def test_paint_run_watch_reject_accept_and_download(opened: Any) -> None:
    page = opened()
    page.click("#example")
    page.wait_for_selector("#run:enabled")
    shoot(page, "1-mask")
    page.fill("#count", "3")
    page.fill("#rounds", "1")
    page.click("#run")
    until(page, "[...document.querySelectorAll('.state')].some(e => /^[0-9]+ %$/.test(e.textContent))")
    shoot(page, "2-running")
    assert "candidates done" in page.inner_text("#status") or "Best" in page.inner_text("#status")
    assert re.match(r"Best: \S+, \d+", ended(page))
    shoot(page, "3-done")
    found = cards(page)
    assert len([card for card in found if not card["id"].startswith("repair")]) >= 3
    assert found[0]["said"] == "best"
    scores = [int(card["badge"]) for card in found if card["badge"].isdigit()]
    assert len(scores) >= 1
    # Reasons and heat map.
    thumb = page.locator(".candidate .thumb").first
    thumb.hover()
    until(page, "getComputedStyle(document.querySelector('.candidate .thumb .heat')).opacity > 0.8")
    thumb.click()
    page.wait_for_selector("#compare:not([hidden])")
    assert page.inner_text("#scores").count("±") >= 3
    page.fill("#split", "50")
    page.check("#show-heat")
    shoot(page, "4-compare")
    keep_for_docs("4-compare")
    # Rejected ones are kept, last.
    last = found[-1]["id"]
    finished = [card["id"] for card in found if card["state"] == "finished"]
    rejected = finished[-1] if len(finished) > 1 else last
    if page.locator(f"[data-id='{rejected}'] .reject").is_visible():
        page.click(f"[data-id='{rejected}'] .reject")
        assert {card["id"]: card["rejected"] for card in cards(page)}[rejected] == "true"
        assert len(cards(page)) == len(found)
    page.click(f"[data-id='{found[0]['id']}'] .accept")
    page.wait_for_selector("#download:not([hidden])")
    shoot(page, "5-accepted")
    png, told = downloaded(page, "#download"), json.loads(downloaded(page, "#sidecar"))
    record = json.loads(png_texts(png)["editcritic"])
    assert record["edits"][0]["prompt"] == "a shiny blue ball"
    assert record["edits"][0]["scores"]["overall"]["value"] == pytest.approx(int(found[0]["badge"]), abs=0.5)
    actions = next(each for each in told["assertions"] if each["label"].startswith("c2pa.actions"))
    assert actions["data"]["actions"][0]["action"] == "c2pa.edited"
    hashed = next(each for each in told["assertions"] if each["label"] == "c2pa.hash.data")
    assert hashed["data"]["hash"] == hashlib.sha256(png).hexdigest()
    before, after = np.asarray(data.coffee()), np.asarray(Image.open(BytesIO(png)).convert("RGB"))
    rows, columns = np.nonzero((before != after).any(axis=2))
    assert len(rows) > 500
    # Nothing changed far from the painted circle of radius 62 about (515, 300).
    assert np.hypot(columns - 515, rows - 300).max() < 62 + 40


def test_a_part_of_a_candidate_is_done_again(opened: Any) -> None:
    page = opened()
    begin(page, candidates=1)
    ended(page)
    page.click(".candidate .redo")
    until(page, "document.getElementById('status').textContent.startsWith('Paint over the part')")
    assert page.is_disabled("#run")
    box = page.locator("#mask").bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.84, box["y"] + box["height"] * 0.72)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.88, box["y"] + box["height"] * 0.76, steps=4)
    page.mouse.up()
    page.click("#run")
    page.wait_for_selector("#stop:not([hidden])")
    ended(page)
    page.locator(".candidate .accept").first.click()
    until(page, "document.getElementById('picture-note').textContent.includes('2 edits accepted')")
    page.click("#undo-accept")
    until(page, "document.getElementById('picture-note').textContent.includes('1 edit accepted')")
    shoot(page, "6-redone")


def test_a_reload_in_mid_run_loses_nothing(opened: Any) -> None:
    page = opened()
    begin(page, candidates=2)
    page.wait_for_selector(".candidate")
    page.reload()
    page.wait_for_selector(".candidate")
    ended(page)
    assert len([card for card in cards(page) if card["state"] in ("finished", "dropped")]) >= 2
    assert page.input_value("#prompt") == "a shiny blue ball"
    page.locator(".candidate .accept").first.click()
    page.wait_for_selector("#download:not([hidden])")
    page.reload()
    page.wait_for_selector("#download:not([hidden])")
    assert "1 edit accepted" in page.inner_text("#picture-note")


def test_a_stopped_run_goes_on(opened: Any) -> None:
    page = opened()
    begin(page, candidates=2)
    page.wait_for_selector(".candidate")
    page.click("#stop")
    page.wait_for_selector("#go-on:not([hidden])")
    assert "Stopped" in page.inner_text("#status")
    # At once: the step that was under way ends first.
    page.click("#go-on")
    ended(page)


def test_two_browsers_at_once(opened: Any) -> None:
    first, second = opened(), opened()
    begin(first, candidates=1)
    begin(second, candidates=1)
    assert re.match(r"Best: \S+, \d+", ended(first))
    assert re.match(r"Best: \S+, \d+", ended(second))
    second.click("#open-history")
    second.wait_for_selector("#edits button")
    assert second.locator("#edits button").count() >= 2
    shoot(second, "7-history")


def test_on_a_phone_one_paints_with_a_finger(opened: Any) -> None:
    page = opened(
        viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True, device_scale_factor=2
    )
    page.set_input_files("#file", {"name": "cup.png", "mimeType": "image/png", "buffer": photo(600, 400)})
    page.wait_for_selector("#desk:not([hidden])")
    box = page.locator("#mask").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.7)
    page.wait_for_selector("#run:enabled")
    page.fill("#prompt", "red ball")
    page.fill("#count", "1")
    page.fill("#rounds", "0")
    page.tap("#run")
    ended(page)
    shoot(page, "8-phone")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_with_the_keyboard_alone(opened: Any) -> None:
    page = opened()
    page.focus("#example")
    page.keyboard.press("Enter")
    page.wait_for_selector("#run:enabled")
    page.focus("#clear")
    page.keyboard.press("Enter")
    assert page.is_disabled("#run")
    page.focus("#erase")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.id") == "mask"
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.down(" ")
    page.keyboard.press("ArrowDown")
    page.keyboard.up(" ")
    page.wait_for_selector("#run:enabled")
    page.keyboard.press("]")
    shoot(page, "9-keyboard")
    page.focus("#count")
    page.keyboard.press("Control+A")
    page.keyboard.type("1")
    page.keyboard.press("Control+Enter")
    ended(page)
    page.locator(".candidate .thumb").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#compare:not([hidden])")
    page.keyboard.press("h")
    assert page.is_checked("#show-heat")
    page.keyboard.press("Escape")
    assert page.is_hidden("#compare")
    page.locator(".candidate .accept").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#download:not([hidden])")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_serious_accessibility_fault(opened: Any, theme: str) -> None:
    from axe_playwright_python.sync_playwright import Axe

    page = opened(color_scheme=theme)
    assert page.evaluate("document.documentElement.dataset.theme") == theme
    faults = {"empty": serious(Axe().run(page))}
    begin(page, candidates=1)
    ended(page)
    page.locator(".candidate .thumb").first.click()
    page.wait_for_selector("#compare:not([hidden])")
    faults["candidate"] = serious(Axe().run(page))
    shoot(page, f"10-{theme}")
    page.click("#open-help")
    faults["keys"] = serious(Axe().run(page))
    assert faults == {"empty": [], "candidate": [], "keys": []}


def serious(found: Any) -> list[str]:
    return [
        f"{fault['id']}: {fault['nodes'][0]['html']}"
        for fault in found.response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]


def test_a_photograph_of_20_megapixels(opened: Any) -> None:
    page = opened()
    page.set_input_files(
        "#file", {"name": "large.jpg", "mimeType": "image/jpeg", "buffer": photo(5472, 3648, "JPEG")}
    )
    page.wait_for_selector("#desk:not([hidden])")
    assert "5472 × 3648" in page.inner_text("#picture-note")
    page.fill("#size", "12")
    box = page.locator("#mask").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + box["height"] * 0.75)
    page.wait_for_selector("#run:enabled")
    page.fill("#prompt", "green cube")
    page.fill("#count", "2")
    page.fill("#rounds", "0")
    page.click("#run")
    page.wait_for_selector(".candidate")
    ended(page)
    page.locator(".candidate .accept").first.click()
    page.wait_for_selector("#download:not([hidden])")
    png = downloaded(page, "#download")
    assert Image.open(BytesIO(png)).size == (5472, 3648)
    shoot(page, "11-large")


def test_what_is_no_picture_is_told(opened: Any) -> None:
    page = opened()
    page.set_input_files("#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"no picture"})
    page.wait_for_selector("#notice:not([hidden])")
    assert "notes.png is no picture" in page.inner_text("#notice")


def test_a_server_that_dies_is_told_and_the_run_goes_on_when_it_is_back(
    chromium: Any, tmp_path: Path
) -> None:
    own = Studio(tmp_path)
    try:
        page = chromium.new_page()
        page.set_default_timeout(WAIT_MS)
        page.goto(own.url)
        begin(page, candidates=2)
        page.wait_for_selector(".candidate")
        own.kill()
        page.wait_for_selector("#notice:not([hidden])")
        assert "cannot be reached" in page.inner_text("#notice")
        shoot(page, "12-server-gone")
        own.start()
        page.click("#go-on")
        ended(page)
        assert page.is_hidden("#notice")
        page.close()
    finally:
        own.stop()


def photo(width: int, height: int, kind: str = "PNG") -> bytes:
    file = BytesIO()
    Image.fromarray(np.asarray(data.coffee())).resize((width, height), Image.Resampling.BICUBIC).save(
        file, kind
    )
    return file.getvalue()
