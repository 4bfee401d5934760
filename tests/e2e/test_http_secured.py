"""HTTPS: the certificates of the gRPC side, clients with one of their own, and the flag as a person gives it."""

from __future__ import annotations

import asyncio
import http.client
import json
import shutil
import signal
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from editcritic.server.app import CriticServer
from editcritic.server.callers import current_caller
from editcritic.server.settings import ServerSettings
from tests.e2e.certificates import Authority

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the tests' certificates"
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


def health(address: str, authority: Authority, identity: tuple[Path, Path] | None = None) -> tuple[int, str]:
    """Status of a call, and the serial number of the server's certificate."""
    context = ssl.create_default_context(cafile=str(authority.pem))
    if identity is not None:
        context.load_cert_chain(*identity)
    connection = http.client.HTTPSConnection(address, timeout=30, context=context)
    try:
        connection.request(
            "POST", "/v1/CriticService/ListCritics", b"{}", {"Content-Type": "application/json"}
        )
        serial: Any = connection.sock.getpeercert()["serialNumber"]  # type: ignore[union-attr, index]
        return connection.getresponse().status, serial
    finally:
        connection.close()


def in_clear_text(address: str) -> int:
    connection = http.client.HTTPConnection(address, timeout=30)
    try:
        connection.request("GET", "/v1/health")
        return connection.getresponse().status
    finally:
        connection.close()


async def test_https_has_the_servers_certificate_and_a_renewed_one_serves_the_next_connection(
    authority: Authority, tmp_path: Path
) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"

    def install(days: int) -> None:
        for made, place in zip(authority.sign("localhost", days), (cert, key), strict=True):
            shutil.copy(made, place)

    install(2)
    settings = ServerSettings(
        port=0, critics=("dummy",), tls_cert_path=cert, tls_key_path=key, http="127.0.0.1:0"
    )
    async with CriticServer(settings) as server:
        status, before = await asyncio.to_thread(health, server.http_address, authority)
        assert status == 200
        install(3)
        status, after = await asyncio.to_thread(health, server.http_address, authority)
        assert (status, before == after) == (200, False)
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            await asyncio.to_thread(in_clear_text, server.http_address)


async def test_mutual_tls_holds_over_https_and_its_name_is_the_callers(
    authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = Authority(tmp_path, "theirs")
    cert, key = authority.sign("localhost")
    settings = ServerSettings(
        port=0,
        critics=("dummy",),
        tls_cert_path=cert,
        tls_key_path=key,
        tls_client_ca_path=authority.pem,
        http="127.0.0.1:0",
    )
    async with CriticServer(settings) as server:
        names = []
        limits = ServerSettings.limits

        def listed(self: ServerSettings) -> Any:
            names.append(current_caller().name)
            return limits(self)

        monkeypatch.setattr(ServerSettings, "limits", listed)
        status, _ = await asyncio.to_thread(health, server.http_address, authority, authority.sign("anna"))
        assert (status, names) == (200, ["anna"])
        for identity in (None, stranger.sign("anna")):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.HTTPException)):
                await asyncio.to_thread(health, server.http_address, authority, identity)
        assert names == ["anna"]


def test_the_flag_prints_where_it_listens_and_a_signal_drains() -> None:
    command = [sys.executable, "-m", "editcritic.server", "--port=0", "--http=127.0.0.1:0", "--critics=dummy"]
    with subprocess.Popen(
        [*command, "--no-verdicts"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        assert line.startswith("http address: 127.0.0.1:")
        connection = http.client.HTTPConnection(line.removeprefix("http address: ").strip(), timeout=30)
        connection.request("GET", "/v1/health")
        assert json.load(connection.getresponse()) == {"status": "SERVING"}
        # A connection that is open and idle does not hold up the end.
        server.send_signal(signal.SIGTERM)
        _, said = server.communicate(timeout=60)
        connection.close()
        assert server.returncode == 0, said
        assert "Traceback" not in said
