"""The one place that knows which Qt this Krita has: PyQt5 (Krita 5) or PyQt6 (Krita 6)."""

from __future__ import annotations

import importlib
import sys
from typing import Any

__all__ = ["QT_NAME", "QtCore", "QtGui", "QtWidgets", "Signal"]

# Krita has loaded its own before any plug-in; loading the other one into the same process would end it.
QT_NAME = "PyQt6" if "PyQt6.QtCore" in sys.modules else "PyQt5"

QtCore: Any = importlib.import_module(QT_NAME + ".QtCore")
QtGui: Any = importlib.import_module(QT_NAME + ".QtGui")
QtWidgets: Any = importlib.import_module(QT_NAME + ".QtWidgets")
Signal: Any = QtCore.pyqtSignal
