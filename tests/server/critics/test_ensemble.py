"""Critics together, with members whose answers are given."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from editcritic.server.critics import load_critic
from editcritic.server.critics.base import CritiqueTask, DecodedCandidate, DecodedEdit, Outcome
from editcritic.server.critics.ensemble import EnsembleCritic
from editcritic.server.critics.scoring import Abstention, abstained, scored
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, ServerFault


class Given:
    """A critic that answers what it was given."""

    def __init__(
        self, name: str, value: float | None, *kinds: tuple[int, float], fails: bool = False
    ) -> None:
        self._name, self._value, self._kinds, self._fails = name, value, kinds, fails

    @property
    def info(self) -> pb.CriticInfo:
        return pb.CriticInfo(identity=pb.CriticIdentity(name=self._name, calibration="c"), device="cpu")

    def prepare(self, edit: DecodedEdit) -> str:
        return f"{self._name} of {edit.edit_id}"

    def critique(self, tasks: Sequence[CritiqueTask], is_cancelled: Callable[[], bool]) -> list[Outcome]:
        assert all(task.prepared == f"{self._name} of e" for task in tasks)
        return [ServerFault("broken") if self._fails else self._answer() for _ in tasks]

    def _answer(self) -> pb.Critique:
        nothing = abstained(Abstention(pb.ABSTENTION_REASON_NOT_JUDGED, "never"))
        score = nothing if self._value is None else scored(self._value, 2.0)
        defects = [pb.Defect(kind=kind, severity=severity, explanation="x") for kind, severity in self._kinds]
        return pb.Critique(scores=pb.Scores(naturalness=score, overall=score), defects=defects)


def judged(*members: tuple[Given, float]) -> Outcome:
    critic = EnsembleCritic(members)
    edit = DecodedEdit("e", np.zeros((8, 8, 3), np.uint8), np.ones((8, 8), np.float32))
    task = CritiqueTask(edit, critic.prepare(edit), DecodedCandidate("c", edit.source))
    return critic.critique([task], lambda: False)[0]


def test_scores_are_weighted_and_disagreement_is_uncertainty() -> None:
    agreed = judged((Given("a", 80.0), 3.0), (Given("b", 80.0), 1.0))
    split = judged((Given("a", 90.0), 3.0), (Given("b", 50.0), 1.0))
    assert isinstance(agreed, pb.Critique)
    assert isinstance(split, pb.Critique)
    assert agreed.scores.naturalness.value == pytest.approx(80)
    assert split.scores.naturalness.value == pytest.approx(80)
    assert split.scores.naturalness.stddev > 15 > agreed.scores.naturalness.stddev


def test_members_that_disagree_widely_say_nothing_together() -> None:
    answer = judged((Given("a", 95.0), 1.0), (Given("b", 20.0), 1.0))
    assert isinstance(answer, pb.Critique)
    assert answer.scores.overall.abstention_reason == pb.ABSTENTION_REASON_DISAGREEMENT
    assert "95, 20" in answer.scores.overall.abstention_detail


def test_members_and_weights_are_named_by_the_user() -> None:
    critic = load_critic("ensemble@evidence:0.25+dummy:0.75")
    assert "evidence (0.25), dummy (0.75)" in critic.info.description


@pytest.mark.parametrize(
    ("members", "wrong"),
    [
        ("evidence", "weight above 0"),
        ("evidence:", "weight above 0"),
        ("evidence:-1", "weight above 0"),
        ("evidence:inf", "weight above 0"),
        (":1", "weight above 0"),
        ("ensemble:1", "no member"),
        ("magic:1", "no critic 'magic'"),
    ],
)
def test_members_that_cannot_be_are_told(members: str, wrong: str) -> None:
    with pytest.raises(EditCriticError, match=wrong):
        load_critic(f"ensemble@{members}")


def test_who_abstains_has_no_vote() -> None:
    answer = judged((Given("a", None), 3.0), (Given("b", 42.0), 1.0))
    nobody = judged((Given("a", None), 3.0), (Given("b", None), 1.0))
    assert isinstance(answer, pb.Critique)
    assert isinstance(nobody, pb.Critique)
    assert answer.scores.overall.value == pytest.approx(42)
    assert nobody.scores.overall.status == pb.SCORE_STATUS_ABSTAINED


def test_a_failed_member_is_an_error_and_never_a_middling_score() -> None:
    assert isinstance(judged((Given("a", 90.0), 1.0), (Given("b", 90.0, fails=True), 1.0)), EditCriticError)


def test_of_each_kind_the_gravest_defect_stays() -> None:
    seam, flat = pb.DEFECT_KIND_SEAM, pb.DEFECT_KIND_FLAT_FILL
    answer = judged((Given("a", 50.0, (seam, 0.4)), 1.0), (Given("b", 50.0, (seam, 0.7), (flat, 0.5)), 1.0))
    assert isinstance(answer, pb.Critique)
    assert [(defect.kind, defect.severity) for defect in answer.defects] == [(seam, 0.7), (flat, 0.5)]


def test_it_says_who_its_members_are() -> None:
    info = EnsembleCritic([(Given("a", 1.0), 0.7), (Given("b", 1.0), 0.3)]).info
    assert "a (0.7), b (0.3)" in info.description
    assert info.identity.calibration == "c+c"
