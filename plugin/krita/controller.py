"""What happens when a button is pressed: joins the widgets, the document and the server."""

from __future__ import annotations

import json
from typing import Any, Callable, List, Optional, Tuple

from .background import Background, Steps
from .candidate_list import THUMBNAIL_PX
from .candidates import Candidate
from .canvas import Canvas, Refused
from .connection import READY, Connection
from .http_client import HttpClient, ServerError, Unreachable
from .pictures import thumbnail
from .provenance import ANNOTATION, beside
from .qt import QtCore
from .regions import Region
from .server_process import ServerProcess, StartFailed
from .session import Session
from .settings import installed_command, load_settings, store_settings
from .settings_dialog import SettingsDialog
from .stopwatch import timed
from .view import View

__all__ = ["Controller"]

_GROUP = "editcritic"
_REFRESH_MS = 100
_EXPECTED = (Refused, Unreachable, ServerError, StartFailed, ValueError)


class Controller(QtCore.QObject):
    """Lives as long as the docker. krita: the `krita` module."""

    def __init__(self, krita: Any, view: View) -> None:
        super().__init__(view)
        self._krita, self.view = krita, view
        self._background = Background(self)
        self.settings = load_settings(self._read_setting)
        self.connection = Connection(self.settings.address)
        self.server = ServerProcess()
        self.session: Optional[Session] = None
        self.is_running = self._is_painting = False
        self._check_timer, self._refresh_timer = self._timer(self.check), self._timer(self._refresh)
        self._listen()
        self.view.candidates.target = self.settings.target_score
        self._show_server()
        self._check_timer.start(0)

    def _listen(self) -> None:
        view = self.view
        for button, pressed in (
            (view.edit, self.edit),
            (view.judge, self.judge),
            (view.cancel, self.cancel),
            (view.apply, self.apply),
            (view.reject, self.reject),
            (view.heat, self.heat),
            (view.start, self.start_server),
            (view.again, self.look_again),
            (view.settings, self.change_settings),
        ):
            button.clicked.connect(lambda _checked, pressed=pressed: pressed())
        view.compare.clicked.connect(self.compare)
        view.candidates.currentRowChanged.connect(self.choose)

    def _timer(self, function: Callable[[], Any]) -> Any:
        timer = QtCore.QTimer(self)
        timer.setSingleShot(True)
        timer.timeout.connect(function)
        return timer

    # The server.

    @timed
    def check(self) -> None:
        """Ask whether the server is there, and ask again later. While it works for us, it may be slow to answer."""
        if self.is_running:
            self._check_timer.start(round(1000 * self.connection.delay_s))
            return
        client = HttpClient(self.connection.address, self.settings.token)
        self._background.run(client.is_serving, self._on_health, self._on_absent)

    def _on_health(self, is_serving: bool) -> None:
        if is_serving:
            self.connection.answered()
        else:
            self.connection.lost("it is stopping")
        self._show_server()

    def _on_absent(self, error: Exception) -> None:
        self.connection.lost(str(error))
        self._show_server()

    def _show_server(self) -> None:
        self.view.show_server(self.connection.state, self.connection.text)
        self._show_choices()
        if self.connection.state != "starting":
            self._check_timer.start(round(1000 * self.connection.delay_s))

    @timed
    def look_again(self) -> None:
        """The user does not want to wait for the next check."""
        self.connection.moved(self.connection.address)
        self._show_server()
        self.check()

    @timed
    def start_server(self) -> None:
        """Start a server of the user's own; its address holds until Krita ends."""
        try:
            command = installed_command(self.settings)
        except ValueError as error:
            self._tell(error)
            return
        self.connection.starting()
        self._check_timer.stop()
        self._show_server()
        self._background.run(lambda: self.server.start(command), self._on_started, self._on_absent)

    def _on_started(self, address: str) -> None:
        self.settings = self.settings._replace(address=address)
        self.connection.moved(address)
        self._show_server()
        self.check()

    @timed
    def change_settings(self) -> None:
        """Show the dialog."""
        dialog = SettingsDialog(self.settings, self.view)
        dialog.accepted.connect(lambda: self.take_settings(dialog))
        dialog.open()

    @timed
    def take_settings(self, dialog: SettingsDialog) -> None:
        """Keep what the dialog holds."""
        self.settings = dialog.settings
        store_settings(self.settings, self._write_setting)
        self.view.candidates.target = self.settings.target_score
        self.connection.moved(self.settings.address)
        self._show_server()
        self.check()
        self._refresh()

    # An edit.

    @timed
    def edit(self) -> None:
        """Carry out the edit that the selection and the prompt ask for."""
        self._begin(self._read_edit)

    @timed
    def judge(self) -> None:
        """Judge the active layer."""
        self._begin(self._read_layer)

    def _begin(self, reading: Callable[[Session], Steps]) -> None:
        document = self._krita.Krita.instance().activeDocument()
        if document is None:
            self._tell(Refused("Open a picture first."))
            return
        self.cancel()
        prompt = self.view.prompt.toPlainText().strip()
        canvas = Canvas(self._krita, document)
        previous, self.session = self.session, None
        try:
            session = Session(canvas, self._background, self.settings, prompt)
        except ValueError as error:
            self._tell(error)
            return

        def steps() -> Steps:
            if previous is not None and previous.canvas.is_active:
                yield from previous.end_preview()
            return (yield from reading(session))

        self.session = session
        self.view.candidates.thumbnails.clear()
        self._set_running(True)
        self.view.show_note("reading the picture")
        self._refresh()
        self._background.steps(steps(), lambda work: self._send(session, work), self._on_unread)

    def _read_edit(self, session: Session) -> Steps:
        snapshot = yield from session.canvas.snapshot()

        def work() -> None:
            session.take(snapshot)
            session.refine(lambda event: self._background.post(lambda: self._on_event(session, event)))

        return work

    def _read_layer(self, session: Session) -> Steps:
        node = session.canvas.document.activeNode()
        snapshot = yield from session.canvas.snapshot()
        under = yield from session.canvas.below(node, snapshot.region)
        name = node.name()

        def work() -> None:
            session.take(snapshot._replace(picture=under))
            candidate = session.judge(snapshot.picture, name)
            self._background.post(lambda: self._on_judged(session, candidate))

        return work

    def _send(self, session: Session, work: Callable[[], None]) -> None:
        self.view.show_note("at work")
        self._background.run(
            work, lambda _nothing: self._on_end(session), lambda error: self._on_cut(session, error)
        )

    def _on_unread(self, error: Exception) -> None:
        self._set_running(False)
        self._fail(error)

    def _on_event(self, session: Session, event: Any) -> None:
        session.board.apply_event(event)
        if session is not self.session:
            return
        if "candidateFinished" in event or "result" in event:
            self._make_thumbnails(session)
        if not self._refresh_timer.isActive():
            self._refresh_timer.start(_REFRESH_MS)

    def _on_judged(self, session: Session, candidate: Candidate) -> None:
        session.board.add(candidate)
        session.board.cut_off("judged")
        self._make_thumbnails(session)

    def _on_end(self, session: Session) -> None:
        if not session.board.is_over:
            self._on_cut(session, Unreachable("the server stopped in the middle"))
        elif session is self.session:
            self._set_running(False)
            self.view.show_note(session.board.note, session.board.has_failed)
            self._refresh()

    def _on_cut(self, session: Session, error: Exception) -> None:
        if session is not self.session or not self.is_running:
            return
        kept = sum(candidate.can_be_shown for candidate in session.board.ordered())
        session.board.cut_off(f"{error}; {kept} finished kept" if kept else str(error))
        self._set_running(False)
        self._fail(error, session.board.note)
        self._refresh()

    @timed
    def cancel(self) -> None:
        """Stop what runs; what is finished stays."""
        if not self.is_running or self.session is None:
            return
        self._set_running(False)
        self.session.board.cut_off("cancelled; what was finished is kept")
        self.view.show_note(self.session.board.note)
        self._refresh()
        # Closing may wait for a lock that a send holds.
        self._background.run(self.session.leave, lambda _nothing: None, lambda _error: None)

    def _make_thumbnails(self, session: Session) -> None:
        for candidate in session.board.ordered():
            name = candidate.candidate_id
            if candidate.picture and name not in self.view.candidates.thumbnails:
                self.view.candidates.thumbnails[name] = None
                self._make_thumbnail(session, name, candidate.picture)

    def _make_thumbnail(self, session: Session, name: str, data: bytes) -> None:
        self._background.run(
            lambda: thumbnail(data, session.focus, session.size, THUMBNAIL_PX),
            lambda image: self._on_thumbnail(session, name, image),
            self._fail,
        )

    def _on_thumbnail(self, session: Session, name: str, image: Any) -> None:
        if session is self.session:
            self.view.candidates.thumbnails[name] = image
            self._refresh()

    # A candidate.

    @timed
    def choose(self, _row: int) -> None:
        """Show the chosen candidate on the canvas."""
        self._show_choices()
        candidate = self._chosen()
        if candidate is not None and candidate.can_be_shown and self.session is not None:
            self._show(self.session, candidate, then=lambda: None)

    def _show(self, session: Session, candidate: Candidate, then: Callable[[], Any]) -> None:
        if session.shown_id == candidate.candidate_id:
            then()
            return
        if self._is_painting:
            return
        self._is_painting = True

        def done(_result: Any) -> None:
            self._is_painting = False
            self.view.compare.setChecked(False)
            self._show_choices()
            latest = self._chosen()
            # The user may have gone on to another one meanwhile.
            if latest is not None and latest is not candidate and latest.can_be_shown:
                self._show(session, latest, then=lambda: None)
            else:
                then()

        def ready(pixels: List[bytes]) -> None:
            self._background.steps(session.show(candidate.candidate_id, pixels), done, self._fail)

        self._background.run(lambda: session.layer_pixels(candidate), ready, self._fail)

    @timed
    def apply(self) -> None:
        """Keep the chosen candidate as a layer."""
        session, candidate = self.session, self._chosen()
        if session is None or candidate is None or not candidate.can_be_shown:
            return

        def keep() -> None:
            steps = session.apply(candidate.candidate_id)
            self._background.steps(steps, lambda name: self._on_applied(session, candidate, name), self._fail)

        self._show(session, candidate, then=keep)

    def _on_applied(self, session: Session, candidate: Candidate, name: str) -> None:
        self.view.show_note(f"applied as the layer “{name}”; undo twice takes it back")
        self._refresh()
        self._tell_verdict(session, candidate, "ACCEPTED")

    @timed
    def reject(self) -> None:
        """Mark the chosen candidate as bad, or take that back."""
        session, candidate = self.session, self._chosen()
        if session is None or candidate is None:
            return
        if session.board.toggle_rejected(candidate.candidate_id):
            self._tell_verdict(session, candidate, "REJECTED")
            if session.shown_id == candidate.candidate_id:
                self._background.steps(
                    session.end_preview(), lambda _nothing: self._show_choices(), self._fail
                )
        self._refresh()

    @timed
    def compare(self, is_original: bool) -> None:
        """Show the picture as it was, or the candidate again."""
        if self.session is not None and self.session.shown_id:
            self._background.steps(self.session.compare(is_original), lambda _nothing: None, self._fail)

    @timed
    def heat(self) -> None:
        """Add the heat map of the chosen candidate as a layer."""
        session, candidate = self.session, self._chosen()
        if session is None or candidate is None or not candidate.can_be_shown:
            return
        self.view.show_note("asking for the heat map")

        def ready(heat: Tuple[List[bytes], Region]) -> None:
            steps = session.add_heat(candidate, *heat)
            self._background.steps(steps, lambda _nothing: self.view.show_note("heat map added"), self._fail)

        self._background.run(lambda: session.heat(candidate), ready, self._fail)

    def _tell_verdict(self, session: Session, candidate: Candidate, kind: str) -> None:
        ignore = lambda _answer: None  # noqa: E731
        # A server that keeps no verdicts is no trouble of the user's.
        self._background.run(lambda: session.tell_verdict(candidate, kind), ignore, ignore)

    @timed
    def note_export(self, path: str) -> None:
        """A picture was saved: write down beside it what was inpainted in it, unless the file itself carries that."""
        document = self._krita.Krita.instance().activeDocument()
        target = beside(path)
        if document is None or target is None or path.endswith((".kra", ".krz")):
            return
        records = Canvas(self._krita, document).records(ANNOTATION)
        if records:
            text = json.dumps(json.loads(records), indent=1)
            self._background.run(
                lambda: target.write_text(text, encoding="utf-8"), lambda _count: None, self._fail
            )

    def stop(self) -> None:
        """Krita ends."""
        if self.session is not None:
            self.session.leave()
        self.server.stop()

    # What is seen.

    def _chosen(self) -> Optional[Candidate]:
        name = self.view.candidates.chosen_id
        is_known = self.session is not None and name in self.session.board
        return self.session.board[name] if is_known and self.session is not None else None

    @timed
    def _refresh(self) -> None:
        if self.session is None:
            return
        board = self.session.board
        self.view.candidates.refresh(board)
        self.view.show_progress(board.progress)
        if self.is_running and board.note:
            self.view.show_note(board.note)
        self._show_choices()

    def _show_choices(self) -> None:
        candidate = self._chosen()
        can_be_shown = candidate is not None and candidate.can_be_shown and candidate.state != "applied"
        shown = self.session.shown_id if self.session is not None else ""
        is_shown = candidate is not None and shown == candidate.candidate_id
        is_rejected = candidate is not None and candidate.state == "rejected"
        is_ready = self.connection.state == READY and not self.is_running
        self.view.show_choices(can_be_shown, is_shown, is_rejected, is_ready)

    def _set_running(self, is_running: bool) -> None:
        self.is_running = is_running
        self.view.show_running(is_running, self.connection.state == READY)

    def _fail(self, error: Exception, told: str = "") -> None:
        self._is_painting = False
        if isinstance(error, Unreachable):
            self.connection.lost(str(error))
            self._show_server()
        self._tell(error, told)

    def _tell(self, error: Exception, told: str = "") -> None:
        text = told or str(error)
        self.view.show_note(
            text if isinstance(error, _EXPECTED) else f"something went wrong: {error!r}", True
        )

    def _read_setting(self, name: str, default: str) -> str:
        return str(self._krita.Krita.instance().readSetting(_GROUP, name, default))

    def _write_setting(self, name: str, value: str) -> None:
        self._krita.Krita.instance().writeSetting(_GROUP, name, value)
