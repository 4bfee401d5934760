"""Every setting of the server, with its default and the reason for it."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from editcritic.server.critic_hosting import IN_SERVER, CriticHosting, parse_hosting
from editcritic.server.critics import CRITICS, DEFAULT_CRITIC, check_spec, critic_name
from editcritic.server.executors.ray_settings import RaySettings
from editcritic.v1 import critic_pb2 as pb
from editcritic.v1.containers import MAX_CHUNKS
from editcritic.v1.errors import EditCriticError
from editcritic.v1.images import ImageLimits

__all__ = [
    "PROTOCOL_REVISION",
    "ServerSettings",
    "SettingsError",
    "default_verdicts_path",
    "is_loopback",
    "split_address",
]

PROTOCOL_REVISION = 1
"""Revision of `editcritic.v1` that this server speaks."""

MAX_ID_CHARS = 64
MAX_COMMENT_CHARS = 2000
MAX_OTHERS = 64
MAX_VERDICT_CRITIQUE_BYTES = 4 * 2**20  # verdicts are kept for ever
MAX_CALL_METADATA_BYTES = 8192
DECODING_TIMEOUT_S = 30.0
_PUBLIC_DECODERS = 2
_MAX_PORT = 65535
DRIFT_BINS = 10


class SettingsError(ValueError):
    """Settings that contradict each other or that would be unsafe; the message says what to change."""


@dataclass(frozen=True)
class ServerSettings:
    """How a server listens, what it admits and how it stops.

    Attributes:
        host: address to listen on; loopback unless you say otherwise.
        port: port to listen on; 0 takes a free one.
        critics: names of the registry to offer, or `network@folder` for weights of your own, or
            `multimodal@folder?bits=4` with options; the first is the default.
        workers: threads that judge on the CPU, which engines on it share; by default one for each core, as NumPy and
            OpenCV release the GIL. Any other device has one.
        max_batch: most candidates of one call into a critic that gains by batches; others get one at a time.
        batch_target_s: time that a batch may take; batches shrink until they keep it.
        batch_wait_s: longest time that a batch waits, on a free device, for candidates that are being decoded.
        executor: where critics run: local, in threads of this process, or ray, in replicas of Ray Serve.
        hosting: how critics are hosted, NAME?isolation=process&python=/opt/q/bin/python&memory=24GiB&sleep_after=600,
            with commas between them; in a file also as tables [hosting.NAME]. See `server.critic_hosting`.
        images: what may be decoded.
        ray: how critics are spread over Ray, for that executor.
        max_message_bytes: largest request; a source, a candidate and their masks fit in.
        max_prompt_chars: longest prompt; about four times what T5-type text encoders read.
        max_candidates: most candidates of one Rank.
        max_pending: unanswered candidates and previews of one stream.
        max_queued: waiting and running candidates over all callers; of this and the next two, one caller may have
            three quarters.
        max_queued_bytes: decoded bytes of open edits and waiting candidates over all callers.
        max_streams: open streams over all callers.
        max_kept_edit_bytes: decoded edits that nobody has open, kept for those who open them again.
        max_kept_critique_bytes: critiques of streams, kept for clients that lost their connection.
        idle_timeout_s: a stream on which nothing happens for so long, or whose answers are not read, is closed.
        keepalive_s: a connection without a sign of life for so long is asked for one.
        keepalive_timeout_s: time to answer it; past it the connection is dead and its work is dropped.
        max_budget_s: longest time of one critique.
        grace_s: time that open calls get to finish when the server stops.
        verdicts_path: SQLite file of verdicts; None keeps none.
        tls_cert_path: PEM chain to listen with TLS.
        tls_key_path: PEM key to listen with TLS.
        token: bearer token that every call but health must carry, and that reaches everything; None for none.
        tokens_path: file of bearer tokens with names, roles and quotas; see `server.tokens`. None for none.
        tls_client_ca_path: PEM authorities of clients; a client without a certificate of theirs is not let in.
        decoder_workers: processes that decode pictures, so that one that breaks the image library ends a process and
            not the server; 0 decodes in the server itself; None is 2 beyond loopback, where pictures come from
            strangers, and 0 on it. POSIX only.
        allow_insecure_public: listen beyond loopback although there is no TLS.
        warm_up: have every critic judge a small edit of the server's own before it is offered.
        admin: offer AdminService, which loads and unloads critics; callers need a token with the role admin.
        log_format: text for people, json for one object a line.
        metrics_port: port of Prometheus metrics over HTTP; 0 takes a free one, None offers none.
        metrics_host: address of the metrics, which carry names of callers but no data of theirs.
        drift_window: scores of one window that the drift of scores is measured over.
        traces_endpoint: OTLP collector that traces are sent to, such as http://localhost:4317; None for none.
        http: address of the same services over HTTP and JSON, such as 127.0.0.1:50052, for editors that cannot load
            gRPC; port 0 takes a free one, None offers none.
        http_origins: web pages that may call it, such as https://studio.example.org; its own may always.
        http_hosts: names beside loopback's that it answers to; without any, a public address answers to every name.
        http_request_timeout_s: time within which a request must have arrived.

    Raises:
        SettingsError: an unknown critic, an option that one does not take, half a TLS pair, or a public address in
            clear text.
    """

    host: str = "127.0.0.1"
    port: int = 50551
    critics: tuple[str, ...] = (DEFAULT_CRITIC,)
    workers: int = field(default_factory=lambda: max(1, os.cpu_count() or 1))
    max_batch: int = 16
    batch_target_s: float = 0.2
    batch_wait_s: float = 0.002
    executor: Literal["local", "ray"] = "local"
    hosting: tuple[str, ...] = ()
    images: ImageLimits = field(default_factory=ImageLimits)
    ray: RaySettings = field(default_factory=RaySettings)
    max_message_bytes: int = 48 * 2**20
    max_prompt_chars: int = 4096
    max_candidates: int = 64
    max_pending: int = 32
    max_queued: int = 256
    max_queued_bytes: int = 2 * 2**30
    max_streams: int = 4096
    max_kept_edit_bytes: int = 512 * 2**20
    max_kept_critique_bytes: int = 64 * 2**20
    idle_timeout_s: float = 600.0
    keepalive_s: float = 60.0
    keepalive_timeout_s: float = 20.0
    max_budget_s: float = 120.0
    grace_s: float = 10.0
    verdicts_path: Path | None = field(
        default=None, metadata={"when_serving": lambda: default_verdicts_path()}
    )
    tls_cert_path: Path | None = None
    tls_key_path: Path | None = None
    token: str | None = field(default=None, repr=False, metadata={"secret": True})
    tokens_path: Path | None = None
    tls_client_ca_path: Path | None = None
    decoder_workers: int | None = None
    allow_insecure_public: bool = False
    warm_up: bool = True
    admin: bool = False
    log_format: Literal["text", "json"] = "text"
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    drift_window: int = 500
    traces_endpoint: str | None = None
    http: str | None = None
    http_origins: tuple[str, ...] = ()
    http_hosts: tuple[str, ...] = ()
    http_request_timeout_s: float = 60.0

    def __post_init__(self) -> None:
        self._check_critics()
        self._check_hosting()
        self._check_secrets()
        self._check_address(self.host)
        self._check_http()
        if self.decoder_workers and os.name != "posix":
            raise SettingsError(
                "processes that decode can be confined on Linux and macOS only; leave decoder_workers"
            )
        if self.workers < 1 or self.drift_window < 2 * DRIFT_BINS:
            raise SettingsError(f"workers must be 1 or more, drift_window {2 * DRIFT_BINS} or more")

    def _check_critics(self) -> None:
        unknown = [spec for spec in self.critics if critic_name(spec) not in CRITICS]
        if unknown or not self.critics:
            raise SettingsError(f"unknown critics {unknown}; known are {', '.join(CRITICS)}")
        try:
            for spec in self.critics:
                check_spec(spec)
                self.ray.of(critic_name(spec))
        except (EditCriticError, ValueError) as error:
            raise SettingsError(str(error)) from error

    def _check_hosting(self) -> None:
        try:
            hosted = parse_hosting(self.hosting)
        except ValueError as error:
            raise SettingsError(f"hosting: {error}") from error
        if hosted and self.executor == "ray":
            raise SettingsError(
                "hosting: with the executor ray, Ray hosts the critics; leave it out, or set ray's own"
            )
        unknown = [name for name in hosted if name not in CRITICS]
        if unknown:
            raise SettingsError(f"hosting: unknown critics {unknown}; known are {', '.join(CRITICS)}")
        if os.name != "posix" and any(each.isolation == "process" for each in hosted.values()):
            raise SettingsError("hosting: critics run in processes of their own on Linux and macOS only")
        if not Path("/proc/self/status").exists() and any(each.memory_bytes for each in hosted.values()):
            raise SettingsError("hosting: a process's memory can be bounded on Linux only; leave memory")

    def hosting_of(self, critic: str) -> CriticHosting:
        """How the critic of that name is hosted."""
        return parse_hosting(self.hosting).get(critic, IN_SERVER)

    def _check_secrets(self) -> None:
        if (self.tls_cert_path is None) != (self.tls_key_path is None):
            raise SettingsError("TLS needs both a certificate and a key")
        if self.tls_client_ca_path is not None and self.tls_cert_path is None:
            raise SettingsError(
                "certificates of clients need TLS: give the server a certificate and a key too"
            )
        if self.admin and self.token is None and self.tokens_path is None:
            raise SettingsError(
                "AdminService lets its callers open any model; give --tokens with a role admin, or --token-file"
            )

    def _check_address(self, host: str) -> None:
        if "/" in self.host:
            raise SettingsError(
                f"the host {self.host!r} is no address; Unix sockets and URLs are not listened on"
            )
        if self.tls_cert_path is None and not is_loopback(host) and not self.allow_insecure_public:
            raise SettingsError(
                f"refusing to listen on {host} in clear text; give a TLS certificate and key,"
                " or say --allow-insecure-public behind a proxy that has one"
            )

    def _check_http(self) -> None:
        if self.http is not None:
            self._check_address(split_address(self.http)[0])
        for origin in self.http_origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
                raise SettingsError(
                    f"{origin!r} is no origin of web pages; name each as https://studio.example.org, as any page"
                    " that a browser on this machine shows could use the server otherwise"
                )

    @property
    def isolated_decoders(self) -> int:
        """Processes that decode pictures; 0 for none."""
        if self.decoder_workers is not None:
            return self.decoder_workers
        is_local = is_loopback(self.host) and (self.http is None or is_loopback(split_address(self.http)[0]))
        return 0 if is_local or os.name != "posix" else _PUBLIC_DECODERS

    def limits(self) -> pb.ServerLimits:
        """The limits as clients see them."""
        return pb.ServerLimits(
            max_message_byte_count=self.max_message_bytes,
            max_image_byte_count=self.images.max_bytes,
            max_pixel_count=self.images.max_pixels,
            max_side_px=self.images.max_side,
            min_side_px=self.images.min_side,
            max_prompt_char_count=self.max_prompt_chars,
            max_candidates_per_request=self.max_candidates,
            max_pending_per_stream=self.max_pending,
            max_queued_count=self.max_queued,
            max_queued_byte_count=self.max_queued_bytes,
            max_stream_count=self.max_streams,
            stream_idle_timeout_ms=round(self.idle_timeout_s * 1000),
            max_budget_ms=round(self.max_budget_s * 1000),
            max_id_char_count=MAX_ID_CHARS,
            max_frame_count=1,
            max_profile_byte_count=self.images.max_profile_bytes,
            max_exif_byte_count=self.images.max_exif_bytes,
            max_metadata_byte_count=self.images.max_metadata_bytes,
            max_scan_count=self.images.max_scans,
            max_chunk_count=MAX_CHUNKS,
            max_comment_char_count=MAX_COMMENT_CHARS,
            max_other_candidate_count=MAX_OTHERS,
            max_verdict_critique_byte_count=MAX_VERDICT_CRITIQUE_BYTES,
            max_call_metadata_byte_count=MAX_CALL_METADATA_BYTES,
            decoding_timeout_ms=round(1000 * DECODING_TIMEOUT_S) if self.isolated_decoders else 0,
        )


def default_verdicts_path() -> Path:
    """Where verdicts are kept unless told otherwise: the user's data folder (XDG base directories)."""
    data_home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data_home) / "editcritic" / "verdicts.sqlite3"


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def split_address(address: str) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``, an IPv6 address in brackets.

    Raises:
        SettingsError: it is none.
    """
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= _MAX_PORT):
        raise SettingsError(f"{address!r} is no address; it must be HOST:PORT, such as 127.0.0.1:50052")
    return host.strip("[]"), int(port)
