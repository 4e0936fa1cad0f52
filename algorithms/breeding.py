"""A genetic algorithm that takes results as they come and never waits for a generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from algorithms.strategy import Strategy

if TYPE_CHECKING:
    from algorithms.strategy import Array, Results
    from algorithms.survival import Survival
    from algorithms.variation import Variation


class Breeding(Strategy):
    """Children of a population of survivors.

    Whatever has come by the time of an ask competes with the population for the places in it; parents are the
    winners of tournaments between two.

    Args:
        variation: makes children of parents.
        survival: chooses the population.
        population: its size.
        objectives: how many losses a point has.
    """

    def __init__(self, variation: Variation, survival: Survival, population: int, objectives: int) -> None:
        self._variation, self._survival, self._size = variation, survival, population
        self._genomes = np.empty((0, len(variation.space)))
        self._losses = np.empty((0, objectives))
        self._standing = np.empty(0, dtype=np.intp)

    @property
    def ready(self) -> bool:
        """Whether a quarter of the population is there."""
        return len(self._genomes) >= max(2, self._size // 4)

    def learn(self, results: Results, known: int, running: int, rng: np.random.Generator) -> None:
        """Chooses the population anew."""
        del known, running
        losses = np.vstack([self._losses, results.losses])
        genomes = np.vstack([self._genomes, results.genomes])
        chosen = self._survival.choose(losses, self._size, rng)
        self._genomes, self._losses = genomes[chosen.rows], losses[chosen.rows]
        self._standing = chosen.standing

    def candidates(self, n: int, rng: np.random.Generator) -> Array:
        """`n` children, two of each couple."""
        count = len(self._genomes)
        one, other = rng.integers(count, size=(2, 2, (n + 1) // 2))
        mothers, fathers = np.where(self._standing[one] <= self._standing[other], one, other)
        fathers = np.where(mothers == fathers, (fathers + 1) % count, fathers)
        return self._variation.children(self._genomes[mothers], self._genomes[fathers], rng)[:n]
