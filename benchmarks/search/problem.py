"""What a problem is, what a contender may know of it, and what an evaluation returns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpo_steer.space import Params, SearchSpace

FLOOR, FLOOR_OF_FRONTS, FLOOR_OF_TRAININGS = 1e-6, 1e-4, 1e-3
"""Shares of a problem's scale below which regrets are no longer told apart."""

_TYPICAL_POINTS = 512


@dataclass(frozen=True)
class Outcome:
    """What came of a point.

    Attributes:
        values: of the objectives, all to be minimised; None after a failure.
        slacks: of the outcome constraints, which hold where they are 0 or more.
        failure: why there are no values: the point is invalid.
    """

    values: tuple[float, ...] | None
    slacks: tuple[float, ...] = ()
    failure: str | None = None

    @property
    def feasible(self) -> bool:
        """Whether there are values, and every outcome constraint holds."""
        return self.values is not None and all(slack >= 0.0 for slack in self.slacks)


@dataclass(frozen=True)
class Setting:
    """All that a contender may know before its first point.

    Attributes:
        space: where points come from.
        seed: fixes every random choice.
        batch: how many points are asked for at a time.
        evaluations: how many there will be.
        objectives: how many; they are called `f0`, `f1` and so on.
        references: the worst value of each objective that counts for the hypervolume; empty with one objective.
        slacks: how many outcome constraints; they are called `slack0` and so on.
        noise: the standard deviation of what is observed, an objective each; empty: unknown, or there is none.
    """

    space: SearchSpace
    seed: int = 0
    batch: int = 20
    evaluations: int = 100
    objectives: int = 1
    references: tuple[float, ...] = ()
    slacks: int = 0
    noise: tuple[float, ...] = ()

    @property
    def names(self) -> list[str]:
        """Of the objectives."""
        return [f"f{i}" for i in range(self.objectives)]

    @property
    def slack_names(self) -> list[str]:
        """Of the outcome constraints."""
        return [f"slack{i}" for i in range(self.slacks)]


@dataclass(frozen=True)
class Problem:
    """A function to be minimised, and what is known of its best.

    Attributes:
        name: on the command line.
        summary: one line.
        space: where points come from.
        evaluate: the noiseless outcome of a point; the same for the same point.
        best: the lowest value, or with several objectives the largest hypervolume; None if nobody knows.
        scale: the regret of a typical random point, or the largest hypervolume.
        floor: regrets below this are no longer told apart, in units of the objective (or hypervolume).
        solution: a point whose value is `best`, where there is one.
        objectives: how many.
        references: the reference point of the hypervolume.
        slacks: how many outcome constraints.
        noise: the standard deviation of what is observed, an objective each; empty: none.
        noise_known: whether contenders are told of the noise.
        proven: whether `best` cannot be beaten, but for rounding.
        held_out: whether methods are never tuned on it.
    """

    name: str
    summary: str
    space: SearchSpace
    evaluate: Callable[[Params], Outcome]
    best: float | None
    scale: float
    floor: float
    solution: Params | None = None
    objectives: int = 1
    references: tuple[float, ...] = ()
    slacks: int = 0
    noise: tuple[float, ...] = ()
    noise_known: bool = False
    proven: bool = True
    held_out: bool = False

    def setting(self, *, seed: int, batch: int, evaluations: int) -> Setting:
        """What contenders are told of it."""
        return Setting(
            self.space,
            seed,
            batch,
            evaluations,
            self.objectives,
            self.references,
            self.slacks,
            self.noise if self.noise_known else (),
        )

    def observed(self, true: Outcome, noise: Sequence[float]) -> Outcome:
        """A noiseless outcome with noise, given as one standard normal number an objective."""
        if not self.noise or true.values is None:
            return true
        values = zip(true.values, self.noise, noise, strict=True)
        return Outcome(tuple(value + width * z for value, width, z in values), true.slacks)

    def regret(self, best: float | None, known: float) -> float:
        """How far `best`, the value or hypervolume of a run, is from the best known; the floor at least.

        Args:
            best: None if a run has found no point that counts.
            known: the best known.
        """
        if best is None:
            return self.scale
        return max(known - best if self.objectives > 1 else best - known, self.floor)


def value_of(evaluate: Callable[[Params], Outcome], params: Params) -> float:
    """The value of a point with one objective; infinite after a failure."""
    values = evaluate(params).values
    return math.inf if values is None else values[0]


def typical_regret(space: SearchSpace, evaluate: Callable[[Params], Outcome], best: float) -> float:
    """The median regret of 512 uniform points, the invalid ones left out; the same at every call."""
    points = space.sample(_TYPICAL_POINTS, np.random.default_rng(0))
    values = [value_of(evaluate, params) for params in points]
    return float(np.median([value for value in values if math.isfinite(value)])) - best
