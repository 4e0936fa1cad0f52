"""What an evolution strategy is: it learns from results and offers candidates."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Results:
    """What came of n points in d dimensions, failures left out.

    Attributes:
        ids: of the points, in order.
        genomes: their places in the unit cube, ``n x d``; NaN where a parameter is switched off.
        losses: values of m objectives to be minimised, ``n x m``, finite.
    """

    ids: Sequence[int]
    genomes: Array
    losses: Array


class Strategy(ABC):
    """Learns from results and offers candidates.

    Its state is a function of the results it was given and the groups they came in; candidates do not change
    it. So a strategy that is given recorded results is where the one that asked for their points was.
    """

    @property
    @abstractmethod
    def ready(self) -> bool:
        """Whether it knows enough to offer better than random candidates."""

    @abstractmethod
    def learn(self, results: Results, known: int, running: int, rng: np.random.Generator) -> None:
        """Takes in results.

        Args:
            results: one or more.
            known: how many points have been proposed so far, by whomever.
            running: how many of them have no result yet.
            rng: random numbers for this step.
        """

    @abstractmethod
    def candidates(self, n: int, rng: np.random.Generator) -> Array:
        """`n` places of the unit cube, ``n x d``; constraints and repetitions are the caller's concern."""
