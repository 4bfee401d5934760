"""Bearer tokens: a file with a line for each, read anew when it changes.

::

    # name    token or its hash                  role     quota (optional)
    studio    sha256:9f86d081884c7d659a2f...     score    per_minute=600 items=16
    nightly   a-long-random-string               refine
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from editcritic.server.callers import ANONYMOUS, Account, Caller, Quota, Role
from editcritic.server.settings import SettingsError

__all__ = ["Authenticator", "TokenEntry", "check_secret_file", "parse_tokens"]

_log = logging.getLogger(__name__)
_HASH = "sha256:"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
# Of the single token, and of callers without one.
_TAKEN_NAMES = ("token", ANONYMOUS.name)
_MIN_TOKEN_CHARS = 16
_MAX_FILE_BYTES = 1 << 20
_QUOTAS = ("per_minute", "items")
# A change is seen this much later at most; looking at every call would cost a system call each.
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class TokenEntry:
    """One line of the file. `digest` is the SHA-256 of the token, 32 bytes; the token itself is not kept."""

    name: str
    digest: bytes
    role: Role
    quota: Quota


def parse_tokens(text: str) -> tuple[TokenEntry, ...]:
    """The lines of a token file.

    Raises:
        SettingsError: a line that cannot be read, named by its number and never by its token.
    """
    entries: list[TokenEntry] = []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            entry = _parsed(words)
        except ValueError as error:
            raise SettingsError(f"line {number}: {error}") from error
        if any(entry.name == other.name or entry.digest == other.digest for other in entries):
            raise SettingsError(f"line {number}: the name or the token was given before")
        entries.append(entry)
    if not entries:
        raise SettingsError("there is no token in it")
    return tuple(entries)


def _parsed(words: list[str]) -> TokenEntry:
    if len(words) < 3:
        raise ValueError("needs a name, a token (or sha256:...) and a role")
    name, secret, role, *quotas = words
    if not _NAME.fullmatch(name) or name in _TAKEN_NAMES:
        raise ValueError(
            f"a name is 1 to 64 characters of [A-Za-z0-9._-], and not {' or '.join(_TAKEN_NAMES)}"
        )
    if role.upper() not in Role.__members__:
        raise ValueError(f"the role must be {', '.join(known.lower() for known in Role.__members__)}")
    return TokenEntry(name, _digest(secret), Role[role.upper()], _quota(quotas))


def _digest(secret: str) -> bytes:
    if not secret.startswith(_HASH):
        if len(secret) < _MIN_TOKEN_CHARS:
            raise ValueError(f"a token has at least {_MIN_TOKEN_CHARS} characters")
        return hashlib.sha256(secret.encode()).digest()
    digest = secret.removeprefix(_HASH)
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise ValueError("sha256: is followed by 64 hexadecimal digits")
    return bytes.fromhex(digest)


def _quota(words: list[str]) -> Quota:
    given: dict[str, int] = {}
    for word in words:
        name, _, value = word.partition("=")
        if name not in _QUOTAS or name in given or not re.fullmatch(r"[1-9][0-9]{0,8}", value):
            raise ValueError("a quota is per_minute=N or items=N, each once, N from 1")
        given[name] = int(value)
    return Quota(**given)


def check_secret_file(path: Path, *, may_be_read: bool = False) -> None:
    """Refuse a secret that others may change, or read.

    Args:
        path: of the file.
        may_be_read: only warn of what others may read.

    Raises:
        SettingsError: with the command that mends it.
    """
    if os.name != "posix":
        return
    mode = path.stat().st_mode
    advice = f"{path} may be read or changed by others (mode {stat.S_IMODE(mode):o}): chmod 600 {path}"
    if mode & (stat.S_IWGRP | stat.S_IWOTH) or (mode & stat.S_IROTH and not may_be_read):
        raise SettingsError(advice)
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        _log.warning("%s", advice)


class Authenticator:
    """Says who a bearer token belongs to.

    Args:
        token: one token that reaches everything; None for none.
        path: file of tokens; None for none. Without either, everybody is let in.
        clock: seconds, rising.

    Raises:
        SettingsError: the file cannot be read or is not as it should be.
    """

    def __init__(
        self, token: str | None, path: Path | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        own = [TokenEntry(_TAKEN_NAMES[0], _sha256(token), Role.ADMIN, Quota())] if token is not None else []
        self._own = tuple(own)
        self._path = path
        self._clock = clock
        self._looked_at = clock()
        self._accounts: dict[str, Account] = {}
        self._entries = self._own
        self._seen: object = None
        if path is not None:
            self._seen = _signature(path)
            self._take(self._read(path))

    def caller(self, authorization: str | bytes) -> Caller | None:
        """The caller of a call; None when it is not to be let in.

        Args:
            authorization: value of the metadata of that name, empty when there was none.
        """
        if not self._own and self._path is None:
            return ANONYMOUS
        if self._clock() - self._looked_at >= _LOOK_EVERY_S:
            self.reload()
        given = authorization.encode() if isinstance(authorization, str) else authorization
        digest = hashlib.sha256(given.removeprefix(b"Bearer ")).digest()
        # Every entry is compared, so that the time tells nothing of which one was near.
        matches = [entry for entry in self._entries if hmac.compare_digest(entry.digest, digest)]
        if not matches or not given.startswith(b"Bearer "):
            return None
        return Caller(matches[0].name, matches[0].role, self._accounts.get(matches[0].name))

    def reload(self, *, force: bool = False) -> None:
        """Read the file again if it changed. A file that is not as it should be leaves the tokens as they were.

        Args:
            force: read it even if it looks the same.
        """
        self._looked_at = self._clock()
        if self._path is None:
            return
        seen = _signature(self._path)
        if seen == self._seen and not force:
            return
        self._seen = seen
        try:
            self._take(self._read(self._path))
        except SettingsError as error:
            _log.error("the tokens stay as they were: %s", error)
        else:
            _log.info("%d tokens were read from %s", len(self._entries) - len(self._own), self._path)

    @staticmethod
    def _read(path: Path) -> tuple[TokenEntry, ...]:
        try:
            check_secret_file(path)
            if path.stat().st_size > _MAX_FILE_BYTES:
                raise SettingsError(f"{path} has over {_MAX_FILE_BYTES:,} bytes")
            return parse_tokens(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeError) as error:
            raise SettingsError(f"the tokens of {path} cannot be read: {error}") from error
        except SettingsError as error:
            raise SettingsError(f"the tokens of {path}: {error}") from error

    def _take(self, entries: tuple[TokenEntry, ...]) -> None:
        for entry in entries:
            account = self._accounts.setdefault(entry.name, Account(entry.name, entry.quota))
            account.quota = entry.quota
        self._entries = (*self._own, *entries)


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _signature(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode)
