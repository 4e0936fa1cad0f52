"""How both ends check the broker's certificate, and show theirs."""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from hpo_steer.errors import BrokerError

if TYPE_CHECKING:
    from pathlib import Path

    from hpo_steer.transport.settings import BrokerSettings


def client_context(settings: BrokerSettings) -> ssl.SSLContext:
    """TLS 1.2 or later, with a broker whose certificate is trusted and names the host.

    Raises:
        BrokerError: a file cannot be used; it says which and why.
    """
    ca, cert, key = settings.ca_file, settings.cert_file, settings.key_file
    for name, file in (("ca_file", ca), ("cert_file", cert), ("key_file", key)):
        if file is not None:
            _check_readable(name, file)
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise BrokerError(f"broker.ca_file: {ca} holds no certificates in PEM format") from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if cert is not None:
        try:
            context.load_cert_chain(cert, key, password=_no_passphrase)
        except ssl.SSLError as exc:
            raise BrokerError(_wrong_pair(cert, key, exc)) from None
        except _Passphrase:
            raise BrokerError(
                f"broker.key_file: {key or cert} is protected by a passphrase, which nobody can be asked for; use a "
                "key without one, in a file that only you can read"
            ) from None
    return context


class _Passphrase(Exception):
    """OpenSSL would ask the terminal."""


def _no_passphrase() -> str:
    raise _Passphrase


def _check_readable(name: str, file: Path) -> None:
    try:
        with file.open("rb"):
            pass
    except OSError as exc:
        why = os.strerror(exc.errno).lower() if exc.errno else str(exc)
        raise BrokerError(f"broker.{name}: cannot read {file}: {why}") from None


def _wrong_pair(cert: Path, key: Path | None, error: ssl.SSLError) -> str:
    if "MISMATCH" in (error.reason or ""):
        return f"broker.key_file: {key or cert} is not the key of the certificate {cert}"
    if key is None:
        return (
            f"broker.cert_file: {cert} holds no certificate with its key in PEM format; where the key is in a file "
            "of its own, name that in broker.key_file"
        )
    return f"broker.cert_file, broker.key_file: {cert} and {key} are no certificate and key in PEM format"
