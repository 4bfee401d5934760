"""Runs over gRPC whose journal is on a full disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import grpc.aio
import numpy as np
import pytest

from editcritic.plugin.editing import make_refine_request
from editcritic.plugin.refine_service import RefineService
from editcritic.refine.journal import Journal
from editcritic.server.app import CriticServer
from editcritic.server.settings import ServerSettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1 import refine_pb2, refine_pb2_grpc
from tests.server.speaking import as_error


async def test_a_full_disk_ends_the_run_by_name_and_it_is_resumed_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, pages, connect = tmp_path / "journal.sqlite3", {"most": 1 << 30}, sqlite3.connect

    def limited(*args: Any, **options: Any) -> sqlite3.Connection:
        connection = connect(*args, **options)
        connection.execute(f"PRAGMA max_page_count = {pages['most']}")
        return connection

    monkeypatch.setattr(sqlite3, "connect", limited)
    journal = Journal(path)

    def add(hosts: Any, server: Any) -> str:
        refine_pb2_grpc.add_RefineServiceServicer_to_server(RefineService(hosts, ["dummy"], journal), server)
        return refine_pb2.DESCRIPTOR.services_by_name["RefineService"].full_name

    photo = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    mask = np.zeros((64, 64), np.float32)
    mask[20:44, 20:44] = 1.0
    request = make_refine_request(photo, mask, "a ball", engine="dummy", seed=4, candidates=4, edit_id="mine")
    settings = ServerSettings(port=0, critics=("dummy",), workers=2)
    async with CriticServer(settings, [add]) as server, grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = refine_pb2_grpc.RefineServiceStub(channel)
        told = []
        call = stub.Refine(request)
        try:
            async for event in call:
                told.append(event.sequence)
                pages["most"] = 1
        except grpc.aio.AioRpcError as ended:
            error = as_error(ended)
        assert (error.code, error.reason) == (8, pb.ERROR_REASON_STORAGE_FULL)
        assert error.retry_after_s
        kept = [event.sequence for event in journal.events("mine")]
        assert set(told) <= set(kept)
        pages["most"] = 1 << 30
        again = stub.Refine(refine_pb2.RefineRequest(resume_edit_id="mine"))
        resumed = [event async for event in again]
    assert resumed[-1].HasField("result")
    assert [event.sequence for event in resumed] == list(range(1, len(resumed) + 1))
