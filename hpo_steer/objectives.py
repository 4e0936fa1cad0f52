"""What is optimised: named numbers with a direction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from hpo_steer.errors import ConfigError, nearest
from hpo_steer.limits import NAME_RULE, is_name, tidy

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Objective:
    """A named number to minimise or maximise.

    Attributes:
        name: the metric a training reports.
        direction: ``minimize`` or ``maximize``.
        target: reaching it ends the search.
        reference: the worst value that still counts for the hypervolume, in several objectives.
    """

    name: str
    direction: Direction = "minimize"
    target: float | None = None
    reference: float | None = None

    @property
    def sign(self) -> float:
        """1.0 if smaller is better, -1.0 if larger is: ``sign * value`` is always to be minimised."""
        return 1.0 if self.direction == "minimize" else -1.0

    def better(self, a: float, b: float) -> bool:
        """Whether `a` is strictly better than `b`."""
        return self.sign * a < self.sign * b

    def reached(self, value: float) -> bool:
        """Whether a value is at the target or better."""
        return self.target is not None and self.sign * value <= self.sign * self.target


def parse_objectives(spec: Mapping[str, Any]) -> tuple[Objective, ...]:
    """Reads ``objectives`` of a config: ``{loss: minimize}`` or ``{loss: {direction: minimize, target: 0.1}}``.

    Raises:
        ConfigError: naming the key and what is wrong.
    """
    if not spec or not isinstance(spec, Mapping):
        raise ConfigError("objectives", f"expected a mapping like {{loss: minimize}}, got {spec!r}")
    return tuple(_objective(str(name), entry) for name, entry in spec.items())


def _objective(name: str, entry: Any) -> Objective:
    if not is_name(name):
        raise ConfigError("objectives", f"{tidy(repr(name))[:100]} is no name: {NAME_RULE}")
    key = f"objectives.{name}"
    if isinstance(entry, Objective):
        return entry
    if isinstance(entry, str):
        entry = {"direction": entry}
    if not isinstance(entry, Mapping):
        raise ConfigError(key, f"is minimize or maximize, got {entry!r}")
    valid = {"direction", "target", "reference"}
    for given in entry:
        if given not in valid:
            raise ConfigError(f"{key}.{given}", f"unknown key; {nearest(str(given), valid)}")
    direction = entry.get("direction", "minimize")
    if direction not in ("minimize", "maximize"):
        choices = nearest(str(direction), ["minimize", "maximize"])
        raise ConfigError(key, f'unknown direction "{direction}"; {choices}')
    numbers = {}
    for given in ("target", "reference"):
        value = entry.get(given)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value)
        ):
            raise ConfigError(f"{key}.{given}", f"expected a finite number, got {value!r}")
        numbers[given] = None if value is None else float(value)
    return Objective(name, direction, **numbers)


def dominates(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether `a` is nowhere worse and somewhere better than `b`, all values to be minimised."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))
