"""From faults to actions: the table decides, cheapest first, graver first, each once."""

from __future__ import annotations

from pathlib import Path

import pytest

from editcritic.refine.diagnose import plan_actions, reason_for
from editcritic.refine.diagnosis import default_diagnosis, load_diagnosis
from editcritic.refine.repair import REPAIRS
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import InvalidInput

SCORED = pb.Score(status=pb.SCORE_STATUS_SCORED, value=50.0, stddev=2.0)
AREA = 10_000


def fault(kind: str, severity: float = 0.5, side: int = 20, x: int = 0, **more: object) -> pb.Defect:
    box = pb.Box(x=x, y=0, width=side, height=side)
    return pb.Defect(kind=pb.DefectKind.Value(f"DEFECT_KIND_{kind}"), severity=severity, box=box, **more)


def judged(*defects: pb.Defect, **scores: pb.Score) -> pb.Critique:
    return pb.Critique(scores=pb.Scores(overall=SCORED, **scores), defects=defects)


def kinds(critique: pb.Critique, area: int = AREA) -> list[str]:
    actions = plan_actions(critique, area)
    return [pb.ActionKind.Name(action.kind).removeprefix("ACTION_KIND_") for action in actions]


def test_what_costs_no_diffusion_comes_first_and_first_choices_before_second_ones() -> None:
    critique = judged(
        fault("SHARPNESS_MISMATCH", 0.4), fault("COLOUR_SHIFT", 0.9), fault("OUTSIDE_CHANGED", 0.2)
    )
    assert kinds(critique) == [
        "RECOMPOSITE",
        "RECOLOUR",  # the graver fault's first choice
        "MATCH_DETAIL",
        "BLEND_GRADIENTS",
        "BLEND",
        "REINPAINT_REGION",
        "REROLL",
    ]


def test_an_action_that_two_faults_ask_for_stands_once_at_its_place() -> None:
    assert kinds(judged(fault("COLOUR_SHIFT", 0.9), fault("TONE_SHIFT", 0.5))).count("RECOLOUR") == 1


def test_a_small_fault_is_inpainted_again_in_three_strengths_the_graver_place_first() -> None:
    actions = plan_actions(
        judged(fault("MELTED_TEXTURE", 0.3, x=10), fault("MELTED_TEXTURE", 0.8, x=50)), AREA
    )
    local = [each for each in actions if each.kind == pb.ACTION_KIND_REINPAINT_REGION]
    assert [(each.region.x, round(each.strength, 2)) for each in local] == [
        (50, 0.35),
        (10, 0.35),
        (50, 0.5),
        (10, 0.5),
        (50, 0.7),
        (10, 0.7),
    ]


def test_a_fault_all_over_the_mask_is_not_patched() -> None:
    grave, middling = fault("MELTED_TEXTURE", 0.9, side=90), fault("MELTED_TEXTURE", 0.4, side=90)
    assert kinds(judged(grave)) == ["REDRAW_LOW_QUALITY", "REROLL"]
    assert kinds(judged(middling)) == ["REINPAINT_MEDIUM_QUALITY", "REDRAW_LOW_QUALITY", "REROLL"]
    assert "REINPAINT_REGION" in kinds(judged(grave), area=0)  # nobody said how large the mask is


@pytest.mark.parametrize(
    ("kind", "first"),
    [
        ("SEAM", "DEFRINGE"),
        ("LIGHT_MISMATCH", "BLEND_GRADIENTS"),
        ("COMPRESSION_MISMATCH", "DEBLOCK"),
        ("BANDING", "DEBAND"),
        ("LEFTOVER", "UNGHOST"),
        ("UNCHANGED", "GROW_MASK"),
        ("OVERSHARPENED", "MATCH_DETAIL"),
        ("BLACK_FILL", "REDRAW_LOW_QUALITY"),
        ("PROMPT_MISMATCH", "REPROMPT"),
    ],
)
def test_each_fault_has_its_own_first_repair(kind: str, first: str) -> None:
    assert kinds(judged(fault(kind, 0.9, side=90)))[0] == first


def test_slight_faults_are_left_alone() -> None:
    assert kinds(judged(fault("SEAM", 0.1))) == ["REROLL"]


def test_of_a_kind_that_the_table_does_not_know_the_critic_says_what_to_do() -> None:
    suggested = [pb.SuggestedAction(kind=k) for k in (pb.ACTION_KIND_ASK, pb.ACTION_KIND_BLEND)]
    assert kinds(judged(fault("UNSPECIFIED", 0.5, actions=suggested))) == ["BLEND", "REROLL"]
    assert kinds(judged(fault("UNSPECIFIED", 0.1, actions=suggested))) == ["REROLL"]
    assert "BLEND" not in kinds(judged(fault("BANDING", 0.5, actions=suggested)))


def test_a_prompt_that_was_not_followed_is_reworded() -> None:
    low, fair = (pb.Score(status=pb.SCORE_STATUS_SCORED, value=value) for value in (20.0, 80.0))
    assert kinds(judged(prompt_alignment=low)) == ["REPROMPT", "REROLL"]
    assert kinds(judged(prompt_alignment=fair)) == ["REROLL"]
    assert kinds(judged(prompt_alignment=pb.Score(status=pb.SCORE_STATUS_ABSTAINED))) == ["REROLL"]


def test_an_abstention_calls_for_nothing() -> None:
    assert plan_actions(pb.Critique(defects=[fault("SEAM", 0.9)]), AREA) == []


def test_the_reason_for_an_action_is_the_gravest_fault_that_called_for_it() -> None:
    critique = judged(
        fault("TONE_SHIFT", 0.3, explanation="a little dark"),
        fault("COLOUR_SHIFT", 0.8, explanation="too red"),
    )
    plan = {each.kind: each for each in plan_actions(critique, AREA)}
    assert reason_for(critique, plan[pb.ACTION_KIND_RECOLOUR], AREA) == "too red"
    assert reason_for(critique, plan[pb.ACTION_KIND_RELIGHT], AREA) == "a little dark"
    assert reason_for(critique, plan[pb.ACTION_KIND_REROLL], AREA) == ""


def test_everything_that_the_table_prescribes_can_be_carried_out() -> None:
    prescribed = {each.kind for rule in default_diagnosis().rules for each in rule.repairs}
    assert prescribed <= REPAIRS.keys()


def test_every_kind_of_defect_has_a_rule_at_every_severity_and_share() -> None:
    for name, kind in pb.DefectKind.items():
        for severity in (0.15, 0.45, 0.7, 1.0):
            for side in (5, 90):
                if kind != pb.DEFECT_KIND_UNSPECIFIED:
                    defect = fault(name.removeprefix("DEFECT_KIND_"), severity, side)
                    rules = default_diagnosis().rules
                    share = side * side / AREA
                    assert any(rule.fits(defect, share, pb.Scores()) for rule in rules), (
                        name,
                        severity,
                        side,
                    )


def test_a_table_of_ones_own_decides(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(
        """version = 1
        [[rule]]
        defects = ["seam"]
        severity = [0.5, 1.0]
        scores = { naturalness = [0, 30] }
        repairs = [{ kind = "reroll", strength = 1.0 }]
        [[rule]]
        defects = ["seam"]
        repairs = [{ kind = "reinpaint_region", strength = 0.25, grow_px = 3, region = "defect" }]
        """
    )
    mine = load_diagnosis(path)
    poor, fine = (pb.Score(status=pb.SCORE_STATUS_SCORED, value=value) for value in (10.0, 90.0))
    first = plan_actions(judged(fault("SEAM", 0.9), naturalness=fine), AREA, mine)[0]
    assert (first.kind, round(first.strength, 2), first.grow_px) == (pb.ACTION_KIND_REINPAINT_REGION, 0.25, 3)
    assert first.region.width == 20
    assert (
        plan_actions(judged(fault("SEAM", 0.9), naturalness=poor), AREA, mine)[0].kind
        == pb.ACTION_KIND_REROLL
    )


REPAIR = 'repairs = [{ kind = "blend" }]'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("version = ", "cannot be read"),
        ('[[rule]]\ndefects = ["seam"]\n' + REPAIR, "version None"),
        ("version = 1", "no \\[\\[rule\\]\\]"),
        ('version = 1\n[[rule]]\nname = "a"\ndefects = ["seam"]', r"rule 1 \('a'\): no repairs"),
        ("version = 1\n[[rule]]\n" + REPAIR, "fits everything"),
        ('version = 1\n[[rule]]\ndefects = ["seem"]\n' + REPAIR, "'seem' is unknown; expected one of .*seam"),
        ('version = 1\n[[rule]]\ndefects = ["seam"]\nrepairs = [{ kind = "mend" }]', "'mend' is unknown"),
        ('version = 1\n[[rule]]\ndefects = ["seam"]\nseverity = [0.9, 0.1]\n' + REPAIR, "from <= to"),
        ('version = 1\n[[rule]]\ndefects = ["seam"]\nshare = 0.5\n' + REPAIR, "expected \\[from, to\\]"),
        ("version = 1\n[[rule]]\nscores = { beauty = [0, 9] }\n" + REPAIR, "no score 'beauty'"),
        ('version = 1\n[[rule]]\ndefect = ["seam"]\n' + REPAIR, "unknown defect; expected some of defects"),
        (
            'version = 1\n[[rule]]\ndefects = ["seam"]\nrepairs = [{ kind = "reroll", strength = 1.5 }]',
            "strength 1.5; expected a number above 0",
        ),
        (
            'version = 1\n[[rule]]\ndefects = ["seam"]\nrepairs = [{ kind = "blend", region = "box" }]',
            "expected 'defect' or 'mask'",
        ),
    ],
)
def test_a_table_that_cannot_be_carried_out_is_refused_with_the_place(
    tmp_path: Path, text: str, complaint: str
) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(InvalidInput, match=complaint) as refused:
        load_diagnosis(path)
    assert "mine.toml" in str(refused.value)


def test_a_table_that_is_not_there_is_told() -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.toml"):
        load_diagnosis("nowhere.toml")
