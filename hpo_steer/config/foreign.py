"""Configs of other programs, which `load_config` takes as they are."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import ConfigError, HpoSteerError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PHPO = {"steeringExec", "evaluationExec"}
"""Keys of phpo's JSON that it cannot do without, and that no config of ours has."""


def translated(data: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], tuple[str, ...]] | None:
    """A config in our words, from a foreign one.

    Args:
        data: what the file says.
        path: the file.

    Returns:
        The config and what there is to say about it, a sentence each; None, if it is none that is known.

    Raises:
        ConfigError: it cannot be translated.
    """
    if not set(data) >= _PHPO:
        return None
    phpo = import_module("containers.phpo")  # by its name, as algorithms are: nothing above is imported here
    try:
        return phpo.config_of(data, path)  # type: ignore[no-any-return] # mypy sees a module of any kind
    except ConfigError as exc:
        raise exc.at(str(path)) from None
    except HpoSteerError as exc:
        raise ConfigError("", str(exc), str(path)) from None
