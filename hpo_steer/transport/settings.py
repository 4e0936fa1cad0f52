"""How the broker is reached, as a value."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from hpo_steer.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

LOCAL = "local"
_SCHEMES = {"amqp": 5672, "amqps": 5671}
_QUEUE_TYPES = ("quorum", "classic")
_PASSWORD = re.compile(r"(://[^/\s:@]*):[^/\s]*@")
_LIKE_A_PASSWORD = re.compile(r"(://[^/\s:@]*):\S*@")


def redact(url: str) -> str:
    """The URL without its password, for people's eyes.

    >>> redact("amqps://ann:secret@broker.example/hpo")
    'amqps://ann@broker.example/hpo'
    """
    try:
        return urlunsplit(_without_password(urlsplit(url)))
    except ValueError:
        return "(a broker URL that cannot be read)"


def conceal(text: str) -> str:
    """A text without the passwords of the URLs in it, for people's eyes; even of URLs that cannot be read.

    >>> conceal("store=postgresql://ann:a/b@db.example/hpo")
    'store=postgresql://ann@db.example/hpo'
    """
    return _LIKE_A_PASSWORD.sub(r"\1@", text)


def without_passwords(text: str) -> str:
    """A text with URLs that mean the same, but for their passwords.

    >>> without_passwords("broker=amqp://ann:secret@broker.example:5672/a@b")
    'broker=amqp://ann@broker.example:5672/a@b'
    """
    return _PASSWORD.sub(r"\1@", text)


@dataclass(frozen=True)
class BrokerSettings:
    """Where the broker is and how to talk to it.

    Attributes:
        url: ``local``, or ``amqp://`` or ``amqps://`` with user, host, port and virtual host. A password
            in it is moved to `password`.
        password: the user's password; never shown. None with an URL that names no user means RabbitMQ's
            ``guest``, whom brokers admit from their own machine only.
        connect_timeout_s: how long `open` keeps trying.
        heartbeat_s: seconds between the signs of life that broker and client demand of each other.
        ca_file: certificates to trust for ``amqps``, in place of the system's.
        cert_file: a certificate of our own, where the broker asks for one.
        key_file: its key, where that is in a file apart.
        queue_type: ``quorum``, or ``classic`` for brokers that offer no quorum queues.
        prefetch: events that steering holds unsettled at most.
        stall_s: how long messages may wait in silence, for their confirm or to be handed out, before the
            connection is made anew.

    Raises:
        ConfigError: the URL cannot be understood, or the files do not go with it.
    """

    url: str = LOCAL
    password: str | None = field(default=None, repr=False)
    connect_timeout_s: float = 30.0
    heartbeat_s: int = 20
    ca_file: Path | None = None
    cert_file: Path | None = None
    key_file: Path | None = None
    queue_type: str = "quorum"
    prefetch: int = 1000
    stall_s: float = 30.0

    def __post_init__(self) -> None:
        if self.queue_type not in _QUEUE_TYPES:
            raise ConfigError("broker.queue_type", f'"{self.queue_type}" is neither quorum nor classic')
        if self.url == LOCAL:
            return
        parts = _split(self.url)
        if self.password is None and parts.password is not None:
            object.__setattr__(self, "password", unquote(parts.password))
        object.__setattr__(self, "url", urlunsplit(_without_password(parts)))
        self._check_files()

    def _check_files(self) -> None:
        """A certificate that would not be used must not look as if it were."""
        for name in ("ca_file", "cert_file", "key_file"):
            if getattr(self, name) is not None and not self.tls:
                raise ConfigError(f"broker.{name}", f'is for amqps, but the URL is "{self.url}"')
        if self.key_file is not None and self.cert_file is None:
            raise ConfigError(
                "broker.key_file", "goes with the certificate whose key it is: broker.cert_file"
            )

    @property
    def local(self) -> bool:
        """Whether there is no broker at all."""
        return self.url == LOCAL

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted."""
        return urlsplit(self.url).scheme == "amqps"

    @property
    def host(self) -> str:
        """The broker's host name."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The broker's port; the scheme's own where the URL names none."""
        parts = urlsplit(self.url)
        return parts.port or _SCHEMES[parts.scheme]

    @property
    def user(self) -> str:
        """Who we are to the broker."""
        name = urlsplit(self.url).username
        return unquote(name) if name else "guest"

    @property
    def vhost(self) -> str:
        """The broker's virtual host; ``/`` where the URL names none."""
        return unquote(urlsplit(self.url).path[1:]) or "/"


def _split(url: str) -> SplitResult:
    shown = conceal(redact(url))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as exc:
        raise ConfigError("broker", f'cannot read the URL "{shown}": its host or port is wrong') from exc
    if parts.scheme not in _SCHEMES or not parts.hostname or port == 0:
        raise ConfigError(
            "broker", f'"{shown}" should be: local, amqp://user@host/vhost or amqps://user@host/vhost'
        )
    if parts.query or parts.fragment:
        raise ConfigError("broker", f'"{shown}": options in the URL are not read; they are keys of their own')
    return parts


def _without_password(parts: SplitResult) -> SplitResult:
    if "@" not in parts.netloc:
        return parts
    user_info, host = parts.netloc.rsplit("@", 1)
    user = user_info.split(":", 1)[0]
    return parts._replace(netloc=f"{user}@{host}" if user else host)
