"""The base of methods whose points come from a Sobol sequence at first, and then from models of the outcomes."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING

from algorithms.features import Features
from algorithms.gaussian_process import one_thread
from algorithms.history import HistoryAlgorithm
from algorithms.options import whole
from algorithms.sobol import SobolSequence, sobol_points
from hpo_steer.outcomes import parse_outcome_constraints
from hpo_steer.parameters import Categorical

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.outcomes import OutcomeConstraint
    from hpo_steer.space import Params, SearchSpace

_FEWEST = 3  # points with values, before there is anything to model
_ENOUGH = 22
"""Points before the models are used, however many parameters there are: what acts is found out from fewer."""


class Modelled(HistoryAlgorithm):
    """Asks a model for the points after the first ones; subclasses write `batch`.

    The very first is the middle of the space, unless there are points of another origin.

    Args:
        space: where points come from.
        objectives: one or several.
        seed: fixes every random choice.
        initial_points: before the models are used; default: 2 d + 2 in d dimensions, up to 22, or
            the first ask if that is more.
        candidates: how many places a model is asked about in every ask.
        outcome_constraints: bounds on reported metrics.

    Raises:
        ConfigError: an option is out of range, or a bound cannot be read.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int,
        initial_points: int | None,
        candidates: int,
        outcome_constraints: Sequence[str | OutcomeConstraint],
    ) -> None:
        super().__init__(space, objectives, seed)
        if initial_points is not None:
            whole("initial_points", initial_points, 1)
        self._initial = initial_points or min(2 * len(space) + 2, _ENOUGH)
        self._candidates = whole("candidates", candidates, 16, 65_536)
        self._constraints = parse_outcome_constraints(outcome_constraints)
        self._sequence = SobolSequence(len(space), seed)
        self._place = 0
        self._features = Features(space)

    @abstractmethod
    def batch(self, n: int, more_pending: list[Params]) -> list[Params]:
        """Up to `n` claimed points of the models.

        Args:
            n: how many.
            more_pending: chosen in this ask already, and to be kept away from like all pending ones.
        """

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        super().reset()
        self._place, self.note = 0, None

    def propose(self, n: int) -> list[Params]:
        """The middle of the space, initial points while there are too few, then the models'."""
        self.note = None
        known = len(self.completed())
        found = [] if self.points else self._middle()
        initial = max(self._initial - len(self.points), 0)
        if known < min(_FEWEST, self._initial) or not self.points:
            initial = n
        spread, self._place = sobol_points(self, self._sequence, self._place, min(initial, n) - len(found))
        found += spread
        if len(found) < n and known >= 1:
            with one_thread():
                found += self.batch(n - len(found), found)
        return found

    def _middle(self) -> list[Params]:
        """The point in the middle of all ranges, which people choose around what they expect to be good.

        It takes the first place of the Sobol sequence, and from that its choices, which are in no order.
        """
        _, first = next(self._sequence.rows_from(0))
        row = [
            x if isinstance(parameter, Categorical) else 0.5
            for x, parameter in zip(first, self.space.parameters, strict=True)
        ]
        middle = self.space.decode(row)
        if not self.claim(middle):
            return []
        self._place = 1
        return [middle]
