"""A search space as Ax takes it: names of our own, numbers on scales that suit its models."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from algorithms.affine import half_spaces
from algorithms.ax_library import (
    MAX_CHOICES_ENUMERATE,
    AxChoice,
    AxConstraint,
    AxParameterType,
    AxRange,
    AxSearchSpace,
)
from hpo_steer.errors import ConfigError
from hpo_steer.parameters import Categorical, Float, Int, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hpo_steer.space import Params, SearchSpace

_MOST_CHOICES = 1_000
"""Of one parameter: Ax refuses more, and lists the values of every integer."""


class AxSpace:
    """Translates points between a search space and Ax.

    * Floats lie on the unit interval, linearly or in their logarithm; so do numbers of more than 1,000 values.
    * Integers, floats with a step and choices that are rising numbers are counted from 0; integers on a log
      scale stay as they are.
    * Other choices are unordered.
    * A parameter of one value is left out.
    * A parameter that is switched off has its middle value in the model. Ax itself flattens its hierarchical
      spaces in this way, and takes fewer conditions than can be written here.
    * Linear constraints over parameters that are always on are passed on; Ax knows nothing of the others.

    Args:
        space: ours.

    Attributes:
        size: how many parameters Ax sees.
        continuous: whether all of them are floats to Ax.
        listed: whether Ax goes through all points of the space instead of searching it.

    Raises:
        ConfigError: a categorical has more choices than Ax takes.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._space = space
        searched = [p for p in space if p.count != 1]
        self._axes = {p.name: _axis(f"p{i}", p) for i, p in enumerate(searched)}
        self._fixed = {p.name: p.decode(0.5) for p in space if p.count == 1}
        self.size = len(self._axes)
        units = sum(isinstance(axis, _Unit) for axis in self._axes.values())
        self.continuous = units == self.size
        self.listed = units == 0 and math.prod(p.count or 1 for p in searched) <= MAX_CHOICES_ENUMERATE

    def search_space(self) -> Any:
        """Ax's search space, a new one each time."""
        return AxSearchSpace(
            parameters=[axis.parameter() for axis in self._axes.values()],
            parameter_constraints=[AxConstraint(inequality=text) for text in self.inequalities()],
        )

    def inequalities(self) -> list[str]:
        """The linear constraints in Ax's notation and over Ax's numbers."""
        found = []
        for constraint in self._space.constraints:
            for half_space in half_spaces(constraint.text):
                text = self._inequality(half_space.weights, half_space.bound)
                if text is not None:
                    found.append(text)
        return found

    def _inequality(self, weights: Mapping[str, float], bound: float) -> str | None:
        """None if it is not linear in Ax's numbers, or if one of its parameters can be switched off."""
        terms = []
        for name, weight in weights.items():
            if self._space[name].when:
                return None
            if name in self._fixed:
                value = self._fixed[name]
                if not isinstance(value, (int, float)):
                    return None
                bound -= weight * value
                continue
            line = self._axes[name].line
            if line is None:
                return None
            slope, offset = line
            terms.append(f"{weight * slope!r} * {self._axes[name].key}")
            bound -= weight * offset
        return f"{' + '.join(terms)} <= {bound!r}" if terms else None

    def encode(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """A point in Ax's names and numbers."""
        return {
            axis.key: axis.encode(params[name] if name in params else axis.p.decode(0.5))
            for name, axis in self._axes.items()
        }

    def decode(self, values: Mapping[str, Any]) -> Params:
        """The point that Ax means; constraints are not enforced."""
        row = dict(self._fixed)
        for name, axis in self._axes.items():
            row[name] = axis.decode(values[axis.key])
        return self._space.without_inactive(row)


class _Axis(ABC):
    """One parameter on both sides.

    Attributes:
        key: its name in Ax.
        p: ours.
        line: slope and offset, where our value is linear in Ax's number.
    """

    line: tuple[float, float] | None = None

    def __init__(self, key: str, p: Parameter) -> None:
        self.key = key
        self.p = p

    @abstractmethod
    def parameter(self) -> Any:
        """Ax's parameter."""

    @abstractmethod
    def encode(self, value: Any) -> Any:
        """Ax's number or text for a value of ours."""

    @abstractmethod
    def decode(self, value: Any) -> Any:
        """Our value."""


class _Unit(_Axis):
    """A number on the unit interval."""

    def __init__(self, key: str, p: Float | Int) -> None:
        super().__init__(key, p)
        if not p.log:
            if p.count is None or p.step is None:
                self.line = (p.high - p.low, p.low)
            else:
                self.line = (p.step * p.count, p.low - p.step / 2)

    def parameter(self) -> Any:
        return AxRange(name=self.key, parameter_type=AxParameterType.FLOAT, lower=0.0, upper=1.0)

    def encode(self, value: Any) -> float:
        return self.p.encode(value)

    def decode(self, value: Any) -> Any:
        return self.p.decode(min(max(float(value), 0.0), 1.0))


class _Counted(_Axis):
    """Values in order, counted from 0."""

    def __init__(self, key: str, p: Parameter) -> None:
        super().__init__(key, p)
        if isinstance(p, (Float, Int)):
            self.line = (float(p.step or 1), float(p.low))

    def parameter(self) -> Any:
        assert self.p.count is not None  # noqa: S101 - only such parameters are counted
        return AxRange(name=self.key, parameter_type=AxParameterType.INT, lower=0, upper=self.p.count - 1)

    def encode(self, value: Any) -> int:
        if isinstance(self.p, Categorical):
            return self.p.index(value)
        return int(self.p.encode(value) * (self.p.count or 1))

    def decode(self, value: Any) -> Any:
        return self.p.decode((int(value) + 0.5) / (self.p.count or 1))


class _LogInt(_Axis):
    """An integer on a log scale, which Ax has as well."""

    def parameter(self) -> Any:
        assert isinstance(self.p, Int)  # noqa: S101 - by `_axis`
        return AxRange(
            name=self.key,
            parameter_type=AxParameterType.INT,
            lower=self.p.low,
            upper=self.p.high,
            log_scale=True,
        )

    def encode(self, value: Any) -> int:
        return int(value)

    def decode(self, value: Any) -> Any:
        return int(value)


class _Unordered(_Axis):
    """Choices by the text of their place."""

    def parameter(self) -> Any:
        return AxChoice(
            name=self.key,
            parameter_type=AxParameterType.STRING,
            values=[str(i) for i in range(self.p.count or 0)],
            is_ordered=False,
            sort_values=False,
        )

    def encode(self, value: Any) -> str:
        assert isinstance(self.p, Categorical)  # noqa: S101 - by `_axis`
        return str(self.p.index(value))

    def decode(self, value: Any) -> Any:
        assert isinstance(self.p, Categorical)  # noqa: S101 - by `_axis`
        return self.p.choices[int(value)]


def _axis(key: str, p: Parameter) -> _Axis:
    if isinstance(p, Categorical):
        if p.count > _MOST_CHOICES:
            raise ConfigError(
                f"search_space.{p.name}.choices",
                f"Ax takes {_MOST_CHOICES:,} choices at most, and there are {p.count:,}; "
                "use an int, or another algorithm",
            )
        return _Counted(key, p) if _rising(p) else _Unordered(key, p)
    if not isinstance(p, (Float, Int)):
        raise TypeError(f"{type(p).__name__} has no parameter in Ax")
    if p.count is None or p.count > _MOST_CHOICES:
        return _Unit(key, p)
    return _LogInt(key, p) if isinstance(p, Int) and p.log else _Counted(key, p)


def _rising(p: Categorical) -> bool:
    if not all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in p.choices):
        return False
    return all(a < b for a, b in zip(p.choices, p.choices[1:], strict=False))
