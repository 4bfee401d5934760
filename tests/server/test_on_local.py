"""The suite of a server's conduct, with critics in threads of the server."""

from __future__ import annotations

from tests.server.conformance.calls import *  # noqa: F403
from tests.server.conformance.crowds import *  # noqa: F403
from tests.server.conformance.faults import *  # noqa: F403
from tests.server.conformance.streams import *  # noqa: F403
