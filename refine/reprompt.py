"""Another wording of the same wish, for engines that read only half of it: by rules, from what the critique says.

A fill model is told what is to be seen, an editing model what to do; what was missed is said first, its attributes
next to its noun; what is not to be seen goes into the negative prompt where the engine has one. docs/prompts.md has the
rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias

from editcritic.refine.capabilities import Capabilities
from editcritic.refine.clauses import EXTRA, KEPT, Clause, clauses_of, emphasised, fitted, joined, taken_apart
from editcritic.refine.phrase_evidence import PhraseEvidence, missed, read_evidence
from editcritic.refine.phrases import Phrase, Wish, read_wish, words_of
from editcritic.refine.tokens import TokenCounter, estimated_tokens
from editcritic.refine.unwanted import unwanted_words
from editcritic.v1 import critic_pb2 as pb

__all__ = ["ATTEMPTS", "GUIDANCE_BAND", "Rewording", "Rewriter", "WordingCase", "reworded"]

ATTEMPTS = 2
"""Wordings that are tried on one edit."""
GUIDANCE_BAND = 1.3
"""Guidance never rises beyond this many times the engine's own, and only for a phrase that is missing."""

_SPARED = 32  # tokens of a command round its description
_KEEP = "Keep everything else unchanged."


@dataclass(frozen=True)
class Rewording:
    """A wording to try.

    Attributes:
        prompt: for the engine. negative_prompt: for the engine; empty where it reads none.
        guidance: to ask for; None leaves what the run asks for.
        reason: one sentence that names the phrase or fault, and the figure.
    """

    prompt: str
    negative_prompt: str
    guidance: float | None
    reason: str


@dataclass(frozen=True, eq=False)
class WordingCase:
    """What a wording is made from.

    Attributes:
        prompt: the wish in the user's words. able: the engine. critique: of the edit as it is.
        attempt: how many wordings were tried before on this edit. part: only a part of the mask is made anew.
        negative_prompt, guidance: what the user asked for; None: the engine's own guidance.
        count_tokens: tokens of a text for this engine.
    """

    prompt: str
    able: Capabilities
    critique: pb.Critique = field(default_factory=pb.Critique)
    attempt: int = 0
    part: bool = False
    negative_prompt: str = ""
    guidance: float | None = None
    count_tokens: TokenCounter = estimated_tokens

    @cached_property
    def wish(self) -> Wish:
        """The prompt, taken apart."""
        return read_wish(self.prompt)

    @cached_property
    def missing(self) -> tuple[PhraseEvidence, ...]:
        """Phrases that are rather not seen, the least likely first."""
        return tuple(missed(read_evidence(self.wish, self.critique)))

    @property
    def first(self) -> list[Phrase]:
        """The phrases that are said first."""
        return [each.phrase for each in self.missing]

    @property
    def reads_negative(self) -> bool:
        """Whether a negative prompt has an effect in this run."""
        return self.able.reads_negative(self.guidance)


Rewriter: TypeAlias = Callable[[WordingCase], Rewording | None]
"""Finds the next wording of a case, or None."""


def reworded(case: WordingCase) -> Rewording | None:
    """The next wording, or None when nothing is left to try or nothing was asked for in words."""
    if case.attempt >= ATTEMPTS or not case.prompt.strip():
        return None
    if case.able.words:
        prompt, unwanted = _within_words(case), case.negative_prompt
    else:
        prompt, unwanted = (_commanded if case.able.instruction else _described)(case), unwanted_words(case)
    guidance = _guidance(case)
    if not prompt or (prompt, unwanted, guidance) == (case.prompt.strip(), case.negative_prompt, None):
        return None
    return Rewording(prompt, unwanted, guidance, _reason(case, unwanted, guidance))


def _described(case: WordingCase) -> str:
    """For fill models: what is seen there, the missed first; then in whole sentences."""
    if not case.wish.asked:
        return ("empty background, the surroundings continued", "a clean empty place, nothing in it")[
            case.attempt
        ]
    clauses = [*_clauses(case), Clause("in clear view", EXTRA)]
    if case.attempt:
        shown = replace(clauses[0], text=f"a photograph of {clauses[0].text}")
        clauses = taken_apart([shown, *clauses[1:-1], Clause("whole, in focus", EXTRA)])
    return joined(fitted(clauses, case.count_tokens, case.able.prompt_tokens))


def _clauses(case: WordingCase) -> list[Clause]:
    wish = case.wish
    first = case.first
    if case.part and first and not first[0].is_tied:
        # Only a part is painted: what stands beside it is there already.
        wish = replace(wish, phrases=_group(wish, first[0]))
    clauses = clauses_of(wish, first, keep_negations=not case.reads_negative)
    if case.missing and case.missing[0].phrase in wish.phrases:
        clauses = _restated(clauses, case.missing[0], wish)
    return emphasised(clauses, first[0]) if case.able.emphasis and first else clauses


def _group(wish: Wish, leader: Phrase) -> tuple[Phrase, ...]:
    """A phrase with what hangs on it."""
    place = wish.phrases.index(leader)
    end = place + 1
    while end < len(wish.phrases) and wish.phrases[end].is_tied:
        end += 1
    return wish.phrases[place:end]


def _restated(clauses: list[Clause], least: PhraseEvidence, wish: Wish) -> list[Clause]:
    """What was missed, said once more where order alone changes nothing: it hangs on another thing, or stood first."""
    phrase = least.phrase
    if phrase.is_tied:
        return [Clause(phrase.told, KEPT), *clauses]
    if phrase.attributes and (least.word in phrase.attributes or phrase == wish.phrases[0]):
        said = Clause(f"the {phrase.head} {phrase.verb} {' and '.join(phrase.attributes)}", KEPT)
        ends = next(
            (place for place, clause in enumerate(clauses) if place and not clause.tied), len(clauses)
        )
        return [*clauses[:ends], said, *clauses[ends:]]
    return clauses


def _commanded(case: WordingCase) -> str:
    """For editing models: what to do, then what must be seen, and what stays."""
    wish, gone = case.wish, ", ".join(f"the {phrase.text}" for phrase in case.wish.gone)
    if not wish.asked:
        what = gone or "everything in the marked region"
        told = (
            f"Remove {what} and continue the background.",
            f"Fill the place of {what} with what surrounds it.",
        )
        return f"{told[case.attempt]} {_KEEP}"
    clauses = clauses_of(wish, case.first, keep_negations=not case.reads_negative)
    clauses = taken_apart(clauses) if case.attempt else clauses
    what = joined(fitted(clauses, case.count_tokens, case.able.prompt_tokens - _SPARED))
    where = gone if wish.command == "replace" and gone else "the marked region"
    told = (f"Replace {where} with {what}.", f"In the marked region there is now {what}.")
    return " ".join([told[case.attempt], *(_must(case.missing[0]) if case.missing else ()), _KEEP])


def _must(least: PhraseEvidence) -> Sequence[str]:
    phrase = least.phrase
    if phrase.attributes and not phrase.is_tied:
        return [f"The {phrase.head} must be {' and '.join(phrase.attributes)}."]
    return [f"Show {phrase.told} clearly."]


def _within_words(case: WordingCase) -> str:
    """For closed vocabularies: the same words in another order, the missed ones first; then as they were."""
    own = [word for word in case.prompt.lower().replace(",", " ").split() if word not in ("a", "an", "the")]
    if case.attempt:
        return " ".join(own) if case.missing else ""
    least = case.missing[0] if case.missing else None
    wanted = set(words_of(least.word or least.phrase.text)) if least else set()
    turned = sorted(own, key=lambda word: not wanted & set(words_of(word)))
    prompt = " ".join(turned if turned != own else reversed(own))
    return "" if prompt == case.prompt else prompt


def _guidance(case: WordingCase) -> float | None:
    """More guidance for the second wording of a missing phrase, where the run did not ask for any of its own."""
    able = case.able
    if not (case.missing and case.attempt and case.guidance is None):
        return None
    return round(GUIDANCE_BAND * able.default_guidance, 2) if able.default_guidance > 1 else None


def _reason(case: WordingCase, unwanted: str, guidance: float | None) -> str:
    done = [_why(case)]
    if unwanted != case.negative_prompt:
        done.append(f"to be avoided: {unwanted}")
    if guidance is not None:
        done.append(f"guidance {case.able.default_guidance:g} becomes {guidance:g}, the top of its band")
    return "; ".join(done)


def _why(case: WordingCase) -> str:
    if case.missing:
        least = case.missing[0]
        what = f"the word {least.word!r} of" if least.word else "the phrase"
        said = "it is painted alone in the part that lacks it" if case.part else "the wording insists on it"
        said = said if not case.attempt else "the wish is said in another form"
        return f"{what} {least.phrase.told!r} is {100 * (least.likelihood or 0):.0f} % likely to be seen, so {said}"
    alignment = case.critique.scores.prompt_alignment
    if alignment.status == pb.SCORE_STATUS_SCORED:
        return f"prompt alignment is {alignment.value:.0f} of 100, so the wish is said in another form"
    if case.critique.defects:
        return f"{case.critique.defects[0].explanation.rstrip('.')}, so the wish is said in another form"
    return "the wish is said in another form"
