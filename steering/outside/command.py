"""A command that is run once an iteration and meets us through PanDA's files."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from containers.launch import Mount
from containers.phpo.placeholders import fill_steering, left_alone
from containers.phpo.steering_files import INPUT, OUTPUT, Result, read_steering_output, write_steering_input
from containers.work_folder import WorkFolder
from hpo_steer.algorithm import Asked, Observation, Point, SearchAlgorithm, Step, Told
from hpo_steer.errors import AlgorithmError, ConfigError, OutsideSpace
from steering.outside.call import call
from steering.outside.place import check_program, surroundings, words

if TYPE_CHECKING:
    from hpo_steer.objectives import Objective
    from hpo_steer.space import Params, SearchSpace

_NO_END = 2**31 - 1


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
        _check_number("timeout_s", timeout_s, above=0.0)
        _check_number("retries", retries)
        if not (failed in ("null", "omit") or _is_number(failed)):
            raise ConfigError(
                "algorithm.failed", f"is null, omit, or a number that stands for the loss, got {failed!r}"
            )
        self._argv = words(command, "algorithm.command")
        if "%OUT" not in " ".join(self._argv):
            raise ConfigError(
                "algorithm.command", "lacks %OUT, the file that it is to write the new points to"
            )
        self._around = surroundings({"command": command, "container": container, "env": env}, self.folder)
        check_program(self._argv, self._around, "algorithm.command")
        self._source = WorkFolder(self.folder)
        self._opt_space = _read_space(opt_space, self.folder, space)
        self._segment = segment if segmented else None
        self._max_points, self._timeout_s, self._retries = max_points, timeout_s, int(retries)
        self._failed: Literal["null", "omit"] | float = failed
        self._points: list[Params] = []
        self._results: dict[int, Result] = {}
        self._cautions = left_alone(" ".join(self._argv))

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
        with tempfile.TemporaryDirectory(prefix="hpo-steer-call-", ignore_cleanup_errors=True) as scratch:
            place = self._source.make(Path(scratch) / "call", (INPUT, OUTPUT))
            write_steering_input(place / INPUT, results, self._opt_space, self._segment, failed=self._failed)
            argv = [
                fill_steering(
                    word,
                    infile=INPUT,
                    outfile=OUTPUT,
                    num_points=n,
                    max_points=self._max_points or _NO_END,
                )
                for word in self._argv
            ]
            source = str(self._source.source)
            try:
                ended = call(
                    argv,
                    replace(self._around, cwd=place),
                    timeout_s=self._timeout_s,
                    mounts=[Mount(source, source, writable=False)],  # what links point to
                )
            except OSError as exc:
                raise AlgorithmError(f"the steering command cannot be started: {exc}") from None
            if ended.wrong is not None:
                raise AlgorithmError(_with_log(f"the steering command {ended.wrong}", ended.said))
            try:
                return [
                    self._checked(params) for params in read_steering_output(place / OUTPUT, self._segment)
                ]
            except AlgorithmError as exc:
                raise AlgorithmError(_with_log(str(exc), ended.said)) from None

    def _checked(self, params: Params) -> Params:
        try:
            return self.space.validate(params)
        except OutsideSpace as exc:
            raise AlgorithmError(f"the steering command proposed {json.dumps(params)[:200]}: {exc}") from None


def _with_log(text: str, said: str) -> str:
    return f"{text}. It printed last:\n{said}" if said.strip() else f"{text}. It printed nothing"


def _read_space(given: Any, folder: Path, space: SearchSpace) -> Any:
    """What the file says of the space.

    Raises:
        ConfigError: a file that is not there, or no JSON.
    """
    if given is None:
        return space.to_dict() or None
    if not isinstance(given, str):
        return given
    try:
        return json.loads((folder / given).read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        raise ConfigError("algorithm.opt_space", f"{folder / given} cannot be read as JSON: {why}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_number(name: str, value: float | None, above: float = -1.0) -> None:
    if value is not None and (not _is_number(value) or not value > above):
        raise ConfigError(f"algorithm.{name}", f"is a number above {above:g}, got {value!r}")
