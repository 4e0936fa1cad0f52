"""Algorithms in this interpreter, and the numbering of what they propose.

`Guest` wraps one algorithm of whatever origin: it checks every proposal against the space, numbers the points of
classes that return plain parameters, and follows the policy for duplicates of methods that don't avoid them.
A method that knows nothing of outcome constraints is told a point that breaks one as a failure.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo_steer.algorithm import Asked, Observation, Point, SearchAlgorithm, Step, Told
from hpo_steer.errors import AlgorithmError, ConfigError, HpoSteerError, OutsideSpace, nearest
from hpo_steer.outcomes import parse_outcome_constraints, without_metrics
from hpo_steer.registry import (
    FORMS,
    algorithm_class,
    algorithm_name,
    build,
    entry,
    is_outside,
    takes_outcome_constraints,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_ROUNDS = 10

Outside: TypeAlias = "Callable[[Mapping[str, Any], Path], type[SearchAlgorithm]]"


class Guest:
    """One model's algorithm.

    Args:
        spec: ``{name: …}``, ``{class: FILE.py:CLASS}`` or ``{generator: MODULE:CLASS}``, with the algorithm's options.
        space: where points come from.
        objectives: what to optimise.
        seed: fixes every random choice.
        folder: what a ``class`` or a ``generator`` is named relative to.
        forbid: whether points proposed before are left out.
        outside: makes the class of an algorithm that is a program of the user's.
        outcome_constraints: over what trainings measure.

    Raises:
        ConfigError: an option the algorithm does not have, or a space it cannot search.
        UnknownAlgorithm: no algorithm of that name.
        MissingExtra: what it needs is not installed.
    """

    def __init__(
        self,
        spec: Mapping[str, Any],
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int,
        folder: Path = Path(),
        *,
        forbid: bool = False,
        outside: Outside | None = None,
        outcome_constraints: Sequence[str] = (),
    ) -> None:
        options: dict[str, Any] = {k: v for k, v in spec.items() if k not in FORMS}
        self._space, self._forbid = space, forbid
        self.name = algorithm_name(spec)
        self._outsider = outsider = outside is not None and is_outside(spec)
        self._users = "class" in spec or outsider or ("name" in spec and entry(str(spec["name"])).plugin)
        cls: type[SearchAlgorithm]
        if outside is not None and outsider:
            cls = outside(spec, folder)
            options = dict(spec)
        elif "class" in spec:
            cls = _user_class(str(spec["class"]), folder)
        elif "generator" in spec:
            cls = _generator(str(spec["generator"]), folder, forbid=forbid)
        else:
            cls = algorithm_class(str(spec["name"]))
        self._outcomes = parse_outcome_constraints(outcome_constraints)
        self._goals = tuple(objective.name for objective in objectives)
        if self._outcomes and takes_outcome_constraints(cls):
            options["outcome_constraints"] = [*outcome_constraints]
            self._outcomes = ()
        self._algorithm = build(cls, self.name, space, objectives, seed, options)
        self._numbered = 0
        self._seen: set[str] = set()
        self._ended: str | None = None

    @property
    def ended(self) -> str | None:
        """Why there are no more points, if so."""
        return self._algorithm.ended or self._ended

    @property
    def note(self) -> str | None:
        """What the last ask has to say to the user."""
        said = [str(text) for text in (self._algorithm.note, self._algorithm.short) if text is not None]
        return "; ".join(said) or None

    def ask(self, n: int) -> list[Point]:
        """Exactly `n` points, or fewer with `ended` set, or with a note where the algorithm says that more may come.

        Raises:
            AlgorithmError: the method failed, or proposed something that is no point of the space.
        """
        points = self._fresh(n)
        if len(points) != n and self.ended is None and (len(points) > n or self._algorithm.short is None):
            raise AlgorithmError(f'algorithm "{self.name}" returned {len(points)} points; {n} were asked for')
        return points

    def _fresh(self, n: int) -> list[Point]:
        if not (self._forbid and self._users):
            return self._checked(self._proposals(n))
        points: list[Point] = []
        for _ in range(_ROUNDS):
            before = len(points)
            for proposal in self._proposals(n - len(points)):
                point = self._numbered_on(proposal)
                key = self._space.hash(point.params, point.parent)
                if key not in self._seen:
                    self._seen.add(key)
                    points.append(point)
                    self._numbered += 1
            self._taken(points[before:])
            if len(points) >= n or self._algorithm.ended or self._algorithm.short:
                return points
        self._ended = (
            f"{self.name} proposed nothing new {_ROUNDS} times in a row, and duplicates are forbidden"
        )
        return points

    def _proposals(self, n: int) -> Sequence[Point] | Sequence[Params]:
        self._algorithm.note = self._algorithm.short = None
        try:
            proposals = self._algorithm.ask(n)
        except HpoSteerError:
            raise
        except Exception as exc:
            raise AlgorithmError(
                f'algorithm "{self.name}" failed to ask: {type(exc).__name__}: {exc}'
            ) from exc
        if not isinstance(proposals, (list, tuple)):
            came = type(proposals).__name__
            raise AlgorithmError(
                f'algorithm "{self.name}" returned {came} from ask({n}); expected a list of points'
            )
        return proposals

    def _checked(self, proposals: Sequence[Point] | Sequence[Params]) -> list[Point]:
        points = []
        for proposal in proposals:
            if isinstance(proposal, Point) and not self._users:
                self._check_parent(proposal)
                points.append(proposal)
                continue
            points.append(self._numbered_on(proposal))
            self._numbered += 1
        self._taken(points)
        return points

    def _numbered_on(self, proposal: Point | Params) -> Point:
        """What a user's class proposed, with the next number."""
        if isinstance(proposal, Point):
            point = Point(self._numbered, self._valid(proposal.params), proposal.parent)
            self._check_parent(point)
            return point
        return Point(self._numbered, self._valid(proposal))

    def _check_parent(self, point: Point) -> None:
        """Makes sure that a point continues an earlier one, if any.

        Raises:
            AlgorithmError: its parent is no point, or none that was proposed before it.
        """
        parent: object = point.parent
        if parent is None:
            return
        named = f'algorithm "{self.name}" proposed point {point.id}'
        if isinstance(parent, bool) or not isinstance(parent, int):
            raise AlgorithmError(
                f"{named} with the parent {parent!r}; a parent is the id of an earlier point"
            )
        if parent == point.id:
            raise AlgorithmError(f"{named} as its own parent; a parent is the id of an earlier point")
        if not 0 <= parent < point.id:
            raise AlgorithmError(
                f"{named} with the parent {parent}, which does not exist; a parent is the id of an earlier point, "
                "from 0 in the order they were proposed"
            )

    def _taken(self, points: Sequence[Point]) -> None:
        """Tells the search by a program which of its proposals have become points, and under which numbers."""
        if self._outsider:
            self._algorithm.adopt(points)

    def _valid(self, params: Any) -> Params:
        try:
            return self._space.validate(params)
        except (OutsideSpace, AttributeError, TypeError) as exc:
            raise AlgorithmError(f'algorithm "{self.name}" proposed {params!r}: {exc}') from exc

    def _as_understood(self, observation: Observation) -> Observation:
        return without_metrics(observation, self._outcomes, self._goals) if self._outcomes else observation

    def tell(self, observations: Sequence[Observation]) -> None:
        """Takes in what came of points.

        Raises:
            AlgorithmError: the method failed.
        """
        try:
            self._algorithm.tell([self._as_understood(each) for each in observations])
        except HpoSteerError:
            raise
        except Exception as exc:
            raise AlgorithmError(
                f'algorithm "{self.name}" failed to tell: {type(exc).__name__}: {exc}'
            ) from exc

    def restore(self, history: Sequence[Step]) -> None:
        """Brings the algorithm to the state after `history`, or after what comes next of it.

        Raises:
            AlgorithmError: the method failed.
        """
        if self._users and type(self._algorithm).restore is SearchAlgorithm.restore:
            for step in history:
                if isinstance(step, Told):
                    self.tell(step.observations)
                elif step.given:
                    self._adopt(step.points)
                else:
                    self.ask(step.n)
            return
        try:
            self._algorithm.restore(
                [
                    Told([self._as_understood(each) for each in step.observations])
                    if isinstance(step, Told)
                    else step
                    for step in history
                ]
            )
        except HpoSteerError:
            raise
        except Exception as exc:
            raise AlgorithmError(
                f'algorithm "{self.name}" could not be restored: {type(exc).__name__}: {exc}'
            ) from exc
        self._count([point for step in history if isinstance(step, Asked) for point in step.points])

    def _adopt(self, points: Sequence[Point]) -> None:
        """Hands the algorithm points of another origin."""
        self._algorithm.adopt(points)
        self._count(points)

    def _count(self, points: Sequence[Point]) -> None:
        if self._users:
            self._numbered += len(points)
            self._seen |= {self._space.hash(point.params, point.parent) for point in points}


def _user_class(target: str, folder: Path) -> type[SearchAlgorithm]:
    """Imports a class with ask and tell.

    Raises:
        ConfigError: no such file or class, or it has no ask and tell.
    """
    found = _imported(target, folder, "algorithm.class")
    if not isinstance(found, type) or not issubclass(found, SearchAlgorithm):
        raise ConfigError(
            "algorithm.class",
            f"{target} is no subclass of hpo_steer.SearchAlgorithm, with ask(n) and tell(observations)",
        )
    return found


def _generator(target: str, folder: Path, *, forbid: bool) -> type[SearchAlgorithm]:
    """Imports a class of the generator standard.

    Raises:
        ConfigError: no such file or class, or it has no suggest and ingest.
    """
    from hpo_steer.generators import generator_algorithm

    found = _imported(target, folder, "algorithm.generator")
    return generator_algorithm(found, target, forbid=forbid)


def _imported(target: str, folder: Path, key: str) -> Any:
    """What ``FILE.py:CLASS`` or ``module:CLASS`` names, looked for in a folder first.

    Raises:
        ConfigError: no such file, module or class.
    """
    import importlib
    import sys

    from hpo_steer.config.payload import check_payload, payload_file

    check_payload(target, folder, key, "class")
    file, module, name = payload_file(target, folder)
    sys.path.insert(0, str(file.parent if file is not None and module == file.stem else folder))
    try:
        loaded = importlib.import_module(module)
    except ImportError as exc:
        raise ConfigError(key, f"{module} cannot be imported: {exc}{_where_from(exc)}") from exc
    if not hasattr(loaded, name):
        classes = [n for n, value in vars(loaded).items() if isinstance(value, type) and n[0] != "_"]
        raise ConfigError(key, f'{module} has no class "{name}"; {nearest(name, classes)}')
    return getattr(loaded, name)


def _where_from(exc: ImportError) -> str:
    """What to do about a package that is not installed."""
    import sys

    if not isinstance(exc, ModuleNotFoundError) or not exc.name or "." in exc.name:
        return ""
    if exc.name == "gest_api":
        return '; pip install "hpo-steer[gest]"'
    return f"; algorithms run with {sys.executable}: is {exc.name} installed there?"
