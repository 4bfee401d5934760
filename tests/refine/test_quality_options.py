"""A wish for quality is checked before anything runs, and reaches the engine as the user gave it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from editcritic.refine.capabilities import Capabilities
from editcritic.refine.dummy import DummyEngine
from editcritic.refine.journal import Journal
from editcritic.refine.loop import Refinement
from editcritic.refine.quality_options import MOST_QUALITY_GUIDANCE, QualityOptions, quality_options
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2
from editcritic.v1.errors import InvalidInput
from tests.refine.conftest import engine_of
from tests.refine.critics import PlainCritic
from tests.refine.test_loop import request_for

ABLE = Capabilities("able", "none", quality_target=True, critic_guidance=True)
WISHES = [QualityOptions(target=90), QualityOptions(guidance=1), QualityOptions(critic_guidance=0.5)]
FIELDS = ["sampling.quality_target", "sampling.quality_guidance", "sampling.critic_guidance"]


@pytest.mark.parametrize("wish", WISHES)
def test_an_engine_that_has_it_takes_the_wish_as_it_is(wish: QualityOptions) -> None:
    assert wish.checked(ABLE) is wish


@pytest.mark.parametrize("wish", WISHES)
@pytest.mark.parametrize("name", ["dummy", "sd-inpaint"])
def test_engines_without_it_refuse_and_say_who_has_it(
    name: str, wish: QualityOptions, photo: NDArray[np.uint8], hole: NDArray[np.bool_]
) -> None:
    engine: Any = DummyEngine() if name == "dummy" else engine_of(name)
    with pytest.raises(InvalidInput, match=rf"the engine '{name}' .*use tabletop"):
        engine.candidate(photo, hole, "", seed=1, quality=wish)
    engine.candidate(photo, hole, "", seed=1, quality=QualityOptions()).drop()


@pytest.mark.parametrize("value", [-1, float("nan"), 1e9])
@pytest.mark.parametrize("field", ["target", "guidance", "critic_guidance"])
def test_a_value_out_of_its_band_is_refused_with_the_band(field: str, value: float) -> None:
    with pytest.raises(InvalidInput, match="expected 0 to") as caught:
        QualityOptions(**{field: value}).checked(ABLE)
    assert caught.value.field in FIELDS


def test_the_ends_of_the_bands_are_taken() -> None:
    for wish in (QualityOptions(0, 0, 0), QualityOptions(100, MOST_QUALITY_GUIDANCE, 1)):
        assert wish.checked(ABLE) == wish


def test_a_request_without_it_asks_for_nothing_and_a_target_of_zero_is_a_target() -> None:
    assert quality_options(refine_pb2.SamplingOptions()) is None
    asked = refine_pb2.SamplingOptions(quality_target=0.0, quality_guidance=1.5, critic_guidance=0.25)
    assert quality_options(asked) == QualityOptions(0.0, 1.5, 0.25)


def test_a_run_that_the_engine_cannot_carry_out_is_refused_before_its_first_event() -> None:
    request = request_for()
    request.sampling.quality_target = 90.0
    with pytest.raises(InvalidInput, match="takes no quality target") as caught:
        Refinement(DummyEngine(), PlainCritic(), request)
    assert caught.value.field == "sampling.quality_target"


def test_the_loop_hands_the_wish_to_first_answers_and_repairs_alike_and_never_changes_it() -> None:
    class Listening(DummyEngine):
        def __init__(self) -> None:
            super().__init__()
            self.capabilities = replace(self.capabilities, quality_target=True)
            self.wishes: list[Any] = []

        def candidate(self, *arguments: Any, **options: Any) -> Any:
            self.wishes.append(options["quality"])
            return super().candidate(*arguments, **options)

    engine, request = Listening(), request_for(count=2, repair_round_count=2)
    request.sampling.quality_target, request.sampling.quality_guidance = 80.0, 1.5
    reroll = pb.Defect(
        kind=pb.DEFECT_KIND_MELTED_TEXTURE,
        severity=0.9,
        actions=[pb.SuggestedAction(kind=pb.ACTION_KIND_REROLL)],
    )
    list(Refinement(engine, PlainCritic(defects=[reroll]), request).run())
    assert len(engine.wishes) > 2, "no repair was tried, so this test could not fail"
    assert set(engine.wishes) == {QualityOptions(80.0, 1.5)}


def test_a_resumed_run_asks_for_what_the_first_one_asked_for(tmp_path: Path) -> None:
    request = request_for()
    request.sampling.critic_guidance = 0.5
    engine = DummyEngine()
    engine.capabilities = ABLE
    journal = Journal(tmp_path / "journal.sqlite3")
    next(iter(Refinement(engine, PlainCritic(), request, journal).run()))
    assert quality_options(journal.request("mine").sampling) == QualityOptions(critic_guidance=0.5)


def test_what_an_engine_takes_crosses_the_wire() -> None:
    able, unable = ABLE.to_info(), DummyEngine().capabilities.to_info()
    assert (able.takes_quality_target, able.takes_critic_guidance) == (True, True)
    assert (unable.takes_quality_target, unable.takes_critic_guidance) == (False, False)
