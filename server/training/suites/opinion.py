"""Data sets with people's opinions, as a CSV beside images: mean opinion scores, or pairs.

One reader for all: the CSV names files in columns that differ from set to set, so a `Layout` says which. Layouts
are given for EPAIQA-15K-style, AGIQA-3K, AIGCIQA2023, KonIQ-10k, KADID-10k, TID2013, SPAQ and AU-IQA tables and for
EditReward-Bench-style pairs. None of these sets is redistributed here; the column names follow their public tables
and can be changed on the command line.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, pearsonr, spearmanr

from editcritic.server.critics.base import Critic
from editcritic.server.training.report import wilson
from editcritic.server.training.suites.asking import Asked
from editcritic.server.training.suites.results import Figure, SuiteResult
from editcritic.v1.errors import InvalidInput
from editcritic.v1.images import decode_file, decode_mask_file

__all__ = ["LAYOUTS", "Layout", "OpinionRow", "opinion_result", "read_opinions"]


@dataclass(frozen=True)
class Layout:
    """Names of columns; an empty name means that the set has no such column.

    Attributes:
        image: file of the judged picture.
        opinion: mean opinion score, or 1 / 0 for better / worse in a set of pairs.
        source: file of the picture before the edit.
        mask: file of the mask; without one the whole picture was made.
        prompt: text of the prompt.
        pair: name that the two rows of a pair share.
        score: which score is compared with the opinion.
    """

    image: str
    opinion: str
    source: str = ""
    mask: str = ""
    prompt: str = ""
    pair: str = ""
    score: str = "visual_quality"


LAYOUTS: Mapping[str, Layout] = {
    "epaiqa": Layout("edited", "overall_quality", "source", "mask", "prompt", score="overall"),
    "agiqa-3k": Layout("name", "mos_quality", prompt="prompt"),
    "aigciqa2023": Layout("image", "quality", prompt="prompt"),
    "koniq": Layout("image_name", "MOS"),
    "kadid": Layout("dist_img", "dmos", source="ref_img"),
    "tid": Layout("image", "mos", source="reference"),
    "spaq": Layout("Image name", "MOS"),
    "au-iqa": Layout("image", "mos", source="original"),
    "edit-pairs": Layout("edited", "better", "source", "mask", "prompt", "pair", "overall"),
}


@dataclass(frozen=True)
class OpinionRow:
    """One judged picture: files, prompt, opinion, pair."""

    image: Path
    opinion: float
    source: Path | None
    mask: Path | None
    prompt: str
    pair: str


def read_opinions(table: Path, images: Path, layout: Layout) -> list[OpinionRow]:
    """Rows of a CSV whose files lie under `images`.

    Raises:
        InvalidInput: the table lacks a column, or a row has no number.
    """
    with table.open(newline="", encoding="utf-8-sig") as opened:
        rows = list(csv.DictReader(opened))
    named = [name for name in (layout.image, layout.opinion, layout.pair) if name]
    missing = [name for name in named if not rows or name not in rows[0]]
    if missing:
        has = ", ".join(rows[0]) if rows else "no row"
        raise InvalidInput(f"{table} lacks the columns {', '.join(missing)}; it has {has}")
    return [_row(row, images, layout, table, line) for line, row in enumerate(rows, start=2)]


def opinion_result(critic: Critic, rows: Sequence[OpinionRow], layout: Layout) -> SuiteResult:
    """SRCC, PLCC and KRCC against opinions; for pairs, the share of right orders. Abstentions are counted."""
    judged = list(_judge(critic, rows, layout))
    scored = [(value, row) for value, row in judged if value is not None]
    figures = [Figure("share judged", len(scored) / max(len(judged), 1), len(judged))]
    values = np.array([value for value, _ in scored])
    if layout.pair:
        figures += _pair_figures([(value, row) for value, row in scored])
    elif len(scored) > 2:
        figures += _correlations(values, np.array([row.opinion for _, row in scored]))
    return SuiteResult("opinions", "Does the critic agree with people?", figures)


def _correlations(values: NDArray[np.floating], opinions: NDArray[np.floating]) -> list[Figure]:
    measures = {"SRCC": spearmanr, "PLCC": pearsonr, "KRCC": kendalltau}
    return [
        Figure(name, float(measure(values, opinions).statistic), len(values))
        for name, measure in measures.items()
    ]


def _pair_figures(scored: Sequence[tuple[float, OpinionRow]]) -> list[Figure]:
    pairs: dict[str, list[tuple[float, float]]] = {}
    for value, row in scored:
        pairs.setdefault(row.pair, []).append((row.opinion, value))
    hits = []
    for members in pairs.values():
        if len(members) == 2 and members[0][0] != members[1][0]:
            worse, better = sorted(members)
            hits.append(better[1] > worse[1])
    share = wilson(sum(hits), len(hits))
    return [Figure("pairs in order", share.value, share.count, share.low, share.high)]


def _judge(
    critic: Critic, rows: Sequence[OpinionRow], layout: Layout
) -> Iterator[tuple[float | None, OpinionRow]]:
    for row in rows:
        image = decode_file(row.image.read_bytes())
        source = decode_file(row.source.read_bytes()) if row.source else np.full_like(image, 128)
        mask = decode_mask_file(row.mask.read_bytes()) if row.mask else np.ones(image.shape[:2], np.float32)
        asked = Asked.about(critic, source, mask, row.prompt)
        yield asked.scores(image)[layout.score], row


def _row(row: Mapping[str, str], images: Path, layout: Layout, table: Path, line: int) -> OpinionRow:
    def file(column: str) -> Path | None:
        return images / row[column] if column and row.get(column) else None

    try:
        opinion = float(row[layout.opinion])
    except ValueError as error:
        raise InvalidInput(
            f"{table}:{line}: {layout.opinion} is {row[layout.opinion]!r}, not a number"
        ) from error
    image = file(layout.image)
    if image is None:
        raise InvalidInput(f"{table}:{line}: {layout.image} is empty")
    return OpinionRow(
        image,
        opinion,
        file(layout.source),
        file(layout.mask),
        row.get(layout.prompt, "") if layout.prompt else "",
        row.get(layout.pair, "") if layout.pair else "",
    )
