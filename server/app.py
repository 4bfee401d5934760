"""Builds, starts and drains the server: listening, TLS, token, health, reflection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from editcritic.server.admin_service import AdminService
from editcritic.server.critic_service import CriticService
from editcritic.server.guard import Guard
from editcritic.server.hosting import Hosts
from editcritic.server.http_face.registry import Registry
from editcritic.server.operations import Operations
from editcritic.server.settings import (
    MAX_CALL_METADATA_BYTES,
    ServerSettings,
    SettingsError,
    split_address,
)
from editcritic.server.systemd import notify
from editcritic.server.tls import CertificateFiles
from editcritic.server.tokens import Authenticator
from editcritic.server.verdicts import VerdictStore
from editcritic.v1 import admin_pb2, admin_pb2_grpc, critic_pb2, critic_pb2_grpc
from editcritic.v1.errors import ServerFault

if TYPE_CHECKING:
    from editcritic.server.http_face.listening import HttpListener

__all__ = ["CriticServer", "run", "serve"]

_log = logging.getLogger(__name__)
ServiceFactory: TypeAlias = "Callable[[Hosts, Registry], str]"
ADMIN_SERVICE_NAME: str = admin_pb2.DESCRIPTOR.services_by_name["AdminService"].full_name
SERVICE_NAME: str = critic_pb2.DESCRIPTOR.services_by_name["CriticService"].full_name

# Python's own 5 ms would leave a device idle between two batches.
_SWITCH_INTERVAL_S = 0.0005
_LOST_GRACE_S = 1.0  # for answers that are on their way


class CriticServer:
    """A running server; use it as ``async with CriticServer(settings) as server``.

    Args:
        settings: how to listen and what to admit.
        services: adds further services to a server, given its critics; returns their full names.

    Raises:
        SettingsError: the tokens or the certificates cannot be read.

    Attributes:
        address: ``host:port`` once it listens.
        http_address: the same of its HTTP face; empty without one.
        operations: what an operator sees of it.
    """

    def __init__(self, settings: ServerSettings, services: Sequence[ServiceFactory] = ()) -> None:
        self.settings = settings
        self.address = self.http_address = ""
        self._factories = tuple(services)
        self._is_started = False
        self._service_names: tuple[str, ...] = ()
        self._ready_critics: frozenset[str] = frozenset()
        self._hosts = Hosts(settings)
        self._hosts.tell_health = self._tell_health
        self.operations = Operations(self._hosts)
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]
        self._authenticator = Authenticator(settings.token, settings.tokens_path)
        self._certificates = CertificateFiles.of(settings)
        interceptors = [*self.operations.interceptors(), Guard(self._authenticator)]
        self._server = grpc.aio.server(
            interceptors=interceptors,
            options=(
                *_connection_options(settings),
                ("grpc.max_receive_message_length", settings.max_message_bytes),
                ("grpc.max_send_message_length", settings.max_message_bytes),
            ),
        )
        self._registry = Registry(self._server, interceptors)
        self._http: HttpListener | None = None
        self._watch: asyncio.Task[None] | None = None
        store = VerdictStore(settings.verdicts_path) if settings.verdicts_path else None
        self._service = CriticService(self._hosts, store)

    async def __aenter__(self) -> CriticServer:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop(grace_s=0.0)

    async def start(self) -> None:
        """Listen, load and warm the critics, then say SERVING. Until then calls are told to try again.

        Raises:
            SettingsError: the address cannot be listened on.
        """
        registry: Any = self._registry
        critic_pb2_grpc.add_CriticServiceServicer_to_server(self._service, registry)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        further = [add(self._hosts, self._registry) for add in self._factories]
        if self.settings.admin:
            admin_pb2_grpc.add_AdminServiceServicer_to_server(AdminService(self._hosts), registry)
            further.append(ADMIN_SERVICE_NAME)
        names = (SERVICE_NAME, *further, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)
        self.address = f"{_bracketed(self.settings.host)}:{self._listen()}"
        self._listen_for_http()
        self.operations.start(lambda: self._service.open_streams)
        self._service_names = (SERVICE_NAME, *further)
        await self._tell_whole_health()
        await self._server.start()
        if self._http is not None:
            await self._http.start()
        self._watch = asyncio.create_task(self._watch_devices())
        await self._hosts.load()
        self._is_started = True
        await self._tell_whole_health()
        _log.info("listening on %s, critics: %s", self.address, ", ".join(self.settings.critics))

    async def stop(self, grace_s: float | None = None) -> None:
        """Refuse new work, let open calls finish within the grace, then close.

        Args:
            grace_s: seconds for open calls; by default the settings'.
        """
        grace_s = self.settings.grace_s if grace_s is None else grace_s
        if self._watch is not None:
            self._watch.cancel()
        notify("STOPPING=1")
        # Balancers must see it before the first call is refused.
        await self._health.enter_graceful_shutdown()
        self._service.announce_shutdown(grace_s)
        http = self._http.stop(grace_s) if self._http is not None else asyncio.sleep(0)
        await asyncio.gather(self._server.stop(grace_s), http)
        await self._hosts.close()
        self.operations.close()

    def reload(self) -> None:
        """Read the tokens again; a file that cannot be used leaves the old ones in force."""
        self._authenticator.reload(force=True)

    def _listen_for_http(self) -> None:
        if self.settings.http is None:
            return
        try:
            from editcritic.server.http_face.face import HttpFace
            from editcritic.server.http_face.listening import HttpListener
        except ModuleNotFoundError as error:
            raise SettingsError(f"HTTP needs {error.name}: pip install 'editcritic[server]'") from error
        host = split_address(self.settings.http)[0]
        face = HttpFace(self._registry, self.settings, host, self._is_serving)
        self._http = HttpListener(face, self.settings)
        self.http_address = self._http.address

    async def _is_serving(self) -> bool:
        answer = await self._health.Check(health_pb2.HealthCheckRequest(), None)
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    async def lost(self) -> None:
        """Return once a device broke for good; by then nobody is told any more that the server is ready."""
        await self._hosts.lost.wait()
        if self._watch is not None:
            await asyncio.wait([self._watch])

    async def _watch_devices(self) -> None:
        await self._hosts.lost.wait()
        _log.critical("a device broke for good; the server must be started anew")
        await self._health.enter_graceful_shutdown()
        self._service.announce_shutdown(_LOST_GRACE_S)

    async def _tell_health(self, critic: str, is_ready: bool) -> None:
        states = health_pb2.HealthCheckResponse
        await self._health.set(f"{SERVICE_NAME}/{critic}", states.SERVING if is_ready else states.NOT_SERVING)
        self._ready_critics = self._ready_critics - {critic} | ({critic} if is_ready else set())
        if self._is_started:
            await self._tell_whole_health()

    async def _tell_whole_health(self) -> None:
        states = health_pb2.HealthCheckResponse
        for name in ("", *self._service_names):
            await self._health.set(name, states.SERVING if self._ready_critics else states.NOT_SERVING)

    async def wait(self) -> None:
        """Return once the server has stopped."""
        await self._server.wait_for_termination()

    def _listen(self) -> int:
        address = f"{_bracketed(self.settings.host)}:{self.settings.port}"
        try:
            if self._certificates is not None:
                return self._server.add_secure_port(address, self._certificates.credentials())
            return self._server.add_insecure_port(address)
        except (RuntimeError, OSError) as error:
            raise SettingsError(
                f"cannot listen on {address}: {error}. Is another server there? --port 0 takes a free port."
            ) from error


async def serve(
    settings: ServerSettings,
    *,
    on_ready: Callable[[CriticServer], None],
    stop: asyncio.Event,
    services: Sequence[ServiceFactory] = (),
) -> None:
    """Run a server until `stop` is set, SIGTERM or SIGINT comes, or a device breaks; a second signal ends the grace.
    SIGHUP reads the tokens again.

    Args:
        settings: how to listen and what to admit.
        on_ready: told once the server listens.
        stop: set it to drain and stop.
        services: as for `CriticServer`.

    Raises:
        SettingsError: the server cannot listen as the settings say.
        ServerFault: a device broke for good; whoever started the server should start it again.
    """
    server = CriticServer(settings, services)
    signals = 0

    def on_signal() -> None:
        nonlocal signals
        signals += 1
        stop.set()
        if signals > 1:
            stopping.cancel()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        # Windows' event loop has no signal handlers; there Ctrl-C raises KeyboardInterrupt as usual.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, on_signal)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, server.reload)
    stopping: asyncio.Future[None] = loop.create_future()
    await server.start()
    on_ready(server)
    is_lost = await _ended_by_loss(server, stop)
    stopping = asyncio.ensure_future(server.stop(_LOST_GRACE_S if is_lost else None))
    try:
        await stopping
    except asyncio.CancelledError:
        await server.stop(grace_s=0.0)
    if is_lost:
        raise ServerFault(
            "a device broke for good; start the server again", reason=critic_pb2.ERROR_REASON_CRITIC_FAILED
        )


async def _ended_by_loss(server: CriticServer, stop: asyncio.Event) -> bool:
    """Wait until the server is to stop; whether because a device broke."""
    told, lost = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(server.lost())
    await asyncio.wait((told, lost), return_when=asyncio.FIRST_COMPLETED)
    for each in (told, lost):
        each.cancel()
    return not stop.is_set()


def run(
    settings: ServerSettings,
    *,
    on_ready: Callable[[CriticServer], None] = lambda _server: None,
    stop_when: Callable[[], None] | None = None,
    services: Sequence[ServiceFactory] = (),
) -> None:
    """Run a server in the foreground until it is told to stop.

    Args:
        settings: how to listen and what to admit.
        on_ready: told once the server listens.
        stop_when: a blocking function, run in a thread; the server stops when it returns.
        services: as for `CriticServer`.

    Raises:
        SettingsError: the server cannot listen as the settings say.
        ServerFault: a device broke for good.
    """
    # A critic's thread that has work, and the loop that has a message, wait no longer than this for the other.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    asyncio.run(_run(settings, on_ready, stop_when, services))


async def _run(
    settings: ServerSettings,
    on_ready: Callable[[CriticServer], None],
    stop_when: Callable[[], None] | None,
    services: Sequence[ServiceFactory],
) -> None:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    if stop_when is not None:

        def watch() -> None:
            stop_when()
            loop.call_soon_threadsafe(stop.set)

        # A daemon, because nothing can interrupt a blocking read at exit.
        threading.Thread(target=watch, daemon=True, name="stop-watch").start()
    await serve(settings, on_ready=on_ready, stop=stop, services=services)


def _connection_options(settings: ServerSettings) -> tuple[tuple[str, int], ...]:
    return (
        # Clients ping every 30 s; gRPC's own default would cut them off after two pings.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        # A peer that vanished without a word is noticed, and its work dropped, within the sum of both.
        ("grpc.keepalive_time_ms", round(1000 * settings.keepalive_s)),
        ("grpc.keepalive_timeout_ms", round(1000 * settings.keepalive_timeout_s)),
        # grpcio 1.85 goes by this one; with the one above alone a dead peer stays for a minute.
        ("grpc.http2.ping_timeout_ms", round(1000 * settings.keepalive_timeout_s)),
        # An idle stream sends no data; without this its connection would be asked twice and never again.
        ("grpc.http2.max_pings_without_data", 0),
        # Between gRPC's own soft and hard limit it refuses at random; a token and a trace fit many times over.
        ("grpc.max_metadata_size", MAX_CALL_METADATA_BYTES),
        ("grpc.absolute_max_metadata_size", MAX_CALL_METADATA_BYTES),
        # Two servers on one port would share calls without a warning.
        ("grpc.so_reuseport", 0),
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host
