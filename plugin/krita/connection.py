"""Whether the server is there: the state behind the line at the top of the docker, and when to ask again."""

from __future__ import annotations

__all__ = ["ABSENT", "READY", "SEARCHING", "STARTING", "Connection"]

SEARCHING, READY, ABSENT, STARTING = "searching", "ready", "absent", "starting"

_FIRST_DELAY_S, _LONGEST_DELAY_S, _READY_DELAY_S = 1.0, 30.0, 10.0


class Connection:
    """Turns answers to health checks into a state.

    Attributes:
        address: host:port. state: one of the constants of this module. detail: why it is absent, in plain words.
        delay_s: when to ask again: doubled from 1 s to 30 s while nobody answers, 10 s when all is well.
    """

    def __init__(self, address: str) -> None:
        self.address, self.state, self.detail = address, SEARCHING, ""
        self.delay_s = _FIRST_DELAY_S

    def moved(self, address: str) -> None:
        """The server is to be looked for at another address, or anew at this one."""
        self.address, self.state, self.detail = address, SEARCHING, ""
        self.delay_s = _FIRST_DELAY_S

    def answered(self) -> None:
        """A health check came back well."""
        self.state, self.detail, self.delay_s = READY, "", _READY_DELAY_S

    def lost(self, detail: str) -> None:
        """A health check or a call found nobody."""
        # The first failure after a good time asks again soon; then ever more rarely.
        self.delay_s = _FIRST_DELAY_S if self.state == READY else min(2 * self.delay_s, _LONGEST_DELAY_S)
        self.state, self.detail = ABSENT, detail

    def starting(self) -> None:
        """A server of our own is being started."""
        self.state, self.detail = STARTING, ""

    @property
    def text(self) -> str:
        """The state in one line."""
        return {
            SEARCHING: f"looking for a server at {self.address}",
            READY: f"server at {self.address}",
            ABSENT: f"no server at {self.address}: {self.detail}",
            STARTING: "starting a server; the first time takes some seconds",
        }[self.state]
