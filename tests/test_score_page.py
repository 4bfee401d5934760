"""The figures of docs/score.md are those of the pages that they come from, or follow from its own formula."""

from __future__ import annotations

import re
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "score.md").read_text(encoding="utf-8")


def test_the_odds_follow_from_the_formula() -> None:
    rows = re.findall(r"^\| (\d) \| (\d+) % \| (\d+) % \| (\d+) % \|$", PAGE, re.MULTILINE)
    assert len(rows) == 3
    for deviation, *told in rows:
        spread = (2 * float(deviation) ** 2) ** 0.5
        expected = [round(100 * NormalDist().cdf(points / spread)) for points in (2, 5, 10)]
        assert [int(each) for each in told] == expected


@pytest.mark.parametrize(
    ("page", "there", "here"),
    [
        ("evidence.md", "97.5, harmony 91.0, preservation 100, overall 93.3", "93.3 overall"),
        (
            "network.md",
            "expected calibration error | 0.010 | 0.1 | 0.045",
            "off by 0.010 on average, `evidence`'s by 0.045",
        ),
        ("network.md", "97.5 % of 6,870 (97.1 to 97.8) | 92 % | 81.0 %", "| 97.5 % | 81.0 % |"),
        ("network.md", "88.3 % of 300 (84.2 to 91.5), a foreign piece | 85 % | 24 %", "| 88.3 % | 24 % |"),
        (
            "network.md",
            "97.9 / 99.9 / 100.0 % | | 89.3 / 94.5 / 97.1 %",
            "97.9, 99.9, 100.0 % | 89.3, 94.5, 97.1 %",
        ),
        ("network.md", "**71.2 %** of 6,870", "names 71.2 % at 3.2 % false alarms"),
        ("network.md", "3.2 % of 500", "names 71.2 % at 3.2 % false alarms"),
        ("network.md", "still gets about 61 overall", "still gets about 61"),
        ("training.md", "62.5 % of 72 pairs", "62.5 % were in order before `train adapt` and 75.0 % after"),
        (
            "race.md",
            "best-of-8 is worth 8 points over one seed where it\n  was 20",
            "worth 20 points before and 8 after",
        ),
    ],
)
def test_a_figure_stands_where_it_was_measured(page: str, there: str, here: str) -> None:
    assert there in (DOCS / page).read_text(encoding="utf-8"), f"{page} has changed; change score.md too"
    assert here in PAGE


def test_the_page_says_the_numbers_of_the_code() -> None:
    from editcritic.plugin.editing import make_refine_request
    from editcritic.plugin.report_parts import FAIR, GOOD
    from editcritic.refine.request import completed_request
    from editcritic.server.critics.ensemble import MOST_DISAGREEMENT
    from editcritic.server.training.verdict_calibration import LEAST_VERDICTS

    assert (GOOD, FAIR) == (85, 60)
    assert f"beyond {MOST_DISAGREEMENT:.0f} points of disagreement" in PAGE
    assert f"From {LEAST_VERDICTS} verdicts on" in PAGE
    grey, hole = np.full((64, 64, 3), 128, np.uint8), np.zeros((64, 64), np.uint8)
    hole[20:40, 20:40] = 255
    assert completed_request(make_refine_request(grey, hole)).budget.target_score == 80
