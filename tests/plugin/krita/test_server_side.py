"""Settings, the connection's state, a server of one's own, and the record of what was edited."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from editcritic.plugin.krita.candidates import Board, Candidate
from editcritic.plugin.krita.connection import ABSENT, READY, STARTING, Connection
from editcritic.plugin.krita.provenance import appended, beside, record_of
from editcritic.plugin.krita.regions import Region
from editcritic.plugin.krita.server_process import ServerProcess, StartFailed
from editcritic.plugin.krita.settings import Settings, installed_command, load_settings, store_settings

SAYS_ADDRESS = "import sys, time; print('http address: 127.0.0.1:4711', flush=True); sys.stdin.read()"


def test_settings_survive_the_way_through_krita_s_texts() -> None:
    kept: dict[str, str] = {}
    chosen = Settings(address="studio:80", candidate_count=9, seed=0, engine="tabletop", time_limit_s=0)
    store_settings(chosen, kept.__setitem__)
    assert load_settings(kept.get) == chosen  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["many", "0", "17", "", "4.5"])
def test_a_setting_that_makes_no_sense_gets_its_default(text: str) -> None:
    settings = load_settings(lambda name, default: text if name == "candidate_count" else default)
    assert settings == Settings()


def test_the_command_is_the_installed_one_unless_the_user_has_set_another(tmp_path: Path) -> None:
    installed = tmp_path / "installed.json"
    installed.write_text(json.dumps({"server_command": ["editcritic", "serve"]}))
    assert installed_command(Settings(), installed) == ["editcritic", "serve"]
    own = Settings(server_command='["mine", "--fast"]')
    assert installed_command(own, installed) == ["mine", "--fast"]


@pytest.mark.parametrize("command", ["[]", '"serve"', "[1]", "{}", "not json"])
def test_what_is_no_command_is_refused(command: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own and ours
        installed_command(Settings(server_command=command), tmp_path / "none")


def test_without_a_command_it_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="editcritic install krita"):
        installed_command(Settings(), tmp_path / "none.json")


def test_an_absent_server_is_asked_for_ever_more_rarely_and_a_lost_one_soon() -> None:
    connection = Connection("127.0.0.1:1")
    waits = []
    for _ in range(8):
        connection.lost("nobody listens at this address")
        waits.append(connection.delay_s)
    assert waits == sorted(waits)
    assert waits[-1] == 30
    assert connection.state == ABSENT
    connection.answered()
    assert connection.state == READY
    connection.lost("the connection broke off")
    assert connection.delay_s == 1


def test_the_state_is_told_in_one_line() -> None:
    connection = Connection("127.0.0.1:1")
    assert connection.text == "looking for a server at 127.0.0.1:1"
    connection.lost("nobody listens at this address")
    assert connection.text == "no server at 127.0.0.1:1: nobody listens at this address"
    connection.starting()
    assert connection.state == STARTING
    connection.moved("127.0.0.1:2")
    connection.answered()
    assert connection.text == "server at 127.0.0.1:2"


def test_a_server_is_started_and_its_address_read() -> None:
    server = ServerProcess()
    assert server.start([sys.executable, "-c", SAYS_ADDRESS]) == "127.0.0.1:4711"
    assert server.is_running
    assert server.start(["never", "run"]) == "127.0.0.1:4711", "one is enough"
    server.stop()
    assert not server.is_running
    server.stop()


def test_a_server_that_ends_with_its_owner_says_its_address_as_json() -> None:
    told = json.dumps({"address": "127.0.0.1:1", "http_address": "127.0.0.1:4712"})
    program = f"import sys; print({told!r}, flush=True); sys.stdin.read()"
    server = ServerProcess()
    assert server.start([sys.executable, "-c", program]) == "127.0.0.1:4712"
    server.stop()


def test_a_server_that_does_not_start_has_its_last_words_told() -> None:
    program = "print('starting', flush=True); raise SystemExit('the server needs torch')"
    with pytest.raises(StartFailed, match="the server needs torch"):
        ServerProcess().start([sys.executable, "-c", program])
    with pytest.raises(StartFailed, match="cannot be started"):
        ServerProcess().start(["/nowhere/editcritic"])


def test_the_record_says_what_was_asked_who_made_it_and_who_judged() -> None:
    board = Board()
    board.apply_event(
        {"started": {"editId": "e", "engine": {"name": "tabletop"}, "searchCritic": {"name": "network"}}}
    )
    candidate = Candidate("a", "seed 7", seed=7, score=81.5, reason="no fault found")
    board.add(candidate)
    record = record_of(board, candidate, "a ball", Region(1, 2, 3, 4), "layer 1")
    assert record["prompt"] == "a ball"
    assert record["region"] == [1, 2, 3, 4]
    assert (record["seed"], record["engine"], record["score"]) == (7, "tabletop", 81.5)
    assert record["critic"] == {"name": "network", "version": "", "calibration": ""}


def test_records_are_added_to_those_that_a_document_has() -> None:
    one = appended("", {"layer": "1"})
    assert json.loads(appended(one, {"layer": "2"})) == [{"layer": "1"}, {"layer": "2"}]
    assert json.loads(appended("not json", {"layer": "3"})) == [{"layer": "3"}]


def test_the_record_of_an_exported_picture_stands_beside_it() -> None:
    assert beside("/home/me/out.final.png") == Path("/home/me/out.final.editcritic.json")
    assert beside(None) is None
    assert beside("") is None
