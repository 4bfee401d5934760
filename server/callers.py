"""Who calls, what the role reaches, and what the quota leaves."""

from __future__ import annotations

import enum
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from dataclasses import dataclass

from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import PermissionDenied, QuotaExceeded

__all__ = ["ANONYMOUS", "Account", "Caller", "Quota", "Role", "call_as", "current_caller", "role_of"]


class Role(enum.IntEnum):
    """What a token is for; each role reaches what those before it reach."""

    SCORE = 1
    REFINE = 2
    ADMIN = 3


_ROLES = {
    pb.DESCRIPTOR.services_by_name["CriticService"].full_name: Role.SCORE,
    # The journal behind it holds other callers' edits too.
    refine_pb2.DESCRIPTOR.services_by_name["RefineService"].full_name: Role.REFINE,
}


def role_of(method: str) -> Role:
    """The least role for a method, given as ``/package.Service/Method``; a service nobody listed is for admins."""
    service = method.strip("/").partition("/")[0]
    if service.startswith("grpc.reflection."):
        return Role.SCORE
    return _ROLES.get(service, Role.ADMIN)


@dataclass(frozen=True)
class Quota:
    """What one token may use; None is no limit.

    Attributes:
        per_minute: calls, and candidates beyond the first of a call; a full minute's worth may come at once.
        items: candidates, previews and runs of the loop at the same time.
    """

    per_minute: int | None = None
    items: int | None = None


class Account:
    """What the calls of one token have used: a token bucket of requests, and a count of open items.

    Args:
        name: of the token.
        quota: what it may use; may be replaced while calls are open.
        clock: seconds, rising.
    """

    def __init__(self, name: str, quota: Quota, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self.quota = quota
        self._clock = clock
        self._filled_at = clock()
        self._left = float(quota.per_minute or 0)
        self._items = 0

    def take_request(self) -> None:
        """Count one request.

        Raises:
            QuotaExceeded: the minute's requests are used up; it says when the next one is free.
        """
        limit = self.quota.per_minute
        if limit is None:
            return
        now = self._clock()
        self._left = min(float(limit), self._left + (now - self._filled_at) * limit / 60)
        self._filled_at = now
        if self._left < 1:
            raise self._exceeded(f"{limit} requests a minute", (1 - self._left) * 60 / limit)
        self._left -= 1

    @contextmanager
    def item(self) -> Iterator[None]:
        """Hold one of the items that may be open at the same time.

        Raises:
            QuotaExceeded: all of them are.
        """
        if self.quota.items is not None and self._items >= self.quota.items:
            raise self._exceeded(f"{self.quota.items} candidates at a time", 1.0)
        self._items += 1
        try:
            yield
        finally:
            self._items -= 1

    def _exceeded(self, what: str, retry_after_s: float) -> QuotaExceeded:
        return QuotaExceeded(
            f"the quota of {self.name!r} is {what}, and it is used up; try again in {retry_after_s:.1f} s.",
            reason=pb.ERROR_REASON_QUOTA_EXCEEDED,
            metadata={"caller": self.name},
            retry_after_s=retry_after_s,
        )


class Caller:
    """One call's identity.

    Args:
        name: of the token, or of the client's certificate where there are no tokens.
        role: what it reaches.
        account: what it has used; None is unmetered.
    """

    def __init__(self, name: str, role: Role, account: Account | None = None) -> None:
        self.name = name
        self.role = role
        self._account = account
        self._is_first_item = True

    def admit(self, method: str) -> None:
        """Check role and quota before a call.

        Raises:
            PermissionDenied: the role does not reach the method.
            QuotaExceeded: too many requests.
        """
        needed = role_of(method)
        if self.role < needed:
            raise PermissionDenied(
                f"the token {self.name!r} has the role {self.role.name.lower()};"
                f" this call needs {needed.name.lower()}.",
                reason=pb.ERROR_REASON_PERMISSION_DENIED,
                metadata={"caller": self.name, "needed_role": needed.name.lower()},
            )
        if self._account is not None:
            self._account.take_request()

    @contextmanager
    def item(self) -> Iterator[None]:
        """Hold room for one candidate, preview or run; the first of a call was counted with the call.

        Raises:
            QuotaExceeded: too many requests, or too many items at a time.
        """
        if self._account is None:
            yield
            return
        if not self._is_first_item:
            self._account.take_request()
        self._is_first_item = False
        with self._account.item():
            yield

    def window(self, most: int) -> int:
        """How many items a call may have open at a time where the server allows `most`."""
        limit = self._account.quota.items if self._account is not None else None
        return most if limit is None else min(most, limit)

    def unmetered(self) -> Caller:
        """The same caller for work that was counted as a whole, such as the candidates of a run."""
        return Caller(self.name, self.role)


ANONYMOUS = Caller("anonymous", Role.ADMIN)
"""Whoever calls a server that asks for no token."""

_current: ContextVar[Caller] = ContextVar("caller", default=ANONYMOUS)


def current_caller() -> Caller:
    """Whose call the present task works for."""
    return _current.get()


def call_as(caller: Caller) -> Token[Caller]:
    """Name the caller of the present task and of all that it starts."""
    return _current.set(caller)
