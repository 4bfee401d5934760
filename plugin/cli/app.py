"""The command line as a whole: its commands, in the order of its help."""

from __future__ import annotations

from importlib import metadata

import typer

from editcritic.plugin.cli.bench import bench_critic, bench_engine, bench_loop, bench_models, bench_quality
from editcritic.plugin.cli.bench_client import bench_client
from editcritic.plugin.cli.bench_repairs import bench_repairs
from editcritic.plugin.cli.bench_serve import bench_serve
from editcritic.plugin.cli.console import stdout
from editcritic.plugin.cli.critics import critics
from editcritic.plugin.cli.demo import demo
from editcritic.plugin.cli.edit import edit
from editcritic.plugin.cli.evaluate import evaluate, opinions
from editcritic.plugin.cli.generate import generate
from editcritic.plugin.cli.gimp import gimp
from editcritic.plugin.cli.history import history
from editcritic.plugin.cli.install import install
from editcritic.plugin.cli.rank import rank
from editcritic.plugin.cli.score import score
from editcritic.plugin.cli.serve import PASS_THROUGH, serve
from editcritic.plugin.cli.status import status
from editcritic.plugin.cli.studio import studio
from editcritic.plugin.cli.top import top
from editcritic.plugin.cli.train import train
from editcritic.plugin.cli.verdict import verdict

__all__ = ["app"]

app = typer.Typer(
    help="A second pair of eyes for diffusion inpainting.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(edit)
app.command()(history)
app.command()(generate)
app.command()(score)
app.command()(rank)
app.command(context_settings=PASS_THROUGH, add_help_option=False)(serve)
app.command()(studio)
app.command()(status)
app.command()(top)
app.add_typer(critics, name="critics")
app.command()(verdict)
app.add_typer(install, name="install")
app.command("eval")(evaluate)
app.command()(opinions)
app.add_typer(train, name="train")
app.add_typer(gimp, name="gimp")
_bench = typer.Typer(
    help="Measure speed, serving, prompt-following, and what repairs, the loop and sampling options are worth.",
    no_args_is_help=True,
)
_bench.command("client")(bench_client)
_bench.command("critic")(bench_critic)
_bench.command("engine")(bench_engine)
_bench.command("loop")(bench_loop)
_bench.command("models")(bench_models)
_bench.command("quality")(bench_quality)
_bench.command("repairs")(bench_repairs)
_bench.command("serve")(bench_serve)
app.add_typer(_bench, name="bench")
app.command()(demo)


@app.command("version")
def _version() -> None:
    """Print the version."""
    stdout.print(f"editcritic {metadata.version('editcritic')}")
