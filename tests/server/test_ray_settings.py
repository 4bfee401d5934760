"""How many replicas of which size: the settings of scale-out, and what Serve is told."""

from __future__ import annotations

import argparse
import socket

import pytest

from editcritic.server.configuration import add_flags, read_configuration
from editcritic.server.executors.ray_cluster import (
    RayCluster,
    application_name,
    deployment_fingerprint,
    deployment_options,
)
from editcritic.server.executors.ray_settings import RaySettings
from editcritic.server.settings import ServerSettings, SettingsError


def settings(*flags: str) -> ServerSettings:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return read_configuration(parser.parse_args(flags), {}).settings()


def test_the_number_of_replicas_is_fixed_or_follows_the_load() -> None:
    fixed = deployment_options(RaySettings(replicas=3, replica_gpus=0.25, max_queued=8))
    assert (fixed["num_replicas"], fixed["max_queued_requests"]) == (3, 8)
    assert fixed["ray_actor_options"] == {"num_cpus": 1.0, "num_gpus": 0.25}
    scaled = deployment_options(RaySettings(replicas=0, max_replicas=4, target_ongoing=1.5))
    assert scaled["autoscaling_config"] == {
        "min_replicas": 0,
        "max_replicas": 4,
        "target_ongoing_requests": 1.5,
    }
    assert "num_replicas" not in scaled
    assert scaled["max_queued_requests"] == -1, "Serve's word for no bound"


def test_a_critic_may_have_settings_of_its_own() -> None:
    found = settings(
        "--executor=ray",
        "--ray-address=auto",
        "--ray-replicas=2",
        "--ray-per-critic=network?replica_gpus=0.5&max_replicas=4,evidence?replicas=1",
    ).ray
    assert found.address == "auto"
    network, evidence, other = found.of("network"), found.of("evidence"), found.of("faces")
    assert (network.replicas, network.max_replicas, network.replica_gpus) == (2, 4, 0.5)
    assert (evidence.replicas, evidence.replica_gpus) == (1, 0.0)
    assert (other.replicas, other.max_replicas) == (2, None)
    assert network.most_batches == 4 * network.max_ongoing


def test_an_engine_has_one_run_in_a_process_unless_told_otherwise() -> None:
    found = settings(
        "--executor=ray",
        "--ray-replicas=2",
        "--ray-max-ongoing=3",
        "--ray-per-engine=tabletop?replica_gpus=0.5&max_replicas=4,owner/model?max_ongoing=2",
        "--ray-per-critic=tabletop?replicas=7",
    ).ray
    tabletop, model, other = (found.of_engine(name) for name in ("tabletop", "owner/model", "dummy"))
    assert (tabletop.replicas, tabletop.max_replicas, tabletop.replica_gpus) == (2, 4, 0.5)
    assert (tabletop.max_ongoing, model.max_ongoing, other.max_ongoing) == (1, 2, 1)
    assert (tabletop.most_batches, other.most_batches) == (4, 2)
    assert deployment_options(tabletop)["ray_actor_options"] == {"num_cpus": 1.0, "num_gpus": 0.5}
    assert found.of("network").max_ongoing == 3


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (["--ray-per-engine=tabletop"], "ray.per_engine has 'tabletop'"),
        (["--ray-per-engine=tabletop?gpus=1"], "replica_gpus"),
        (["--ray-per-engine=tabletop?replicas=2&max_replicas=1"], "ray.max_replicas"),
        (["--ray-per-critic=network"], "NAME\\?SETTING=NUMBER"),
        (["--ray-per-critic=network?gpus=1"], "replica_gpus"),
        (["--ray-per-critic=network?replicas=two"], "network\\?replicas=two"),
        (["--ray-per-critic=network?replicas=2&max_replicas=1"], "ray.max_replicas"),
        (["--ray-replicas=0"], "ray.replicas must be 1 or more"),
        (["--ray-max-ongoing=0"], "ray.max_ongoing"),
        (["--ray-target-ongoing=0"], "ray.target_ongoing"),
        (["--ray-address=ray://head:10001"], "HOST:PORT"),
        (["--executor=spark"], "one of local, "),
    ],
)
def test_settings_that_cannot_be_are_told(flags: list[str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings(*flags)


def test_fronts_share_what_is_the_same_and_nothing_else() -> None:
    assert application_name("network") == application_name("network")
    names = {application_name(spec) for spec in ("network", "network@/srv/a", "network@/srv/b", "evidence")}
    assert len(names) == 4
    two = RaySettings(replicas=2)
    assert deployment_fingerprint(two) == deployment_fingerprint(RaySettings(replicas=2, address="auto"))
    assert deployment_fingerprint(two) != deployment_fingerprint(RaySettings(replicas=3))


def test_without_ray_the_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("editcritic.server.executors.ray_cluster.find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"editcritic\[ray\]"):
        RayCluster(ServerSettings(critics=("dummy",), executor="ray"))


async def test_a_cluster_that_is_not_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    # Other tests of this process may have a Ray of theirs, which would be used.
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        cluster = RayCluster(
            ServerSettings(critics=("dummy",), executor="ray", ray=RaySettings(address=address))
        )
        with pytest.raises(SettingsError, match=rf"'{address}'.*refused.*ray start --address"):
            await cluster.connect()
