"""Nevergrad's optimisers, by ask and tell."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.search.contender import Contender, worst
from hpo_steer.parameters import Categorical, Float, Int, Parameter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import warns of NumPy's deprecations
    import nevergrad as ng

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.search.problem import Outcome, Setting
    from hpo_steer.space import Params


class Nevergrad(Contender):
    """One optimiser, planned for the number of evaluations and the batch.

    Parameters that a point switches off are drawn and left out. An invalid point is told the worst losses so far;
    outcome constraints go in as violations, and the reference point as Nevergrad's own.

    Args:
        setting: the space, the seed, and what else may be known.
        optimizer: a name in Nevergrad's registry.
    """

    def __init__(self, setting: Setting, optimizer: str) -> None:
        super().__init__(setting)
        space = ng.p.Dict(**{p.name: _dimension(p) for p in setting.space})
        space.random_state = np.random.RandomState(setting.seed)
        self._optimizer = ng.optimizers.registry[optimizer](
            space, budget=setting.evaluations, num_workers=setting.batch
        )
        if setting.references:
            self._optimizer.tell(ng.p.MultiobjectiveReference(), list(setting.references))
        self._candidates: list[Any] = []
        self._told: list[tuple[float, ...]] = []

    def ask(self, n: int) -> list[Params]:
        """Asks `n` times."""
        asked = [self._optimizer.ask() for _ in range(n)]
        self._candidates += asked
        return [self._params(candidate.value) for candidate in asked]

    def tell(self, results: Sequence[tuple[int, Outcome]]) -> None:
        """Tells the losses."""
        for number, outcome in results:
            losses = list(outcome.values or worst(self._told, self.setting.objectives))
            violations = [max(-slack, 0.0) for slack in outcome.slacks] or None
            self._optimizer.tell(
                self._candidates[number], losses if len(losses) > 1 else losses[0], violations
            )
            if outcome.values is not None:
                self._told.append(outcome.values)

    def adopt(self, points: Sequence[Params]) -> None:
        """Makes candidates of them."""
        for params in points:
            full = {p.name: params[p.name] if p.name in params else p.decode(0.5) for p in self.setting.space}
            self._candidates.append(self._optimizer.parametrization.spawn_child(new_value=full))

    def _params(self, values: dict[str, Any]) -> Params:
        row: Params = {}
        for p in self.setting.space:
            value = values[p.name]
            if isinstance(p, Int):
                value = min(max(int(value), p.low), p.high)
            elif isinstance(p, Float):
                value = min(max(float(value), p.low), p.high)
            row[p.name] = value
        return self.setting.space.without_inactive(row)


def _dimension(p: Parameter) -> Any:
    if isinstance(p, Categorical):
        return ng.p.Choice(list(p.choices))
    assert isinstance(p, (Int, Float))
    kind = ng.p.Log if p.log else ng.p.Scalar
    dimension = kind(lower=p.low, upper=p.high)
    return dimension.set_integer_casting() if isinstance(p, Int) else dimension
