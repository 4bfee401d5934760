"""The server's certificates: TLS and mutual TLS, read from disk anew when they change."""

from __future__ import annotations

import logging
import ssl
import threading
from pathlib import Path

import grpc

from editcritic.server.settings import ServerSettings, SettingsError
from editcritic.server.tokens import check_secret_file

__all__ = ["CertificateFiles"]

_log = logging.getLogger(__name__)


class CertificateFiles:
    """A server's certificate, its key, and the authorities of its clients.

    gRPC asks for them at the start of every connection, so a renewed certificate serves the next one; connections that
    are open stay as they are. Files that do not fit each other leave the last good ones in force.

    Args:
        cert: PEM chain. key: PEM key. client_ca: PEM authorities of clients, who then need a certificate; or None.

    Raises:
        SettingsError: a file cannot be read, the key is not the certificate's, or others may change it.
    """

    def __init__(self, cert: Path, key: Path, client_ca: Path | None) -> None:
        self._paths = (cert, key, client_ca)
        self._lock = threading.Lock()
        self._seen = self._signature()
        self._configuration = self._read()

    @classmethod
    def of(cls, settings: ServerSettings) -> CertificateFiles | None:
        """Those of a server; None when it listens in clear text."""
        if settings.tls_cert_path is None or settings.tls_key_path is None:
            return None
        return cls(settings.tls_cert_path, settings.tls_key_path, settings.tls_client_ca_path)

    def credentials(self) -> grpc.ServerCredentials:
        """What a port listens with."""
        needs_client = self._paths[2] is not None
        # The stubs leave out that None means no change.
        return grpc.dynamic_ssl_server_credentials(self._configuration, self.changed, needs_client)  # type: ignore[arg-type]

    def ssl_context(self) -> ssl.SSLContext:
        """What HTTPS is offered with; new connections get certificates that changed, as gRPC's do."""
        self._context.sni_callback = self._renew
        return self._context

    def _renew(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        self.changed()
        connection.context = self._context

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificates when the files changed and fit each other, else None. Any thread may ask."""
        with self._lock:
            seen = self._signature()
            if seen == self._seen:
                return None
            self._seen = seen
            try:
                self._configuration = self._read()
            except SettingsError as error:
                _log.error("the certificates stay as they were: %s", error)
                return None
            _log.info("new certificates were read from %s", self._paths[0])
            return self._configuration

    def _read(self) -> grpc.ServerCertificateConfiguration:
        cert, key, client_ca = self._paths
        try:
            check_secret_file(key, may_be_read=True)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(cert, key, password=_no_password)
            authorities = None
            if client_ca is not None:
                context.load_verify_locations(client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
                authorities = client_ca.read_bytes()
            pair = (key.read_bytes(), cert.read_bytes())
        # ssl.SSLError is an OSError.
        except (OSError, ValueError) as error:
            paths = ", ".join(str(path) for path in self._paths if path is not None)
            raise SettingsError(f"no TLS with {paths}: {error}") from error
        self._context = context
        return grpc.ssl_server_certificate_configuration([pair], authorities)

    def _signature(self) -> tuple[object, ...]:
        return tuple(_state(path) for path in self._paths if path is not None)


def _no_password() -> str:
    raise ValueError("the key is locked with a passphrase; give one without")


def _state(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)
