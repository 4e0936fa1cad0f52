"""Who survives: the choice of a population from points and their losses."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pymoo.algorithms.moo.nsga3 import ReferenceDirectionSurvival
from pymoo.config import Config
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.survival.rank_and_crowding import RankAndCrowding
from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting
from pymoo.util.reference_direction import UniformReferenceDirectionFactory

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algorithms.strategy import Array

Config.warnings["not_compiled"] = False  # it would be printed


@dataclass(frozen=True)
class Survivors:
    """A choice among n rows of losses.

    Attributes:
        rows: which of them survive.
        standing: of each survivor: the lower one wins a tournament, equal ones draw.
    """

    rows: NDArray[np.intp]
    standing: NDArray[np.intp]


class Survival(ABC):
    """A rule that chooses survivors."""

    @abstractmethod
    def choose(self, losses: Array, keep: int, rng: np.random.Generator) -> Survivors:
        """Chooses `keep` points, or all if there are fewer.

        Args:
            losses: ``n x m`` values to be minimised, finite, n 1 or more.
            keep: how many.
            rng: breaks ties.
        """


class Best(Survival):
    """The lowest losses of one objective; of equal ones those that come first."""

    def choose(self, losses: Array, keep: int, rng: np.random.Generator) -> Survivors:
        """Chooses `keep` points; the order of losses is the standing."""
        del rng
        rows = np.argsort(losses[:, 0], kind="stable")[:keep]
        return Survivors(rows, np.unique(losses[rows, 0], return_inverse=True)[1])


class Crowding(Survival):
    """Front by front; of the first one that fits in part only, the points with most room around them.

    Deb, Pratap, Agarwal and Meyarivan, A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II, IEEE
    Transactions on Evolutionary Computation 6 (2002), as done by pymoo.
    """

    def choose(self, losses: Array, keep: int, rng: np.random.Generator) -> Survivors:
        """Chooses `keep` points; the standing goes by front, then by room."""
        rows, population = _surviving(RankAndCrowding(), losses, keep, rng)
        rank, crowding = population.get("rank", "crowding")
        places = np.unique(np.column_stack([rank, -crowding]), axis=0, return_inverse=True)[1]
        return Survivors(rows, places.reshape(-1))


class Directions(Survival):
    """Front by front; of the first one that fits in part only, points along the emptiest directions.

    Losses are measured from the best ones ever seen, in units of the range of the first front, so that their
    scales are of no account. All survivors mate alike.

    Deb and Jain, An Evolutionary Many-Objective Optimization Algorithm Using Reference-Point-Based
    Nondominated Sorting Approach, Part I, IEEE Transactions on Evolutionary Computation 18 (2014), as done by
    pymoo.

    Args:
        directions: `reference_directions`, ``h x m``.
    """

    def __init__(self, directions: Array) -> None:
        self._directions = directions
        self._ideal = np.full(directions.shape[1], np.inf)

    def choose(self, losses: Array, keep: int, rng: np.random.Generator) -> Survivors:
        """Chooses `keep` points, all of the same standing."""
        self._ideal = np.minimum(self._ideal, losses.min(axis=0))
        rule = ReferenceDirectionSurvival(self._directions)
        rule.norm.ideal_point = np.zeros(len(self._ideal))
        rows, _ = _surviving(rule, self._scaled(losses), keep, rng)
        return Survivors(rows, np.zeros(len(rows), dtype=np.intp))

    def _scaled(self, losses: Array) -> Array:
        away = losses - self._ideal
        front = NonDominatedSorting().do(losses, only_non_dominated_front=True)
        span = away[front].max(axis=0)
        span = np.where(span > 0.0, span, away.max(axis=0))
        scaled: Array = away / np.where(span > 0.0, span, 1.0)
        return scaled


def _surviving(rule: Any, losses: Array, keep: int, rng: np.random.Generator) -> tuple[NDArray[np.intp], Any]:
    """The rows that a rule of pymoo's chooses, and pymoo's view of them."""
    everyone = Population.new("F", losses)
    with warnings.catch_warnings(), np.errstate(all="ignore"):  # pymoo sets a filter for the whole process
        chosen = rule.do(
            Problem(n_var=1, n_obj=losses.shape[1]),
            everyone,
            n_survive=keep,
            random_state=rng,
            return_indices=True,
        )
    rows = np.array(chosen, dtype=np.intp)
    return rows, everyone[rows]


def reference_directions(objectives: int, at_most: int) -> Array:
    """Evenly spread directions, from the best possible point into the space of losses.

    Those of Das and Dennis (SIAM Journal on Optimization 8, 1998) with as many steps as `at_most` allows. If
    these are fewer than the objectives, all lie on the rim; a second layer half-way to the centre follows
    then, as far as `at_most` allows (Deb and Jain 2014).

    Args:
        objectives: m, 2 or more.
        at_most: how many, m or more.

    Returns:
        ``h x m``, rows adding up to 1.
    """
    steps = _steps(objectives, at_most)
    directions: Array = UniformReferenceDirectionFactory(objectives, n_partitions=steps).do()
    if steps < objectives and (inner := _steps(objectives, at_most - len(directions))):
        layer = UniformReferenceDirectionFactory(objectives, n_partitions=inner, scaling=0.5).do()
        directions = np.vstack([directions, layer])
    return directions


def _steps(objectives: int, at_most: int) -> int:
    """The most steps along an edge that give no more than so many directions."""
    steps = 0
    while math.comb(steps + objectives, objectives - 1) <= at_most:
        steps += 1
    return steps
