"""Small changes of a point, for trainings that go on with other hyperparameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpo_steer.parameters import Categorical, Float, Int, Parameter

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy as np

    from hpo_steer.space import Params, SearchSpace


class Perturbation:
    """Moves every parameter a little, and draws some anew.

    * A number in a range without negative values is multiplied or divided by the factor; one of any other range, and
      0, moves by half of (factor - 1) of the range: a tenth of it for 1.2. Numbers with steps move by one at least.
      Whatever leaves the range stops at its end.
    * A choice stays, unless it is drawn anew.
    * Parameters that a change switches on are drawn.

    Args:
        space: of the points.
        factor: above 1.
        resample: the chance of each parameter to be drawn anew, from the whole range.
        keep: parameters that never change.
    """

    def __init__(
        self, space: SearchSpace, factor: float, resample: float, keep: Collection[str] = ()
    ) -> None:
        self._space, self._factor, self._resample, self._keep = space, factor, resample, frozenset(keep)

    def changed(self, params: Mapping[str, Any], rng: np.random.Generator) -> Params:
        """Another point near this one; it may break a constraint, and is the same one if nothing can change."""
        free = [p.name for p in self._space if p.name in params and self._is_free(p)]
        places = {p.name: self._place(p, params, rng) for p in self._space}
        found = self._point(places, params)
        if found == params and free:
            places[free[int(rng.integers(len(free)))]] = float(rng.random())
            found = self._point(places, params)
        return found

    def _is_free(self, p: Parameter) -> bool:
        return p.name not in self._keep and p.count != 1

    def _point(self, places: Mapping[str, float], params: Mapping[str, Any]) -> Params:
        found = self._space.decode([places[p.name] for p in self._space])
        return {
            name: params[name] if name in self._keep and name in params else v for name, v in found.items()
        }

    def _place(self, p: Parameter, params: Mapping[str, Any], rng: np.random.Generator) -> float:
        anew, up, place = rng.random(), bool(rng.random() < 0.5), float(rng.random())
        if p.name not in params:
            return place
        value = params[p.name]
        if not self._is_free(p):
            return p.encode(value)
        if anew < self._resample:
            return place
        if isinstance(p, Categorical):
            return p.encode(value)
        return p.encode(self._moved(p, value, up=up))

    def _moved(self, p: Parameter, value: float, *, up: bool) -> float:
        assert isinstance(p, (Int, Float))  # noqa: S101 - choices do not come here
        if p.low >= 0 and value > 0:
            target = value * self._factor if up else value / self._factor
        else:
            far = 0.5 * (self._factor - 1.0) * (p.high - p.low)
            target = value + far if up else value - far
        if p.step is not None:
            steps = round((target - value) / p.step) or (1 if up else -1)
            if not p.low <= value + steps * p.step <= p.high:
                edge = p.high if up else p.low
                steps = int((edge - value) / p.step) or (-1 if up else 1)
            target = value + steps * p.step
        return min(max(target, p.low), p.high)
