"""The kinds of parameter a search space is made of.

Each parameter maps its values to ``[0, 1]`` and back. A parameter with finitely many values (a choice, an
integer, a float with a step) gives each value an equal share of the unit interval and encodes it as the middle
of its share; a continuous one is mapped linearly, or linearly in its logarithm.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from typing import Any, TypeAlias

from hpo_steer.errors import ConfigError, OutsideSpace, nearest

Value: TypeAlias = Any
"""A parameter's value: anything JSON can hold; numbers for `Float` and `Int`."""


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), allow_nan=False)


def canonical(value: Value) -> str:
    """The one JSON text of a value: what equality and hashes of points go by."""
    return _CANONICAL.encode(value)


@dataclass(frozen=True)
class Parameter(ABC):
    """One named dimension of a search space.

    Attributes:
        name: its key in a point's parameters.
        when: parent parameter to the canonical values under which this one is active; empty: always.
    """

    name: str
    when: Mapping[str, frozenset[str]] = field(default_factory=dict, kw_only=True)

    @property
    @abstractmethod
    def count(self) -> int | None:
        """How many values it has; None for a continuum."""

    @abstractmethod
    def encode(self, value: Value) -> float:
        """The place of a value in ``[0, 1]``."""

    @abstractmethod
    def decode(self, unit: float) -> Value:
        """The value at a place in ``[0, 1]``."""

    @abstractmethod
    def check(self, value: Value) -> Value:
        """The value in its canonical type.

        Raises:
            OutsideSpace: it is not a value of this parameter.
        """

    def values(self, resolution: int | None = None) -> list[Value]:
        """All values in order, or for a continuum `resolution` evenly spaced ones, both ends included."""
        if self.count is not None:
            return [self.decode((i + 0.5) / self.count) for i in range(self.count)]
        if resolution is None:
            raise ConfigError(
                f"search_space.{self.name}",
                "a grid needs a step for a float parameter, or algorithm: {name: grid, resolution: 10}",
            )
        if resolution == 1:
            return [self.decode(0.5)]
        return [self.decode(i / (resolution - 1)) for i in range(resolution)]

    def active(self, params: Mapping[str, Value]) -> bool:
        """Whether these values of its parents switch it on."""
        return all(
            parent in params and canonical(params[parent]) in wanted for parent, wanted in self.when.items()
        )


def _share(index: int, count: int) -> float:
    return (index + 0.5) / count


def _index(unit: float, count: int) -> int:
    return min(max(int(unit * count), 0), count - 1)


@dataclass(frozen=True)
class Categorical(Parameter):
    """One of a list of JSON values, in no order."""

    choices: Sequence[Value] = ()

    @cached_property
    def _places(self) -> dict[str, int]:
        return {canonical(choice): i for i, choice in enumerate(self.choices)}

    @property
    def count(self) -> int:
        """The number of choices."""
        return len(self.choices)

    def index(self, value: Value) -> int:
        """The place of a value among the choices.

        Raises:
            OutsideSpace: it is none of them.
        """
        place = self._places.get(canonical(value))
        if place is None:
            raise OutsideSpace(f"{self.name}: {value!r} is none of its choices {list(self.choices)!r}")
        return place

    def encode(self, value: Value) -> float:
        """The middle of the value's share."""
        return _share(self.index(value), self.count)

    def decode(self, unit: float) -> Value:
        """The choice whose share holds the place."""
        return self.choices[_index(unit, self.count)]

    def check(self, value: Value) -> Value:
        """The choice itself."""
        return self.choices[self.index(value)]


def _number(name: str, given: Value) -> float:
    value = given
    if not isinstance(value, (int, float)):
        value = getattr(value, "item", lambda: None)()  # a NumPy scalar
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise OutsideSpace(f"{name}: {given!r} is no finite number")
    return value


@dataclass(frozen=True)
class Int(Parameter):
    """A whole number from `low` to `high`, both included, optionally in steps or on a log scale.

    On a log scale every integer keeps the share that its neighbourhood ``[k - 1/2, k + 1/2]`` has in log space.
    """

    low: int = 0
    high: int = 1
    step: int = 1
    log: bool = False

    @property
    def count(self) -> int:
        """The number of values."""
        return (self.high - self.low) // self.step + 1

    @cached_property
    def _log_ends(self) -> tuple[float, float]:
        return math.log(self.low - 0.5), math.log(self.high + 0.5)

    def encode(self, value: Value) -> float:
        """The middle of the value's share; on a log scale its logarithm's place."""
        if self.log:
            a, b = self._log_ends
            return (math.log(value) - a) / (b - a)
        return _share((int(value) - self.low) // self.step, self.count)

    def decode(self, unit: float) -> int:
        """The integer whose share holds the place."""
        if self.log:
            a, b = self._log_ends
            return min(max(round(math.exp(a + unit * (b - a))), self.low), self.high)
        return self.low + self.step * _index(unit, self.count)

    def values(self, resolution: int | None = None) -> list[int]:
        """All values in order (`resolution` is for continua)."""
        del resolution
        return list(range(self.low, self.high + 1, self.step))

    def check(self, value: Value) -> int:
        """The value as an int."""
        number = _number(self.name, value)
        if number != int(number):
            raise OutsideSpace(f"{self.name}: {value!r} is no whole number")
        whole = int(number)
        if not self.low <= whole <= self.high:
            raise OutsideSpace(f"{self.name}: {whole} lies outside {self.low} to {self.high}")
        if (whole - self.low) % self.step:
            raise OutsideSpace(f"{self.name}: {whole} is not {self.low} plus a multiple of {self.step}")
        return whole


@dataclass(frozen=True)
class Float(Parameter):
    """A number from `low` to `high`, both included, optionally in steps or on a log scale."""

    low: float = 0.0
    high: float = 1.0
    step: float | None = None
    log: bool = False

    @cached_property
    def _ladder(self) -> tuple[float, ...]:
        """The values of a stepped parameter, in decimal arithmetic so that 3 steps of 0.1 give 0.3."""
        low, step = Decimal(str(self.low)), Decimal(str(self.step))
        return tuple(float(low + step * i) for i in range(self.count or 0))

    @cached_property
    def _ends(self) -> tuple[float, float]:
        return (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)

    @property
    def count(self) -> int | None:
        """The number of values; None without a step."""
        if self.step is None:
            return None
        span = Decimal(str(self.high)) - Decimal(str(self.low))
        return int(span // Decimal(str(self.step))) + 1

    def _rung(self, value: float) -> int:
        assert self.step is not None  # noqa: S101 - only stepped parameters have rungs
        return min(max(round((value - self.low) / self.step), 0), len(self._ladder) - 1)

    def encode(self, value: Value) -> float:
        """Its linear (or logarithmic) place between the ends; the middle of its share with a step."""
        if self.step is not None:
            return _share(self._rung(value), len(self._ladder))
        a, b = self._ends
        place = ((math.log(value) if self.log else value) - a) / (b - a)
        return min(max(place, 0.0), 1.0)

    def decode(self, unit: float) -> float:
        """The value at a place between the ends."""
        if self.step is not None:
            return self._ladder[_index(unit, len(self._ladder))]
        a, b = self._ends
        mixed = a * (1.0 - unit) + b * unit
        return min(max(math.exp(mixed) if self.log else mixed, self.low), self.high)

    def check(self, value: Value) -> float:
        """The value as a float."""
        number = float(_number(self.name, value))
        if self.step is not None:
            rung = self._ladder[self._rung(number)]
            if abs(rung - number) <= 1e-9 * max(abs(self.low), abs(self.high), self.step):
                return rung
        for bound in (self.low, self.high):  # exp(log(316.2)) is a little less than 316.2
            if not self.low <= number <= self.high and math.isclose(number, bound, rel_tol=1e-12):
                return bound
        if not self.low <= number <= self.high:
            raise OutsideSpace(f"{self.name}: {number!r} lies outside {self.low} to {self.high}")
        if self.step is not None:
            raise OutsideSpace(f"{self.name}: {number!r} is not {self.low} plus a multiple of {self.step}")
        return number + 0.0  # -0.0 and 0.0 are one value


_KEYS = {
    "float": {"low", "high", "log", "step"},
    "int": {"low", "high", "log", "step"},
    "categorical": {"choices"},
}


def parameter(name: str, spec: Any) -> Parameter:
    """Builds one parameter from its entry in a config, as in ``{type: float, low: 0, high: 1}``.

    Raises:
        ConfigError: naming ``search_space.NAME`` and what is wrong.
    """
    key = f"search_space.{name}"
    if not name or not name.isprintable() or name != name.strip():
        raise ConfigError("search_space", f"{name!r} is no name for a parameter")
    if not isinstance(spec, Mapping):
        raise ConfigError(key, f"expected a mapping like {{type: float, low: 0, high: 1}}, got {spec!r}")
    kind = spec.get("type")
    if kind not in _KEYS:
        if kind is None:
            raise ConfigError(key, "has no type; it can be: " + ", ".join(_KEYS))
        raise ConfigError(f"{key}.type", f'unknown type "{kind}"; {nearest(str(kind), _KEYS)}')
    valid = _KEYS[kind] | {"type", "when"}
    for given in spec:
        if given not in valid:
            raise ConfigError(f"{key}.{given}", f"a {kind} has no such key; {nearest(str(given), valid)}")
    when = _when(key, spec.get("when", {}))
    if kind == "categorical":
        return _categorical(key, name, spec, when)
    return _numeric(key, name, kind, spec, when)


def _when(key: str, spec: Any) -> dict[str, frozenset[str]]:
    if not isinstance(spec, Mapping):
        raise ConfigError(f"{key}.when", f"expected a mapping like {{booster: dart}}, got {spec!r}")
    conditions = {}
    for parent, wanted in spec.items():
        options = wanted if isinstance(wanted, list) else [wanted]
        if not options:
            raise ConfigError(f"{key}.when.{parent}", "no value would ever switch it on; list one at least")
        conditions[str(parent)] = frozenset(canonical(option) for option in options)
    return conditions


def _categorical(key: str, name: str, spec: Mapping[str, Any], when: dict[str, frozenset[str]]) -> Parameter:
    choices = spec.get("choices")
    if not isinstance(choices, (list, tuple)):
        raise ConfigError(key, "a categorical needs choices, a list of values")
    if not choices:
        raise ConfigError(f"{key}.choices", "is empty; list one value at least")
    try:
        texts = [canonical(choice) for choice in choices]
    except (TypeError, ValueError) as exc:
        raise ConfigError(f"{key}.choices", f"holds a value that JSON cannot carry ({exc})") from None
    for i, text in enumerate(texts):
        if text in texts[:i]:
            raise ConfigError(f"{key}.choices", f"lists {text} twice; remove one")
    return Categorical(name, tuple(choices), when=when)


def _numeric(
    key: str, name: str, kind: str, spec: Mapping[str, Any], when: dict[str, frozenset[str]]
) -> Parameter:
    for needed in ("low", "high"):
        if needed not in spec:
            raise ConfigError(key, f"a {kind} needs {needed}")
    for given in ("low", "high", "step"):
        _check_number(f"{key}.{given}", kind, spec.get(given), optional=given == "step")
    low, high, step, log = spec["low"], spec["high"], spec.get("step"), spec.get("log", False)
    if not isinstance(log, bool):
        raise ConfigError(f"{key}.log", f"is true or false, got {log!r}")
    if not low < high:
        raise ConfigError(key, f"low ({low}) must be below high ({high})")
    if log and low <= 0:
        raise ConfigError(key, f"a log scale needs low above 0, got {low}")
    if step is not None and step <= 0:
        raise ConfigError(f"{key}.step", f"must be above 0, got {step}")
    exact = float(Decimal(str(high)) - Decimal(str(low)))  # 110.5 - 110.4 is less than 0.1
    if step is not None and step > max(high - low, exact):
        raise ConfigError(f"{key}.step", f"({step}) is wider than the range from {low} to {high}")
    if step is not None and log:
        raise ConfigError(key, "log and step exclude each other; drop one, or use a categorical")
    if kind == "int":
        return Int(name, int(low), int(high), int(step or 1), log, when=when)
    return Float(name, float(low), float(high), None if step is None else float(step), log, when=when)


def _check_number(key: str, kind: str, value: Any, *, optional: bool) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ConfigError(key, f"expected a finite number, got {value!r}")
    if kind == "int" and value != int(value):
        raise ConfigError(key, f"an int needs a whole number, got {value!r}")
