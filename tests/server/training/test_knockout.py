"""Silencing parts of the network: each changes the answer, and none leaves a trace."""

from __future__ import annotations

from pathlib import Path

from editcritic.server.critics.network.critic import WEIGHTS
from editcritic.server.critics.network.runner import load_network
from editcritic.server.training.evaluation import list_jobs
from editcritic.server.training.knockout import PARTS, measure_parts


def test_every_part_matters_and_speaks_again_afterwards(photo_folder: Path) -> None:
    network = load_network(WEIGHTS / "network.safetensors")
    jobs = list_jobs(photo_folder, limit=2)
    found = measure_parts(network, jobs, names=("blur", "colour_shift", "repeat", "jpeg_blocks"))
    assert list(found) == list(PARTS)
    whole = found["nothing"]
    assert whole.order > 0.8
    assert sum(found[part] != whole for part in PARTS) >= len(PARTS) // 2
    assert found["measured evidence"].order < whole.order
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
