"""The contract of a search method: ask for points, tell what came of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

FailureKind = Literal["invalid", "error", "timeout", "lost", "pruned", "cancelled"]
FAILURE_KINDS: tuple[str, ...] = get_args(FailureKind)


@dataclass(frozen=True)
class Failure:
    """Why a point has no values.

    Attributes:
        kind: ``invalid`` (the point cannot be evaluated), ``error`` (user code raised or exited non-zero),
            ``timeout``, ``lost`` (worker or machine vanished), ``pruned`` or ``cancelled``.
        message: one sentence, and the last lines of the log where there are any.
    """

    kind: FailureKind
    message: str = ""

    def __post_init__(self) -> None:
        if self.kind not in FAILURE_KINDS:
            raise ValueError(f"unknown failure kind {self.kind!r}; it can be: {', '.join(FAILURE_KINDS)}")


@dataclass(frozen=True)
class Point:
    """One assignment of parameters.

    Attributes:
        id: counts the points of one algorithm from 0, in the order they were asked for.
        params: name to value; parameters that are switched off are absent.
        parent: id of an earlier point whose last checkpoint this one begins with; None: it begins anew. Points that
            continue different parents are different ones, whatever their parameters.
    """

    id: int
    params: Params = field(hash=False)
    parent: int | None = None


@dataclass(frozen=True)
class Observation:
    """What came of a point: its values, or a failure.

    Attributes:
        point_id: `Point.id`.
        values: objective name to finite value.
        failure: why there are none.
        params: the point's parameters, for the convenience of algorithms that keep no points.
        sem: objective name to the standard error of its value, where it is known.
        curve: of a pruned point, what it had reported: steps in increasing order, with their metrics.

    Raises:
        ValueError: neither or both of values and failure are given.
    """

    point_id: int
    values: Mapping[str, float] | None = None
    failure: Failure | None = None
    params: Mapping[str, Any] | None = field(default=None, kw_only=True)
    sem: Mapping[str, float] | None = field(default=None, kw_only=True)
    curve: Sequence[tuple[int, Mapping[str, float]]] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if (self.values is None) == (self.failure is None):
            raise ValueError("an observation has either values or a failure")


@dataclass(frozen=True)
class Asked:
    """A step of history: `points` were what an ask for `n` returned.

    Attributes:
        n: how many were wanted.
        points: what there was.
        given: whether they came from elsewhere: known before the search began, or a stand-in's.
    """

    n: int
    points: Sequence[Point]
    given: bool = False


@dataclass(frozen=True)
class Told:
    """A step of history: these observations were told, in this order."""

    observations: Sequence[Observation]


Step: TypeAlias = Asked | Told


class SearchAlgorithm(ABC):
    """A search method for one model.

    Subclasses write `ask` and `tell` and nothing else. An algorithm is a function of its configuration, its seed
    and its history: created anew with the same arguments and taken through the same asks and tells, it proposes
    the same points. Draw random numbers from ``np.random.default_rng(self.seed)`` or the like, read no clock.

    The sequence of calls is ``ask, (tell | ask)*``: points of earlier asks may still be running when the next
    ask comes, and results come in any order, each point's exactly once.

    Args:
        space: where points come from.
        objectives: what to optimise, one or several.
        seed: fixes every random choice.
        options: the algorithm's other keys of the config.

    Attributes:
        ended: None while there are points to propose, else why not (space exhausted, converged). Once it is
            set an ask may return fewer points than it was asked for, and none at last.
        note: what the last ask has to say to the user, one sentence; None mostly.
        short: why the last ask returned fewer points than wanted though there may be more later; None mostly. After
            an empty answer it is asked again when a point that is being evaluated has ended.

    Example:
        >>> class Corner(SearchAlgorithm):
        ...     def ask(self, n):
        ...         return [{p.name: p.decode(0.0) for p in self.space} for _ in range(n)]
        ...     def tell(self, observations):
        ...         pass
    """

    ended: str | None = None
    note: str | None = None
    short: str | None = None

    def __init__(
        self, space: SearchSpace, objectives: Sequence[Objective], seed: int = 0, **options: Any
    ) -> None:
        self.space = space
        self.objectives = tuple(objectives)
        self.seed = seed
        self.options = options

    @abstractmethod
    def ask(self, n: int) -> Sequence[Point] | Sequence[Params]:
        """Proposes exactly `n` points, or fewer after setting `ended`.

        Points asked for earlier and not told yet are still being evaluated: do not propose them again. A user's
        class may return plain parameter dicts; the points are then numbered in the order they were returned. One that
        continues an earlier point is a `Point` with its `parent`; whatever its `id`, it is numbered likewise.

        Raises:
            AlgorithmError: it cannot go on; the experiment stops and can be resumed.
        """

    @abstractmethod
    def tell(self, observations: Sequence[Observation]) -> None:
        """Takes in what came of points, in the order given. A failure is told as one, never as a bad value."""

    def adopt(self, points: Sequence[Point]) -> None:  # noqa: B027 - most methods learn all from `tell`
        """Takes in points that it did not propose; what came of them is told like that of its own."""

    def restore(self, history: Sequence[Step]) -> None:
        """Brings a newly created algorithm to the state after `history`.

        The default goes through every ask and tell again. Override it where that costs more than keeping the
        recorded points, and give the same proposals afterwards.
        """
        for step in history:
            if isinstance(step, Told):
                self.tell(step.observations)
            elif step.given:
                self.adopt(step.points)
            else:
                self.ask(step.n)
