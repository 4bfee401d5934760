"""Settings from flags, the environment and a file: who wins, what is refused, and what is printed."""

from __future__ import annotations

import argparse
import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from editcritic.server.configuration import Configuration, add_flags, read_configuration
from editcritic.server.critic_hosting import CriticHosting
from editcritic.server.setting_keys import setting_keys
from editcritic.server.settings import ServerSettings, SettingsError


def configuration(*flags: str, **environment: str) -> Configuration:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return read_configuration(parser.parse_args(flags), environment)


def test_a_flag_beats_the_environment_which_beats_the_file_which_beats_the_default(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text("port = 1\nworkers = 2\ngrace_s = 3\n[images]\nmax_side = 999\n")
    variables = {
        "EDITCRITIC_SERVE_PORT": "11",
        "EDITCRITIC_SERVE_WORKERS": "12",
        "EDITCRITIC_TLS_CERT": "client.pem",
    }
    found = configuration(f"--config={file}", "--port=21", **variables).settings()
    assert (found.port, found.workers, found.grace_s, found.images.max_side) == (21, 12, 3.0, 999)
    assert (found.max_streams, found.tls_cert_path) == (ServerSettings.max_streams, None)


def test_the_file_may_be_named_in_the_environment_and_its_paths_start_where_it_lies(tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text('verdicts = "kept.sqlite3"\ncritics = ["evidence", "dummy"]\n')
    found = configuration(EDITCRITIC_SERVE_CONFIG=str(file)).settings()
    assert found.verdicts_path == tmp_path / "kept.sqlite3"
    assert found.critics == ("evidence", "dummy")


def test_every_field_of_the_settings_has_one_flag_one_variable_and_one_name_in_a_file() -> None:
    keys = setting_keys()
    plain = {field.name for field in dataclasses.fields(ServerSettings)}
    assert {key.field[0] for key in keys} == plain
    for names in ({key.flag for key in keys}, {key.variable for key in keys}, {key.in_file for key in keys}):
        assert len(names) == len(keys)
    assert all(key.help for key in keys), "the class has to say what each is for"


WRONG: dict[str, tuple[dict[str, str], str, tuple[str, ...], str]] = {
    "word for a number": ({}, "", ("--port=http",), "flag --port is 'http'; it must be a whole number"),
    "no such port": ({}, "", ("--metrics-port=70000",), "flag --metrics-port .* 65535"),
    "less than nothing": ({"EDITCRITIC_SERVE_GRACE_S": "-1"}, "", (), "EDITCRITIC_SERVE_GRACE_S is '-1'"),
    "no time at all": ({"EDITCRITIC_SERVE_GRACE_S": "nan"}, "", (), "EDITCRITIC_SERVE_GRACE_S is 'nan'"),
    "maybe": ({"EDITCRITIC_SERVE_ADMIN": "maybe"}, "", (), "must be true or false"),
    "unknown variable": ({"EDITCRITIC_SERVE_WORKER": "1"}, "", (), "did you mean 'EDITCRITIC_SERVE_WORKERS'"),
    "unknown key": ({}, "ports = 1", (), "server.toml: there is no setting 'ports', did you mean 'port'"),
    "unknown group": ({}, "[image]\nmax_side = 1", (), "no setting 'image.max_side'"),
    "text for a number": ({}, 'port = "1"', (), r"server.toml: port is '1'; it must be a whole number"),
    "a switch for a number": ({}, "port = true", (), "port is True"),
    "a number for a switch": ({}, "admin = 1", (), "admin is 1; it must be true or false"),
    "other word": ({}, 'log_format = "xml"', (), "log_format is 'xml'; it must be one of text, json"),
    "no TOML": ({}, "port 1", (), "server.toml cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_the_source_and_the_setting(case: str, tmp_path: Path) -> None:
    environment, text, flags, says = WRONG[case]
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=says):
        configuration(f"--config={file}", *flags, **environment)


def test_what_is_printed_is_a_file_that_means_the_same(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("a-very-secret-token")
    secret.chmod(0o600)
    variables = {"EDITCRITIC_SERVE_TOKEN_FILE": str(secret)}
    first = configuration("--no-verdicts", "--critics=evidence,dummy", "--images-max-side=77", **variables)
    printed = first.as_toml()
    assert "max_side = 77  # flag --images-max-side" in printed
    assert f'token_file = "{secret}"  # environment EDITCRITIC_SERVE_TOKEN_FILE' in printed
    assert "port = 50551  # default" in printed
    assert "a-very-secret-token" not in printed
    file = tmp_path / "printed.toml"
    file.write_text(printed)
    assert configuration(f"--config={file}").settings() == first.settings()


def server(*flags: str, **environment: str) -> Any:
    command = [sys.executable, "-m", "editcritic.server", *flags]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        input="",
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_command_prints_the_configuration_and_ends() -> None:
    done = server("--print-config", "--port=7", EDITCRITIC_SERVE_WORKERS="3")
    assert done.returncode == 0
    assert "port = 7  # flag --port" in done.stdout
    assert "workers = 3  # environment EDITCRITIC_SERVE_WORKERS" in done.stdout


def test_an_embedded_server_leaves_the_environment_to_the_one_that_it_was_meant_for() -> None:
    done = server("--print-config", "--embedded", EDITCRITIC_SERVE_METRICS_PORT="9464")
    assert 'metrics_port = ""  # default' in done.stdout


def test_a_critics_table_means_what_its_text_means(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python, old"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    file = tmp_path / "server.toml"
    file.write_text(
        'critics = ["dummy", "evidence"]\n[hosting.dummy]\nisolation = "process"\n'
        'python = "bin/python, old"\nmemory = "1.5 GiB"\nsleep_after = 600\n[hosting.evidence]\nsleep_after = 2.5\n'
    )
    found = configuration(f"--config={file}")
    expected = CriticHosting("process", str(python), 3 * 2**29, 600.0)
    assert found.settings().hosting_of("dummy") == expected
    assert found.settings().hosting_of("evidence") == CriticHosting(sleep_after_s=2.5)
    assert found.settings().hosting_of("network") == CriticHosting()
    printed = tmp_path / "printed.toml"
    printed.write_text(found.as_toml())
    assert configuration(f"--config={printed}").settings().hosting_of("dummy") == expected
    text = f"dummy?isolation=process&python={sys.executable}&memory=24GB&hang_after=5"
    variable = configuration(EDITCRITIC_SERVE_HOSTING=f"{text},evidence?sleep_after=1").settings()
    assert variable.hosting_of("dummy") == CriticHosting("process", sys.executable, 24 * 10**9, 0.0, 5.0)
    flag = configuration("--hosting=dummy?sleep_after=1", EDITCRITIC_SERVE_HOSTING=text).settings()
    assert flag.hosting_of("dummy") == CriticHosting(sleep_after_s=1.0)


WRONGLY_HOSTED = {
    "dummy": "must be NAME[?]option=value",
    "mars?sleep_after=1": r"unknown critics \['mars'\]",
    "dummy?sleep=1": "no option 'sleep'; known are isolation, python, memory, sleep_after, hang_after",
    "dummy?isolation=container": "'thread' or 'process', not 'container'",
    "dummy?memory=1GiB": "memory of dummy needs isolation = 'process'",
    "dummy?isolation=process&memory=lots": "bytes as in 24GiB, 800MB or 1073741824, not 'lots'",
    "dummy?isolation=process&python=/no/such/python": "which is no program that can be run here",
    "dummy?sleep_after=-1": "seconds from 0, not '-1'",
    "dummy?sleep_after=nan": "seconds from 0",
    "dummy?sleep_after=1&sleep_after=2": "each once",
    "dummy?sleep_after=1,dummy?isolation=process": "'dummy' comes twice",
}


@pytest.mark.parametrize("text", WRONGLY_HOSTED)
def test_hosting_that_cannot_be_is_refused_before_the_start(text: str) -> None:
    with pytest.raises(SettingsError, match=WRONGLY_HOSTED[text]):
        configuration(f"--hosting={text}").settings()


@pytest.mark.parametrize(
    "text", ["[hosting]\ndummy = 1", "[hosting.dummy]\nsleep_after = true", "[hosting.dummy]"]
)
def test_a_critics_table_of_something_else_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "server.toml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=r"server.toml: hosting\.dummy"):
        configuration(f"--config={file}")
