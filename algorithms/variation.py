"""Children of points: crossover and mutation that know what kind of parameter they change."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pymoo.operators.crossover.sbx import cross_sbx
from pymoo.operators.mutation.pm import mut_pm

from hpo_steer.parameters import Categorical, Int, Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from algorithms.strategy import Array
    from hpo_steer.space import SearchSpace

_CROSSOVER_INDEX = 15.0
_CROSSOVER_CHANCE = 0.9
_MUTATION_INDEX = 10.0


class Variation:
    """Crossover and mutation in the unit cube.

    A genome is a row of d numbers, `SearchSpace.encode` of a point, with NaN where a parameter is switched off.

    * Ordered parameters (floats and integers) are crossed by simulated binary crossover (Deb and Agrawal,
      Complex Systems 9, 1995) and moved by polynomial mutation (Deb and Goyal, 1996). A mutation that would
      leave a parameter with steps on its value takes it to the next one.
    * Choices have no order: a child has the one of either parent, and a mutation draws another.
    * Where one parent alone has a parameter, both children get its value, should they switch it on; where
      neither has it, they get random ones.

    Args:
        space: of the points.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space
        d = len(space)
        self._low, self._high = np.zeros(d), np.ones(d)
        self._choices = [(j, p.count) for j, p in enumerate(space) if isinstance(p, Categorical)]
        self._stepped = [
            (j, p) for j, p in enumerate(space) if p.count is not None and not isinstance(p, Categorical)
        ]
        self._rate = 1.0 / max(sum(p.count != 1 for p in space), 1)

    def genomes(self, points: Sequence[Mapping[str, Any]]) -> Array:
        """The genomes of points, ``n x d``."""
        return np.array(
            [
                [p.encode(params[p.name]) if p.name in params else np.nan for p in self.space]
                for params in points
            ],
            dtype=np.float64,
        ).reshape(len(points), len(self.space))

    def children(self, mothers: Array, fathers: Array, rng: np.random.Generator) -> Array:
        """Two children of each of k couples.

        Args:
            mothers: genomes, ``k x d``.
            fathers: genomes, ``k x d``.
            rng: random numbers.

        Returns:
            Places in the unit cube, ``2 k x d``.
        """
        parents = self._completed(np.stack([mothers, fathers]), rng)
        k, d = mothers.shape
        crossed = cross_sbx(
            parents,
            self._low,
            self._high,
            np.full((k, 1), _CROSSOVER_INDEX),
            np.where(rng.random((k, 1)) < _CROSSOVER_CHANCE, 0.5, 0.0),
            np.full((k, 1), 0.5),
            random_state=rng,
        )
        for j, _ in self._choices:
            crossed[:, :, j] = np.where(rng.random(k) < 0.5, parents[:, :, j], parents[::-1, :, j])
        return self.mutants(crossed.reshape(2 * k, d), rng)

    def mutants(self, places: Array, rng: np.random.Generator) -> Array:
        """Mutations of ``n x d`` places, of one parameter on average."""
        n = len(places)
        moved: Array = mut_pm(
            places,
            self._low,
            self._high,
            np.full(n, _MUTATION_INDEX),
            np.full(n, self._rate),
            at_least_once=False,
            random_state=rng,
        )
        for j, p in self._stepped:
            for i in np.flatnonzero(moved[:, j] != places[:, j]).tolist():
                moved[i, j] = _stepped(p, float(places[i, j]), float(moved[i, j]))
        for j, count in self._choices:
            another = (places[:, j] * count).astype(int) + rng.integers(1, max(count, 2), size=n)
            drawn = (another % count + 0.5) / count
            moved[:, j] = np.where(rng.random(n) < self._rate, drawn, places[:, j])
        return moved

    def _completed(self, parents: Array, rng: np.random.Generator) -> Array:
        """The genomes of couples, ``2 x k x d``, without NaN."""
        parents = np.where(np.isnan(parents), parents[::-1], parents)
        return np.where(np.isnan(parents), rng.random(parents.shape), parents)


def _stepped(p: Parameter, before: float, after: float) -> float:
    """The place `after`, or the one next to `before` in its direction if it has the same value."""
    value = p.decode(before)
    if p.count == 1 or p.decode(after) != value:
        return after
    up = after > before
    if isinstance(p, Int) and p.log:
        if value in (p.low, p.high):
            up = value == p.low
        return p.encode(value + (1 if up else -1))
    assert p.count is not None  # noqa: S101 - only parameters with steps come here
    step = 1.0 / p.count
    place = before + (step if up else -step)
    return place if 0.0 <= place < 1.0 else before - (step if up else -step)
