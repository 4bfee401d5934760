"""A prompt as the things that it asks for: noun phrases with their attributes, counts and relations.

A small grammar instead of a parser: prompts are noun phrases held together by commas, "and", prepositions and a few
participles, sometimes after a command. What it cannot take apart stays one phrase.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

from editcritic.refine.lexicon import (
    ADJECTIVES,
    COMMANDS,
    COUNTS,
    FILLERS,
    NO_POSTURES,
    OPENINGS,
    PLACES,
    RELATIONS,
    STYLES,
)

__all__ = ["Phrase", "Wish", "read_wish", "words_of"]

Kind = Literal["thing", "place", "style"]

_WEIGHTED = re.compile(r"[(\[]+([^()\[\]:]+)(?::\s*[\d.]+)?[)\]]+")
_ENDS = re.compile(r"[.!?;:\n]+(?=\s|$)|,")
_JOINTS = re.compile(rf"\b(?:{'|'.join(RELATIONS)})\b")
_ARTICLE = re.compile(r"^(?:a|an|the|some|its|his|her|their|my|your|this|that|these|those)\s+")
_NEGATION = re.compile(r"^(?:no|not|never|without|except|free of)\s+(?:any\s+|a\s+|an\s+|the\s+)?")
_NEGATED = re.compile(r"^(?:or|nor)\b")
_COUNT = re.compile(rf"(?:(?:the|these|those)\s+)?({'|'.join(COUNTS)}|\d+)\s+(?=\S)")
_CLAUSE = re.compile(r"\s+(?:that|which|who)\s+(?:is|are)\s+|\s+(?:is|are)\s+|\s+made (?:out )?of\s+")
_PAIRED = re.compile(rf"\b({'|'.join(ADJECTIVES)})\s+and\s+(?=(?:{'|'.join(ADJECTIVES)})\b)")
_WORD = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


@dataclass(frozen=True)
class Phrase:
    """One thing that a prompt asks for.

    Attributes:
        text: its words, lower case, attributes before the noun, without article and count: "shiny red ball".
        head: the noun: "ball". attributes: what is said of it: ("shiny", "red").
        article: as written, with a count in its place where there is one ("a", "the", "two", "").
        count: "two", "3", or "".
        relation: how it is tied to the phrase before it: "", "and", "with", "on top of" ...
        kind: "thing"; "place" for what only says where ("on a table"); "style" for how it is to look.
        negated: it is not to be there ("without a hat").
    """

    text: str
    head: str
    attributes: tuple[str, ...] = ()
    article: str = ""
    count: str = ""
    relation: str = ""
    kind: Kind = "thing"
    negated: bool = False

    @property
    def told(self) -> str:
        """With its article or count: "a shiny red ball"."""
        article = self.article
        if article in ("a", "an"):
            article = "an" if self.text[0] in "aeiou" else "a"
        return f"{article} {self.text}" if article else self.text

    @property
    def verb(self) -> str:
        """The form of "to be" that goes with its count."""
        return "are" if self.count not in ("", "one", "1") else "is"

    @property
    def is_tied(self) -> bool:
        """Whether it hangs on the phrase before it ("a cat *wearing a hat*") and does not stand beside it."""
        return self.relation not in ("", "and", "plus")


@dataclass(frozen=True)
class Wish:
    """What a prompt asks for.

    Attributes:
        command: "" for a description, else "add", "remove", "replace" or "change".
        phrases: everything that it names, in order, each once.
        gone: what is to go: of "remove the dog", of "replace the dog with a cat".
    """

    command: Literal["", "add", "remove", "replace", "change"] = ""
    phrases: tuple[Phrase, ...] = ()
    gone: tuple[Phrase, ...] = ()

    @property
    def asked(self) -> tuple[Phrase, ...]:
        """What is to be seen."""
        return tuple(phrase for phrase in self.phrases if not phrase.negated)

    @property
    def avoided(self) -> tuple[Phrase, ...]:
        """What is not to be seen: named as absent, or to be removed."""
        return tuple(phrase for phrase in self.phrases if phrase.negated) + self.gone

    @property
    def subject(self) -> Phrase | None:
        """The first thing that is asked for; None for a removal."""
        return next((phrase for phrase in self.asked if phrase.kind == "thing"), next(iter(self.asked), None))


def read_wish(prompt: str) -> Wish:
    """Take a prompt apart. Never fails: an empty prompt, or one without a word, asks for nothing."""
    text = " ".join(_WEIGHTED.sub(r"\1", prompt.lower()).split()).strip(" .!")
    for command, pattern in COMMANDS:
        found = re.match(pattern, text)
        if found is None:
            continue
        parts = found.groupdict()
        gone = _phrases(parts.get("gone") or "")
        if command == "remove":
            return Wish("remove", (), gone[:1] if gone else ())
        asked = parts.get("new") or ""
        if command == "change":
            asked = f"{parts['new']} {parts['thing']}"
        return Wish(command, _phrases(asked), gone[:1])
    return Wish("", _phrases(text))


def words_of(text: str) -> list[str]:
    """The words of a text, lower case, plural endings dropped, so that "apples" and "apple" are the same word."""
    return [_stem(word) for word in _WORD.findall(text.lower())]


def _stem(word: str) -> str:
    if len(word) > 4 and word.endswith(("ses", "xes", "ches", "shes")):
        return word[:-2]
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    return (
        word[:-1]
        if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "'s", "’s"))
        else word
    )


def _phrases(text: str) -> tuple[Phrase, ...]:
    found: list[Phrase] = []
    for clause in _ENDS.split(text):
        for relation, words in _split(clause.strip()):
            phrase = _phrase(words, relation, negates=bool(found) and found[-1].negated)
            if phrase is None:
                continue
            if found and phrase.head in ADJECTIVES and not (phrase.article or phrase.relation):
                found[-1] = _described(found[-1], phrase)
            elif all((phrase.text, phrase.count) != (old.text, old.count) for old in found):
                found.append(phrase)
    return tuple(found)


def _described(thing: Phrase, told: Phrase) -> Phrase:
    """A thing with what is said of it behind a comma: "an apple, red and shiny"."""
    attributes = tuple(dict.fromkeys((*told.text.split(), *thing.attributes)))
    return replace(thing, attributes=attributes, text=" ".join((*attributes, thing.head)))


def _split(clause: str) -> list[tuple[str, str]]:
    """(relation, words) of each part of a clause."""
    clause = _PAIRED.sub(r"\1 ", OPENINGS.sub("", clause))
    parts, last, relation = [], 0, ""
    for joint in _JOINTS.finditer(clause):
        parts.append((relation, clause[last : joint.start()]))
        relation, last = joint.group(), joint.end()
    return [*parts, (relation, clause[last:])]


def _phrase(words: str, relation: str, negates: bool) -> Phrase | None:
    """The phrase of a part; None where there is none ("it", "in focus")."""
    text = OPENINGS.sub("", words.strip())
    negated = (
        relation in ("without", "instead of")
        or bool(_NEGATION.match(text))
        or (negates and bool(_NEGATED.match(relation)))
    )
    text = _NEGATION.sub("", text)
    counted = _COUNT.match(text)
    text = text[counted.end() :] if counted else text
    article = _ARTICLE.match(text)
    text = _ARTICLE.sub("", text)
    main, *told = _CLAUSE.split(text)
    attributes, head = _noun([word for word in main.split() if word not in FILLERS])
    attributes = (*(word for each in told for word in _attributes(each)), *attributes)
    if not head or (not attributes and head in STYLES["empty"]) or not re.search(r"[^\W\d_]", head):
        return None
    count = counted.group(1) if counted else ""
    phrase = Phrase(
        " ".join((*attributes, head)),
        head,
        attributes,
        count or (article.group().strip() if article else ""),
        count,
        relation,
        negated=negated,
    )
    return replace(phrase, kind=_kind(phrase, main))


def _attributes(told: str) -> list[str]:
    """The adjectives of a clause: "very shiny and red" says two things."""
    return [word for word in _ARTICLE.sub("", told).split() if word not in FILLERS and word != "and"]


def _noun(words: list[str]) -> tuple[tuple[str, ...], str]:
    """Attributes and head of a bare noun phrase; "glass of wine" has the head "glass of wine"."""
    if not words:
        return (), ""
    if "of" in words[1:-1]:
        place = words.index("of", 1) - 1
        return tuple(words[:place]), " ".join(words[place:])
    # "cat sitting", "ball blue": what stands behind the noun is said of it.
    behind = 0
    while behind < len(words) - 1 and (words[-1 - behind] in ADJECTIVES or _is_posture(words[-1 - behind])):
        behind += 1
    head = words[-1 - behind]
    return (*words[len(words) - behind :], *words[: len(words) - behind - 1]), head


def _is_posture(word: str) -> bool:
    return word.endswith("ing") and len(word) > 5 and word not in NO_POSTURES


def _kind(phrase: Phrase, main: str) -> Kind:
    if any(word in STYLES["looks"] for word in main.split()) or phrase.relation == "in the style of":
        return "style"
    return "place" if phrase.relation in PLACES else "thing"
