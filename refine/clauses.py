"""Descriptions put together from phrases, and cut to what an engine reads.

A description is a list of clauses, each with a rank; when it is too long, clauses of the highest rank go first, the
last of them before the others. Rank 0 stays: the subject, and what was missed.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from editcritic.refine.phrases import Phrase, Wish
from editcritic.refine.tokens import TokenCounter

__all__ = ["EXTRA", "KEPT", "Clause", "clauses_of", "emphasised", "fitted", "joined", "taken_apart"]

KEPT, _THINGS, _TIED, _PLACES, _STYLES, EXTRA = range(6)
_EMPHASIS = 1.2


@dataclass(frozen=True)
class Clause:
    """A piece of a description.

    Attributes:
        text: its words. rank: 0 stays; the higher, the sooner it is cut.
        tied: it follows the piece before without a comma.
        verb: "is" or "are" where it names a thing that could be a sentence of its own, else "".
    """

    text: str
    rank: int
    tied: bool = False
    verb: str = ""


def clauses_of(wish: Wish, first: Sequence[Phrase] = (), *, keep_negations: bool = False) -> list[Clause]:
    """The wish as a description: things that are named in `first` before the others, looks last.

    keep_negations: "without a hat" stays in; for engines that read no negative prompt.
    """
    groups: list[list[Phrase]] = []
    for phrase in wish.phrases:
        if phrase.negated and not keep_negations:
            continue
        if groups and phrase.is_tied:
            groups[-1].append(phrase)
        else:
            groups.append([phrase])
    order = sorted(groups, key=lambda group: (group[0].kind == "style", _place(group, first)))
    return [clause for group in order for clause in _clauses(group, {wish.subject, *first})]


def _place(group: Sequence[Phrase], first: Sequence[Phrase]) -> int:
    return min((first.index(phrase) for phrase in group if phrase in first), default=len(first))


def _clauses(group: Sequence[Phrase], kept: Collection[Phrase | None]) -> list[Clause]:
    last = max((place for place, phrase in enumerate(group) if phrase in kept), default=-1)
    clauses = []
    for place, phrase in enumerate(group):
        relation = f"{phrase.relation} " if phrase.is_tied and place else ""
        negation = "no " if phrase.negated and phrase.relation not in ("without", "instead of") else ""
        # What a kept phrase hangs on has to stay with it.
        rank = KEPT if place == 0 <= last or phrase in kept else _rank(phrase, bool(place))
        verb = "" if place or phrase.negated or phrase.kind == "style" else phrase.verb
        clauses.append(Clause(f"{relation}{negation}{phrase.told}", rank, bool(place), verb))
    return clauses


def _rank(phrase: Phrase, follows: bool) -> int:
    if phrase.kind == "style":
        return _STYLES
    if phrase.kind == "place":
        return _PLACES
    return _TIED if follows else _THINGS


def emphasised(clauses: Sequence[Clause], phrase: Phrase) -> list[Clause]:
    """The phrase's words in weight syntax: "(a red ball:1.2)"."""
    words = re.compile(rf"(?<!\w){re.escape(phrase.told)}(?!\w)")
    return [
        replace(clause, text=words.sub(f"({phrase.told}:{_EMPHASIS})", clause.text, count=1))
        for clause in clauses
    ]


def joined(clauses: Sequence[Clause]) -> str:
    """The clauses as one line."""
    line = ""
    for clause in clauses:
        mark = "" if clause.text.startswith(".") else " " if clause.tied else ", "
        line += mark * bool(line) + clause.text
    return line


def fitted(clauses: Sequence[Clause], count: TokenCounter, limit: int) -> list[Clause]:
    """Without the least important clauses, until the engine reads all of it or only what has to stay is left."""
    left = list(clauses)
    while count(joined(left)) > limit and any(clause.rank > KEPT for clause in left):
        worst = max(range(len(left)), key=lambda place: (left[place].rank, place))
        after = left[worst + 1 :]
        tail = next((place for place, clause in enumerate(after) if not clause.tied), len(after))
        hangs = 0 if left[worst].tied else tail  # what hangs on it goes with it
        del left[worst : worst + 1 + hangs]
    return left


def taken_apart(clauses: Sequence[Clause]) -> list[Clause]:
    """Each further thing as a sentence of its own, so that none hides behind another."""
    apart = []
    for place, clause in enumerate(clauses):
        if place and clause.verb:
            clause = replace(clause, text=f". There {clause.verb} also {clause.text}", tied=True)
        apart.append(clause)
    return apart
