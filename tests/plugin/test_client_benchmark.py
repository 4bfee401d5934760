"""What the client costs is measured in interpreters that have nothing loaded yet."""

from __future__ import annotations

from editcritic.plugin.client_benchmark import measure_client


def test_the_client_loads_no_model_library_and_its_disk_is_told() -> None:
    found = measure_client(rounds=1)
    assert found["heavy_modules"] == []
    assert found["import_s"] > 0
    assert 10_000 < found["own_bytes"] < 1_000_000
    assert found["dependency_bytes"].keys() >= {"grpcio", "numpy", "pillow", "protobuf"}
    assert all(size > 0 for size in found["dependency_bytes"].values())
