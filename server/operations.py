"""What an operator sees of a server: the log of calls, metrics and traces, each only where it was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import grpc.aio

from editcritic.server.calls import CallLog
from editcritic.server.hosting import Hosts
from editcritic.server.settings import SettingsError
from editcritic.v1 import tracing

if TYPE_CHECKING:
    from editcritic.server.metrics import MetricsEndpoint

__all__ = ["Operations"]

_log = logging.getLogger(__name__)


class Operations:
    """Watches a server.

    Args:
        hosts: its critics.

    Attributes:
        metrics_address: ``host:port`` of the metrics once they are offered; empty without.
    """

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self._endpoint: MetricsEndpoint | None = None
        self._end_traces: Callable[[], None] = _nothing
        self.metrics_address = ""

    def interceptors(self) -> Sequence[grpc.aio.ServerInterceptor]:  # type: ignore[type-arg]
        """What stands before the guard."""
        return (CallLog(self._hosts.observer),)

    def start(self, open_streams: Callable[[], int]) -> None:
        """Begin to offer what the settings ask for.

        Args:
            open_streams: how many streams are open.

        Raises:
            SettingsError: a package is missing, or the port of the metrics is taken.
        """
        settings = self._hosts.settings
        if settings.metrics_port is not None:
            self._start_metrics(settings.metrics_port, open_streams)
        if settings.traces_endpoint is not None:
            self._start_traces(settings.traces_endpoint)

    def close(self) -> None:
        """Stop offering it. Safe to call twice."""
        if self._endpoint is not None:
            self._endpoint.close()
            self._endpoint = None
        end_traces, self._end_traces = self._end_traces, _nothing
        end_traces()

    def _start_traces(self, endpoint: str) -> None:
        try:
            self._end_traces = tracing.start(endpoint, "editcritic-server")
        except ModuleNotFoundError as error:
            _log.warning("no traces, as %s is missing: pip install 'editcritic[telemetry]'", error.name)
        else:
            _log.info("traces go to %s", endpoint)

    def _start_metrics(self, port: int, open_streams: Callable[[], int]) -> None:
        try:
            from editcritic.server.metrics import Metrics, MetricsEndpoint
        except ModuleNotFoundError as error:
            raise SettingsError(f"metrics need {error.name}: pip install 'editcritic[server]'") from error
        metrics = Metrics(self._hosts, open_streams)
        self._endpoint = MetricsEndpoint(metrics, self._hosts.settings.metrics_host, port)
        self._hosts.observer.members.append(metrics)
        self.metrics_address = self._endpoint.address
        _log.info("metrics on http://%s/metrics", self.metrics_address)


def _nothing() -> None:
    pass
