"""Certificates: of clients, renewed ones, expired ones, and files that do not fit each other."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from editcritic.plugin.channels import Endpoint
from editcritic.plugin.client import AsyncClient
from editcritic.server.app import CriticServer
from editcritic.server.callers import current_caller
from editcritic.server.settings import ServerSettings, SettingsError
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import ServerUnavailable
from tests.e2e.certificates import Authority

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="openssl makes the tests' certificates"
)
Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "ours")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"), "theirs")


@pytest.fixture
def in_use(tmp_path: Path) -> Pair:
    """Where the server's certificate and key lie; `install` puts others there."""
    return tmp_path / "cert.pem", tmp_path / "key.pem"


def install(pair: Pair, in_use: Pair) -> None:
    for new, place in zip(pair, in_use, strict=True):
        # As those who renew certificates do: a whole file takes the place of the old one.
        shutil.copy(new, place.with_suffix(".new"))
        os.replace(place.with_suffix(".new"), place)


@asynccontextmanager
async def secured(pair: Pair, client_ca: Path | None = None) -> AsyncIterator[CriticServer]:
    settings = ServerSettings(
        port=0, critics=("dummy",), tls_cert_path=pair[0], tls_key_path=pair[1], tls_client_ca_path=client_ca
    )
    async with CriticServer(settings) as server:
        yield server


async def calls(server: CriticServer, tls: Path, identity: Pair | None = None) -> Any:
    async with AsyncClient(server.address, tls=tls, identity=identity, timeout_s=20) as client:
        return await client.list_critics()


async def test_a_client_needs_a_certificate_of_the_right_authority(
    authority: Authority, stranger: Authority, in_use: Pair
) -> None:
    install(authority.sign("server"), in_use)
    async with secured(in_use, authority.pem) as server:
        assert (await calls(server, authority.pem, authority.sign("studio"))).critics
        with pytest.raises(ServerUnavailable, match="certificate of yours"):
            await calls(server, authority.pem)
        with pytest.raises(ServerUnavailable, match="certificate of yours"):
            await calls(server, authority.pem, stranger.sign("studio"))
        with pytest.raises(ServerUnavailable):
            await calls(server, authority.pem, authority.sign("studio", days=-1))


async def test_without_tokens_the_certificate_names_the_caller(
    authority: Authority, in_use: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(authority.sign("server"), in_use)
    async with secured(in_use, authority.pem) as server:
        names: list[str] = []
        monkeypatch.setattr(server._hosts, "infos", lambda: names.append(current_caller().name) or [])
        await calls(server, authority.pem, authority.sign("studio"))
        assert names == ["studio"]


async def test_an_expired_certificate_is_told_as_such_and_a_renewed_one_serves_at_once(
    authority: Authority, in_use: Pair
) -> None:
    install(authority.sign("server", days=-1), in_use)
    async with secured(in_use) as server:
        with pytest.raises(ServerUnavailable, match="has expired; renew it") as expired:
            await calls(server, authority.pem)
        assert "editcritic serve" not in expired.value.message, (
            "there is a server; starting another is no help"
        )
        install(authority.sign("server"), in_use)
        assert (await calls(server, authority.pem)).critics


async def test_an_open_connection_outlives_the_change_of_certificates(
    authority: Authority, stranger: Authority, in_use: Pair
) -> None:
    install(authority.sign("server"), in_use)
    async with secured(in_use) as server, AsyncClient(server.address, tls=authority.pem) as client:
        assert (await client.list_critics()).critics
        install(stranger.sign("server"), in_use)
        assert (await calls(server, stranger.pem)).critics
        assert (await client.list_critics()).critics
        with pytest.raises(ServerUnavailable, match="not trusted"):
            await calls(server, authority.pem)


async def test_files_that_do_not_fit_leave_the_last_good_ones_in_force(
    authority: Authority, in_use: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    install(authority.sign("server"), in_use)
    async with secured(in_use) as server:
        in_use[1].write_bytes(authority.sign("other")[1].read_bytes())
        assert (await calls(server, authority.pem)).critics
        assert "certificates stay as they were" in caplog.text
        in_use[0].write_text("no certificate")
        assert (await calls(server, authority.pem)).critics


def test_a_key_of_another_certificate_is_refused_at_the_start(authority: Authority) -> None:
    (cert, _), (_, key) = authority.sign("server"), authority.sign("other")
    with pytest.raises(SettingsError, match="no TLS with"):
        CriticServer(ServerSettings(port=0, critics=("dummy",), tls_cert_path=cert, tls_key_path=key))


def test_client_certificates_need_tls_on_both_sides() -> None:
    with pytest.raises(SettingsError, match="need TLS"):
        ServerSettings(tls_client_ca_path=Path("ca.pem"))
    with pytest.raises(ValueError, match="over TLS only"):
        Endpoint(identity=(Path("cert.pem"), Path("key.pem")))


async def test_clear_text_does_not_reach_a_port_with_tls(authority: Authority, in_use: Pair) -> None:
    install(authority.sign("server"), in_use)
    async with secured(in_use) as server, grpc.aio.insecure_channel(server.address) as channel:
        call = channel.unary_unary("/editcritic.v1.CriticService/ListCritics")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(pb.ListCriticsRequest().SerializeToString(), timeout=10)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
