"""Faces are mended in their own way: the source's again where they are to stay, else by themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from editcritic.refine.diagnose import plan_actions
from editcritic.refine.engine import load_engine
from editcritic.refine.faces import face_prompt, restored_face
from editcritic.refine.repair import REPAIRS, Workpiece
from editcritic.refine.tokens import estimated_tokens
from editcritic.v1 import critic_pb2 as pb

FACE = pb.Box(x=20, y=16, width=20, height=20)
SCORED = pb.Score(status=pb.SCORE_STATUS_SCORED, value=50.0, stddev=2.0)


def critique(keeps: bool = True, subject: pb.Subject.ValueType = pb.SUBJECT_FACE) -> pb.Critique:
    defect = pb.Defect(kind=pb.DEFECT_KIND_WARPED_GEOMETRY, severity=0.5, box=FACE, subject=subject)
    face = pb.FaceView(box=FACE, state=pb.FACE_STATE_REDRAWN, keeps_identity=keeps)
    return pb.Critique(scores=pb.Scores(overall=SCORED), defects=[defect], faces=[face])


def work(told: pb.Critique) -> Workpiece:
    rng = np.random.default_rng(0)
    source, picture = (rng.integers(0, 256, (64, 64, 3)).astype(np.uint8) for _ in range(2))
    mask = np.zeros((64, 64), np.float32)
    mask[8:48, 8:56] = 1
    picture = np.where(mask[..., None] > 0, picture, source)
    return Workpiece(
        load_engine("dummy"), source, picture, mask, mask, "a hat", seed=1, attempt=0, critique=told
    )


def test_a_face_is_put_back_then_inpainted_by_itself_gently_before_anything_is_rolled_anew() -> None:
    plan = plan_actions(critique(), 1920)
    assert [each.kind for each in plan] == [
        pb.ACTION_KIND_RESTORE_REGION,
        pb.ACTION_KIND_REINPAINT_REGION,
        pb.ACTION_KIND_REINPAINT_REGION,
        pb.ACTION_KIND_REROLL,
    ]
    assert [round(each.strength, 2) for each in plan[1:3]] == [0.3, 0.45]
    assert all(each.region == FACE and each.subject == pb.SUBJECT_FACE for each in plan[:3])


def test_the_same_fault_of_something_else_is_mended_as_ever() -> None:
    plan = plan_actions(critique(subject=pb.SUBJECT_UNSPECIFIED), 1920)
    assert pb.ACTION_KIND_RESTORE_REGION not in [each.kind for each in plan]
    assert round(plan[0].strength, 2) == 0.35


def test_a_face_that_is_to_stay_is_the_sources_again_and_nothing_else_is() -> None:
    piece = work(critique())
    picture = restored_face(piece.source, piece.picture, piece.blend, critique(), FACE)
    assert picture is not None
    face = (slice(18, 34), slice(22, 38))
    middle = (slice(24, 28), slice(26, 34))
    assert (picture[middle] == piece.source[middle]).all()
    assert np.abs(picture[face].astype(int) - piece.source[face]).mean() < 10
    far = (slice(40, 48), slice(46, 56))
    assert (picture[far] == piece.picture[far]).all()
    assert (piece.picture[far] != piece.source[far]).any()
    assert (picture[piece.blend == 0] == piece.source[piece.blend == 0]).all()


@pytest.mark.parametrize("told", [critique(keeps=False), pb.Critique()])
def test_a_face_that_was_asked_for_is_not_put_back(told: pb.Critique) -> None:
    action = pb.SuggestedAction(kind=pb.ACTION_KIND_RESTORE_REGION, region=FACE)
    assert REPAIRS[pb.ACTION_KIND_RESTORE_REGION](work(told), action) is None


def test_a_face_elsewhere_is_not_meant() -> None:
    piece, elsewhere = work(critique()), pb.Box(x=50, y=50, width=8, height=8)
    assert restored_face(piece.source, piece.picture, piece.blend, critique(), elsewhere) is None


def test_a_face_is_named_to_engines_that_read_it() -> None:
    engine = load_engine("dummy")

    class Other:
        def __init__(self, **changes: object) -> None:
            self.capabilities = replace(engine.capabilities, **changes)  # type: ignore[arg-type]

    def told(prompt: str = "a king", **changes: object) -> str:
        return face_prompt(prompt, Other(**changes), estimated_tokens)  # type: ignore[arg-type]

    assert told(words=()).startswith("a king, close-up of a face")
    assert told("", words=()).startswith("close-up of a face")
    assert told(words=("ball",)) == "a king"
    assert told(words=(), instruction=True).startswith("make the face")
    assert told(words=(), prompt_tokens=8) == "a king"


def test_only_the_part_is_asked_for_in_other_words() -> None:
    piece = work(critique(keeps=False))
    action = pb.SuggestedAction(
        kind=pb.ACTION_KIND_REINPAINT_REGION, strength=0.3, region=FACE, subject=pb.SUBJECT_FACE
    )
    repair = REPAIRS[pb.ACTION_KIND_REINPAINT_REGION](piece, action)
    assert repair is not None
    assert repair.candidate is not None
    assert repair.prompt == "a hat"
    rows, columns = np.nonzero(repair.candidate.denoise_mask)
    assert rows.min() >= 8
    assert rows.max() < FACE.y + FACE.height + 12
    assert columns.max() < FACE.x + FACE.width + 12
