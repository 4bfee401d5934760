"""Prometheus metrics of a server, on an HTTP port of their own.

Labels are critics, methods, stages, statuses and names of callers, each of a bounded number; nothing that a client sent
is among them. This module needs prometheus_client and is imported only where metrics are asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from editcritic.server.callers import current_caller
from editcritic.server.critics.base import CritiqueTask
from editcritic.server.drift import ScoreDrift
from editcritic.server.hosting import Hosts
from editcritic.server.observing import STAGES, Call, Item, Observer
from editcritic.server.settings import SettingsError
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.errors import EditCriticError, error_from_status

__all__ = ["Metrics", "MetricsEndpoint"]

_MAX_CALLERS = 64
_OTHERS = "others"
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 120.0)
_REFUSALS = ("QUOTA_EXCEEDED", "PERMISSION_DENIED", "UNAUTHENTICATED")


class Metrics(Observer):
    """Counts what it is told, and asks the server for what can be asked for when somebody looks.

    Args:
        hosts: the critics, whose queues are looked at.
        open_streams: how many streams are open.

    Attributes:
        registry: what is exposed.
    """

    def __init__(self, hosts: Hosts, open_streams: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        registry.register(_State(hosts, open_streams, self))
        self.drift: dict[tuple[str, str], ScoreDrift] = {}
        self._window = hosts.settings.drift_window
        self._callers: set[str] = set()
        self._calls = Counter(
            "editcritic_calls", "Calls that ended.", ("method", "status", "transport"), registry=registry
        )
        self._call_seconds = Histogram(
            "editcritic_call_seconds",
            "Time that calls were open; a stream is one call.",
            ("method",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._refusals = Counter(
            "editcritic_refusals",
            "Calls and candidates that were refused for want of a token, a role or quota.",
            ("caller", "reason"),
            registry=registry,
        )
        self._items = Counter(
            "editcritic_items",
            "Candidates and previews that ended.",
            ("critic", "kind", "status"),
            registry=registry,
        )
        self._item_seconds = Histogram(
            "editcritic_item_seconds",
            "From the arrival of a candidate to its critique.",
            ("critic",),
            buckets=_SECONDS,
            registry=registry,
        )
        self._stage_seconds = Histogram(
            "editcritic_stage_seconds",
            "Time of judged candidates in each stage.",
            ("critic", "stage"),
            buckets=_SECONDS,
            registry=registry,
        )
        self._batch_size = Histogram(
            "editcritic_batch_size",
            "Candidates of a batch.",
            ("critic",),
            buckets=(1, 2, 4, 8, 16, 32, 64),
            registry=registry,
        )
        self._abstentions = Counter(
            "editcritic_abstentions",
            "Scores that a critic declined to give.",
            ("critic", "dimension"),
            registry=registry,
        )
        self._dropped = Counter(
            "editcritic_dropped",
            "Candidates and previews that a stream dropped unjudged.",
            ("kind", "reason"),
            registry=registry,
        )
        self._scores = Histogram(
            "editcritic_score",
            "Overall scores of finished candidates.",
            ("critic",),
            buckets=range(10, 101, 10),
            registry=registry,
        )

    def call_ended(self, call: Call) -> None:
        """Count a call."""
        self._calls.labels(call.method, call.status, call.transport).inc()
        self._call_seconds.labels(call.method).observe(call.seconds)
        self._count_refusal(call.caller, call.reason)

    def item_ended(self, item: Item) -> None:
        """Count a candidate, its stages and its scores."""
        kind = "preview" if item.is_preview else "candidate"
        self._items.labels(item.critic, kind, _status(item.outcome)).inc()
        if isinstance(item.outcome, pb.Critique):
            self._item_seconds.labels(item.critic).observe(item.seconds)
            self._count_critique(item.critic, item.outcome, item.is_preview)

    def batch_began(self, critic: str, tasks: Sequence[CritiqueTask]) -> None:
        """Count a batch."""
        self._batch_size.labels(critic).observe(len(tasks))

    def event_sent(self, event: pb.CritiqueStreamResponse) -> None:
        """Count what was dropped, and candidates beyond a quota."""
        kind = event.WhichOneof("event")
        if kind == "candidate_error":
            self._count_refusal(
                current_caller().name, error_from_status(event.candidate_error.status).reason_name
            )
        elif kind == "dropped":
            reason = pb.DropReason.Name(event.dropped.reason).removeprefix("DROP_REASON_").lower()
            what = "preview" if event.dropped.HasField("progress") else "candidate"
            self._dropped.labels(what, reason).inc()

    def _count_critique(self, critic: str, critique: pb.Critique, is_preview: bool) -> None:
        for stage in STAGES:
            milliseconds = getattr(critique.timings, f"{stage}_ms")
            self._stage_seconds.labels(critic, stage).observe(milliseconds / 1000)
        for field, score in critique.scores.ListFields():
            if score.status == pb.SCORE_STATUS_ABSTAINED:
                self._abstentions.labels(critic, field.name).inc()
        overall = critique.scores.overall
        if overall.status == pb.SCORE_STATUS_SCORED and not is_preview:
            self._scores.labels(critic).observe(overall.value)
            self._drift_of(critic, critique.critic.version).note(overall.value)

    def _drift_of(self, critic: str, version: str) -> ScoreDrift:
        """Scores of another version are another population; the latest two are kept."""
        if (critic, version) not in self.drift:
            for old in [each for each in self.drift if each[0] == critic][:-1]:
                del self.drift[old]
            self.drift[critic, version] = ScoreDrift(self._window)
        return self.drift[critic, version]

    def _count_refusal(self, caller: str, reason: str) -> None:
        if reason not in _REFUSALS:
            return
        if len(self._callers) < _MAX_CALLERS:
            self._callers.add(caller)
        name = caller if caller in self._callers else _OTHERS
        self._refusals.labels(name, reason.lower()).inc()


class _State(Collector):
    """What is looked at rather than counted."""

    def __init__(self, hosts: Hosts, open_streams: Callable[[], int], metrics: Metrics) -> None:
        self._hosts, self._open_streams, self._metrics = hosts, open_streams, metrics

    def collect(self) -> Iterator[Metric]:
        admission, settings = self._hosts.admission, self._hosts.settings
        for name, told, value in (
            ("queue_items", "Candidates that wait and run, over all critics.", admission.count),
            ("queue_items_limit", "Most that may.", settings.max_queued),
            ("queue_bytes", "Bytes that they and the open edits take.", admission.byte_count),
            ("queue_bytes_limit", "Most that they may.", settings.max_queued_bytes),
            ("streams_open", "Open streams.", self._open_streams()),
            ("streams_limit", "Most that may be.", settings.max_streams),
        ):
            yield GaugeMetricFamily(f"editcritic_{name}", told, value)
        yield from self._of_critics()
        yield from self._of_processes()
        yield _device_memory()

    def _of_processes(self) -> Iterable[Metric]:
        state = GaugeMetricFamily(
            "editcritic_critic_state", "1 for what a critic is doing.", labels=["critic", "state"]
        )
        wakes = CounterMetricFamily(
            "editcritic_critic_wakes", "Times that a model came back after sleep.", labels=["critic"]
        )
        ends = CounterMetricFamily(
            "editcritic_worker_ends",
            "Processes of critics that ended and were not told to.",
            labels=["critic", "cause"],
        )
        memory = GaugeMetricFamily(
            "editcritic_worker_memory_bytes", "Memory that a critic's own process holds.", labels=["critic"]
        )
        for host in self._hosts.all():
            name, vitals = host.info.identity.name, host.vitals
            for number, told in _state_names().items():
                state.add_metric([name, told], int(host.info.state == number))
            wakes.add_metric([name], vitals.wakes)
            memory.add_metric([name], vitals.byte_count())
            for cause, count in vitals.ends.items():
                ends.add_metric([name, cause], count)
        return state, wakes, ends, memory

    def _of_critics(self) -> Iterable[GaugeMetricFamily]:
        waiting = GaugeMetricFamily(
            "editcritic_waiting_items", "Candidates in a critic's queue.", labels=["critic"]
        )
        ready = GaugeMetricFamily(
            "editcritic_critic_ready", "1 for a critic that is loaded and warm.", labels=["critic", "version"]
        )
        drift = GaugeMetricFamily(
            "editcritic_score_drift",
            f"Population stability index of the last {self._hosts.settings.drift_window} overall scores of finished"
            " candidates against the first as many of this version, in ten bins; above 0.25 they have shifted."
            " Not a number until there are enough.",
            labels=["critic", "version"],
        )
        for host in self._hosts.all():
            identity = host.info.identity
            waiting.add_metric([identity.name], host.batcher.waiting_count)
            ready.add_metric(
                [identity.name, identity.version], int(host.info.state != pb.CRITIC_STATE_FAILING)
            )
        for labels, each in list(self._metrics.drift.items()):
            drift.add_metric(labels, each.index())
        return waiting, ready, drift


def _state_names() -> dict[int, str]:
    return {
        number: name.removeprefix("CRITIC_STATE_").lower()
        for name, number in pb.CriticState.items()
        if number
    }


def _device_memory() -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "editcritic_device_memory_bytes",
        "GPU memory of this process; main memory is process_resident_memory_bytes.",
        labels=["device", "kind"],
    )
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        for index in range(torch.cuda.device_count()):
            family.add_metric([f"cuda:{index}", "allocated"], torch.cuda.memory_allocated(index))
            family.add_metric([f"cuda:{index}", "reserved"], torch.cuda.memory_reserved(index))
    return family


def _status(outcome: pb.Critique | BaseException) -> str:
    if isinstance(outcome, pb.Critique):
        scored = outcome.scores.overall.status == pb.SCORE_STATUS_SCORED
        return "scored" if scored else "abstained"
    if isinstance(outcome, EditCriticError):
        return outcome.reason_name.lower() if outcome.reason else type(outcome).__name__.lower()
    return "fault" if isinstance(outcome, Exception) else "cancelled"


class MetricsEndpoint:
    """The metrics over HTTP, from a thread of their own.

    Args:
        metrics: what to expose.
        host: to listen on.
        port: to listen on; 0 takes a free one.

    Raises:
        SettingsError: the address cannot be listened on.

    Attributes:
        address: ``host:port``.
    """

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        try:
            self._server, self._thread = start_http_server(port, host, metrics.registry)
        except OSError as error:
            raise SettingsError(f"cannot offer metrics on {host}:{port}: {error}") from error
        self.address = f"{host}:{self._server.server_port}"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
