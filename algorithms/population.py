"""Population-based training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from algorithms.history import HistoryAlgorithm
from algorithms.options import number, whole
from algorithms.perturbation import Perturbation
from hpo_steer.errors import ConfigError, nearest
from hpo_steer.objectives import dominates
from hpo_steer.ranking import Losses, Ranking

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from hpo_steer.algorithm import Observation, Step
    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_TRIES = 50
"""How many changes of a point are tried for one that is new and keeps the constraints."""


@dataclass
class _Member:
    """One training of the population, in legs of a point each.

    Attributes:
        latest: its newest point.
        source: its newest point that has values; None as long as there is none.
        losses: what that one has reached.
        failed: whether nothing came of the newest point.
    """

    latest: int
    source: int | None = None
    losses: Losses | None = None
    failed: bool = False


class PopulationBasedTraining(HistoryAlgorithm):
    """Trainings that change their hyperparameters on the way, and begin with the weights of better ones.

    A population of trainings is evaluated leg by leg; each leg is a point that continues the checkpoint of its parent:

    1. The first `population` points are drawn, and begin anew.
    2. A training whose leg has ended with values goes on as it is: a point with the same parameters, which continues
       that leg.
    3. If it is among the worst `exploit` of the population, the next leg continues one of the best `exploit` instead,
       drawn at random (*exploit*), with changed parameters (*explore*). The same happens to a training whose leg
       failed or was pruned.

    Nobody waits for a generation: a training is compared with the latest values of the others, once half of the
    population has some. Where more points are asked for than trainings are ready, further ones begin with the
    checkpoints of the best; the worst are dropped when the population is larger than it should be.

    Only points that have ended with values are continued. Several objectives are ranked as by
    `hpo_steer.ranking.Ranking`, and a training is replaced only by one that dominates it.

    Jaderberg et al., Population Based Training of Neural Networks, arXiv:1711.09846 (2017): truncation selection,
    perturbation and resampling, asynchronously.

    Args:
        space: where points come from.
        objectives: what to optimise.
        seed: fixes every random choice.
        population: how many trainings there are.
        exploit: the share at either end that is replaced, and that replaces.
        perturb: by what a parameter is multiplied or divided, above 1.
        resample: the chance of a parameter to be drawn anew.
        keep: parameters that a training never changes, such as those that a checkpoint depends on.

    Raises:
        ConfigError: an option out of range, or an unknown parameter to keep.
    """

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        population: int = 20,
        exploit: float = 0.25,
        perturb: float = 1.2,
        resample: float = 0.25,
        keep: Sequence[str] = (),
    ) -> None:
        super().__init__(space, objectives, seed)
        self._size = whole("population", population, 2)
        self._share = number("exploit", exploit, 0.0, 0.5)
        factor = number("perturb", perturb, 1.0)
        if factor == 1.0:
            raise ConfigError("algorithm.perturb", "is a factor above 1, such as 1.2; 1 would change nothing")
        kept = _names(keep, space)
        self._perturbation = Perturbation(space, factor, number("resample", resample, 0.0, 1.0), kept)
        self._members: dict[int, _Member] = {}
        """By their newest point."""
        self._ready: dict[int, _Member] = {}
        self._known: dict[int, Losses] = {}
        """What points that came from elsewhere have reached."""

    # ---------------------------------------------------------------- tell

    def learn(self, news: Sequence[Observation]) -> None:
        """Notes which trainings have ended a leg, and what they have reached."""
        for observation in news:
            losses = self._losses(observation)
            if observation.point_id in self.given:
                if losses is not None:
                    self._known[observation.point_id] = losses
                continue
            member = self._members.get(observation.point_id)
            if member is None:
                continue
            member.failed = losses is None
            if losses is not None:
                member.source, member.losses = member.latest, losses
            self._ready[member.latest] = member

    def _losses(self, observation: Observation) -> Losses | None:
        values = observation.values
        return None if values is None else tuple(goal.sign * values[goal.name] for goal in self.objectives)

    def restore(self, history: Sequence[Step]) -> None:
        """Goes through every ask and tell again; where other points were recorded, they become the population."""
        self.replay(history)
        if not self._members:
            self._rebuild()

    def reset(self) -> None:
        """Forgets everything but the configuration."""
        super().reset()
        self._members, self._ready, self._known = {}, {}, {}

    def _rebuild(self) -> None:
        """A population of the recorded points: those under way, and the best of those that nobody has continued."""
        continued = {parent for i, parent in self.parents.items() if self.points[i] == self.points[parent]}
        own = [i for i in sorted(self.points) if i not in self.given and i not in continued]
        self._members = {i: _Member(i) for i in own}
        self._ready = {}
        self.learn([self.told[i] for i in sorted(self.told)])
        ranked = self._ranked()
        best = set(ranked[: max(self._size - (len(own) - len(self._ready)), 0)])
        for i in list(self._ready):
            if i not in best:
                del self._members[i], self._ready[i]

    # ---------------------------------------------------------------- ask

    def propose(self, n: int) -> list[Params]:
        """Nothing: see `choose`."""
        del n
        return []

    def choose(self, n: int) -> list[tuple[Params, int | None]]:
        """The next legs: new trainings until the population is whole, then of those that are ready, then more."""
        rng = self.rng()
        found: list[tuple[Params, int | None]] = []
        ranked = self._ranked()
        self._begin(min(n, self._size - len(self._members)), found, rng)
        for latest in sorted(self._ready):
            if len(found) == n:
                return found
            self._go_on(latest, ranked, found, rng)
        best = self._best(ranked)
        while best and len(found) < n and (child := self._child(best, rng)) is not None:
            self._add(_Member(-1), child, found)
        self._begin(n - len(found), found, rng)
        return found

    def run_dry(self) -> None:
        """The space is too small for so many trainings: more may come when one of them has ended its leg."""
        if self.pending:
            self.short = f"the search space has no room for more than {len(self._members)} trainings at once"
        else:
            self.ended = "every training has failed, and the search space holds no new points"

    def _add(
        self, member: _Member, leg: tuple[Params, int | None], found: list[tuple[Params, int | None]]
    ) -> None:
        """A training begins its next leg."""
        self._ready.pop(member.latest, None)
        self._members.pop(member.latest, None)
        member.latest, member.failed = self._next_id + len(found), False
        self._members[member.latest] = member
        found.append(leg)

    def _begin(self, n: int, found: list[tuple[Params, int | None]], rng: np.random.Generator) -> None:
        """Up to `n` new trainings, every second one near the best of the points that came from elsewhere."""
        if n <= 0:
            return
        fresh: list[Params] = []
        if self._known:
            seeds = sorted(self._known, key=lambda i: (self._known[i], i))[: max(self._size // 2, 1)]
            near = (self._new_near(i, None, rng) for i in seeds[: n // 2])
            fresh += [params for params in near if params is not None]
        fresh += self.draw(n - len(fresh))
        for params in fresh:
            self._add(_Member(-1), (params, None), found)

    def _go_on(
        self,
        latest: int,
        ranked: list[int],
        found: list[tuple[Params, int | None]],
        rng: np.random.Generator,
    ) -> None:
        """The next leg of a training that is ready, if it is to have one."""
        member = self._members[latest]
        better = self._better(member, ranked)
        if member.failed or better:
            del self._ready[latest]  # what takes its place has reached nothing yet
            if len(self._members) > self._size or (member.failed and not ranked):
                del self._members[latest]  # a new one takes its place, where one is missing
                return
            child = self._child(better or self._best(ranked), rng)
            if child is not None or member.failed:
                del self._members[latest]
                if child is not None:
                    self._add(_Member(-1), child, found)
                return
        params = dict(self.points[latest])
        if self.claim(params, latest):
            self._add(member, (params, latest), found)

    def _child(self, best: list[int], rng: np.random.Generator) -> tuple[Params, int] | None:
        """A leg that continues one of the best with changed parameters; None if there is no new one."""
        parent = best[int(rng.integers(len(best)))]
        params = self._new_near(parent, parent, rng)
        return None if params is None else (params, parent)

    def _new_near(self, point: int, parent: int | None, rng: np.random.Generator) -> Params | None:
        for _ in range(_TRIES):
            params = self._perturbation.changed(self.points[point], rng)
            if params != self.points[point] and self.claim(params, parent):
                return params
        return None

    # ---------------------------------------------------------------- ranks

    def _ranked(self) -> list[int]:
        """The newest points with values of all trainings, the best first."""
        ranking = Ranking()
        for member in self._members.values():
            if member.source is not None and member.losses is not None:
                ranking.put(member.source, member.losses)
        return ranking.best(len(ranking))

    def _best(self, ranked: list[int]) -> list[int]:
        return ranked[: max(int(self._share * len(ranked)), 1)]

    def _better(self, member: _Member, ranked: list[int]) -> list[int]:
        """Those of the best that a training of the worst is to be replaced by; none, if it is to go on."""
        if member.losses is None or member.failed or len(ranked) < max(self._size // 2, 2):
            return []
        count = int(self._share * len(ranked)) or int(self._share > 0)
        if count == 0 or member.source not in ranked[-count:]:
            return []
        return [i for i in ranked[:count] if dominates(self._reached(i), member.losses)]

    def _reached(self, point: int) -> Losses:
        losses = self._losses(self.told[point])
        assert losses is not None  # noqa: S101 - only points with values are ranked
        return losses


def _names(keep: Any, space: SearchSpace) -> list[str]:
    key = "algorithm.keep"
    if isinstance(keep, str) or not isinstance(keep, (list, tuple)):
        raise ConfigError(key, f"is a list of parameters, such as [units], got {keep!r}")
    known = [p.name for p in space]
    for name in keep:
        if name not in known:
            raise ConfigError(key, f'there is no parameter "{name}"; {nearest(str(name), known)}')
    return list(keep)
