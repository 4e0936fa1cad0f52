"""What a contender does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.search.problem import Outcome, Setting
    from hpo_steer.parameters import Parameter
    from hpo_steer.space import Params, SearchSpace


class Contender(ABC):
    """A search method on one setting, ours or a peer's.

    Points are numbered from 0 in the order in which they were returned by `ask` or taken by `adopt`. Those that
    were not told yet are pending: a contender may keep away from them.

    Args:
        setting: the space, the seed, and what else may be known.
    """

    def __init__(self, setting: Setting) -> None:
        self.setting = setting

    @abstractmethod
    def ask(self, n: int) -> list[Params]:
        """Proposes `n` points; fewer if there are no more."""

    @abstractmethod
    def tell(self, results: Sequence[tuple[int, Outcome]]) -> None:
        """Takes in what came of points, by their numbers."""

    @abstractmethod
    def adopt(self, points: Sequence[Params]) -> None:
        """Takes in points that somebody else proposed, before the first ask. They are pending until told."""


def parents_first(space: SearchSpace) -> list[Parameter]:
    """The parameters of a space, each after those that switch it on."""
    ordered: dict[str, Parameter] = {}
    while len(ordered) < len(space):
        ordered |= {p.name: p for p in space if ordered.keys() >= p.when.keys()}
    return list(ordered.values())


def worst(values: Sequence[Sequence[float]], objectives: int) -> list[float]:
    """The worst value of each objective so far, which stands in for those of invalid points; 0 without any.

    Libraries that know no failures are told this: it is what their users do.
    """
    return [max(column) for column in zip(*values, strict=True)] if values else [0.0] * objectives
