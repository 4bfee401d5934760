"""The docker as Krita sees it."""

from __future__ import annotations

from typing import Any

from .controller import Controller
from .view import View

__all__ = ["DOCKER_ID", "register"]

DOCKER_ID = "editcritic"


def register(krita: Any) -> None:
    """Add the docker to Krita; it is in Settings > Dockers and at the right. krita: the `krita` module."""

    class Docker(krita.DockWidget):
        def __init__(self) -> None:
            super().__init__()
            self.setWindowTitle("editcritic")
            view = View(self)
            self.setWidget(view)
            self.controller = Controller(krita, view)
            notifier = krita.Krita.instance().notifier()
            notifier.setActive(True)
            notifier.imageSaved.connect(self.controller.note_export)
            notifier.applicationClosing.connect(self.controller.stop)

        def canvasChanged(self, canvas: Any) -> None:
            """Another document is in front: the candidates stay with theirs."""

    position = krita.DockWidgetFactoryBase.DockRight
    krita.Krita.instance().addDockWidgetFactory(krita.DockWidgetFactory(DOCKER_ID, position, Docker))
