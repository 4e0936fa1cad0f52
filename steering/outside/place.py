"""Where the user's steering programs run: their surroundings, and what all of them share."""

from __future__ import annotations

import os
import secrets
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containers.enclosure import Enclosure
from containers.process import Surroundings
from containers.warden import MARK, Warden
from hpo_steer.config.container import Container
from hpo_steer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

LOG_FD = 2
"""What programs print goes where this process's own words go: to the log of the algorithm."""


@cache
def warden() -> Warden:
    """Kills the programs if this process is killed."""
    return Warden(f"steering-{os.getpid()}-{secrets.token_hex(3)}")


def surroundings(spec: Mapping[str, Any], folder: Path) -> Surroundings:
    """Where the program of an algorithm runs.

    Args:
        spec: the algorithm of a config, with ``env`` and ``container``.
        folder: the config's folder.

    Raises:
        ConfigError: a wrong key or value.
        ContainerError: a container that cannot be had.
    """
    own = _texts(spec.get("env"))
    enclosure = None
    if spec.get("container") is not None:
        container = Container.read(spec["container"], "algorithm.container")
        inner = {"PYTHONUNBUFFERED": "1", "HOME": "/tmp"} | own  # noqa: S108 - where the image has no other
        once = spec.get("command") is not None  # PanDA's steering containers are run by docker run
        enclosure = Enclosure(container, folder, warden().mark, inner, os.environ, entrypoint=once)
        enclosure.provide(_say)
    env = {name: value for name, value in os.environ.items() if not name.startswith("HPO_STEER_")}
    env |= {"PYTHONUNBUFFERED": "1", MARK: warden().mark} | own
    return Surroundings(env, folder, warden(), enclosure)


def words(value: Any, key: str) -> list[str]:
    """A command as a list; text is split as a shell would.

    Raises:
        ConfigError: neither text nor a list of texts, or nothing.
    """
    if isinstance(value, str):
        try:
            value = shlex.split(value)
        except ValueError as exc:
            raise ConfigError(key, f"cannot be split into words: {exc}") from None
    if not isinstance(value, list) or not value or not all(isinstance(word, str) for word in value):
        raise ConfigError(key, f"is a program and its arguments, as text or a list of texts, got {value!r}")
    return value


def check_program(argv: list[str], around: Surroundings, key: str) -> None:
    """Looks for the program where there is no image that would have it.

    Raises:
        ConfigError: it is not there.
    """
    import shutil

    if around.enclosure is not None and around.enclosure.real:
        return
    place = str(around.cwd / argv[0]) if os.sep in argv[0] else argv[0]
    if shutil.which(place, path=around.env.get("PATH")) is None:
        raise ConfigError(
            key, f'there is no program "{argv[0]}"' + ("" if os.sep in argv[0] else " on the PATH")
        )


def _texts(value: Any) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(
        isinstance(each, str) for pair in value.items() for each in pair
    ):
        raise ConfigError("algorithm.env", f"is a mapping of text to text, got {value!r}")
    return value


def _say(text: str) -> None:
    os.write(LOG_FD, f"{text}\n".encode())
