"""The journeys, each a generator: `yield N` gives Krita its thread back for N milliseconds."""

import json
import math
import os
import signal
import subprocess
import time
import traceback
from pathlib import Path

from krita import Extension, Krita, Selection
from PyQt5.QtCore import QByteArray, Qt, QTimer
from PyQt5.QtTest import QTest
from PyQt5.QtWidgets import QDialog, QDialogButtonBox, QDockWidget, QSpinBox, QWidget

OUT = Path(os.environ.get("EDITCRITIC_DRIVER_OUT", "."))


class Driver(Extension):
    """Starts the journey that the environment names, once Krita's window is up."""

    def setup(self):
        self.report, self.gap_ms, self.last = {}, 0.0, None

    def createActions(self, window):
        if getattr(self, "is_started", False):
            return
        self.is_started = True
        QTimer.singleShot(3000, self.start)

    def start(self):
        Krita.instance().setBatchmode(True)
        journey = globals()["journey_" + os.environ["EDITCRITIC_DRIVER"]]
        self.steps = journey(self)
        self.beat = QTimer()
        self.beat.timeout.connect(self.on_beat)
        self.step()

    def on_beat(self):
        now = time.perf_counter()
        if self.last is not None:
            self.gap_ms = max(self.gap_ms, 1000 * (now - self.last))
        self.last = now

    def step(self):
        try:
            wait = next(self.steps)
        except StopIteration:
            self.finish()
        except Exception:
            self.report["failure"] = traceback.format_exc()
            self.finish()
        else:
            QTimer.singleShot(wait, self.step)

    def finish(self):
        from editcritic_krita.stopwatch import TIMES

        self.beat.stop()
        self.report["times"] = TIMES
        self.report["gap_ms"], self.report["load"] = self.gap_ms, os.getloadavg()
        self.report["note"] = self.text("note")
        (OUT / "report.json").write_text(json.dumps(self.report, indent=1))
        for document in Krita.instance().documents():
            document.setModified(False)
        QTimer.singleShot(100, Krita.instance().action("file_quit").trigger)

    # What a user sees and does.

    def widget(self, name):
        return self.dock.findChild(QWidget, "editcritic_" + name)

    def text(self, name):
        return self.widget(name).text() if hasattr(self, "dock") else ""

    def click(self, name):
        QTest.mouseClick(self.widget(name), Qt.LeftButton)

    def click_row(self, row):
        rows = self.widget("candidates")
        rows.scrollToItem(rows.item(row))
        QTest.mouseClick(rows.viewport(), Qt.LeftButton, pos=rows.visualItemRect(rows.item(row)).center())

    def type(self, text):
        field = self.widget("prompt")
        field.setFocus()
        field.selectAll()
        QTest.keyClicks(field, text or "\b")

    def rows(self):
        from editcritic_krita.qt import QtCore

        rows = self.widget("candidates")
        return [rows.item(row).data(QtCore.Qt.UserRole) for row in range(rows.count())]

    def until(self, what, condition, seconds=120):
        """Wait for something to come about; the docker goes on meanwhile."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f"not within {seconds} s: {what}; the note says {self.text('note')!r}")
            yield 50

    def idle(self, document):
        for _ in range(600):
            if document.tryBarrierLock():
                document.unlock()
                return
            yield 50

    def settle(self, document, ms=400):
        yield ms
        yield from self.idle(document)
        yield 100

    def shot(self, name):
        yield 300
        taking = subprocess.Popen(["import", "-window", "root", str(OUT / (name + ".png"))])
        while taking.poll() is None:
            yield 50

    def prepare(self):
        """Only our docker at the right, so that a picture of it shows something; then the heartbeat starts."""
        window = Krita.instance().activeWindow().qwindow()
        window.setGeometry(0, 0, 1280, 900)
        for dock in window.findChildren(QDockWidget):
            if dock.objectName() in ("KisLayerBox", "editcritic"):
                dock.show()
            elif dock.objectName() != "ToolBox":
                dock.hide()
        self.dock = window.findChild(QDockWidget, "editcritic")
        yield 500
        layers = window.findChild(QDockWidget, "KisLayerBox")
        window.resizeDocks([layers, self.dock], [240, 560], Qt.Vertical)
        window.resizeDocks([self.dock], [330], Qt.Horizontal)
        yield 700
        self.beat.start(5)

    def edit(self, prompt):
        self.type(prompt)
        self.click("edit")
        yield 300
        yield from self.until("the edit is done", lambda: not self.widget("cancel").isVisible(), 240)

    def undo(self, document, count):
        for _ in range(count):
            yield from self.settle(document)
            Krita.instance().action("edit_undo").trigger()
        yield from self.settle(document)

    def tree(self, document):
        return [
            (
                node.name(),
                node.type(),
                bool(node.visible()),
                [(each.name(), each.type()) for each in node.childNodes()],
            )
            for node in document.topLevelNodes()
            if node.type() != "selectionmask"
        ]


def pixels(document):
    return document.pixelData(0, 0, document.width(), document.height()).data()


def select(document, levels_of, x, y, width, height):
    """A selection of any shape. levels_of: (column, row) to 0..255."""
    levels = bytes(levels_of(column, row) for row in range(height) for column in range(width))
    selection = Selection()
    selection.setPixelData(QByteArray(levels), x, y, width, height)
    document.setSelection(selection)


def ellipse(width, height, soft=0.0):
    """Inside 255; within `soft` (a share of the radius) of the border it fades."""

    def level(column, row):
        far = math.hypot((column + 0.5) / width * 2 - 1, (row + 0.5) / height * 2 - 1)
        return 255 if far < 1 - soft else max(0, round(255 * (1 - far) / soft)) if soft and far < 1 else 0

    return level


def star(width, height):
    """A star with thin arms, and a hole in the middle."""

    def level(column, row):
        x, y = (column + 0.5) / width * 2 - 1, (row + 0.5) / height * 2 - 1
        far, angle = math.hypot(x, y), math.atan2(y, x)
        return 255 if 0.12 < far < 0.55 + 0.4 * math.cos(5 * angle) else 0

    return level


def opened(driver, name):
    document = Krita.instance().openDocument(str(OUT / name))
    Krita.instance().activeWindow().addView(document)
    yield 1000
    yield from driver.prepare()
    yield from driver.idle(document)
    return document


def ready(driver):
    yield from driver.until("the server is found", lambda: driver.widget("edit").isEnabled(), 60)


def journey_edit(driver):
    """Select, refine, look, compare, map, reject, judge, apply, undo, save."""
    report = driver.report
    document = yield from opened(driver, "photo.png")
    yield from ready(driver)
    before = pixels(document)
    width, height = document.width(), document.height()
    select(document, ellipse(150, 130), 440, 250, 150, 130)
    yield from driver.settle(document)
    yield from driver.edit("a shiny blue ball")
    yield from driver.settle(document)
    report["rows"] = [(each.candidate_id, each.state, each.score, each.reason) for each in driver.rows()]
    report["untouched_by_edit"] = pixels(document) == before
    yield from driver.shot("candidates")

    driver.click_row(0)
    yield from driver.until("the preview is there", lambda: len(driver.tree(document)) == 2)
    yield from driver.until("it is shown", lambda: driver.widget("compare").isEnabled())
    yield from driver.settle(document)
    previewed = pixels(document)
    report["preview_tree"] = driver.tree(document)
    report["preview_differs"] = previewed != before
    yield from driver.shot("preview")

    ants = Krita.instance().action("toggle_display_selection")
    report["ants_before"] = ants.isChecked()
    driver.click("compare")
    yield from driver.settle(document, 800)
    report["compare_shows_original"], report["ants_comparing"] = pixels(document) == before, ants.isChecked()
    yield from driver.shot("compare")
    driver.click("compare")
    yield from driver.settle(document, 800)
    report["compare_back"] = pixels(document) == previewed

    driver.click_row(1)
    yield from driver.settle(document, 1500)
    second = pixels(document)
    report["second_differs"] = second not in (before, previewed)
    driver.click("heat")
    yield from driver.until("the heat map is a layer", lambda: len(driver.tree(document)) == 3)
    yield from driver.until("it is told", lambda: "added" in driver.text("note"))
    yield from driver.settle(document)
    report["heat_tree"] = driver.tree(document)
    report["heat_differs"] = pixels(document) != second
    yield from driver.shot("heat")
    for node in document.topLevelNodes():
        if node.name().startswith("heat map"):
            document.setActiveNode(node)
            yield 200
            Krita.instance().action("remove_layer").trigger()
    yield from driver.settle(document)

    last = len(driver.rows()) - 1
    worst = max(row for row in range(last + 1) if driver.rows()[row].can_be_shown)
    if worst > 0:
        name = driver.rows()[worst].candidate_id
        driver.click_row(worst)
        yield from driver.settle(document, 1500)
        driver.click("reject")
        yield from driver.settle(document)
        report["rejected"] = [
            (each.candidate_id, each.state) for each in driver.rows() if each.candidate_id == name
        ]
        report["rejected_place"] = [each.candidate_id for each in driver.rows()].index(name) == last
        yield from driver.settle(document)
        report["after_reject"] = pixels(document) == before

    driver.click_row(0)
    yield from driver.settle(document, 2000)
    yield from driver.until("it is shown again", lambda: driver.widget("compare").isEnabled())
    driver.click("apply")
    yield from driver.until("it is applied", lambda: "applied" in driver.text("note"))
    yield from driver.settle(document)
    report["applied_tree"], report["ants_after"] = driver.tree(document), ants.isChecked()
    applied = pixels(document)
    report["applied_as_previewed"] = applied == previewed
    (OUT / "applied.bgra").write_bytes(applied)
    (OUT / "before.bgra").write_bytes(before)
    report["size"] = [width, height]
    yield from driver.shot("applied")
    yield from driver.undo(document, 2)
    report["undone"], report["undone_tree"] = pixels(document) == before, driver.tree(document)
    for _ in range(2):
        Krita.instance().action("edit_redo").trigger()
        yield from driver.settle(document)
    report["redone"] = pixels(document) == applied

    document.setBatchmode(True)
    report["saved"] = document.saveAs(str(OUT / "edited.kra"))
    yield from driver.settle(document)
    for node in document.topLevelNodes():
        if "editcritic" in node.name():
            document.setActiveNode(node)
    yield from driver.settle(document)
    driver.click("judge")
    yield 300
    yield from driver.until("it is judged", lambda: not driver.widget("cancel").isVisible())
    yield from driver.settle(document, 800)
    report["judged"] = [(each.origin, each.state, each.score, each.reason) for each in driver.rows()]
    report["judge_leaves_all"] = pixels(document) == applied
    yield from driver.shot("judged")
    document.saveAs(str(OUT / "flat.png"))
    yield from driver.settle(document, 800)
    driver.click("settings")
    yield 500
    dialog = driver.dock.findChild(QDialog, "editcritic_settings_dialog")
    dialog.findChild(QSpinBox, "editcritic_setting_candidate_count").setValue(7)
    yield from driver.shot("settings")
    QTest.mouseClick(dialog.findChild(QDialogButtonBox).button(QDialogButtonBox.Ok), Qt.LeftButton)
    yield 300
    report["setting_kept"] = Krita.instance().readSetting("editcritic", "candidate_count", "")


def journey_large(driver):
    """4000 x 3000: selections of every kind, cancel, apply, undo."""
    report = driver.report
    document = yield from opened(driver, "large.png")
    yield from ready(driver)
    before = pixels(document)

    driver.type("a red ball")
    driver.click("edit")
    yield from driver.until(
        "nothing selected is told", lambda: "Nothing is selected" in driver.text("note"), 20
    )
    report["empty"] = driver.text("note")
    select(document, lambda column, row: 255, -300, -300, 200, 200)
    yield from driver.settle(document)
    driver.click("edit")
    yield 1000
    report["outside"] = driver.text("note")
    select(document, lambda column, row: 60, 900, 900, 80, 80)
    yield from driver.settle(document)
    driver.click("edit")
    yield from driver.until("faint is told", lambda: "fainter" in driver.text("note"), 30)
    report["faint"] = driver.text("note")
    yield from driver.shot("faint")

    select(document, ellipse(420, 300, soft=0.4), 1800, 1300, 420, 300)
    yield from driver.settle(document)
    yield from driver.edit("a red ball")
    report["feathered"] = [(each.state, each.score) for each in driver.rows()]
    driver.click_row(0)
    yield from driver.until("it is shown", lambda: driver.widget("compare").isEnabled())
    yield from driver.settle(document)
    driver.click("apply")
    yield from driver.until("it is applied", lambda: "applied" in driver.text("note"))
    yield from driver.settle(document, 1000)
    after = pixels(document)
    report["applied_tree"], report["changed"] = driver.tree(document), after != before
    report["rows_outside_same"] = after[: 4 * 4000 * 1000] == before[: 4 * 4000 * 1000]
    yield from driver.shot("applied")
    yield from driver.undo(document, 2)
    report["undone"], report["undone_tree"] = pixels(document) == before, driver.tree(document)

    select(document, star(500, 500), 3400, 2450, 500, 500)
    yield from driver.settle(document)
    driver.type("a green cube")
    driver.click("edit")
    yield from driver.until("candidates start", lambda: driver.widget("candidates").count() > 0)
    yield from driver.shot("running")
    driver.click("cancel")
    yield from driver.until("it is cancelled", lambda: not driver.widget("cancel").isVisible(), 5)
    report["cancelled"] = driver.text("note")
    yield from driver.edit("a green cube")
    report["star"] = [(each.state, each.score) for each in driver.rows()]

    selection = Selection()
    selection.select(0, 0, 4000, 3000, 255)
    document.setSelection(selection)
    yield from driver.settle(document)
    yield from driver.edit("")
    report["everything"] = (driver.text("note"), [each.state for each in driver.rows()])
    deep = Krita.instance().createDocument(64, 64, "deep", "RGBA", "U16", "", 72.0)
    Krita.instance().activeWindow().addView(deep)
    yield 1500
    driver.click("edit")
    yield 1000
    report["deep"] = driver.text("note")


def journey_server(driver):
    """No server; the button; the server killed in the middle; found again."""
    report = driver.report
    document = yield from opened(driver, "photo.png")
    yield from driver.until("its absence is told", lambda: "no server" in driver.text("server"), 20)
    report["absent"], report["can_edit_without"] = driver.text("server"), driver.widget("edit").isEnabled()
    yield from driver.shot("absent")
    driver.click("start")
    yield 200
    report["starting"] = driver.text("server")
    yield from driver.until("it has started", lambda: driver.widget("edit").isEnabled(), 150)
    report["started"] = driver.text("server")
    select(document, ellipse(150, 130), 440, 250, 150, 130)
    yield from driver.settle(document)
    driver.type("a red ball")
    driver.click("edit")
    has_one = lambda: any(each.can_be_shown for each in driver.rows())  # noqa: E731
    yield from driver.until("one is finished", has_one, 200)
    controller = driver.dock.controller if hasattr(driver.dock, "controller") else None
    process = controller.server._process if controller else None
    os.kill(process.pid, signal.SIGKILL)
    yield from driver.until("the loss is told", lambda: not driver.widget("cancel").isVisible(), 30)
    yield 500
    report["killed"] = driver.text("note")
    report["killed_server"] = driver.text("server")
    report["kept"] = [(each.state, each.can_be_shown) for each in driver.rows()]
    yield from driver.shot("killed")
    row = next(row for row, each in enumerate(driver.rows()) if each.can_be_shown)
    driver.click_row(row)
    yield from driver.until("what was kept can be seen", lambda: driver.widget("compare").isEnabled(), 30)
    driver.click("start")
    yield from driver.until("it is back", lambda: driver.widget("edit").isEnabled(), 150)
    report["back"] = driver.text("server")
    yield from driver.edit("a red ball")
    report["rows"] = [each.state for each in driver.rows()]
