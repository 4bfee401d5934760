"""`editcritic top`, `status` and `critics` against a server whose work is known."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from editcritic.plugin.client import Client
from editcritic.plugin.server_figures import Figures
from editcritic.v1 import critic_pb2 as pb

TOKEN = "a-long-random-token"


def samples(*entries: tuple[str, dict[str, str], float]) -> dict[Any, float]:
    return {(name, frozenset(labels.items())): value for name, labels, value in entries}


def histogram(scale: float = 1.0) -> Figures:
    """Ten observations: four up to 1, four more up to 2, two beyond."""
    buckets = (("1.0", 4.0), ("2.0", 8.0), ("+Inf", 10.0))
    entries = [("h_bucket", {"le": bound}, scale * count) for bound, count in buckets]
    return Figures(samples(*entries, ("h_count", {}, 10 * scale), ("h_sum", {}, 15 * scale)), 10 * scale)


@pytest.mark.parametrize(("share", "value"), [(0.2, 0.5), (0.4, 1.0), (0.5, 1.25), (0.8, 2.0), (0.95, 2.0)])
def test_a_quantile_is_linear_within_its_bucket(share: float, value: float) -> None:
    assert histogram().quantile(share, "h") == pytest.approx(value)


def test_an_empty_histogram_has_neither_mean_nor_quantile() -> None:
    nothing = Figures({}, 1.0)
    assert math.isnan(nothing.quantile(0.5, "h"))
    assert math.isnan(nothing.mean("h"))


def test_two_looks_give_the_time_between_them() -> None:
    between = histogram(3.0).since(histogram())
    assert between.seconds == 20
    assert between.total("h_count") == 20
    assert between.rate("h_count") == 1
    assert between.mean("h") == 1.5


def test_a_server_that_was_restarted_begins_anew() -> None:
    after = Figures(samples(("c_total", {}, 5.0)), 2.0)
    assert after.since(Figures(samples(("c_total", {}, 100.0)), 50.0)).total("c_total") == 5


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(address, address of the metrics) of a server with an operator's token."""
    tokens = tmp_path_factory.mktemp("server") / "tokens"
    tokens.write_text(f"operator {TOKEN} admin\n")
    tokens.chmod(0o600)
    flags = ["-m", "editcritic.server", "--port=0", "--embedded", "--critics=dummy,evidence", "--no-verdicts"]
    flags += [f"--tokens={tokens}", "--admin", "--metrics-port=0"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, *flags], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        yield told["address"], told["metrics_address"]
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(20) == 0


def run(*arguments: str, server: str = "", token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "EDITCRITIC_SERVER": server, "EDITCRITIC_TOKEN": token, "COLUMNS": "120"}
    program = "from editcritic.plugin.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_top_shows_what_was_judged(
    server: tuple[str, str], edit: pb.Edit, make_candidate: Callable[..., pb.Candidate]
) -> None:
    address, metrics = server
    with Client(address, token=TOKEN) as client:
        for level in (51, 102, 204):
            client.critique(edit, make_candidate("a", level), critic="dummy")
    done = run("top", "--once", "--metrics", f"http://{metrics}/metrics")
    assert done.returncode == 0, done.stderr
    row = next(line for line in done.stdout.splitlines() if "│ dummy" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[3] == "1.0", "batches of one"
    assert cells[5:8] == ["0 %", "0 %", "47"], "none abstained, none failed, and the mean of 20, 40 and 80"
    call = next(line for line in done.stdout.splitlines() if "CriticService/Critique" in line)
    assert "OK" in call
    assert call.strip("│ ").endswith("3")
    assert "queue 0 of 256" in done.stdout


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/metrics", "file:///etc/passwd"])
def test_top_says_where_it_looked_in_vain(url: str) -> None:
    done = run("top", "--once", "--metrics", url)
    assert done.returncode == (3 if url.startswith("http") else 2)
    assert url in done.stderr
    assert "Traceback" not in done.stderr


def test_status_tells_by_its_exit_code(server: tuple[str, str]) -> None:
    address, _ = server
    whole, known = run("status", server=address, token=""), run("status", "--critic=dummy", server=address)
    assert (whole.returncode, known.returncode) == (0, 0)
    assert "SERVING" in whole.stdout
    assert run("status", "--critic=mars", server=address).returncode == 2
    assert run("status", "--timeout-s=2", server="127.0.0.1:1").returncode == 3


def test_critics_are_listed_loaded_and_unloaded(server: tuple[str, str]) -> None:
    address, _ = server
    listed = run("critics", "list", server=address).stdout
    assert "evidence" in listed
    assert "awake" in listed
    assert run("critics", "unload", "evidence", server=address).returncode == 0
    assert run("status", "--critic=evidence", server=address).returncode == 1
    loaded = run("critics", "load", "evidence", server=address)
    assert loaded.returncode == 0, loaded.stderr
    assert "serves" in loaded.stdout
    unknown = run("critics", "load", "mars", server=address)
    assert unknown.returncode == 2
    assert "evidence" in unknown.stderr, "names those that there are"
