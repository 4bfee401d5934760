"""The document, as far as an edit needs it: pixels out, layers in; in steps that never hold Krita's thread for long.

Krita's scripting calls `addChildNode` and `refreshProjection` wait until the whole picture is composed anew, which
takes seconds for a large one. The program's own actions do not, and each is one entry of the undo history, so layers
are made, hidden and masked by them.
"""

from __future__ import annotations

from typing import Any, List, NamedTuple, Sequence, Tuple

from .background import Steps
from .regions import Region, bands, context_region

__all__ = ["Canvas", "Refused", "Snapshot"]

_POLL_MS, _PATIENCE_MS = 20, 20000
_MASKS = ("selectionmask", "transparencymask", "filtermask", "transformmask", "colorizemask")


class Refused(Exception):
    """It cannot be done with this document as it is; the message says what to do."""


class Snapshot(NamedTuple):
    """A part of the picture: BGRA rows and the selection, one byte a pixel, both in slices that join."""

    region: Region
    picture: List[bytes]
    selection: List[bytes]


class Canvas:
    """One document. krita: the `krita` module; document: `krita.Document`. Raises Refused where it says so."""

    def __init__(self, krita: Any, document: Any) -> None:
        self._krita, self.document = krita.Krita.instance(), document

    @property
    def is_active(self) -> bool:
        """Whether the user looks at it; Krita's actions work on that document alone."""
        active = self._krita.activeDocument()
        return active is not None and bool(active == self.document)

    def selected_region(self) -> Region:
        """The crop that shows the selection in its surroundings. Raises: Refused, when nothing can be edited."""
        model, depth = self.document.colorModel(), self.document.colorDepth()
        if (model, depth) != ("RGBA", "U8"):
            raise Refused(
                f"This picture is {model}, {depth}. Make it RGB/Alpha with 8 bits: Image > Convert Image Color Space."
            )
        selection = self.document.selection()
        if selection is None or selection.width() <= 0 or selection.height() <= 0:
            raise Refused("Nothing is selected. Select what is to be changed, with any selection tool.")
        asked = Region(selection.x(), selection.y(), selection.width(), selection.height())
        region = context_region(asked, Region(0, 0, self.document.width(), self.document.height()))
        if region.is_empty:
            raise Refused("The selection lies outside the picture.")
        return region

    def snapshot(self) -> Steps:
        """Read the selection and the picture round it as it is seen. Returns: Snapshot."""
        region = self.selected_region()
        selection = self.document.selection()
        levels: List[bytes] = []
        for band in bands(region):
            levels.append(selection.pixelData(*band).data())
            yield 0
        yield from self.idle()
        picture = yield from self.read(region)
        return Snapshot(region, picture, levels)

    def below(self, node: Any, region: Region) -> Steps:
        """Read what is seen without a layer, which is hidden for a moment. Returns: BGRA rows in slices."""
        if node is None or node.type() in _MASKS:
            raise Refused("Choose the layer that is to be judged, in the Layers docker.")
        yield from self.set_visible(node, False)
        try:
            yield from self.idle()
            return (yield from self.read(region))
        finally:
            if not self.is_active:  # the user has gone to another picture: it must not stay hidden
                node.setVisible(True)
            yield from self.set_visible(node, True)

    def read(self, region: Region) -> Steps:
        """Read a part of what is seen. Returns: BGRA rows in slices."""
        parts: List[bytes] = []
        for band in bands(region):
            parts.append(self.document.pixelData(*band).data())
            yield 0
        return parts

    def idle(self) -> Steps:
        """Wait until Krita has composed the picture."""
        for _ in range(_PATIENCE_MS // _POLL_MS):
            if self.document.tryBarrierLock():
                self.document.unlock()
                return
            yield _POLL_MS
        raise Refused("Krita is busy with this picture. Try again in a moment.")

    def new_layer(self, name: str) -> Steps:
        """Add an empty paint layer on top of everything. Returns: the node."""
        known = [node.uniqueId() for node in self.document.topLevelNodes()]
        top = [node for node in self.document.topLevelNodes() if node.type() not in _MASKS][-1]
        was_open = top.type() == "grouplayer" and not top.collapsed()
        if was_open:  # it would take the new layer in
            top.setCollapsed(True)
        yield from self._activate(top)
        self._trigger("add_new_paint_layer")
        for _ in range(_PATIENCE_MS // _POLL_MS):
            node = self.document.activeNode()
            if node is not None and node.uniqueId() not in known and node.type() == "paintlayer":
                break
            yield _POLL_MS
        else:
            raise Refused("Krita made no layer. Is the picture locked?")
        if was_open:
            top.setCollapsed(False)
        node.setName(name)
        return node

    def write(self, node: Any, bgra: Sequence[bytes], region: Region) -> Steps:
        """Fill a layer's part with pixels, in slices like `bands`, and have it seen; undo has no entry for it."""
        for band, pixels in zip(bands(region), bgra):
            node.setPixelData(pixels, *band)
            yield 0
        previous = self.document.activeNode()
        yield from self._activate(node)
        if node.visible():
            self._trigger("toggle_layer_visibility")
        yield 0
        self._trigger("toggle_layer_visibility")
        yield from self._back_to(previous)

    def set_visible(self, node: Any, wanted: bool) -> Steps:
        """Show or hide a layer; not an entry of the undo history."""
        if not self.holds(node) or bool(node.visible()) == wanted:
            return
        previous = self.document.activeNode()
        yield from self._activate(node)
        self._trigger("toggle_layer_visibility")
        yield from self._back_to(previous)

    def mask_alpha(self, node: Any, name: str) -> Steps:
        """Turn a layer's transparency into a mask of it, which a person can paint on."""
        yield from self.idle()
        previous = self.document.activeNode()
        yield from self._activate(node)
        self._trigger("split_alpha_into_mask")
        for _ in range(_PATIENCE_MS // _POLL_MS):
            if node.childNodes():
                node.childNodes()[0].setName(name)
                break
            yield _POLL_MS
        yield from self._back_to(previous)

    def remove(self, node: Any) -> Steps:
        """Take a layer away; undo brings it back as it was."""
        if not self.holds(node):
            return
        yield from self.idle()
        previous = self.document.activeNode()
        yield from self._activate(node)
        self._trigger("remove_layer")
        yield from self._back_to(previous)

    @staticmethod
    def holds(node: Any) -> bool:
        """Whether a layer is still in its document; undo takes layers away."""
        return node is not None and node.parentNode() is not None

    def records(self, name: str) -> str:
        """The text of an annotation; empty without one."""
        if name not in self.document.annotationTypes():
            return ""
        return bytes(self.document.annotation(name)).decode("utf-8", "replace")

    def keep_records(self, name: str, description: str, text: str) -> None:
        """Put an annotation into the document; it is saved with it."""
        self.document.setAnnotation(name, description, text.encode("utf-8"))

    def show_selection_outline(self, wanted: bool) -> bool:
        """Show or hide the marching ants; whether that changed anything."""
        action = self._krita.action("toggle_display_selection")
        if action is None or not action.isCheckable() or action.isChecked() == wanted:
            return False
        action.trigger()
        return True

    def _activate(self, node: Any) -> Steps:
        """Make a layer the only selected one, as the program's actions work on those."""
        for _ in range(_PATIENCE_MS // _POLL_MS):
            self._check_active()
            if self._selected() == [node.uniqueId()]:
                return
            self.document.setActiveNode(node)
            yield _POLL_MS
        raise Refused("Krita did not select the layer. Click on it in the Layers docker and try again.")

    def _back_to(self, node: Any) -> Steps:
        yield 0
        if self.is_active and self.holds(node):
            self.document.setActiveNode(node)
            yield 0

    def _trigger(self, name: str) -> None:
        self._check_active()
        action = self._krita.action(name)
        if action is None:
            raise Refused(f"this Krita has no action {name!r}; editcritic was made for Krita 5.1")
        action.trigger()

    def _selected(self) -> List[Any]:
        window = self._krita.activeWindow()
        view = window.activeView() if window is not None else None
        nodes: Tuple[Any, ...] = tuple(view.selectedNodes()) if view is not None else ()
        return [node.uniqueId() for node in nodes]

    def _check_active(self) -> None:
        if not self.is_active:
            raise Refused(
                "Go back to the picture that was edited: Krita changes layers of the one in front only."
            )
