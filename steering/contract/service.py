"""A steering service, started anew for each ask, with an ear for what it says beside its answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from hpo_steer.algorithm import Asked, Point, Told
from hpo_steer.errors import AlgorithmError
from hpo_steer.findings import Breach, quoted
from hpo_steer.jsonlines import history_to_json, observation_to_json
from steering.contract.program import Known, Program, Reply, observations
from steering.outside.place import words
from steering.outside.service import Line, opening, read_points

if TYPE_CHECKING:
    from pathlib import Path

    from hpo_steer.objectives import Objective
    from hpo_steer.space import SearchSpace

_MODEL = "main"
_KEPT = 5


class ServiceProgram(Program):
    """A program that speaks JSON lines.

    Args:
        space: where points come from.
        objectives: what to optimise.
        folder: the config's folder.
        service: program and arguments; nothing: the entry point of the container's image.
        container: what it runs in.
        env: environment variables for it.
        options: handed to it, as they are.
        seed: handed to it.
        timeout_s: how long an answer may take.
        log: a file for what it prints to standard error.

    Attributes:
        noise: the first lines on its standard output that were no answers.
    """

    counts_pending: ClassVar[str] = "points on their way come besides those that are asked for"
    counts_failed: ClassVar[str] = "a failed point is told as an observation with a failure, and is over"

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        folder: Path,
        *,
        log: Path,
        service: str | list[str] | None = None,
        container: Any = None,
        env: Mapping[str, str] | None = None,
        options: Mapping[str, Any] | None = None,
        seed: int = 0,
        timeout_s: float | None = None,
    ) -> None:
        argv = [] if service is None else words(service, "algorithm.service")
        self._argv, self._spec = argv, {"argv": argv, "container": container, "env": env}
        self._space, self._objectives, self._folder = space, objectives, folder
        self._options, self._seed, self._timeout_s, self._log = options, seed, timeout_s, log
        self.noise: list[bytes] = []

    # ------------------------------------------------------------ asks

    def ask(self, known: Sequence[Known], n: int, max_points: int | None = None) -> Reply:
        """Starts it, opens the search, tells it what is known and asks."""
        began = time.monotonic()
        with self._line() as line:
            self._open(line, max_points=max_points)
            self._tell(line, known)
            points, ended = self._points(line, known, n)
        return Reply(points, ended, time.monotonic() - began)

    def _open(self, line: _Listening, model: str = _MODEL, max_points: int | None = None) -> dict[str, Any]:
        request = opening(
            self._space,
            self._objectives,
            self._seed,
            model,
            max_points=max_points,
            options=self._options,
        )
        line.send(request)
        return line.reply("opened", model, self._timeout_s)

    def _tell(self, line: _Listening, known: Sequence[Known], model: str = _MODEL) -> None:
        if told := observations(known, self._objectives):
            listed = [observation_to_json(each) for each in told]
            line.send({"op": "tell", "model": model, "observations": listed})

    def _points(
        self, line: _Listening, known: Sequence[Known], n: int, model: str = _MODEL
    ) -> tuple[list[Any], str | None]:
        pending = [{"id": i, "params": params} for i, (params, result) in enumerate(known) if result is None]
        line.send({"op": "ask", "id": model, "model": model, "n": n, "pending": pending})
        points, ended, _ = read_points(line.reply("points", model, self._timeout_s))
        return [point.params for point in points], ended

    @contextmanager
    def _line(self) -> Iterator[_Listening]:
        with self._log.open("wb") as log:
            line = _Listening(self._argv, self._spec, self._folder, log.fileno())
            try:
                yield line
            except AlgorithmError as exc:
                raise AlgorithmError(self._explained(str(exc), line.heard)) from None
            finally:
                self.noise += line.heard
                del self.noise[_KEPT:]
                line.close()

    def _explained(self, text: str, heard: Sequence[bytes]) -> str:
        text = text.removesuffix("; its last words are in the log")
        said = self._log.read_bytes()[-2000:].decode("utf-8", "replace").strip()
        if heard:
            text += f"; its standard output held {quoted(heard[-1])}, which is no answer"
        return f"{text}\n{said}" if said else text

    # ------------------------------------------------------------ what only services can do

    def more(self, known: Sequence[Known], n: int) -> Iterator[tuple[str, Callable[[], str]]]:
        """One that stays up, several models, a history as a whole, and a clean standard output."""
        yield "stays up", lambda: self._stays_up(n)
        yield "two models at once", lambda: self._two_models(n)
        yield "a restored history", lambda: self._restored(known, n)
        yield "standard output", self._clean

    def _stays_up(self, n: int) -> str:
        with self._line() as line:
            self._open(line)
            first, ended = self._points(line, [], n)
            if ended is not None:
                return f"it has ended the search after its first answer: {ended}"
            self._tell(line, [(params, 1.0 + i) for i, params in enumerate(first)])
            again, _ = self._points(line, [(params, 1.0) for params in first], n)
        return f"asked twice, with results between: {len(first)} and {len(again)} points"

    def _two_models(self, n: int) -> str:
        with self._line() as line:
            for model in ("a", "b"):
                self._open(line, model)
            for model in ("a", "b", "a"):
                self._points(line, [], n, model)
        return "each gets its own answers"

    def _restored(self, known: Sequence[Known], n: int) -> str:
        with self._line() as line:
            if self._open(line).get("restore") is not True:
                return "it does not offer that, and is told all observations instead"
            points = [Point(i, params) for i, (params, _) in enumerate(known)]
            history = history_to_json(
                [Asked(len(points), points), Told(observations(known, self._objectives))]
            )
            line.send({"op": "restore", "model": _MODEL, "history": history})
            found, _ = self._points(line, known, n)
        return f"it goes on from there with {len(found)} points"

    def _clean(self) -> str:
        if self.noise:
            raise Breach(
                "it prints what is no answer; standard output is for answers alone, print to standard error",
                "\n".join(map(quoted, self.noise)),
            )
        return "holds answers alone"


class _Listening(Line):
    """A line that keeps what is no answer."""

    def __init__(self, argv: list[str], spec: Mapping[str, Any], folder: Path, log_fd: int) -> None:
        self.heard: list[bytes] = []
        super().__init__(argv, spec, folder, log_fd)

    def _log(self, line: bytes) -> None:
        if len(self.heard) < _KEPT:
            self.heard.append(line)
        super()._log(line)
