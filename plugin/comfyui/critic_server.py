"""The node Critic Server: which server judges."""

from __future__ import annotations

from typing import Any, ClassVar

from editcritic.plugin.channels import DEFAULT_ADDRESS
from editcritic.v1.errors import EditCriticError

from . import host
from .addresses import CriticAddress, check_address, embedded_address, has_ended
from .widgets import widget

__all__ = ["CriticServer"]

_CRITICS = ("network", "evidence", "ensemble")


class CriticServer:
    """Names a critic server, or starts one that ends with ComfyUI."""

    CATEGORY = host.CATEGORY
    DESCRIPTION = (
        "Which critic server judges: one of this machine, or one that is started here and ends with ComfyUI."
    )
    FUNCTION = "run"
    RETURN_TYPES = ("EDITCRITIC_SERVER",)
    RETURN_NAMES = ("server",)
    OUTPUT_TOOLTIPS: ClassVar[tuple[str, ...]] = ("For the input `server` of the other nodes.",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        """Inputs, as ComfyUI reads them."""
        return {
            "required": {
                "mode": widget(
                    ["embedded", "address"],
                    "embedded: start a server in a process of its own. address: ask one that runs already.",
                ),
                "address": widget(
                    "STRING",
                    f"host:port, used by `address`. Empty: EDITCRITIC_SERVER, else {DEFAULT_ADDRESS}. Servers of other"
                    " machines have to be allowed there.",
                    default="",
                ),
                "critic": widget(list(_CRITICS), "The critic of an embedded server."),
            }
        }

    @classmethod
    def VALIDATE_INPUTS(cls, mode: str, address: str) -> bool | str:
        """Refuse an address before anything runs."""
        try:
            return mode != "address" or bool(check_address(address))
        except EditCriticError as error:
            return str(error)

    @classmethod
    def IS_CHANGED(cls, mode: str, address: str, critic: str) -> Any:
        """Run again when the embedded server has ended."""
        if mode == "embedded":
            return float("nan") if has_ended(critic) else critic
        return address

    def run(self, mode: str, address: str, critic: str) -> tuple[CriticAddress]:
        """Start the server where asked for. Raises: ServerUnavailable with what to install."""
        return (CriticAddress(embedded_address(critic) if mode == "embedded" else check_address(address)),)
