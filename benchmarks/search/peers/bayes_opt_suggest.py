"""bayesian-optimization 1.4, by its suggest and register."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.search.contender import Contender, worst

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from bayes_opt import BayesianOptimization, UtilityFunction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.search.problem import Outcome, Setting
    from hpo_steer.space import Params


class BayesOpt(Contender):
    """The library's default utility, an upper confidence bound, over the unit cube.

    The library knows floats, one suggestion at a time, and no pending points. Parameters are rounded as its
    documentation does it; pending points, and those of the batch before, are registered in a copy with the mean
    of the values so far (constant liar: Ginsbourger, Le Riche and Carraro, Kriging is well-suited to parallelize
    optimization, 2010). The first batch is random. Invalid points are registered with the worst value so far.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._names = [f"u{i:03}" for i in range(len(setting.space))]
        self._units: list[list[float]] = []
        self._told: dict[int, Outcome] = {}
        self._rng = np.random.default_rng(setting.seed)

    def ask(self, n: int) -> list[Params]:
        """Suggests one by one, each registered with a lie before the next."""
        values = [o.values for o in self._told.values() if o.values is not None]
        if not values:
            found = self.setting.space.sample(n, self._rng)
            self.adopt(found)
            return found
        lie = float(np.mean([value[0] for value in values]))
        model = self._registered(worst(values, 1)[0], lie)
        utility = UtilityFunction()
        found = []
        for _ in range(n):
            suggestion = model.suggest(utility)
            params = self.setting.space.decode([suggestion[name] for name in self._names])
            unit = self.setting.space.encode(params)
            model.register(dict(zip(self._names, unit, strict=True)), -lie)
            self._units.append(unit)
            found.append(params)
        return found

    def tell(self, results: Sequence[tuple[int, Outcome]]) -> None:
        """Keeps the values."""
        self._told |= dict(results)

    def adopt(self, points: Sequence[Params]) -> None:
        """Keeps the points."""
        self._units += self.setting.space.encode_many(points).tolist()

    def _registered(self, invalid: float, lie: float) -> BayesianOptimization:
        model = BayesianOptimization(
            f=None,
            pbounds=dict.fromkeys(self._names, (0.0, 1.0)),
            random_state=int(self._rng.integers(2**31)),
            verbose=0,
            allow_duplicate_points=True,
        )
        for i, unit in enumerate(self._units):
            outcome = self._told.get(i)
            value = lie if outcome is None else outcome.values[0] if outcome.values else invalid
            model.register(dict(zip(self._names, unit, strict=True)), -value)
        return model
