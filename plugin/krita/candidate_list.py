"""The list of candidates: a thumbnail with its score, and why, in two lines."""

from __future__ import annotations

from typing import Any, Dict, List

from .candidates import APPLIED, DROPPED, FAILED, REJECTED, RUNNING, Board, Candidate
from .qt import QtCore, QtGui, QtWidgets
from .stopwatch import timed

__all__ = ["THUMBNAIL_PX", "CandidateList"]

THUMBNAIL_PX = 56
_MARGIN = 6
_ROW_PX = THUMBNAIL_PX + 2 * _MARGIN
_USER_ROLE = QtCore.Qt.ItemDataRole.UserRole
_GOOD, _FAIR, _POOR, _NONE = "#3c8f4a", "#a87a1e", "#a8403a", "#6a6a6a"
_WORDS = {DROPPED: "dropped", FAILED: "failed", REJECTED: "rejected", APPLIED: "applied"}


class CandidateList(QtWidgets.QListWidget):
    """Candidates, best first. target: the score from which on a badge is green."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self.target = 80
        self.thumbnails: Dict[str, Any] = {}
        self.setItemDelegate(_Painter(self))
        self.setVerticalScrollMode(QtWidgets.QAbstractItemView.ScrollMode.ScrollPerPixel)
        self.setHorizontalScrollBarPolicy(QtCore.Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setUniformItemSizes(True)
        self.setMinimumHeight(2 * _ROW_PX)

    @timed
    def refresh(self, board: Board) -> None:
        """Show the board as it is; the chosen candidate stays chosen."""
        chosen, ordered = self.chosen_id, board.ordered()
        self.blockSignals(True)
        while self.count() > len(ordered):
            self.takeItem(self.count() - 1)
        while self.count() < len(ordered):
            self.addItem("")
        for row, candidate in enumerate(ordered):
            self._fill(self.item(row), candidate)
            if candidate.candidate_id == chosen:
                self.setCurrentRow(row)
        self.blockSignals(False)
        self.viewport().update()

    @property
    def chosen_id(self) -> str:
        """The candidate that is chosen; empty when there is none."""
        item = self.currentItem()
        return item.data(_USER_ROLE).candidate_id if item is not None and item.data(_USER_ROLE) else ""

    def ids(self) -> List[str]:
        """Candidates from top to bottom."""
        return [self.item(row).data(_USER_ROLE).candidate_id for row in range(self.count())]

    @staticmethod
    def _fill(item: Any, candidate: Candidate) -> None:
        item.setData(_USER_ROLE, candidate)
        title = candidate.origin or candidate.candidate_id
        item.setToolTip(f"{title}: {_state_of(candidate)}\n{candidate.details or candidate.reason}")
        accessible = QtCore.Qt.ItemDataRole.AccessibleTextRole
        item.setData(
            accessible, f"{title}, {_score_of(candidate)}, {_state_of(candidate)}: {candidate.reason}"
        )


def _score_of(candidate: Candidate) -> str:
    return "–" if candidate.score is None else f"{candidate.score:.0f}"


def _state_of(candidate: Candidate) -> str:
    if candidate.state == RUNNING:
        return f"{candidate.fraction:.0%}"
    return _WORDS.get(candidate.state, candidate.state)


class _Painter(QtWidgets.QStyledItemDelegate):
    def sizeHint(self, option: Any, index: Any) -> Any:  # noqa: ARG002 - the names are Qt's
        return QtCore.QSize(120, _ROW_PX)

    @timed
    def paint(self, painter: Any, option: Any, index: Any) -> None:
        candidate = index.data(_USER_ROLE)
        if candidate is None:
            return
        painter.save()
        is_chosen = bool(option.state & QtWidgets.QStyle.StateFlag.State_Selected)
        role = QtGui.QPalette.ColorRole
        if is_chosen:
            painter.fillRect(option.rect, option.palette.color(role.Highlight))
        ink = option.palette.color(role.HighlightedText if is_chosen else role.Text)
        if candidate.state in (DROPPED, FAILED, REJECTED):
            ink.setAlphaF(0.75 if is_chosen else 0.55)
        box = QtCore.QRect(
            option.rect.left() + _MARGIN, option.rect.top() + _MARGIN, THUMBNAIL_PX, THUMBNAIL_PX
        )
        self._paint_picture(painter, box, candidate, option.palette)
        self._paint_badge(painter, box, candidate)
        text = option.rect.adjusted(THUMBNAIL_PX + 2 * _MARGIN + 2, _MARGIN, -_MARGIN, -_MARGIN)
        self._paint_text(painter, text, candidate, ink, option.font)
        painter.restore()

    def _paint_picture(self, painter: Any, box: Any, candidate: Candidate, palette: Any) -> None:
        image = self.parent().thumbnails.get(candidate.candidate_id)
        if image is None:
            painter.fillRect(box, palette.color(QtGui.QPalette.ColorRole.Window))
            done = round(box.width() * candidate.fraction)
            bar = QtCore.QRect(box.left(), box.bottom() - 3, done, 4)
            painter.fillRect(bar, palette.color(QtGui.QPalette.ColorRole.Highlight))
            return
        if candidate.state in (DROPPED, FAILED, REJECTED):
            painter.setOpacity(0.45)
        painter.drawImage(box, image)
        painter.setOpacity(1.0)

    def _paint_badge(self, painter: Any, box: Any, candidate: Candidate) -> None:
        font = QtGui.QFont(painter.font())
        font.setBold(True)
        font.setPointSizeF(max(7.0, 0.85 * font.pointSizeF()))
        painter.setFont(font)
        text = _score_of(candidate)
        badge = QtCore.QRect(box.right() - 25, box.top() + 2, 24, 17)
        painter.setRenderHint(QtGui.QPainter.RenderHint.Antialiasing)
        painter.setPen(QtCore.Qt.PenStyle.NoPen)
        painter.setBrush(QtGui.QColor(self._colour(candidate)))
        painter.drawRoundedRect(badge, 4, 4)
        painter.setPen(QtGui.QColor("white"))
        painter.drawText(badge, int(QtCore.Qt.AlignmentFlag.AlignCenter), text)

    def _colour(self, candidate: Candidate) -> str:
        if candidate.score is None or candidate.state in (DROPPED, FAILED, REJECTED):
            return _NONE
        target = self.parent().target
        return _GOOD if candidate.score >= target else _FAIR if candidate.score >= 0.6 * target else _POOR

    @staticmethod
    def _paint_text(painter: Any, area: Any, candidate: Candidate, ink: Any, font: Any) -> None:
        painter.setPen(ink)
        bold = QtGui.QFont(font)
        bold.setBold(True)
        bold.setStrikeOut(candidate.state == REJECTED)
        painter.setFont(bold)
        line = QtGui.QFontMetrics(bold).height()
        right = QtCore.Qt.TextElideMode.ElideRight
        state = "" if candidate.state in ("scored", "abstained") else f" · {_state_of(candidate)}"
        title = (candidate.origin or candidate.candidate_id) + state
        top = QtCore.QRect(area.left(), area.top(), area.width(), line)
        painter.drawText(top, 0, QtGui.QFontMetrics(bold).elidedText(title, right, area.width()))
        painter.setFont(font)
        metrics = QtGui.QFontMetrics(font)
        layout = QtGui.QTextLayout(candidate.reason, font)
        layout.beginLayout()
        at, lines = area.top() + line + 1, max(1, (area.height() - line) // metrics.lineSpacing())
        for number in range(lines):
            part = layout.createLine()
            if not part.isValid():
                break
            part.setLineWidth(area.width())
            words = candidate.reason[part.textStart() : part.textStart() + part.textLength()]
            if number == lines - 1:
                words = metrics.elidedText(candidate.reason[part.textStart() :], right, area.width())
            painter.drawText(area.left(), at + metrics.ascent(), words)
            at += metrics.lineSpacing()
        layout.endLayout()
