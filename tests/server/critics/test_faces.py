"""Faces in the edited region: found, judged by themselves, and told to whoever mends them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import data

from editcritic.server.critics import check_spec, load_critic
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit, Outcome
from editcritic.server.critics.dummy import DummyCritic
from editcritic.server.critics.faces.critic import FacesCritic
from editcritic.server.critics.faces.detection import CascadeDetector, Face, YuNetDetector
from editcritic.server.critics.faces.figures import measure_face
from editcritic.server.critics.faces.likeness import WEIGHTS
from editcritic.server.critics.faces.verdict import FaceCase, face_defects, score_of
from editcritic.server.critics.faces.wishes import asks_for_face
from editcritic.server.critics.views import Bounds
from editcritic.server.training.face_likeness import learn
from editcritic.server.training.suites.asking import Asked
from editcritic.server.training.suites.face_faults import FACE_FAULTS, spoil_face
from editcritic.server.training.suites.faces import faces_result
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput, ServerFault

Pixels = NDArray[np.uint8]


@cache
def portrait() -> Pixels:
    """An astronaut's head and shoulders."""
    return np.ascontiguousarray(data.astronaut()[:240, 120:340])


@cache
def face_box() -> Bounds:
    return CascadeDetector().find(portrait())[0].box


def head_mask(share: float = 1.0) -> NDArray[np.float32]:
    """A box round the face; share: of its height, from the top."""
    box, mask = face_box(), np.zeros(portrait().shape[:2], np.float32)
    top, left = box.y - 12, box.x - 12
    mask[top : top + round(share * (box.height + 24)), left : left + box.width + 24] = 1
    return mask


class Sure:
    """The detector that ships, sure of whatever it finds."""

    name = "sure"

    def find(self, picture: Pixels) -> list[Face]:
        return [Face(face.box, 0.95) for face in CascadeDetector().find(picture)]


def asked(mask: NDArray[np.float32], prompt: str = "", source: Pixels | None = None) -> Asked:
    critic = FacesCritic(DummyCritic(), CascadeDetector())
    return Asked.about(critic, portrait() if source is None else source, mask, prompt)


def test_the_astronaut_has_one_face_and_it_is_found_without_a_download() -> None:
    faces = CascadeDetector().find(portrait())
    assert len(faces) == 1
    box = faces[0].box
    # Between her eyes, in the crop.
    assert box.x < 104 < box.x + box.width
    assert box.y < 110 < box.y + box.height
    assert 70 < box.width < 130
    assert faces[0].confidence > 0.5


@pytest.mark.parametrize("name", ["coffee", "chelsea", "brick", "rocket"])
def test_what_is_no_face_is_none(name: str) -> None:
    photo = np.asarray(getattr(data, name)(), np.uint8)
    picture = np.stack([photo] * 3, -1) if photo.ndim == 2 else photo
    assert CascadeDetector().find(np.ascontiguousarray(picture[:240, :240])) == []


def test_a_picture_smaller_than_a_face_has_none() -> None:
    assert CascadeDetector().find(np.zeros((20, 200, 3), np.uint8)) == []


def test_a_detector_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no face detector"):
        YuNetDetector(tmp_path / "nowhere.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    with pytest.raises(InvalidInput, match="no YuNet model"):
        YuNetDetector(broken)


def test_the_shipped_weights_are_what_their_script_learns() -> None:
    from safetensors.numpy import load_file

    weights, bias = learn()
    stored = load_file(WEIGHTS)
    assert np.allclose(stored["weights"], weights, atol=1e-4)
    assert float(stored["bias"][0]) == pytest.approx(bias, abs=1e-3)


@pytest.mark.parametrize("fault", FACE_FAULTS)
def test_a_spoilt_face_scores_below_the_same_face(fault: str) -> None:
    box = face_box()
    beside = measure_face(portrait(), box)

    def score(picture: Pixels) -> float:
        figures = measure_face(picture, box)
        return score_of(FaceCase(box, pb.FACE_STATE_REDRAWN, figures, beside, False)).value

    assert score(portrait()) > 99
    assert score(spoil_face(portrait(), box, fault, 1.0, 1)) < 90


def test_a_fault_stays_within_the_face() -> None:
    box = face_box()
    changed = (spoil_face(portrait(), box, "noise", 1.0, 1) != portrait()).any(-1)
    rows, columns = np.nonzero(changed)
    assert changed.any()
    assert rows.min() >= box.y - 0.1 * box.height
    assert columns.min() >= box.x - 1
    assert columns.max() <= box.x + box.width + 1


def test_a_face_that_is_as_good_as_before_costs_nothing() -> None:
    critique = asked(head_mask(), "a red ball").critique(portrait())
    assert [face.state for face in critique.faces] == [pb.FACE_STATE_REDRAWN]
    assert critique.faces[0].keeps_identity
    assert critique.faces[0].score.value == pytest.approx(100, abs=0.5)
    assert not critique.defects


def test_a_spoilt_face_is_named_and_takes_its_share_of_the_scores() -> None:
    question = asked(head_mask(), "a portrait")
    good = question.critique(portrait())
    bad = question.critique(spoil_face(portrait(), face_box(), "noise", 1.0, 1))
    assert bad.faces[0].score.value < 70
    defect = next(each for each in bad.defects if each.kind == pb.DEFECT_KIND_NOISE_MISMATCH)
    assert defect.subject == pb.SUBJECT_FACE
    assert defect.explanation.startswith("face in the middle: it is grainier")
    assert defect.box == bad.faces[0].box
    share = bad.faces[0].score.value / 100
    assert bad.scores.overall.value == pytest.approx(good.scores.overall.value * share, rel=0.05)
    assert bad.scores.preservation.value == pytest.approx(good.scores.preservation.value, rel=0.05)
    assert "Face in the middle" in bad.explanation


def test_a_new_face_is_judged_without_a_source() -> None:
    hidden = np.where(head_mask()[..., None] > 0, np.uint8(128), portrait())
    critique = asked(head_mask(), "a portrait", hidden).critique(portrait())
    assert [face.state for face in critique.faces] == [pb.FACE_STATE_NEW]
    assert not critique.faces[0].keeps_identity


def test_without_a_face_the_answer_is_the_inner_critics() -> None:
    photo = np.ascontiguousarray(data.coffee()[:160, :160])
    mask = np.zeros(photo.shape[:2], np.float32)
    mask[50:110, 50:110] = 1
    inner = Asked.about(DummyCritic(), photo, mask).critique(photo)
    outer = Asked.about(FacesCritic(DummyCritic()), photo, mask).critique(photo)
    assert not outer.faces
    assert outer.scores == inner.scores
    assert outer.explanation == inner.explanation


def test_a_face_outside_the_mask_is_nobodys_business() -> None:
    mask = np.zeros(portrait().shape[:2], np.float32)
    mask[200:235, 20:60] = 1
    assert not asked(mask).critique(portrait()).faces


@pytest.mark.parametrize(
    ("prompt", "share", "is_missed"),
    [
        ("", 1.0, False),  # removal of the person may be the wish
        ("a red ball", 1.0, False),
        ("a smiling woman", 1.0, True),
        ("a red hat", 0.4, True),  # the mask covers but the brow
    ],
)
def test_a_face_that_is_gone_is_missed_only_where_its_removal_was_not_asked_for(
    prompt: str, share: float, is_missed: bool
) -> None:
    mask = head_mask(share)
    gone = portrait().copy()
    gone[face_box().slices] = 120
    question = Asked.about(FacesCritic(DummyCritic(), Sure()), portrait(), mask, prompt)
    critique = question.critique(gone)
    lost = [face for face in critique.faces if face.state == pb.FACE_STATE_LOST]
    assert bool(lost) == is_missed
    if is_missed:
        assert lost[0].score.status == pb.SCORE_STATUS_ABSTAINED
        assert lost[0].keeps_identity == (prompt == "a red hat")
        assert [each.kind for each in critique.defects] == [pb.DEFECT_KIND_MISSING_PART]


def test_the_source_is_put_back_only_where_the_face_is_to_stay() -> None:
    box, beside = face_box(), measure_face(portrait(), face_box())
    figures = measure_face(spoil_face(portrait(), box, "noise", 1.0, 1), box)

    def first(keeps: bool) -> pb.SuggestedAction:
        case = FaceCase(box, pb.FACE_STATE_REDRAWN, figures, beside, keeps)
        return face_defects(case, 220, 9000)[0].actions[0]

    assert first(True).kind == pb.ACTION_KIND_RESTORE_REGION
    assert first(False).kind == pb.ACTION_KIND_REINPAINT_REGION
    assert first(False).strength == pytest.approx(0.3)
    assert first(False).subject == pb.SUBJECT_FACE


@pytest.mark.parametrize(
    ("prompt", "asks"),
    [
        ("a smiling woman", True),
        ("Portrait of a king", True),
        ("a red ball", False),
        ("", False),
        ("a mandolin", False),
    ],
)
def test_prompts_that_ask_for_a_face(prompt: str, asks: bool) -> None:
    assert asks_for_face(prompt) is asks


def test_early_previews_have_no_faces() -> None:
    question = asked(head_mask(), "a portrait")
    assert not question.critique(portrait(), progress=0.3).faces
    assert question.critique(portrait(), progress=0.9).faces


def test_it_stands_around_any_critic_by_name() -> None:
    critic = load_critic("faces@dummy")
    assert critic.info.identity.name == "faces"
    assert "dummy-1" in critic.info.identity.version
    assert check_spec("faces").weights == "network"
    assert (
        check_spec("faces@ensemble@network:0.6+evidence:0.4").weights == "ensemble@network:0.6+evidence:0.4"
    )
    assert check_spec("faces?detector=/models/yunet.onnx@network").options.detector == "/models/yunet.onnx"


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ("faces@faces@network", "looked at once"),
        ("faces@ensemble@faces@network:1", "faces@ensemble"),
        ("faces?bits=4@network", "does not take bits"),
        ("network?detector=x.onnx", "does not take detector"),
        ("faces@nobody", "no critic 'nobody'"),
    ],
)
def test_what_faces_cannot_stand_around_is_refused(spec: str, wrong: str) -> None:
    with pytest.raises(Exception, match=wrong):
        check_spec(spec)


def test_an_error_of_the_inner_critic_is_the_items() -> None:
    class Failing(DummyCritic):
        def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
            return [ServerFault("broken") for _ in tasks]

    with pytest.raises(ServerFault, match="broken"):
        Asked.about(FacesCritic(Failing()), portrait(), head_mask()).critique(portrait())


def test_the_suite_counts_faces_and_orders_them() -> None:
    result = faces_result([(portrait(), 0)], Sure())
    figures: Mapping[str, float] = {each.name: each.value for each in result.figures}
    assert figures["faces found"] == 1
    assert figures["redrawn: in order, noise"] == 1
    assert figures["redrawn: false alarms"] == 0
    assert {f"new: in order, {fault}" for fault in FACE_FAULTS} <= figures.keys()


def test_the_same_task_gets_the_same_numbers_in_any_batch() -> None:
    critic = FacesCritic(DummyCritic())
    edit = DecodedEdit("e", portrait(), head_mask())
    prepared = critic.prepare(edit)
    tasks = [
        CritiqueTask(edit, prepared, DecodedCandidate(name, picture))
        for name, picture in (("a", portrait()), ("b", spoil_face(portrait(), face_box(), "blur", 0.5, 1)))
    ]
    together = critic.critique(tasks, lambda: False)
    alone = [critic.critique([task], lambda: False)[0] for task in tasks]
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, pb.Critique)
        assert isinstance(other, pb.Critique)
        assert one.faces == other.faces
        assert one.scores == other.scores
