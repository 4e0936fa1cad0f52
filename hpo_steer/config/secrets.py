"""Passwords: from a file or from the environment, never from anywhere that is shown."""

from __future__ import annotations

import contextlib
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_steer.config.schema import Broker, Store
from hpo_steer.errors import ConfigError
from hpo_steer.transport import BrokerSettings
from hpo_steer.transport.settings import without_passwords

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

BROKER_PASSWORD = "HPO_STEER_BROKER_PASSWORD"  # noqa: S105 - the name of a variable
STORE_PASSWORD = "HPO_STEER_STORE_PASSWORD"  # noqa: S105 - the name of a variable


_WIDE = 0o077


def _password(key: str, file: str | None, variable: str, folder: Path) -> str | None:
    if file is None:
        return os.environ.get(variable) or None
    path = folder / Path(file).expanduser()
    try:
        password = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise ConfigError(key, f"{path} holds no text in UTF-8") from None
    except OSError as exc:
        why = os.strerror(exc.errno).lower() if exc.errno else exc
        raise ConfigError(key, f"the password cannot be read from {path}: {why}") from None
    if not password:
        raise ConfigError(key, f"{path} is empty; it should hold the password and nothing else")
    return password


def cautions(broker: Broker, store: Store | None, folder: Path) -> list[str]:
    """What is careless about the way the secrets are given, a sentence each with what to do.

    Args:
        broker: the config's section.
        store: the config's section; None for a worker, who needs no store.
        folder: the config's folder.
    """
    found = []
    sections: list[tuple[str, str | None, Broker | Store, str]] = [
        ("broker", broker.url, broker, BROKER_PASSWORD)
    ]
    if store is not None:
        sections.append(("store", store.url, store, STORE_PASSWORD))
    for name, url, section, variable in sections:
        if url is None or "://" not in url:
            continue
        if url != without_passwords(url):
            found.append(
                f"{name}.url holds a password, which whoever can read the config or the list of processes can see: "
                f"put it in a file of its own ({name}.password_file) or in {variable}"
            )
        keys = [("password_file", section.password_file)]
        if isinstance(section, Broker):
            keys.append(("key_file", section.key_file))
        for key, file in keys:
            if file is None:
                continue
            path = folder / Path(file).expanduser()
            with contextlib.suppress(OSError):
                if path.stat().st_mode & _WIDE:
                    found.append(f"{name}.{key}: others can read {path}: chmod 600 {shlex.quote(str(path))}")
    return found


def inherited(broker: Broker, folder: Path) -> dict[str, str]:
    """What a worker on this machine needs in its environment besides ours, as no URL with a password reaches it."""
    if broker.local:
        return {}
    settings = broker_settings(broker, folder)
    if settings.password is None or broker.password_file is not None:
        return {}
    return {BROKER_PASSWORD: settings.password}


def without_secrets(environment: Mapping[str, str], *, keep: Container[str] = ()) -> dict[str, str]:
    """An environment for a process that needs no passwords, or only those to `keep`."""
    secrets = {BROKER_PASSWORD, STORE_PASSWORD}
    return {name: value for name, value in environment.items() if name not in secrets or name in keep}


def broker_settings(broker: Broker, folder: Path) -> BrokerSettings:
    """The broker of a config, with its password.

    Args:
        broker: the config's section.
        folder: the config's folder; files are named relative to it.

    Raises:
        ConfigError: the URL or a file cannot be read.
    """

    def place(name: str | None) -> Path | None:
        return None if name is None else folder / Path(name).expanduser()

    password = None
    if not broker.local:
        password = _password("broker.password_file", broker.password_file, BROKER_PASSWORD, folder)
    return BrokerSettings(
        broker.url,
        password,
        connect_timeout_s=broker.connect_timeout_s,
        ca_file=place(broker.ca_file),
        cert_file=place(broker.cert_file),
        key_file=place(broker.key_file),
        queue_type=broker.queue_type,
    )


def store_password(store: Store, folder: Path) -> str | None:
    """The database's password, if it is given."""
    if store.url is None:
        return None
    return _password("store.password_file", store.password_file, STORE_PASSWORD, folder)
