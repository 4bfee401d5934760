"""Which web pages may drive the server: none, but its own and those that were named.

Any page in a browser on this machine can send requests to loopback. It cannot hide where it comes from (Origin), and a
name of its own that it had point to loopback (DNS rebinding) stands in Host.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from editcritic.server.settings import ServerSettings, is_loopback
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import PermissionDenied

__all__ = ["Origins"]

_PREFLIGHT = (
    ("access-control-allow-methods", "GET, POST"),
    ("access-control-allow-headers", "authorization, content-type, grpc-timeout, traceparent, tracestate"),
    ("access-control-allow-private-network", "true"),
    ("access-control-max-age", "600"),
)


class Origins:
    """The rules of one server.

    Args:
        settings: its addresses, and the hosts and origins that were named.
        host: the address of its HTTP face, without the port.
    """

    def __init__(self, settings: ServerSettings, host: str) -> None:
        self._origins = frozenset(origin.lower().rstrip("/") for origin in settings.http_origins)
        self._hosts = frozenset(name.lower() for name in settings.http_hosts)
        self._is_local = is_loopback(host)

    def check(self, headers: Mapping[str, str], scheme: str) -> None:
        """Refuse what a foreign page sent.

        Args:
            headers: of the request, names in lower case.
            scheme: http or https.

        Raises:
            PermissionDenied: by the name of another host, or from a page of another site.
        """
        host = headers.get("host", "").lower()
        name = _name_of(host)
        if (self._is_local or self._hosts) and not (is_loopback(name) or name in self._hosts):
            raise _refused(
                f"this server does not answer to the name {name[:80]!r}; see --http-hosts.", "host"
            )
        origin = headers.get("origin", "").lower()
        if origin and not self.allows(origin) and not self._is_own(origin, scheme, host):
            raise _refused(f"pages of {origin[:80]!r} may not use this server; see --http-origins.", "origin")

    def allows(self, origin: str) -> bool:
        """Whether pages of this origin were named."""
        return origin.lower() in self._origins

    def headers(self, origin: str, *, preflight: bool = False) -> tuple[tuple[str, str], ...]:
        """What tells a browser that a named page may read an answer; nothing for others."""
        if not self.allows(origin):
            return ()
        told = (
            ("access-control-allow-origin", origin),
            ("access-control-expose-headers", "retry-after"),
            ("vary", "origin"),
        )
        return (*told, *_PREFLIGHT) if preflight else told

    def _is_own(self, origin: str, scheme: str, host: str) -> bool:
        """Whether a page came from this server, under a name that nobody else can have point here."""
        name = _name_of(host)
        return origin == f"{scheme}://{host}" and (
            _is_address(name) or is_loopback(name) or name in self._hosts
        )


def _name_of(host: str) -> str:
    """The name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refused(message: str, what: str) -> PermissionDenied:
    return PermissionDenied(message, reason=pb.ERROR_REASON_PERMISSION_DENIED, metadata={"header": what})
