"""A certificate authority of the tests' own, and what it signs, by the program `openssl`."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, both files."""

    cert: Path
    key: Path


class Authority:
    """Signs certificates.

    Args:
        folder: where its files and those of what it signs lie.
        name: of the authority, and its files' prefix.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self.own = Certificate(folder / f"{name}.pem", folder / f"{name}.key")
        _openssl(
            "req",
            "-x509",
            *_KEY,
            *("-keyout", str(self.own.key), "-out", str(self.own.cert)),
            *("-subj", f"/CN={name}", "-days", "30"),
        )

    def server(self, name: str, *, host: str) -> Certificate:
        """A certificate for a server of this host name or IP address."""
        kind = "IP" if host.replace(".", "").isdigit() else "DNS"
        return self._sign(name, f"subjectAltName={kind}:{host}\nextendedKeyUsage=serverAuth\n", days=30)

    def client(self, name: str, *, expired: bool = False) -> Certificate:
        """A certificate for a client."""
        return self._sign(name, "extendedKeyUsage=clientAuth\n", days=-1 if expired else 30)

    def _sign(self, name: str, extensions: str, *, days: int) -> Certificate:
        base = self._folder / f"{self._name}-{name}"
        made = Certificate(base.with_suffix(".pem"), base.with_suffix(".key"))
        request, settings = base.with_suffix(".csr"), base.with_suffix(".ext")
        settings.write_text(extensions)
        _openssl("req", "-new", *_KEY, "-keyout", str(made.key), "-out", str(request), "-subj", f"/CN={name}")
        _openssl(
            *("x509", "-req", "-in", str(request), "-out", str(made.cert), "-extfile", str(settings)),
            *("-CA", str(self.own.cert), "-CAkey", str(self.own.key), "-CAcreateserial", "-days", str(days)),
        )
        return made


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True, text=True)
