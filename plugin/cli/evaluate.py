"""`editcritic eval`: how well a critic does on your own photographs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table

from editcritic.plugin.cli.console import command, stderr, stdout
from editcritic.plugin.cli.inputs import Json
from editcritic.server.critics import DEFAULT_CRITIC

if TYPE_CHECKING:
    from editcritic.server.training.report import EvaluationReport
    from editcritic.server.training.suites.results import SuiteResult

__all__ = ["evaluate", "opinions", "report_table"]


@command
def evaluate(
    images: Annotated[Path, typer.Option(help="Folder of photographs (PNG, JPEG, WebP).")],
    masks: Annotated[
        Path | None, typer.Option(help="Folder of object masks, <photo>_<anything>.png.")
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="CSV with the columns file and split.")] = None,
    split: Annotated[str, typer.Option(help="Use only this split of the manifest.")] = "",
    limit: Annotated[int, typer.Option(help="Most photographs; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides masks, contents and faults.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
    critic: Annotated[str, typer.Option("--critic", help="Critic to evaluate.")] = DEFAULT_CRITIC,
    against: Annotated[
        list[str] | None, typer.Option(help="Another critic, measured on the same cases; may be repeated.")
    ] = None,
    suites: Annotated[
        bool, typer.Option("--suites", help="Ask everything: preference, sanity, calibration, baselines.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for eval.html and eval.json.")
    ] = None,
    as_json_only: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a Markdown table.")] = False,
) -> None:
    """Measure a critic: false alarms on clean edits; order, detection and place of injected defects."""
    from editcritic.server.critics import load_critic
    from editcritic.server.training.evaluation import list_jobs, observe_all
    from editcritic.server.training.page import side_by_side
    from editcritic.server.training.report import summarise_observations

    jobs = list_jobs(images, masks=masks, manifest=manifest, split=split, limit=limit, seed=seed)
    with Progress(console=stderr, transient=True) as progress:
        task = progress.add_task(f"judging with {critic}", total=None)

        def on_progress(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        observations = observe_all(critic, jobs, workers, on_progress)
        report = summarise_observations(critic, observations, photographs=len(jobs), seed=seed)
        others = []
        for other in against or []:
            progress.update(task, description=f"judging with {other}", completed=0)
            seen = observe_all(other, jobs, workers, on_progress)
            others.append(summarise_observations(other, seen, photographs=len(jobs), seed=seed))
        results: list[SuiteResult] = []
        if suites:
            from editcritic.server.training.suites.running import run_suites

            asked = progress.add_task("suites", total=None)
            results = list(
                run_suites(
                    load_critic(critic),
                    jobs,
                    observations,
                    lambda name: progress.update(asked, description=name),
                )
            )
    if out is not None:
        _write(report, results, others, out)
    if as_json_only:
        stdout.print_json(json.dumps(_as_json(report, results, others)))
    elif markdown:
        stdout.print(report.to_markdown(), markup=False, soft_wrap=True)
    else:
        stdout.print(report_table(report.columns, report.rows()))
        if others:
            heads, *rows = side_by_side([report, *others])
            stdout.print(report_table(heads, rows))
        for result in results:
            stdout.print(_suite_table(result))


@command
def opinions(
    table: Annotated[Path, typer.Option("--table", help="CSV of opinions.")],
    images: Annotated[Path, typer.Option("--images", help="Folder of the files that it names.")],
    layout: Annotated[str, typer.Option(help="Whose columns: see docs/commands.md.")],
    critic: Annotated[str, typer.Option("--critic", help="Critic to compare.")] = DEFAULT_CRITIC,
    as_json_only: Json = False,
) -> None:
    """Compare a critic with people's opinions: SRCC, PLCC, KRCC, or the order of pairs."""
    from editcritic.server.critics import load_critic
    from editcritic.server.training.suites.opinion import LAYOUTS, opinion_result, read_opinions
    from editcritic.v1.errors import InvalidInput

    if layout not in LAYOUTS:
        raise InvalidInput(f"there is no layout {layout!r}; known are {', '.join(LAYOUTS)}")
    chosen = LAYOUTS[layout]
    result = opinion_result(load_critic(critic), read_opinions(table, images, chosen), chosen)
    if as_json_only:
        stdout.print_json(json.dumps(result.to_dict()))
    else:
        stdout.print(_suite_table(result))


def _as_json(
    report: EvaluationReport, results: Sequence[SuiteResult], others: Sequence[EvaluationReport]
) -> dict[str, Any]:
    return report.to_dict() | {
        "suites": [result.to_dict() for result in results],
        "against": [other.to_dict() for other in others],
    }


def _write(
    report: EvaluationReport,
    results: Sequence[SuiteResult],
    others: Sequence[EvaluationReport],
    folder: Path,
) -> None:
    from editcritic.server.training.page import evaluation_page

    folder.mkdir(parents=True, exist_ok=True)
    page = evaluation_page(report, results, f"Evaluation of the critic {report.critic}", others)
    (folder / "eval.html").write_text(page, encoding="utf-8")
    (folder / "eval.json").write_text(
        json.dumps(_as_json(report, results, others), indent=1) + "\n", encoding="utf-8"
    )


def _suite_table(result: SuiteResult) -> Table:
    table = Table("figure", "value", "cases", "reached", title=result.name, caption=result.question)
    for figure in result.figures:
        reached = {None: "", True: "yes", False: "no"}[figure.reached]
        table.add_row(figure.name, f"{figure.value:.4g}", str(figure.count), reached)
    return table


def report_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A report as a table: one row for the clean controls and one for each injected defect."""
    table = Table()
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table
