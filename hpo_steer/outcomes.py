"""Constraints over what a training measures: ``latency_ms <= 20``."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpo_steer.algorithm import Failure, Observation
from hpo_steer.errors import ConfigError
from hpo_steer.limits import SEM, is_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_KEY = "outcome_constraints"
_SIDES = re.compile(r"\s*(?P<left>.+?)\s*(?P<sign><=|>=)\s*(?P<right>.+?)\s*")
_EXPECTED = 'expected a metric, <= or >=, and a number, as in "latency_ms <= 20"'


@dataclass(frozen=True)
class OutcomeConstraint:
    """A bound on a metric that a training reports.

    Attributes:
        metric: its name; it may be an objective as well.
        upper: whether it has to stay below the bound rather than above it.
        bound: finite.
    """

    metric: str
    upper: bool
    bound: float

    def slack(self, values: Mapping[str, float]) -> float:
        """How far inside the bound the metric is, in its own units; negative outside.

        Raises:
            KeyError: `values` lacks the metric.
        """
        return self.bound - values[self.metric] if self.upper else values[self.metric] - self.bound

    def holds(self, values: Mapping[str, float]) -> bool:
        """Whether the metric keeps the bound; not if it is missing or NaN."""
        return self.metric in values and self.slack(values) >= 0.0

    def __str__(self) -> str:
        return f"{self.metric} {'<=' if self.upper else '>='} {self.bound:g}"


def broken_outcome(
    constraints: Sequence[OutcomeConstraint], values: Mapping[str, float]
) -> OutcomeConstraint | None:
    """The first constraint that values break, or None."""
    return next((each for each in constraints if not each.holds(values)), None)


def without_metrics(
    observation: Observation, constraints: Sequence[OutcomeConstraint], objectives: Sequence[str]
) -> Observation:
    """What a method without outcome constraints is told: the objectives alone, or that a constraint is broken."""
    values, sem = observation.values, observation.sem
    if values is None:
        return observation
    if broken := broken_outcome(constraints, values):
        text = f'the outcome constraint "{broken}" is broken: {broken.metric} is {values[broken.metric]!r}'
        return Observation(observation.point_id, failure=Failure("invalid", text), params=observation.params)
    return replace(
        observation,
        values={name: values[name] for name in objectives},
        sem=None if sem is None else {name: sem[name] for name in objectives if name in sem} or None,
    )


def standard_errors(names: Iterable[str], metrics: Mapping[str, float]) -> dict[str, float]:
    """The standard errors among metrics: ``loss_sem`` is that of ``loss``.

    Args:
        names: the metrics whose standard errors are wanted; what is one of them is no standard error.
        metrics: everything a training returned.

    Example:
        >>> standard_errors(["loss"], {"loss": 0.3, "loss_sem": 0.01, "accuracy_sem": 0.1})
        {'loss': 0.01}
    """
    names = list(names)
    return {
        name: metrics[name + SEM]
        for name in names
        if name + SEM in metrics and name + SEM not in names and metrics[name + SEM] >= 0.0
    }


def parse_outcome_constraints(texts: Sequence[str | OutcomeConstraint]) -> tuple[OutcomeConstraint, ...]:
    """Reads ``outcome_constraints`` of a config.

    Raises:
        ConfigError: one cannot be read, or two of them cannot both hold.

    Example:
        >>> [str(each) for each in parse_outcome_constraints(["latency_ms <= 20", "0.9 <= accuracy"])]
        ['latency_ms <= 20', 'accuracy >= 0.9']
    """
    if isinstance(texts, str):
        raise ConfigError(_KEY, f'expected a list like ["latency_ms <= 20"], got "{texts}"')
    found = tuple(each if isinstance(each, OutcomeConstraint) else _parsed(each) for each in texts)
    for lower in (each for each in found if not each.upper):
        for upper in (each for each in found if each.upper and each.metric == lower.metric):
            if lower.bound > upper.bound:
                raise ConfigError(_KEY, f'"{lower}" and "{upper}" cannot both hold; change or drop one')
    return found


def _parsed(text: str) -> OutcomeConstraint:
    sides = _SIDES.fullmatch(str(text))
    if sides is None:
        raise ConfigError(_KEY, f"{text!r}: {_EXPECTED}")
    left, right, upper = sides["left"], sides["right"], sides["sign"] == "<="
    bound = _number(right)
    if bound is None:
        left, right, upper, bound = right, left, not upper, _number(left)
    if bound is None or _number(left) is not None or not is_name(left) or re.search(r"[<>=]", left):
        raise ConfigError(_KEY, f'"{text}": {_EXPECTED}')
    return OutcomeConstraint(left, upper, bound)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
