"""Another wording: what is said first, in which form, what is avoided, what is cut, and why, for each engine."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from editcritic.refine.capabilities import Capabilities, capabilities_of
from editcritic.refine.dummy import DummyEngine
from editcritic.refine.phrase_evidence import faulty_part, missed, read_evidence
from editcritic.refine.phrases import read_wish, words_of
from editcritic.refine.repair import REPAIRS, Repair, Workpiece
from editcritic.refine.reprompt import GUIDANCE_BAND, Rewording, WordingCase, reworded
from editcritic.refine.tokens import estimated_tokens, token_counter
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.images import encode_mask
from tests.refine.conftest import engine_of
from tests.refine.tiny_pipelines import tiny_pipeline

FILL = Capabilities("fill", "p", mask_use="concatenated")
NO_NEGATIVE = Capabilities("flow", "p", negative_prompt=False, guidance="distilled", prompt_tokens=512)
COMMANDED = Capabilities("edits", "p", instruction=True, negative_prompt=False, guidance="distilled")
WEIGHED = Capabilities("weighs", "p", emphasis=True)
CLOSED = Capabilities("closed", "p", words=("red", "blue", "ball", "cube"), default_guidance=2.0)
ENGINES = (FILL, NO_NEGATIVE, COMMANDED, WEIGHED, CLOSED)


def critique(*faults: pb.Defect, **likelihoods: float) -> pb.Critique:
    """As a critic that judges phrases writes it."""
    figures = [
        pb.Measurement(name=f"phrase: {name.replace('_', ' ')}", value=value, unit="fraction")
        for name, value in likelihoods.items()
    ]
    return pb.Critique(measurements=figures, defects=faults)


def fault(kind: pb.DefectKind.ValueType, severity: float = 0.6, **fields: Any) -> pb.Defect:
    return pb.Defect(kind=kind, severity=severity, box=pb.Box(width=1, height=1), **fields)


def word_fault(word: str, likelihood: float) -> pb.Defect:
    """As a critic that judges words writes it."""
    return fault(
        pb.DEFECT_KIND_PROMPT_MISMATCH,
        evidence=[pb.Measurement(name="phrase_probability", value=likelihood, unit="fraction")],
        explanation=f"the prompt was not followed ({word!r} asked, blue ball seen): the word is 4 % likely",
    )


def wording(
    prompt: str, able: Capabilities = FILL, judged: pb.Critique | None = None, **case: Any
) -> Rewording:
    found = reworded(WordingCase(prompt, able, judged or pb.Critique(), **case))
    assert found is not None
    return found


def test_each_phrase_has_its_own_likelihood_and_the_whole_prompt_counts_for_none() -> None:
    wish = read_wish("a red ball and a blue cube on a table")
    judged = critique(red_ball=0.9, blue_cube=0.2, a_red_ball_and_a_blue_cube_on_a_table=0.01)
    evidence = read_evidence(wish, judged)
    assert [each.likelihood for each in evidence] == [0.9, 0.2, None]
    assert [each.phrase.text for each in missed(evidence)] == ["blue cube"]


def test_the_word_that_is_missing_is_known_where_the_critic_judges_words() -> None:
    (least,) = missed(read_evidence(read_wish("a red ball"), critique(word_fault("red", 0.04))))
    assert (least.phrase.text, least.word, least.likelihood) == ("red ball", "red", 0.04)


def test_the_missing_phrase_is_said_first_and_nothing_is_lost() -> None:
    found = wording("a red ball on a table and a blue cube", judged=critique(red_ball=0.9, blue_cube=0.1))
    assert found.prompt.startswith("a blue cube, a red ball on a table")
    assert "'a blue cube' is 10 % likely" in found.reason


def test_what_hangs_on_another_thing_is_said_first_and_stays_in_its_place() -> None:
    found = wording("a cat wearing a hat", judged=critique(cat=0.9, hat=0.1))
    assert found.prompt.startswith("a hat, a cat wearing a hat")


def test_attributes_of_a_subject_that_was_missed_stand_next_to_their_noun() -> None:
    found = wording("a red ball on a table", judged=critique(word_fault("red", 0.04)))
    assert found.prompt.startswith("a red ball on a table, the ball is red")
    assert "the word 'red' of 'a red ball' is 4 % likely" in found.reason


def test_the_second_wording_takes_the_wish_apart() -> None:
    found = wording("a red ball and two cubes", judged=critique(red_ball=0.1), attempt=1)
    assert found.prompt.startswith("a photograph of a red ball")
    assert "There are also two cubes" in found.prompt


@pytest.mark.parametrize("prompt", ["add a red ball", "put a red ball here please", "make it a red ball"])
def test_fill_models_are_described_to_and_never_commanded(prompt: str) -> None:
    for attempt in range(2):
        told = wording(prompt, attempt=attempt).prompt
        assert "red ball" in told
        assert read_wish(told).command == ""


def test_a_removal_is_described_as_what_stays() -> None:
    found = wording("remove the dog")
    assert "dog" not in found.prompt
    assert found.negative_prompt == "dog"


@pytest.mark.parametrize(
    ("prompt", "start"),
    [
        ("a red ball", "Replace the marked region with a red ball."),
        ("replace the dog with a cat", "Replace the dog with a cat."),
        ("remove the dog", "Remove the dog and continue the background."),
    ],
)
def test_editing_models_are_commanded_and_told_what_stays(prompt: str, start: str) -> None:
    found = wording(prompt, COMMANDED)
    assert found.prompt.startswith(start)
    assert found.prompt.endswith("Keep everything else unchanged.")


def test_editing_models_are_told_what_must_be_seen() -> None:
    assert (
        "The ball must be red." in wording("a red ball", COMMANDED, critique(word_fault("red", 0.1))).prompt
    )


def test_weights_are_written_only_for_engines_that_read_them() -> None:
    judged = critique(red_ball=0.9, blue_cube=0.1)
    weighed = wording("a red ball and a blue cube", WEIGHED, judged).prompt
    assert weighed.startswith("(a blue cube:1.2), a red ball")
    assert "(a cat:1.2)" in wording("a cathedral and a cat", WEIGHED, critique(cat=0.1)).prompt
    assert "a cathedral" in wording("a cathedral and a cat", WEIGHED, critique(cat=0.1)).prompt
    for able in (FILL, NO_NEGATIVE, COMMANDED):
        assert "(" not in wording("a red ball and a blue cube", able, judged).prompt


def test_what_goes_for_its_like_is_avoided_only_in_what_differs() -> None:
    assert wording("replace the red ball with a blue ball").negative_prompt == "red"
    assert wording("replace the dog with a dog").negative_prompt == ""


def test_only_named_faults_and_exclusions_are_avoided_and_never_what_is_asked_for() -> None:
    judged = critique(fault(pb.DEFECT_KIND_MELTED_TEXTURE), fault(pb.DEFECT_KIND_BANDING, 0.05))
    found = wording("a dog without a collar", judged=judged, negative_prompt="text")
    assert found.negative_prompt == "text, collar, melted texture"
    assert "collar" not in found.prompt
    assert wording("a flat stone", judged=critique(fault(pb.DEFECT_KIND_FLAT_FILL))).negative_prompt == ""


@pytest.mark.parametrize("options", [{"able": NO_NEGATIVE}, {"able": FILL, "guidance": 1.0}])
def test_without_an_effect_no_negative_prompt_is_written(options: dict[str, Any]) -> None:
    judged = critique(fault(pb.DEFECT_KIND_MELTED_TEXTURE))
    found = wording("a dog without a collar", judged=judged, **options)
    assert found.negative_prompt == ""
    assert "without a collar" in found.prompt


@pytest.mark.parametrize("able", ENGINES)
def test_guidance_rises_within_its_band_and_only_for_what_is_missing(able: Capabilities) -> None:
    missing = critique(red_ball=0.1)
    poor = critique(fault(pb.DEFECT_KIND_MELTED_TEXTURE))
    for attempt in range(3):
        for judged, user in ((missing, None), (missing, 3.0), (poor, None)):
            case = WordingCase("a red ball", able, judged, attempt, guidance=user)
            found = reworded(case)
            if found is not None and found.guidance is not None:
                assert (judged, user, attempt) == (missing, None, 1)
                assert able.default_guidance < found.guidance <= GUIDANCE_BAND * able.default_guidance
                assert f"{found.guidance:g}" in found.reason


def test_a_closed_vocabulary_is_never_left() -> None:
    judged = critique(word_fault("blue", 0.1))
    for attempt, prompt in enumerate(["blue ball", "ball blue"]):
        found = wording("a ball blue", CLOSED, judged, attempt=attempt)
        assert found.prompt == prompt
        assert found.negative_prompt == ""
    assert reworded(WordingCase("ball", CLOSED)) is None


def test_what_the_engine_does_not_read_is_cut_from_the_tail_and_never_the_subject() -> None:
    places = " ".join(f"behind a tree number{n}" for n in range(30))
    prompt = f"a red ball {places}, a lamp, highly detailed"
    found = wording(prompt)
    assert estimated_tokens(found.prompt) <= FILL.prompt_tokens
    assert "a red ball" in found.prompt
    assert "a lamp" in found.prompt
    assert "behind a tree number0" in found.prompt
    for cut in ("highly detailed", "clear view", "number29"):
        assert cut not in found.prompt
    assert "number29" in wording(prompt, NO_NEGATIVE).prompt


def test_wordings_differ_and_come_to_an_end() -> None:
    for able in ENGINES:
        found = [
            reworded(WordingCase("red ball", able, critique(red_ball=0.2), attempt)) for attempt in range(3)
        ]
        assert found[2] is None
        assert all(each is not None and each.reason for each in found[:2])
        assert len({(each.prompt, each.guidance) for each in found[:2] if each}) == 2
        assert reworded(WordingCase("", able)) is None


@pytest.mark.parametrize(
    ("judged", "said"),
    [
        (pb.Critique(), "another form"),
        (
            pb.Critique(defects=[pb.Defect(explanation="the inside still is the source")]),
            "still is the source",
        ),
        (
            pb.Critique(scores=pb.Scores(prompt_alignment=pb.Score(status=pb.SCORE_STATUS_SCORED, value=31))),
            "prompt alignment is 31",
        ),
    ],
)
def test_without_phrases_the_reason_is_what_the_critic_did_say(judged: pb.Critique, said: str) -> None:
    assert said in wording("a red ball", judged=judged).reason


def test_the_limit_of_tokens_is_the_tokenizers_as_far_as_the_call_asks() -> None:
    tiny = tiny_pipeline("sd")[0]
    assert capabilities_of(tiny, "sd").prompt_tokens == tiny.tokenizer.model_max_length
    assert capabilities_of(tiny_pipeline("flux")[0], "flux").prompt_tokens == 512


def test_tokens_are_counted_by_the_engines_own_tokenizer() -> None:
    engine = engine_of("sd")
    tokenizer = engine.pipeline.tokenizer
    text = "a shiny red ball on a table " * 20
    expected = (
        estimated_tokens(text) if tokenizer is None else len(tokenizer(text, verbose=False)["input_ids"])
    )
    assert token_counter(engine)(text) == expected
    assert token_counter(DummyEngine())("two words") == 4


# A place: the next try is painted only where something is missing.

MASK = np.zeros((48, 64), np.float32)
MASK[8:40, 8:56] = 1


def located(kind: pb.DefectKind.ValueType, **box: int) -> pb.Defect:
    return pb.Defect(kind=kind, severity=0.6, box=pb.Box(**box))


def test_a_box_in_one_part_of_the_mask_is_that_part_a_little_widened() -> None:
    part = faulty_part(
        pb.Critique(defects=[located(pb.DEFECT_KIND_MISSING_PART, x=40, y=10, width=16, height=26)]), MASK
    )
    assert part is not None
    assert part[10:36, 40:56].all()
    assert not part[:, :37].any()
    assert not (part > MASK).any()


def test_a_map_says_it_better_than_a_box_and_everywhere_is_no_part() -> None:
    heat = np.zeros((32, 48), np.float32)
    heat[:, 40:] = 1
    whole = located(pb.DEFECT_KIND_PROMPT_MISMATCH, x=8, y=8, width=48, height=32)
    region = pb.Box(x=8, y=8, width=48, height=32)
    shown = pb.HeatMap(kind=pb.DEFECT_KIND_PROMPT_MISMATCH, region=region, image=encode_mask(heat))
    part = faulty_part(pb.Critique(defects=[whole], heat_maps=[shown]), MASK)
    assert part is not None
    assert part[8:40, 48:56].all()
    assert not part[:, :44].any()
    assert faulty_part(pb.Critique(defects=[whole]), MASK) is None
    assert faulty_part(pb.Critique(), MASK) is None


class Asked(DummyEngine):
    """Keeps what it is asked for."""

    def __init__(self, able: Capabilities) -> None:
        super().__init__()
        self.capabilities = able
        self.calls: list[tuple[Any, ...]] = []

    def candidate(self, source: Any, mask: Any, prompt: str, **options: Any) -> Any:
        self.calls.append((source, mask, prompt, options))
        return super().candidate(source, mask, prompt, **options)


def reprompted(able: Capabilities, judged: pb.Critique, **fields: Any) -> tuple[Repair, Asked, Workpiece]:
    rng = np.random.default_rng(1)
    source, picture = (rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(2))
    engine = Asked(able)
    work = Workpiece(
        engine, source, picture, MASK, MASK, "a red ball and a blue cube", seed=1, **{"attempt": 0, **fields},
        critique=judged,
    )  # fmt: skip
    repair = REPAIRS[pb.ACTION_KIND_REPROMPT](work, pb.SuggestedAction(kind=pb.ACTION_KIND_REPROMPT))
    assert repair is not None
    return repair, engine, work


def test_a_missing_phrase_is_painted_alone_where_it_is_missing_over_the_edit_as_it_is() -> None:
    missing = located(pb.DEFECT_KIND_PROMPT_MISMATCH, x=40, y=8, width=16, height=32)
    judged = critique(missing, red_ball=0.9, blue_cube=0.1)
    repair, engine, work = reprompted(FILL, judged)
    ((picture, mask, prompt, _),) = engine.calls
    assert picture is work.picture
    assert mask.sum() < 0.5 * MASK.sum()
    assert prompt.startswith("a blue cube")
    assert "ball" not in prompt
    assert repair.prompt == work.prompt
    assert "'a blue cube' is 10 % likely" in repair.reason


def test_without_a_place_the_whole_edit_is_asked_for_anew_from_the_source() -> None:
    repair, engine, work = reprompted(FILL, critique(red_ball=0.9, blue_cube=0.1), options={"guidance": None})
    ((picture, mask, prompt, options),) = engine.calls
    assert picture is work.source
    assert mask is work.mask
    assert prompt == repair.prompt == "a blue cube, a red ball, in clear view"
    assert options["guidance"] is None


def test_the_wish_in_the_users_words_is_reworded_and_not_the_wording_before() -> None:
    fields = {"attempt": 1, "wish": "a blue cube", "options": {"guidance": None}}
    repair, engine, _ = reprompted(FILL, critique(blue_cube=0.1), **fields)
    assert "ball" not in repair.prompt
    assert engine.calls[0][3]["guidance"] == pytest.approx(GUIDANCE_BAND * FILL.default_guidance)


def test_an_engine_of_few_words_is_never_given_a_part() -> None:
    missing = located(pb.DEFECT_KIND_MISSING_PART, x=40, y=8, width=16, height=32)
    _, engine, work = reprompted(CLOSED, critique(missing, blue_cube=0.1))
    assert engine.calls[0][0] is work.source


def test_a_rewriter_stands_in_for_the_rules_and_may_find_nothing() -> None:
    seen: list[WordingCase] = []

    def rewriter(case: WordingCase) -> Rewording:
        seen.append(case)
        return Rewording("a cube beside a ball", "blur", None, "the cube was missing")

    repair, engine, _ = reprompted(
        FILL, critique(blue_cube=0.1), rewriter=rewriter, options={"guidance": 4.0}
    )
    assert (repair.prompt, repair.reason) == ("a cube beside a ball", "the cube was missing")
    assert engine.calls[0][3]["negative_prompt"] == "blur"
    assert engine.calls[0][3]["guidance"] == 4.0
    assert [each.phrase.text for each in seen[0].missing] == ["blue cube"]
    grey = np.full((48, 64, 3), 128, np.uint8)
    work = Workpiece(engine, grey, grey, MASK, MASK, "a ball", seed=1, attempt=0, rewriter=lambda _case: None)
    assert REPAIRS[pb.ACTION_KIND_REPROMPT](work, pb.SuggestedAction()) is None


# Any prompt: nothing that was asked for is lost, and the wording is one that the engine reads.

WORDS = (
    "a an the two red shiny wooden ball cat glass of water dog and with wearing on in front of no without , . hat table"
    " highly detailed sitting that is by to it 3 photo"
)
BEGINNINGS = ("", "remove ", "add ", "please make the ", "replace the dog with ", "a photo of ")
PROMPTS = st.builds(
    lambda begin, words: begin + " ".join(words),
    st.sampled_from(BEGINNINGS),
    st.lists(st.sampled_from(WORDS.split()), min_size=1, max_size=14),
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(prompt=PROMPTS, able=st.sampled_from(ENGINES), attempt=st.integers(0, 1), miss=st.integers(0, 5))
def test_any_prompt_is_worded_without_loss(prompt: str, able: Capabilities, attempt: int, miss: int) -> None:
    wish = read_wish(prompt)
    names = {phrase.text.replace(" ", "_"): 0.1 for phrase in wish.asked[miss : miss + 1]}
    found = reworded(WordingCase(prompt, able, critique(**names), attempt))
    if found is None:
        return
    said = set(words_of(found.prompt))
    if able.words:
        assert said <= set(words_of(prompt))
        return
    for phrase in wish.asked:
        assert set(words_of(phrase.text)) <= said
    if not able.instruction:
        assert estimated_tokens(found.prompt) <= able.prompt_tokens
        assert read_wish(found.prompt).command == ""
    assert found.reason
    assert not set(words_of(found.negative_prompt)) & {word for p in wish.asked for word in words_of(p.head)}
