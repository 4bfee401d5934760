"""Several candidates in one pass of the denoiser: as good as alone, and whose company it was changes no bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from editcritic.refine.gathering import Gate, Ticket
from editcritic.refine.pipelines import DiffusersCandidate, DiffusersEngine
from editcritic.v1.errors import ServerFault
from tests.refine.conftest import engine_of
from tests.refine.tiny_pipelines import TINY_PIPELINES

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]

SHARES = (0.25, 0.5, 1.0)


@pytest.fixture(params=sorted(TINY_PIPELINES))
def gathering(request: pytest.FixtureRequest) -> DiffusersEngine:
    """An engine of every family that denoises three candidates in one pass."""
    return engine_of(request.param, gather=3)


def together(engine: DiffusersEngine, photo: Pixels, hole: Mask, seeds: tuple[int, ...]) -> list[Pixels]:
    candidates = [engine.candidate(photo, hole, "a ball", seed=seed) for seed in seeds]
    for share in SHARES:
        engine.advance(candidates, share)
    return [candidate.result() for candidate in candidates]


def test_together_they_become_what_they_are_alone(
    gathering: DiffusersEngine, photo: Pixels, hole: Mask
) -> None:
    alone = [gathering.candidate(photo, hole, "a ball", seed=seed).result() for seed in (3, 4, 5)]
    for seen, expected in zip(together(gathering, photo, hole, (3, 4, 5)), alone, strict=True):
        assert np.abs(seen.astype(int) - expected).max() <= 1  # a pass of more rows rounds differently
    assert not np.array_equal(alone[0], alone[1])


def test_whose_company_it_was_changes_no_bit(gathering: DiffusersEngine, photo: Pixels, hole: Mask) -> None:
    (first,) = together(gathering, photo, hole, (4,))
    assert np.array_equal(together(gathering, photo, hole, (3, 4))[1], first)
    assert np.array_equal(together(gathering, photo, hole, (4, 5, 6))[0], first)


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> tuple[DiffusersEngine, list[int]]:
    """An engine, and the rows of every pass of its denoiser."""
    engine, rows = engine_of("sd-inpaint", gather=3), []
    gate: Gate = engine.pipeline.unet
    forward = gate.denoiser.forward

    def spied(sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        rows.append(len(sample))
        return forward(sample, *args, **kwargs)

    monkeypatch.setattr(gate.denoiser, "forward", spied)
    return engine, rows


def test_a_pass_serves_all_of_them(
    counted: tuple[DiffusersEngine, list[int]], photo: Pixels, hole: Mask
) -> None:
    engine, rows = counted
    candidates = [engine.candidate(photo, hole, "a ball", seed=seed) for seed in (3, 4)]
    engine.advance(candidates, 0.5)
    steps = candidates[0].evaluations
    assert [candidate.evaluations for candidate in candidates] == [steps, steps]
    assert rows == [2 * 3] * steps, "two rows for guidance, three places, one of which is filled up"


def test_one_that_fails_does_not_disturb_the_others(
    photo: Pixels, hole: Mask, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of("sd-inpaint", gather=3)
    good, bad = (engine.candidate(photo, hole, "a ball", seed=seed) for seed in (3, 4))
    assert isinstance(bad, DiffusersCandidate)

    def broken(*_args: Any, **_kwargs: Any) -> Any:
        raise RuntimeError("a scheduler that cannot step")

    monkeypatch.setattr(bad.call._pipeline.scheduler, "step", broken)
    engine.advance([good, bad], 0.5)
    with pytest.raises(ServerFault, match="cannot step"):
        bad.result()
    expected = together(engine, photo, hole, (3,))[0]
    assert np.abs(good.result().astype(int) - expected).max() <= 1


class _Doubling(nn.Module):
    """Tells how it was called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, sample: Tensor, timestep: Tensor, **_more: Any) -> tuple[Tensor]:
        self.calls.append(len(sample))
        return (sample * timestep.reshape(-1)[0],)


def tickets(*calls: tuple[Tensor, Tensor, dict[str, Any]]) -> list[Ticket]:
    return [Ticket((sample, timestep), more) for sample, timestep, more in calls]


def test_calls_that_differ_in_more_than_their_rows_are_not_mixed() -> None:
    denoiser = _Doubling()
    gate, row = Gate(denoiser, 2), torch.ones(1, 3)
    waiting = tickets(
        (row, torch.tensor(2.0), {"img_ids": torch.zeros(4, 3)}),
        (row, torch.tensor(3.0), {"img_ids": torch.zeros(4, 3)}),
        (row, torch.tensor(2.0), {"img_ids": torch.ones(4, 3)}),
        (torch.ones(1, 5), torch.tensor(2.0), {"img_ids": torch.zeros(4, 3)}),
        (5 * row, torch.tensor(2.0), {"img_ids": torch.zeros(4, 3)}),
    )
    gate.answer(waiting, together=True)
    assert len(denoiser.calls) == 4, "the first and the last share a pass"
    assert [float(ticket.answer[0][0, 0]) for ticket in waiting] == [2, 3, 2, 2, 10]


def test_an_error_of_a_pass_is_every_waiting_calls_own() -> None:
    class Failing(nn.Module):
        def forward(self, *_args: Tensor) -> Tensor:
            raise RuntimeError("out of memory")

    waiting = tickets((torch.ones(1, 3), torch.tensor(2.0), {}), (torch.ones(1, 3), torch.tensor(2.0), {}))
    Gate(Failing(), 2).answer(waiting, together=True)
    assert all("out of memory" in str(ticket.error) for ticket in waiting)
