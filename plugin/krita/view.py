"""The widgets of the docker. They know nothing of servers and documents: the controller listens to them."""

from __future__ import annotations

from typing import Any

from .candidate_list import CandidateList
from .qt import QtCore, QtGui, QtWidgets
from .stopwatch import timed

__all__ = ["View"]

_PROBLEM = "#e08a7c"
_DOTS = {"ready": "#4caf50", "absent": "#d9534f", "starting": "#d9a441", "searching": "#8a8a8a"}


class View(QtWidgets.QWidget):
    """Top to bottom: the server's state, the prompt, what to do, progress, candidates, what to do with one, a note."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        column = QtWidgets.QVBoxLayout(self)
        column.setContentsMargins(6, 6, 6, 6)
        column.setSpacing(6)
        column.addLayout(self._server_row())
        column.addLayout(self._absent_row())
        column.addWidget(self._prompt_field())
        column.addLayout(self._action_row())
        column.addLayout(self._progress_row())
        self.candidates = CandidateList(self)
        self.candidates.setObjectName("editcritic_candidates")
        self.candidates.setAccessibleName("Candidates, best first")
        column.addWidget(self.candidates, 1)
        column.addLayout(self._candidate_row())
        self.note = QtWidgets.QLabel()
        self.note.setObjectName("editcritic_note")
        self.note.setWordWrap(True)
        self.note.setTextInteractionFlags(QtCore.Qt.TextInteractionFlag.TextSelectableByMouse)
        column.addWidget(self.note)

    @timed
    def show_server(self, state: str, text: str) -> None:
        """State of the connection: one of `connection`'s, and the line that tells it."""
        self.dot.setStyleSheet(f"background: {_DOTS[state]}; border-radius: 5px;")
        self.server.setText(text)
        for button in (self.start, self.again):
            button.setVisible(state == "absent")
        self.edit.setEnabled(state == "ready" and self.cancel.isHidden())
        self.judge.setEnabled(self.edit.isEnabled())

    @timed
    def show_running(self, is_running: bool, is_ready: bool) -> None:
        """Whether something runs that can be cancelled."""
        self.progress.setVisible(is_running)
        self.cancel.setVisible(is_running)
        for button in (self.edit, self.judge):
            button.setEnabled(is_ready and not is_running)

    @timed
    def show_progress(self, share: float) -> None:
        """How far the run has come, 0 to 1."""
        # A progress bar paints itself at once, and Krita's whole canvas with it; this way it waits for its turn.
        self.progress.setUpdatesEnabled(False)
        self.progress.setValue(round(100 * share))
        self.progress.setUpdatesEnabled(True)

    @timed
    def show_choices(self, can_be_shown: bool, is_shown: bool, is_rejected: bool, is_ready: bool) -> None:
        """What may be done with the chosen candidate."""
        for button in (self.apply, self.reject):
            button.setEnabled(can_be_shown)
        self.heat.setEnabled(can_be_shown and is_ready)
        self.compare.setEnabled(is_shown)
        if not is_shown:
            self.compare.setChecked(False)
        self.reject.setText("Unreject" if is_rejected else "Reject")

    @timed
    def show_note(self, text: str, is_problem: bool = False) -> None:
        """One line at the bottom."""
        # A style sheet would also reset the font that Krita gives to dockers.
        palette = QtGui.QPalette(self.palette())
        if is_problem:
            palette.setColor(QtGui.QPalette.ColorRole.WindowText, QtGui.QColor(_PROBLEM))
        self.note.setPalette(palette)
        self.note.setText(text)

    def _server_row(self) -> Any:
        row = QtWidgets.QHBoxLayout()
        self.dot = QtWidgets.QLabel()
        self.dot.setFixedSize(10, 10)
        self.server = QtWidgets.QLabel()
        self.server.setObjectName("editcritic_server")
        self.server.setWordWrap(True)
        self.settings = QtWidgets.QToolButton()
        self.settings.setObjectName("editcritic_settings")
        self.settings.setText("Settings…")
        self.settings.setAutoRaise(True)
        row.addWidget(self.dot)
        row.addWidget(self.server, 1)
        row.addWidget(self.settings)
        return row

    def _absent_row(self) -> Any:
        row = QtWidgets.QHBoxLayout()
        self.start = self._button(
            "start", "Start a server", "Start a server on this machine; it ends with Krita."
        )
        self.again = self._button("again", "Try again", "Look for the server now.")
        row.addWidget(self.start)
        row.addWidget(self.again)
        return row

    def _prompt_field(self) -> Any:
        self.prompt = QtWidgets.QPlainTextEdit()
        self.prompt.setObjectName("editcritic_prompt")
        self.prompt.setAccessibleName("Prompt")
        self.prompt.setPlaceholderText("What should be there? Empty: remove it.")
        self.prompt.setTabChangesFocus(True)
        lines = 2 * QtGui.QFontMetrics(self.prompt.font()).lineSpacing()
        self.prompt.setFixedHeight(lines + 14)
        return self.prompt

    def _action_row(self) -> Any:
        row = QtWidgets.QHBoxLayout()
        self.edit = self._button(
            "edit", "Edit selection", "Produce candidates for the selection, and judge them."
        )
        self.judge = self._button(
            "judge",
            "Judge layer",
            "Judge what the active layer shows in the selection against what lies below it.",
        )
        row.addWidget(self.edit)
        row.addWidget(self.judge)
        return row

    def _progress_row(self) -> Any:
        row = QtWidgets.QHBoxLayout()
        self.progress = QtWidgets.QProgressBar()
        self.progress.setObjectName("editcritic_progress")
        self.progress.setRange(0, 100)
        self.cancel = self._button("cancel", "Cancel", "Stop; what is finished is kept.")
        row.addWidget(self.progress, 1)
        row.addWidget(self.cancel)
        self.progress.hide()
        self.cancel.hide()
        return row

    def _candidate_row(self) -> Any:
        grid = QtWidgets.QGridLayout()
        self.apply = self._button("apply", "Apply", "Keep the chosen candidate as a layer with a mask.")
        self.reject = self._button("reject", "Reject", "Mark it as bad; it stays in the list.")
        self.compare = self._button(
            "compare",
            "Compare",
            "Show the picture as it was; without marching ants, so that borders can be judged.",
        )
        self.compare.setCheckable(True)
        self.heat = self._button("heat", "Heat map", "Add a layer that shows where the faults are.")
        for place, button in enumerate((self.apply, self.compare, self.reject, self.heat)):
            grid.addWidget(button, place // 2, place % 2)
            button.setEnabled(False)
        return grid

    @staticmethod
    def _button(name: str, text: str, hint: str) -> Any:
        button = QtWidgets.QPushButton(text)
        button.setObjectName("editcritic_" + name)
        button.setToolTip(hint)
        return button
