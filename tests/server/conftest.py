"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.server.speaking import Stream


@pytest.fixture
def streaming(stub: Any) -> Callable[[], Stream]:
    """``streaming()`` opens a call on the dummy server."""
    return lambda: Stream(stub.CritiqueStream())
