"""The optimisers of Nevergrad behind ask and tell."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from algorithms.history import HistoryAlgorithm
from algorithms.nevergrad_registry import fit_name
from algorithms.options import text, whole
from algorithms.penalty import Penalty
from hpo_steer.errors import AlgorithmError, ConfigError
from hpo_steer.outcomes import OutcomeConstraint, parse_outcome_constraints
from hpo_steer.parameters import Categorical, Int, Parameter

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import warns of NumPy's deprecations
    import nevergrad as ng

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpo_steer.algorithm import Observation, Point, Step
    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

__all__ = ["Nevergrad", "dimension", "ng"]

_REDRAWS = 20


class Nevergrad(HistoryAlgorithm):
    """The optimisers of Nevergrad that serve points in batches, by their names in its registry.

    Continuous parameters are scalars on the unit interval (linear or logarithmic in value), integers and
    floats with a step are integer-cast scalars, choices are choices. Nevergrad knows no conditions: all
    parameters are drawn, and those that a point switches off are left out of it. Points not told yet are its
    own pending ones; what an optimiser makes of them is its own affair.

    A failed point is *not told*: any loss told in its place would be made up, and Nevergrad's optimisers go
    on without the results of some points. A suggestion that was made before is answered with the value it
    got, and drawn again, as is one that breaks a constraint; after some in vain a random new point stands in.

    Outcome constraints become penalties (`Penalty`). Several objectives are told as such: Nevergrad makes a
    hypervolume of them for most optimisers. Its reference is that of the objectives, where all of them have
    one, and otherwise the worst of the first 15 results.

    Rapin and Teytaud, Nevergrad: a gradient-free optimization platform, 2018; NGOpt: Meunier et al.,
    Black-Box Optimization Revisited, IEEE Transactions on Evolutionary Computation 26 (2022).

    Args:
        space: where points come from.
        objectives: one or several.
        seed: fixes every random choice.
        optimizer: a name in ``nevergrad.optimizers.registry`` that is not in `UNFIT`.
        budget: how many points the search is planned for; many optimisers choose by it.
        workers: how many points are evaluated at a time, two at least.
        outcome_constraints: bounds on metrics, ``["latency_ms <= 20"]``.

    Raises:
        ConfigError: no such optimiser, or one that cannot serve this space or these options.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        optimizer: str = "NGOpt",
        budget: int = 1_000,
        workers: int = 20,
        outcome_constraints: Sequence[str | OutcomeConstraint] = (),
    ) -> None:
        super().__init__(space, objectives, seed)
        self.name = fit_name(text("optimizer", optimizer), ng.optimizers.registry)
        self._budget = whole("budget", budget, 1)
        self._workers = whole("workers", workers, 2)
        self._constraints = parse_outcome_constraints(outcome_constraints)
        self._searched = [p for p in space if p.count != 1]
        self._fixed = {p.name: p.decode(0.5) for p in space if p.count == 1}
        self._begin()
        self._try_out()
        self._begin()

    def _begin(self) -> None:
        self._calls = 0
        self._open: dict[
            int, Any
        ] = {}  # candidates that wait for their results: suggestions, and others' points
        self._losses: dict[tuple[Any, ...], list[float]] = {}
        self._penalty = Penalty(self.objectives, self._constraints)
        self._optimizer: Any = self._made() if self._searched else None

    def _made(self) -> Any:
        with self._quiet():
            parametrization = ng.p.Dict(**{p.name: dimension(p) for p in self._searched})
            parametrization.random_state = np.random.RandomState(self.seed & 0xFFFF_FFFF)
            try:
                made = ng.optimizers.registry[self.name](
                    parametrization, budget=self._budget, num_workers=self._workers
                )
                references = [goal.reference for goal in self.objectives]
                if len(references) > 1 and all(each is not None for each in references):
                    signed = [goal.sign * float(goal.reference or 0.0) for goal in self.objectives]
                    made.tell(ng.p.MultiobjectiveReference(), signed)
            except Exception as exc:
                raise ConfigError(
                    "algorithm.optimizer", f'"{self.name}" cannot search this space: {_first_line(exc)}'
                ) from exc
        return made

    def _try_out(self) -> None:
        """Asks once in vain: some optimisers notice only then what they cannot do."""
        if self._optimizer is not None:
            try:
                self._ask()
            except AlgorithmError as exc:
                raise ConfigError("algorithm.optimizer", f"{exc}; choose another optimiser") from exc

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        super().reset()
        self._begin()

    def restore(self, history: Sequence[Step]) -> None:
        """Goes through the history again: the optimisers keep state of their own."""
        self.replay(history)

    def adopt(self, points: Sequence[Point]) -> None:
        """Takes in points that this instance did not propose."""
        super().adopt(points)
        for point in points:
            self._spawn(point.id, point.params)

    def learn(self, news: Sequence[Observation]) -> None:
        """Tells the optimiser the losses; failures are not told."""
        for observation in news:
            candidate = self._open.pop(observation.point_id, None)
            losses = None if observation.values is None else self._penalty.losses(observation.values)
            if losses is not None:
                self._losses[self.identity(self.points[observation.point_id])] = losses
                self._tell(candidate, losses)

    def _tell(self, candidate: Any, losses: list[float]) -> None:
        if candidate is None:
            return
        with self._quiet():
            try:
                self._optimizer.tell(candidate, losses if len(losses) > 1 else losses[0])
            except ng.errors.TellNotAskedNotSupportedError:
                pass  # another's point; this optimiser takes no results but of its own
            except Exception as exc:
                raise AlgorithmError(f"Nevergrad's {self.name} failed: {_first_line(exc)}") from exc

    def propose(self, n: int) -> list[Params]:
        """`n` candidates of the optimiser; random new points where it has no more to offer."""
        found: list[Params] = []
        redraws = _REDRAWS if self._optimizer is not None else 0
        while len(found) < n and redraws > 0:
            candidate = self._ask()
            params = self._params(candidate.value)
            if self.claim(params):
                self._open[self._next_id + len(found)] = candidate
                found.append(params)
                redraws = _REDRAWS
                continue
            redraws -= 1
            known = self._losses.get(self.identity(params))
            if known is not None:
                self._tell(candidate, known)
        for params in self.draw(n - len(found)):
            self._spawn(self._next_id + len(found), params)
            found.append(params)
        return found

    def _ask(self) -> Any:
        with self._quiet():
            try:
                return self._optimizer.ask()
            except Exception as exc:
                raise AlgorithmError(f"Nevergrad's {self.name} failed: {_first_line(exc)}") from exc

    def _params(self, values: dict[str, Any]) -> Params:
        row = dict(self._fixed)
        for p in self._searched:
            row[p.name] = _value(p, values[p.name])
        return self.space.without_inactive(row)

    def _spawn(self, point_id: int, params: Params) -> None:
        """A candidate for another's point."""
        if self._optimizer is None:
            return
        values = {
            p.name: _place(p, params[p.name] if p.name in params else p.decode(0.5)) for p in self._searched
        }
        with self._quiet():
            self._open[point_id] = self._optimizer.parametrization.spawn_child(new_value=values)

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        """Hides Nevergrad's warnings, and keeps NumPy's global random numbers from taking part.

        Some optimisers draw from ``numpy.random`` itself: these draws are seeded here, for each call anew,
        and the caller's numbers put back afterwards.
        """
        state = np.random.get_state()
        self._calls += 1
        np.random.seed(hash((self.seed, self._next_id, self._calls)) & 0xFFFF_FFFF)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            np.random.set_state(state)


def dimension(p: Parameter) -> Any:
    """A parameter as Nevergrad searches it; without a first value, so that samples come from the whole range."""
    if isinstance(p, Categorical):
        return ng.p.Choice(range(p.count))
    if p.count is None or (isinstance(p, Int) and p.log):
        return ng.p.Scalar(lower=0.0, upper=1.0)
    return ng.p.Scalar(lower=0, upper=p.count - 1).set_integer_casting()


def _value(p: Parameter, place: Any) -> Any:
    if isinstance(p, Categorical):
        return p.choices[int(place)]
    if p.count is None or (isinstance(p, Int) and p.log):
        return p.decode(min(max(float(place), 0.0), 1.0))
    return p.decode((int(place) + 0.5) / p.count)


def _place(p: Parameter, value: Any) -> Any:
    if isinstance(p, Categorical):
        return p.index(value)
    unit = p.encode(value)
    if p.count is None or (isinstance(p, Int) and p.log):
        return unit
    return int(unit * p.count)


def _first_line(exc: Exception) -> str:
    cause = exc.__cause__ or exc
    return str(cause).strip().split("\n")[0] or type(cause).__name__
