"""An experiment in the words of the generator standard (gest-api): its VOCS, and points on the way there and back.

What a generator sees differs from the search space where the standard has no word for it:

* a parameter with ``log`` is its base-10 logarithm;
* an integer or a float with a step is a continuous variable that reaches half a step (of an integer on a log scale:
  1/2) beyond both ends, so that rounding gives each value an equal share;
* a choice that is no number is its place in the list of choices, counted from 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo_steer.errors import ConfigError, OutsideSpace
from hpo_steer.parameters import Categorical, Float, Int, Parameter

if TYPE_CHECKING:
    from hpo_steer.objectives import Objective
    from hpo_steer.outcomes import OutcomeConstraint
    from hpo_steer.space import Params, SearchSpace

Row: TypeAlias = dict[str, Any]
"""A point as a generator has it: a value for each variable, and whatever else it put there (``_id`` and the like)."""

_ROUNDING = 1e-6  # how far beyond its domain, as a share of it, a suggestion may lie: float32 rounds no worse


@dataclass(frozen=True)
class _Numeric:
    """A float or int as a continuous variable."""

    parameter: Float | Int

    @cached_property
    def domain(self) -> tuple[float, float]:
        p = self.parameter
        low, high = float(p.low), float(p.high)
        if p.count is not None:
            half = (p.step or 0) / 2
            low, high = low - half, p.decode(1.0) + half
        return (math.log10(low), math.log10(high)) if p.log else (low, high)

    def to_generator(self, value: Any) -> float:
        return math.log10(value) if self.parameter.log else float(value)

    def from_generator(self, given: float) -> Any:
        low, high = self.domain
        slack = _ROUNDING * (high - low)
        if not low - slack <= given <= high + slack:
            raise OutsideSpace(f"{self.parameter.name}: {given!r} lies outside {low:g} to {high:g}")
        p = self.parameter
        if p.count is None and not p.log:
            return min(max(given, low), high)
        return p.decode(min(max((given - low) / (high - low), 0.0), 1.0))


@dataclass(frozen=True)
class _Choice:
    """A categorical as a discrete variable: numbers stand for themselves, anything else for its place."""

    parameter: Categorical

    @cached_property
    def codes(self) -> tuple[float, ...]:
        choices = self.parameter.choices
        if all(isinstance(c, (int, float)) and not isinstance(c, bool) for c in choices):
            return tuple(choices)
        return tuple(range(len(choices)))

    def to_generator(self, value: Any) -> float:
        return self.codes[self.parameter.index(value)]

    def from_generator(self, given: float) -> Any:
        place = min(range(len(self.codes)), key=lambda i: abs(self.codes[i] - given))
        if not math.isclose(self.codes[place], given, rel_tol=_ROUNDING, abs_tol=1e-12):
            raise OutsideSpace(f"{self.parameter.name}: {given!r} is none of {list(self.codes)}")
        return self.parameter.choices[place]


class Translation:
    """Between a search space and the VOCS of a generator.

    Args:
        space: what is searched.
        objectives: what is optimised.
        constraints: bounds on what a training measures.

    Attributes:
        outcomes: the metrics that a result must hold, the objectives first.

    Raises:
        ConfigError: a conditional parameter, or a name that a row cannot hold twice.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        constraints: Sequence[OutcomeConstraint] = (),
    ) -> None:
        self._objectives, self._constraints = tuple(objectives), tuple(constraints)
        self.outcomes = tuple(
            dict.fromkeys([o.name for o in self._objectives] + [c.metric for c in self._constraints])
        )
        for parameter in space:
            _check(parameter, self.outcomes)
        self._space = space
        self._variables = {p.name: _variable(p) for p in space}
        self._bounds = self._named_bounds()

    def vocs(self) -> Any:
        """A new ``gest_api.vocs.VOCS``.

        Raises:
            ImportError: gest-api is not installed.
        """
        from gest_api.vocs import VOCS, ContinuousVariable, DiscreteVariable

        return VOCS(
            variables={
                name: DiscreteVariable(values=set(v.codes))
                if isinstance(v, _Choice)
                else ContinuousVariable(domain=list(v.domain))
                for name, v in self._variables.items()
            },
            objectives={o.name: o.direction.upper() for o in self._objectives},
            constraints={
                name: ["LESS_THAN" if c.upper else "GREATER_THAN", c.bound]
                for name, c in self._bounds.items()
            },
        )

    @property
    def discrete(self) -> list[str]:
        """Names of the discrete variables, which many generators do not take."""
        return [name for name, v in self._variables.items() if isinstance(v, _Choice)]

    def to_generator(self, params: Mapping[str, Any]) -> Row:
        """A point of the space as a generator would have suggested it."""
        return {name: v.to_generator(params[name]) for name, v in self._variables.items()}

    def from_generator(self, row: Mapping[str, Any]) -> Params:
        """The point of the space that a suggestion means, rounded to its steps. Constraints are not checked.

        Raises:
            OutsideSpace: a variable is missing, is no finite number, or lies outside its domain.
        """
        params = {}
        for name, variable in self._variables.items():
            if name not in row:
                raise OutsideSpace(f'the value of "{name}" is missing')
            params[name] = variable.from_generator(_number(name, row[name]))
        return params

    @property
    def result_names(self) -> list[str]:
        """Names of the objectives and constraints in the VOCS."""
        return [*(o.name for o in self._objectives), *self._bounds]

    def results(self, values: Mapping[str, float]) -> Row:
        """What a generator is told of a point's metrics: objectives and constraints by their names in the VOCS."""
        return {o.name: values[o.name] for o in self._objectives} | {
            name: values[c.metric] for name, c in self._bounds.items()
        }

    def _named_bounds(self) -> dict[str, OutcomeConstraint]:
        """One bound a name: a metric's first has its name; further ones, and an objective's, their text."""
        taken = {o.name for o in self._objectives}
        named: dict[str, OutcomeConstraint] = {}
        for constraint in self._constraints:
            plain = constraint.metric not in taken and constraint.metric not in named
            named[constraint.metric if plain else str(constraint)] = constraint
        return named


def _check(parameter: Parameter, outcomes: Sequence[str]) -> None:
    name = parameter.name
    if parameter.when:
        raise ConfigError(
            f"search_space.{name}.when",
            f'"{name}" is conditional, which generators do not know: drop "when" and let the training ignore '
            "the parameter where it has no effect, or take an algorithm of hpo-steer's own",
        )
    if name in (*outcomes, "_id", "_parent"):
        what = (
            "also a metric"
            if name in outcomes
            else "the name that a generator has for a point's id or its parent's"
        )
        raise ConfigError(
            f"search_space.{name}", f"is {what}, and a generator keeps both in one row; rename the parameter"
        )


def _variable(parameter: Parameter) -> _Numeric | _Choice:
    if isinstance(parameter, Categorical):
        return _Choice(parameter)
    if isinstance(parameter, (Float, Int)):
        return _Numeric(parameter)
    raise TypeError(f"{type(parameter).__name__} has no form in a VOCS")


def _number(name: str, given: Any) -> float:
    """A suggested value as a float: a Python number, or a scalar of NumPy or PyTorch."""
    value = given
    if not isinstance(value, (int, float)):
        try:
            value = value.item()
        except (AttributeError, TypeError, ValueError, RuntimeError):
            value = None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise OutsideSpace(f"{name}: {given!r} is no finite number")
    return float(value)
