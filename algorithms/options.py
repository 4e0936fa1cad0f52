"""Checks of the options in a config's ``algorithm`` section: the right type, in range, or one clear error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from hpo_steer.errors import ConfigError


def whole(name: str, value: Any, low: int, high: int | None = None) -> int:
    """A whole number from `low` to `high`, both included.

    Raises:
        ConfigError: it is none.
    """
    span = f"of {low} or more" if high is None else f"from {low} to {high}"
    if (
        isinstance(value, bool)
        or not isinstance(value, int)
        or value < low
        or (high is not None and value > high)
    ):
        raise ConfigError(f"algorithm.{name}", f"expected a whole number {span}, got {value!r}")
    return value


def number(name: str, value: Any, low: float, high: float = math.inf) -> float:
    """A finite number from `low` to `high`, both included.

    Raises:
        ConfigError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(f"algorithm.{name}", f"expected a finite number, got {value!r}")
    if not low <= value <= high:
        raise ConfigError(f"algorithm.{name}", f"expected a number from {low} to {high}, got {value!r}")
    return float(value)


def flag(name: str, value: Any) -> bool:
    """True or false.

    Raises:
        ConfigError: it is neither.
    """
    if not isinstance(value, bool):
        raise ConfigError(f"algorithm.{name}", f"is true or false, got {value!r}")
    return value


def text(name: str, value: Any) -> str:
    """A non-empty string.

    Raises:
        ConfigError: it is none.
    """
    if not isinstance(value, str) or not value:
        raise ConfigError(f"algorithm.{name}", f"expected a name, got {value!r}")
    return value


def keywords(name: str, value: Any) -> dict[str, Any]:
    """Options passed on to a library, by name; None means there are none.

    Raises:
        ConfigError: it is no mapping of names.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigError(f"algorithm.{name}", f"expected options by name, got {value!r}")
    return dict(value)
