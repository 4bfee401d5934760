"""An evaluation as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from editcritic.server.training.curves import draw_curve
from editcritic.server.training.report import EvaluationReport, Share
from editcritic.server.training.suites.results import Figure, SuiteResult

__all__ = ["evaluation_page", "injected_figures", "side_by_side"]

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1150px;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;margin:.6rem 0 1.6rem;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:.25rem .6rem;border-bottom:1px solid #ddd;text-align:right;vertical-align:top}
th:first-child,td:first-child{text-align:left}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}
.yes{color:#1a7f37;font-weight:600}.no{color:#b42318;font-weight:600}
.wide{overflow-x:auto}svg{max-width:100%;height:auto}
@media(prefers-color-scheme:dark){body{background:#16181c;color:#ddd}th,td{border-color:#333}svg{background:#fff}}
"""


def evaluation_page(
    report: EvaluationReport,
    suites: Sequence[SuiteResult],
    title: str,
    others: Sequence[EvaluationReport] = (),
) -> str:
    """The page: totals with their aims, other critics beside them, the table by kind, every suite with its curves."""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{report.photographs} photographs, seed {report.seed}; shares with 95 % Wilson intervals.</p>",
        "<h2>Injected defects</h2>",
        _figures(injected_figures(report)),
        f'<div class="wide">{_table(report.columns, report.rows())}</div>',
    ]
    if others:
        heads, *rows = side_by_side([report, *others])
        parts[2:2] = ["<h2>Side by side</h2>", f'<div class="wide">{_table(heads, rows)}</div>']
    for suite in suites:
        parts += [f"<h2>{escape(suite.name)}</h2><p>{escape(suite.question)}</p>", _figures(suite.figures)]
        parts += [
            draw_curve(
                {name: points},
                "stated" if name == "reliability" else "coverage",
                "true",
                diagonal=name == "reliability",
            )
            for name, points in suite.curves.items()
        ]
    body = "\n".join(parts)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width,initial-scale=1"><style>{_STYLE}</style>{body}</html>\n'
    )


def injected_figures(report: EvaluationReport) -> list[Figure]:
    """Totals over all kinds, with what they should reach."""
    order, flagged, clean = report.severities_ordered, report.faulty_flagged, report.clean_flagged
    worst, name = report.worst_kind.severities_ordered, report.worst_kind.name
    (named, every), failed = report.map_iou, report.failed
    return [
        Figure("two severities of one kind in order", order.value, order.count, order.low, order.high, 0.92),
        Figure(
            f"the same, worst kind ({name})",
            worst.value,
            worst.count,
            worst.low,
            worst.high,
            0.85,
        ),
        Figure("clean controls flagged", clean.value, clean.count, clean.low, clean.high, 0.05, at_most=True),
        Figure("faulty candidates flagged", flagged.value, flagged.count, flagged.low, flagged.high, 0.8),
        Figure("map IoU, mean over kinds, where the kind is named", named, flagged.count, aim=0.45),
        Figure("map IoU, mean over kinds, 0 where it is not", every, flagged.count),
        Figure("errors instead of a critique", failed.value, failed.count, failed.low, failed.high),
    ]


def side_by_side(reports: Sequence[EvaluationReport]) -> list[tuple[str, ...]]:
    """The totals of several critics over the same cases, as rows, the heads first; then the order of every kind."""
    rows: list[tuple[str, ...]] = [("figure", *(report.critic for report in reports))]
    totals = [injected_figures(report) for report in reports]
    for same in zip(*totals, strict=True):
        name = same[0].name.partition(" (")[0]
        rows.append((name, *(_beside(figure) for figure in same)))
    for kinds in zip(*(report.kinds for report in reports), strict=True):
        shares = (_beside(kind.severities_ordered) for kind in kinds)
        rows.append((f"{kinds[0].name}: severities in order", *shares))
    return rows


def _beside(figure: Figure | Share) -> str:
    """The value; a dash where the critic abstained from every case."""
    return f"{figure.value:.3g}" if figure.count else "–"


def _figures(figures: Sequence[Figure]) -> str:
    heads = ("figure", "value", "95 %", "cases", "aim", "reached")
    return _table(heads, (_figure_row(figure) for figure in figures))


def _figure_row(figure: Figure) -> tuple[str, ...]:
    interval = "" if figure.low is None or figure.high is None else f"{figure.low:.3f} to {figure.high:.3f}"
    sign = "≤" if figure.at_most else "≥"
    aim = "" if figure.aim is None else f"{sign} {figure.aim:g}"
    reached = {None: "", True: "yes", False: "no"}[figure.reached]
    return (figure.name, f"{figure.value:.4g}", interval, str(figure.count), aim, reached)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    lines = "".join("<tr>" + "".join(_cell(value) for value in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{lines}</table>"


def _cell(value: str) -> str:
    mark = f' class="{value}"' if value in ("yes", "no") else ""
    return f"<td{mark}>{escape(value)}</td>"
