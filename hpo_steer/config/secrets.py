"""Passwords: from a file or from the environment, never from anywhere that is shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_steer.errors import ConfigError
from hpo_steer.transport import BrokerSettings

if TYPE_CHECKING:
    from hpo_steer.config.schema import Broker, Store

BROKER_PASSWORD = "HPO_STEER_BROKER_PASSWORD"  # noqa: S105 - the name of a variable
STORE_PASSWORD = "HPO_STEER_STORE_PASSWORD"  # noqa: S105 - the name of a variable


def _password(key: str, file: str | None, variable: str, folder: Path) -> str | None:
    if file is None:
        return os.environ.get(variable)
    try:
        return (folder / Path(file).expanduser()).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(key, f"the password cannot be read from {file}: {exc}") from None


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
