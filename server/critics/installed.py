"""Critics of other installed packages, by entry points (https://packaging.python.org/specifications/entry-points/).

A package says in its pyproject.toml::

    [project.entry-points."editcritic.critics"]
    light = "my_critic:LightCritic"
"""

from __future__ import annotations

import logging
import re
from collections.abc import Collection
from importlib import metadata

__all__ = ["GROUP", "installed_critics"]

GROUP = "editcritic.critics"
_NAME = re.compile(
    r"[A-Za-z0-9._-]{1,64}"
)  # what a client may ask for, and nothing that a critic's full name uses

_log = logging.getLogger(__name__)


def installed_critics(taken: Collection[str]) -> dict[str, str]:
    """Name -> "module:attribute", of what is installed.

    Metadata is read and nothing imported: a critic's code runs once it is offered by name.

    Args:
        taken: names that are the server's own. An entry of such a name is left out with a warning, as an update of some
            package must not change who judges; so is one whose name cannot be asked for.
    """
    found: dict[str, str] = {}
    for entry in metadata.entry_points(group=GROUP):
        if entry.name in taken or entry.name in found or not _NAME.fullmatch(entry.name):
            _log.warning(
                "the critic %r of %s is left out: its name is taken, or none", entry.name, entry.value
            )
        else:
            found[entry.name] = f"{entry.module}:{entry.attr}"
    return found
