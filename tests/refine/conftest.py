"""An edit, and the nine tiny pipelines as engines."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from editcritic.refine.pipelines import DiffusersEngine
from tests.refine.tiny_pipelines import TINY_PIPELINES, tiny_pipeline

# Small networks on all cores spend their time waiting for one another.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def photo() -> NDArray[np.uint8]:
    """(64, 80, 3): noise, so that a single changed pixel shows; sides that are no multiple of each other."""
    return np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def hole() -> NDArray[np.bool_]:
    """(64, 80): a box."""
    mask = np.zeros((64, 80), bool)
    mask[20:40, 30:50] = True
    return mask


@functools.cache
def engine_of(name: str, **options: Any) -> DiffusersEngine:
    """One of the tiny pipelines as an engine of four steps at 32 px."""
    pipeline, conditioning = tiny_pipeline(name)
    multiple = 8 if name.startswith("sd") and name != "sd3" else 16
    options = {"native": 32, "default_steps": 4, "multiple": multiple, "conditioning": conditioning} | options
    return DiffusersEngine(pipeline, name, **options)


@pytest.fixture(params=list(TINY_PIPELINES))
def engine(request: pytest.FixtureRequest) -> DiffusersEngine:
    """Every family in turn."""
    return engine_of(request.param)
