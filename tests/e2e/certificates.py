"""Certificates for the tests of TLS, made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

__all__ = ["Authority"]


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """Signs certificates in a folder; `pem` is its own."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.pem, self._key = folder / f"{name}.pem", folder / f"{name}.key"
        key = ("-newkey", "rsa:2048", "-nodes", "-keyout", str(self._key))
        _openssl("req", "-x509", *key, "-days", "2", "-subj", f"/CN={name}", "-out", str(self.pem))

    def sign(self, name: str, days: int = 2) -> tuple[Path, Path]:
        """Certificate and key for `name`, valid on loopback; with negative days it has expired."""
        cert, key = self.folder / f"{name}{days}.pem", self.folder / f"{name}{days}.key"
        request, names = self.folder / "request.csr", self.folder / "names"
        names.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
        made = ("-newkey", "rsa:2048", "-nodes", "-keyout", str(key))
        _openssl("req", *made, "-subj", f"/CN={name}", "-out", str(request))
        signer = ("-CA", str(self.pem), "-CAkey", str(self._key), "-CAcreateserial")
        signed = ("-days", str(days), "-extfile", str(names), "-out", str(cert))
        _openssl("x509", "-req", "-in", str(request), *signer, *signed)
        return cert, key
