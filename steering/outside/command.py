"""A command that is run once an iteration and meets us through PanDA's files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from hpo_steer.algorithm import Asked, Observation, Point, SearchAlgorithm, Step, Told
from hpo_steer.errors import AlgorithmError, ConfigError, OutsideSpace
from steering.outside.file_command import FileCommand, check_number, with_log

if TYPE_CHECKING:
    from containers.phpo.steering_files import Result
    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace


class CommandSearch(SearchAlgorithm):
    """Runs a command for every ask: all points so far in ``%IN``, new ones in ``%OUT``.

    The command keeps no state: what it proposes follows from the file, and a resumed run hands it the same one. It is
    called again for points that are missing, and, a bounded number of times, when a call fails.

    Args:
        space: where points come from; each of the command's is checked against it.
        objectives: exactly one; its value is the file's loss, negated if it is to be maximised, so that smaller is
            better.
        seed: not used.
        command: program and arguments with ``%IN``, ``%OUT``, ``%NUM_POINTS`` and ``%MAX_POINTS``.
        container: what it runs in.
        env: environment variables for it.
        opt_space: what the file's ``opt_space`` says: data, or the name of a JSON file; the config's search space, if
            left out.
        segmented: whether the files have the form with segments.
        segment: the model's id in that form.
        max_points: how many points the search may have.
        timeout_s: how long a call may take.
        retries: further calls of an ask when one fails.
        failed: how failed points are told: ``null`` as not evaluated, ``omit`` not at all, or by this loss.
        model: the model's name.

    Raises:
        ConfigError: a wrong option, or several objectives.
        ContainerError: a container that cannot be had.
    """

    folder: ClassVar[Path] = Path()

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        command: str | list[str],
        container: str | dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        opt_space: Any = None,
        segmented: bool = False,
        segment: int = 0,
        max_points: int | None = None,
        timeout_s: float | None = None,
        retries: int = 2,
        failed: Literal["null", "omit"] | float = "null",
        model: str = "main",  # noqa: ARG002 - every program's search is told
    ) -> None:
        super().__init__(space, objectives, seed)
        if len(objectives) != 1:
            raise ConfigError(
                "algorithm.command",
                f"goes with one objective, not {len(objectives)}: its file has one loss a point; use a service",
            )
        check_number("retries", retries)
        self._command = FileCommand(
            space,
            self.folder,
            command=command,
            container=container,
            env=env,
            opt_space=opt_space,
            segment=segment if segmented else None,
            timeout_s=timeout_s,
            failed=failed,
        )
        self._max_points, self._retries = max_points, int(retries)
        self._points: list[Params] = []
        self._results: dict[int, Result] = {}
        self._cautions = self._command.cautions

    # ------------------------------------------------------------ ask and tell

    def ask(self, n: int) -> list[Params]:
        """Runs the command until it has given `n` points, or has no more.

        Raises:
            AlgorithmError: it failed again and again; quotes what it printed last.
        """
        new: list[Params] = []
        notes = self._cautions
        self._cautions = []
        while len(new) < n:
            wanted = n - len(new)
            found = self._insist(wanted, new)
            if not found:
                self._ran_dry(n, len(new))
                break
            if len(found) > wanted:
                notes.append(
                    f"the steering command returned {len(found)} points where {wanted} were asked for; the first "
                    f"{wanted} are taken"
                )
            new += found[:wanted]
        self.note = "; ".join(dict.fromkeys(notes)) or None
        return new

    def _ran_dry(self, n: int, got: int) -> None:
        """The command has returned no points."""
        pending = len(self._points) - len(self._results)
        if got:
            self.short = f"the steering command returned {got} of {n} points"
        elif pending:
            self.short = f"the steering command returned no points while {pending} are not evaluated yet"
        else:
            self.ended = "the steering command returned no points, which ends the search"

    def tell(self, observations: Sequence[Observation]) -> None:
        """Keeps what came of points for the next file."""
        (objective,) = self.objectives
        for each in observations:
            if each.values is not None:
                self._results[each.point_id] = objective.sign * each.values[objective.name]
            else:
                self._results[each.point_id] = each.failure

    def adopt(self, points: Sequence[Point]) -> None:
        """Lists points: its own once they are numbered, and those of another origin."""
        self._points += [dict(point.params) for point in points]

    def restore(self, history: Sequence[Step]) -> None:
        """Keeps the recorded points; nothing is run."""
        for step in history:
            if isinstance(step, Told):
                self.tell(step.observations)
            elif isinstance(step, Asked):
                self.adopt(step.points)

    # ------------------------------------------------------------ calls

    def _insist(self, n: int, before: Sequence[Params]) -> list[Params]:
        """Points of one call; of a further one if that fails."""
        for left in range(self._retries, -1, -1):
            try:
                return self._call(n, before)
            except AlgorithmError as exc:
                if not left:
                    tries = self._retries + 1
                    raise AlgorithmError(
                        f"{exc}" + (f"\n(tried {tries} times)" if tries > 1 else "")
                    ) from None
        raise AssertionError("unreachable")

    def _call(self, n: int, before: Sequence[Params]) -> list[Params]:
        known = [*self._points, *before]
        results = [(params, self._results.get(number)) for number, params in enumerate(known)]
        found, said = self._command.run(results, n, self._max_points)
        try:
            return [self._checked(params) for params in found]
        except AlgorithmError as exc:
            raise AlgorithmError(with_log(str(exc), said)) from None

    def _checked(self, params: Params) -> Params:
        try:
            return self.space.validate(params)
        except OutsideSpace as exc:
            raise AlgorithmError(f"the steering command proposed {json.dumps(params)[:200]}: {exc}") from None
