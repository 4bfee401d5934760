"""The files that come along for operators: they name only what exists, and their tools accept them."""

from __future__ import annotations

import argparse
import json
import re
import shutil
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from editcritic.server.app import SERVICE_NAME
from editcritic.server.configuration import add_flags, read_configuration
from editcritic.server.hosting import Hosts
from editcritic.server.metrics import Metrics
from editcritic.server.setting_keys import setting_keys
from editcritic.server.settings import ServerSettings
from editcritic.server.systemd import notify
from editcritic.v1 import critic_pb2 as pb

FOLDER = Path(__file__).parents[2] / "server" / "deploy"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}


def exposed() -> dict[str, set[str]]:
    """Every sample's name with the labels that it may have."""
    registry = Metrics(Hosts(ServerSettings(critics=("dummy",))), lambda: 0).registry
    labels = {
        name: set(collector._labelnames)  # type: ignore[attr-defined]
        for collector, names in registry._collector_to_names.items()
        if hasattr(collector, "_labelnames")
        for name in names
    }
    found = {}
    for family in registry.collect():
        for suffix in SUFFIXES[family.type]:
            name = family.name + suffix
            found[name] = labels.get(name, set()) | ({"le"} if suffix == "_bucket" else set())
    return found


def expressions(file: str) -> list[str]:
    if file.endswith(".json"):
        board = json.loads((FOLDER / file).read_text())
        return [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    yaml = pytest.importorskip("yaml")
    rules = yaml.safe_load((FOLDER / file).read_text())["groups"][0]["rules"]
    assert all(rule["annotations"]["summary"] and rule["labels"]["severity"] for rule in rules)
    return [rule["expr"] for rule in rules]


@pytest.mark.parametrize("file", ["dashboard.json", "alerts.yml"])
def test_every_metric_that_is_named_exists(file: str) -> None:
    known = exposed()
    for expression in expressions(file):
        named = set(re.findall(r"\b(?:editcritic|process)_\w+", expression))
        assert named or "up{" in expression
        assert named <= set(known), expression
        # What is summed by has to be a label of what is summed.
        for given, inner in re.findall(r"sum by \(([^)]*)\) \(rate\((\w+)", expression):
            assert set(re.split(r",\s*", given)) <= known[inner] | {"instance"}, expression


def test_every_metric_of_ours_is_on_the_dashboard() -> None:
    shown = " ".join(expressions("dashboard.json"))
    of_ours = {
        re.sub(r"_(bucket|sum|count)$", "", name) for name in exposed() if name.startswith("editcritic")
    }
    assert {name for name in of_ours if name not in shown} == set()


def test_faults_that_alert_are_reasons_that_there_are() -> None:
    (expression,) = [each for each in expressions("alerts.yml") if "critic_failed" in each]
    found = re.search(r'status=~"([^"]*)"', expression)
    assert found
    reasons = {name.removeprefix("ERROR_REASON_").lower() for name in pb.ErrorReason.keys()}  # noqa: SIM118
    assert set(found[1].split("|")) - {"fault"} <= reasons


def test_the_file_of_settings_is_one() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    settings = read_configuration(parser.parse_args([f"--config={FOLDER / 'server.toml'}"]), {}).settings()
    assert (settings.metrics_port, settings.log_format) == (9464, "json")


def test_the_file_of_settings_for_scale_out_is_one() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    settings = read_configuration(parser.parse_args([f"--config={FOLDER / 'ray.toml'}"]), {}).settings()
    assert settings.executor == "ray"
    assert settings.ray.of("network").replicas == 2
    assert settings.ray.of("evidence").replicas == 1
    assert settings.ray.of_engine("tabletop").replicas == 1


def objects(file: str) -> list[dict[str, Any]]:
    yaml = pytest.importorskip("yaml")
    return [each for each in yaml.safe_load_all((FOLDER / file).read_text()) if each]


def test_the_fronts_of_kubernetes_are_nodes_of_its_ray_cluster(tmp_path: Path) -> None:
    by_kind = {each["kind"]: each for each in objects("kuberay.yaml")}
    assert set(by_kind) == {"RayCluster", "ConfigMap", "Deployment", "Service", "NetworkPolicy"}
    file = tmp_path / "server.toml"
    file.write_text(by_kind["ConfigMap"]["data"]["server.toml"])
    parser = argparse.ArgumentParser()
    add_flags(parser)
    settings = read_configuration(parser.parse_args([f"--config={file}"]), {}).settings()
    assert (settings.executor, settings.ray.address) == ("ray", "auto")
    assert settings.ray.of_engine("tabletop").replica_gpus == 0.5

    cluster, pod = by_kind["RayCluster"], by_kind["Deployment"]["spec"]["template"]["spec"]
    (front,) = pod["containers"]
    (command,) = front["args"]
    assert f"--address={cluster['metadata']['name']}-head-svc:6379 --num-cpus=0" in command
    assert "exec editcritic serve --config /etc/editcritic/server.toml" in command
    assert settings.grace_s < pod["terminationGracePeriodSeconds"]
    assert pod["enableServiceLinks"] is False
    ports = {each["name"]: each["containerPort"] for each in front["ports"]}
    assert ports == {"grpc": settings.port, "metrics": settings.metrics_port}
    assert front["startupProbe"]["grpc"]["port"] == front["readinessProbe"]["grpc"]["port"] == settings.port
    secrets = [each["valueFrom"]["secretKeyRef"]["name"] for each in front["env"] if "valueFrom" in each]
    assert secrets == [cluster["metadata"]["name"]], "KubeRay names the token's secret after the cluster"
    groups = [cluster["spec"]["headGroupSpec"], *cluster["spec"]["workerGroupSpecs"]]
    images = {each["image"] for group in groups for each in group["template"]["spec"]["containers"]}
    assert images == {front["image"]}, "fronts and replicas are of one version"


def test_the_cluster_of_the_manifest_runs_the_ray_that_is_tested() -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    manifest = next(each for each in objects("kuberay.yaml") if each["kind"] == "RayCluster")
    assert manifest["spec"]["rayVersion"] == metadata.version("ray")


def test_envoy_asks_fronts_for_their_health_and_outlasts_their_own_idle_time() -> None:
    (envoy,) = objects("envoy.yaml")
    (listener,), (cluster,) = envoy["static_resources"]["listeners"], envoy["static_resources"]["clusters"]
    (chain,) = listener["filter_chains"]
    manager = chain["filters"][0]["typed_config"]
    (route,) = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert route["route"]["cluster"] == cluster["name"]
    assert float(manager["stream_idle_timeout"].rstrip("s")) > ServerSettings.idle_timeout_s
    assert route["route"]["timeout"] == "0s", "a stream has no length"
    assert cluster["lb_policy"] == "LEAST_REQUEST"
    assert cluster["health_checks"][0]["grpc_health_check"]["service_name"] == SERVICE_NAME
    (endpoint,) = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    address = endpoint["endpoint"]["address"]["socket_address"]
    service = next(each for each in objects("kuberay.yaml") if each["kind"] == "Service")
    assert address["address"] == service["metadata"]["name"]
    assert address["port_value"] == ServerSettings.port
    assert service["spec"]["clusterIP"] == "None", "Envoy has to see each front"
    bounds = cluster["circuit_breakers"]["thresholds"][0]
    assert bounds["max_requests"] >= ServerSettings.max_streams, "an open stream counts as a request"


def test_the_container_sets_only_settings_that_there_are_and_runs_as_nobody_special() -> None:
    text = (FOLDER / "Containerfile").read_text()
    known = {key.variable for key in setting_keys()}
    assert set(re.findall(r"EDITCRITIC_SERVE_\w+", text)) <= known
    user = re.search(r"^USER (\d+)", text, re.MULTILINE)
    assert user
    assert int(user[1]) >= 1000
    assert all(":" in base for base in re.findall(r"^FROM (\S+)", text, re.MULTILINE)), (
        "no base without a version"
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = (FOLDER / "editcritic.service").read_text()
    unit = tmp_path / "editcritic.service"
    unit.write_text(text.replace("/opt/editcritic/bin/editcritic", sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    about_it = [line for line in done.stderr.splitlines() if "editcritic" in line]
    assert about_it == []


def test_the_service_manager_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        manager.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        notify("READY=1")
        assert manager.recv(64) == b"READY=1"
    notify("STOPPING=1")  # nobody listens any more
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")
