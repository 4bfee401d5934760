"""A server with TLS and a token, and the commands that reach it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from editcritic.plugin.client import Client
from editcritic.plugin.embedded import EmbeddedServer
from editcritic.v1 import errors

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the test's certificate"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for loopback, its key, and a token."""
    made = tmp_path_factory.mktemp("secured")
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(made / "key.pem"), "-out", str(made / "cert.pem")]
    subprocess.run([*command, *names, *files], check=True, capture_output=True)
    (made / "token").write_text("s3cret\n")
    return made


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[EmbeddedServer]:
    flags = [f"--tls-cert={folder / 'cert.pem'}", f"--tls-key={folder / 'key.pem'}"]
    with EmbeddedServer(["dummy"], [*flags, f"--token-file={folder / 'token'}", "--no-verdicts"]) as started:
        yield started


def test_the_right_authority_and_token_are_let_in(server: EmbeddedServer, folder: Path) -> None:
    with Client(server.address, token="s3cret", tls=folder / "cert.pem") as client:
        assert [critic.identity.name for critic in client.list_critics().critics] == ["dummy"]


def test_a_wrong_token_is_refused(server: EmbeddedServer, folder: Path) -> None:
    client = Client(server.address, token="guess", tls=folder / "cert.pem")
    with client, pytest.raises(errors.Unauthenticated):
        client.list_critics()


@pytest.mark.parametrize("tls", [False, True])
def test_clear_text_and_an_unknown_authority_do_not_get_through(server: EmbeddedServer, tls: bool) -> None:
    client = Client(server.address, token="s3cret", tls=tls, timeout_s=10)
    with client, pytest.raises(errors.ServerUnavailable):
        client.list_critics()


def test_a_command_takes_token_and_authority_from_the_environment(
    server: EmbeddedServer, folder: Path
) -> None:
    environment = {
        **os.environ,
        "EDITCRITIC_SERVER": server.address,
        "EDITCRITIC_TOKEN": "s3cret",
        "EDITCRITIC_TLS": str(folder / "cert.pem"),
    }
    program = "from editcritic.plugin.cli import main; main()"
    arguments = ["verdict", "accepted", "--edit", "e", "--candidate", "c"]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "keeps no verdicts" in done.stderr, "it was let in, and the server answered"
