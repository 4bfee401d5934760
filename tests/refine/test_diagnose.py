"""From faults to actions: cheapest first, graver first, each once."""

from __future__ import annotations

from editcritic.refine.capabilities import Capabilities
from editcritic.refine.diagnose import plan_actions
from editcritic.refine.reprompt import reworded
from editcritic.v1 import critic_pb2 as pb

SCORED = pb.Score(status=pb.SCORE_STATUS_SCORED, value=50.0, stddev=2.0)


def fault(severity: float, *actions: pb.SuggestedAction) -> pb.Defect:
    return pb.Defect(kind=pb.DEFECT_KIND_SEAM, severity=severity, actions=actions)


def act(kind: pb.ActionKind.ValueType, x: int = 0) -> pb.SuggestedAction:
    return pb.SuggestedAction(kind=kind, region=pb.Box(x=x, y=0, width=4, height=4) if x else None)


def kinds(critique: pb.Critique) -> list[str]:
    return [pb.ActionKind.Name(action.kind).removeprefix("ACTION_KIND_") for action in plan_actions(critique)]


def test_what_costs_no_diffusion_comes_first_whatever_the_critic_named_first() -> None:
    critique = pb.Critique(
        scores=pb.Scores(overall=SCORED),
        defects=[
            fault(0.4, act(pb.ACTION_KIND_REINPAINT_REGION), act(pb.ACTION_KIND_MATCH_DETAIL)),
            fault(0.9, act(pb.ACTION_KIND_RECOLOUR), act(pb.ACTION_KIND_BLEND)),
            fault(0.2, act(pb.ACTION_KIND_RECOMPOSITE)),
        ],
    )
    assert kinds(critique) == [
        "RECOMPOSITE",
        "RECOLOUR",
        "BLEND",
        "MATCH_DETAIL",
        "REINPAINT_REGION",
        "REROLL",
    ]


def test_an_action_that_two_faults_ask_for_stands_once_at_its_place() -> None:
    again = [act(pb.ACTION_KIND_RECOLOUR), act(pb.ACTION_KIND_BLEND)]
    critique = pb.Critique(scores=pb.Scores(overall=SCORED), defects=[fault(0.9, *again), fault(0.5, *again)])
    assert kinds(critique) == ["RECOLOUR", "BLEND", "REROLL"]


def test_the_same_repair_at_two_places_is_two_actions_the_graver_first() -> None:
    critique = pb.Critique(
        scores=pb.Scores(overall=SCORED),
        defects=[
            fault(0.3, act(pb.ACTION_KIND_REINPAINT_REGION, 10)),
            fault(0.8, act(pb.ACTION_KIND_REINPAINT_REGION, 50)),
        ],
    )
    assert [action.region.x for action in plan_actions(critique)[:2]] == [50, 10]


def test_slight_faults_and_questions_to_the_person_are_no_actions() -> None:
    critique = pb.Critique(
        scores=pb.Scores(overall=SCORED),
        defects=[fault(0.1, act(pb.ACTION_KIND_RECOLOUR)), fault(0.9, act(pb.ACTION_KIND_ASK))],
    )
    assert kinds(critique) == ["REROLL"]


def test_a_prompt_that_was_not_followed_is_reworded() -> None:
    low = pb.Score(status=pb.SCORE_STATUS_SCORED, value=20.0)
    critique = pb.Critique(scores=pb.Scores(overall=SCORED, prompt_alignment=low))
    assert kinds(critique) == ["REPROMPT", "REROLL"]


def test_an_abstention_suggests_nothing() -> None:
    assert plan_actions(pb.Critique()) == []


def test_wordings_fit_the_engine_and_come_to_an_end() -> None:
    describing = Capabilities("a", "p")
    commanding = Capabilities("b", "p", instruction=True)
    closed = Capabilities("c", "p", words=("red", "ball"))
    assert reworded("a red ball", commanding, 0) == "Replace the marked region with a red ball."
    assert "a red ball" in str(reworded("a red ball", describing, 0))
    assert reworded("red ball", closed, 0) == "ball red"
    assert [reworded("red ball", engine, 9) for engine in (describing, commanding, closed)] == [None] * 3
    assert reworded("", describing, 0) is None
