"""Hyperband: successive halving with several lowest rungs side by side."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from steering.pruning.base import Losses, Pruner
from steering.pruning.halving import SuccessiveHalving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective


class Hyperband(Pruner):
    """Brackets of asynchronous successive halving, from one that halves early to one that never does.

    Bracket 0 has its lowest rung at `min_steps`, each further one at `reduction` times the step of the one before, and
    the last has none: who learns slowly has a chance there. Points are dealt out by their number, so that each
    bracket gets its share of any stretch of points. The shares are those of Hyperband, ``reduction**s / (s + 1)`` for
    a bracket of s rungs.

    Li, Jamieson, DeSalvo, Rostamizadeh and Talwalkar, Hyperband: A Novel Bandit-Based Approach to Hyperparameter
    Optimization, Journal of Machine Learning Research 18 (2018); with ASHA inside, as in Li et al. (2020).

    Args:
        metrics: what it looks at.
        reduction: of what has reached a rung, one in so many goes on.
        min_steps: the lowest rung of all.
        max_steps: how many steps a whole training has.
    """

    def __init__(self, metrics: Sequence[Objective], reduction: int, min_steps: int, max_steps: int) -> None:
        super().__init__(metrics)
        lowest = [min_steps]
        while lowest[-1] < max_steps:
            lowest.append(lowest[-1] * reduction)
        self._brackets = [SuccessiveHalving(metrics, reduction, level, max_steps) for level in lowest]
        rungs = range(len(lowest) - 1, -1, -1)
        self._dealt = deal([math.ceil(len(lowest) * reduction**s / (s + 1)) for s in rungs])

    def bracket(self, point: int) -> int:
        """Which bracket a point belongs to; 0 is the one that halves earliest."""
        return self._dealt[point % len(self._dealt)]

    def report(self, point: int, step: int, losses: Losses) -> str | None:
        """See `Pruner.report`."""
        bracket = self.bracket(point)
        reason = self._brackets[bracket].report(point, step, losses)
        return None if reason is None else f"{reason} in bracket {bracket}"


def deal(shares: Sequence[int]) -> list[int]:
    """One round of dealing, in which each player's turns are spread evenly (smooth weighted round robin).

    >>> deal([3, 1])
    [0, 0, 1, 0]
    """
    total = sum(shares)
    credit = [0] * len(shares)
    dealt = []
    for _ in range(total):
        credit = [have + share for have, share in zip(credit, shares, strict=True)]
        turn = credit.index(max(credit))
        credit[turn] -= total
        dealt.append(turn)
    return dealt
