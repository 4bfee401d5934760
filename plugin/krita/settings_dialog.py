"""The settings, as a dialog."""

from __future__ import annotations

from typing import Any, Dict

from .qt import QtWidgets
from .settings import Settings

__all__ = ["SettingsDialog"]

_ROWS = (
    ("address", "Server", "host:port of `editcritic serve --http`"),
    ("token", "Token", "only for a server that asks for one"),
    ("candidate_count", "Candidates", "how many answers to start"),
    ("target_score", "Target score", "stop at this overall score; badges are green from it on"),
    ("repair_rounds", "Repair rounds", "how often the best one is mended"),
    ("time_limit_s", "Time limit", "of one edit; 0 for none"),
    ("engine", "Engine", "empty for the server's default"),
    ("seed", "First seed", "-1 for a new one each time"),
    ("server_command", "Start command", 'of "Start a server", as a JSON list; empty for the installed one'),
)
_SPANS = {
    "candidate_count": (1, 16, ""),
    "target_score": (0, 100, ""),
    "repair_rounds": (0, 4, ""),
    "time_limit_s": (0, 3600, " s"),
    "seed": (-1, 2**31 - 1, ""),
}


class SettingsDialog(QtWidgets.QDialog):
    """Shows settings and reads them back."""

    def __init__(self, settings: Settings, parent: Any = None) -> None:
        super().__init__(parent)
        self.setObjectName("editcritic_settings_dialog")
        self.setWindowTitle("editcritic settings")
        form = QtWidgets.QFormLayout(self)
        self._fields: Dict[str, Any] = {}
        for name, label, hint in _ROWS:
            field = self._field(name, getattr(settings, name), hint)
            field.setObjectName("editcritic_setting_" + name)
            field.setToolTip(hint)
            self._fields[name] = field
            form.addRow(label, field)
        buttons = QtWidgets.QDialogButtonBox.StandardButton
        box = QtWidgets.QDialogButtonBox(buttons.Ok | buttons.Cancel, self)
        box.accepted.connect(self.accept)
        box.rejected.connect(self.reject)
        form.addRow(box)
        self.setMinimumWidth(420)

    @staticmethod
    def _field(name: str, value: Any, hint: str) -> Any:
        if name in _SPANS:
            low, high, unit = _SPANS[name]
            spin = QtWidgets.QSpinBox()
            spin.setRange(low, high)
            spin.setSuffix(unit)
            spin.setValue(value)
            return spin
        line = QtWidgets.QLineEdit(str(value))
        line.setPlaceholderText(hint)
        if name == "token":
            line.setEchoMode(QtWidgets.QLineEdit.EchoMode.Password)
        return line

    @property
    def settings(self) -> Settings:
        """What stands in the fields."""
        read = {
            name: field.value() if name in _SPANS else field.text().strip()
            for name, field in self._fields.items()
        }
        return Settings(**read)
