"""A program that stays up and speaks JSON lines: ask, tell, and little else."""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from containers.process import ProcessGroup
from hpo_steer.algorithm import Asked, Observation, Point, SearchAlgorithm, Step, Told
from hpo_steer.errors import AlgorithmError, ConfigError, MalformedMessage, OutsideSpace
from hpo_steer.jsonlines import (
    PROTOCOL,
    dumps,
    history_to_json,
    loads,
    observation_to_json,
    point_to_json,
    read_parent,
)
from hpo_steer.limits import MAX_LINE, tidy
from steering.outside.place import LOG_FD, check_program, surroundings, words

if TYPE_CHECKING:
    from hpo_steer.objectives import Objective
    from hpo_steer.space import SearchSpace

_SHOWN = 200
_NOISE = 10_000
"""So many lines that are no answers are put into the log; a program that prints more is no service."""


class ServiceSearch(SearchAlgorithm):
    """Speaks to a program of the user's, which hosts the searches of all models that name it.

    Args:
        space: where points come from; each of the service's is checked against it.
        objectives: what to optimise.
        seed: handed on to the service.
        service: program and arguments; nothing: the entry point of the container's image.
        container: what it runs in.
        env: environment variables for it.
        options: handed on to the service, as they are.
        model: the model's name.
        max_points: how many points the search may have; handed on.
        segment: the model's place in the config; handed on.
        timeout_s: how long an answer may take.
        retries: how often in a row it is started again when it dies or does not answer.

    Raises:
        ConfigError: a wrong option, or the service's own complaint.
        ContainerError: a container that cannot be had.
        AlgorithmError: it cannot be started.
    """

    folder: ClassVar[Path] = Path()

    def __init__(
        self,
        space: SearchSpace,
        objectives: Sequence[Objective],
        seed: int = 0,
        *,
        service: str | list[str] | None = None,
        container: str | dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        options: dict[str, Any] | None = None,
        model: str = "main",
        max_points: int | None = None,
        segment: int = 0,
        timeout_s: float | None = None,
        retries: int = 2,
    ) -> None:
        super().__init__(space, objectives, seed)
        argv = [] if service is None else words(service, "algorithm.service")
        self._spec = {"argv": argv, "container": container, "env": env}
        self._model, self._timeout_s, self._retries = model, timeout_s, retries
        self._opening = opening(
            space, objectives, seed, model, max_points=max_points, segment=segment, options=options
        )
        self._history: list[Step] = []
        self._points: list[Point] = []
        self._open: dict[int, None] = {}
        self._asked: int | None = None
        self._line: Line | None = None
        self._connect()

    # ------------------------------------------------------------ ask and tell

    def ask(self, n: int) -> list[Point]:
        """Points of the service.

        Raises:
            AlgorithmError: it died, said nothing in time or something that is no answer, again and again.
        """
        for left in range(self._retries, -1, -1):
            try:
                points = self._ask(n)
            except AlgorithmError:
                self._hang_up()
                if not left:
                    raise
                continue
            self._asked = n
            return points
        raise AssertionError("unreachable")

    def _ask(self, n: int) -> list[Point]:
        line = self._connect()
        pending = [point_to_json(self._points[number]) for number in self._open]
        line.send({"op": "ask", "id": self._model, "model": self._model, "n": n, "pending": pending})
        reply = line.reply("points", self._model, self._timeout_s)
        listed, ended, note = read_points(reply)
        points = [self._checked(point) for point in listed]
        if len(points) > n:
            note = f"{note or ''} the steering service returned {len(points)} points where {n} were asked for".strip()
        self.note, self.ended = note, ended
        if len(points) < n and ended is None:
            self.short = f"the steering service returned {len(points)} of {n} points"
            if not points and not self._open:
                raise AlgorithmError(
                    f"{self.short}, while none is being evaluated. To end the search it answers with "
                    '"ended": "why"'
                )
        return points[:n]

    def _checked(self, point: Point) -> Point:
        try:
            return replace(point, params=self.space.validate(point.params))
        except OutsideSpace as exc:
            raise AlgorithmError(f"the steering service proposed {_shown(point.params)}: {exc}") from None

    def tell(self, observations: Sequence[Observation]) -> None:
        """Tells it what came of points; one that is not up is told when it is."""
        self._note_told(observations)
        if self._line is not None and self._line.up:
            self._line.send(self._told(observations))

    def _note_told(self, observations: Sequence[Observation]) -> None:
        for each in observations:
            self._open.pop(each.point_id, None)
        self._history.append(Told(tuple(observations)))

    def _told(self, observations: Sequence[Observation]) -> dict[str, Any]:
        told = [
            observation_to_json(each) | {"params": self._points[each.point_id].params}
            for each in observations
        ]
        return {"op": "tell", "model": self._model, "observations": told}

    def adopt(self, points: Sequence[Point]) -> None:
        """Points: its own once they are numbered, and those of another origin, of which it hears as pending."""
        n, self._asked = self._asked, None
        self._note_asked(Asked(len(points) if n is None else n, tuple(points), given=n is None))

    def _note_asked(self, step: Asked) -> None:
        first = len(self._points)
        self._points += [replace(point, id=i) for i, point in enumerate(step.points, first)]
        self._open |= dict.fromkeys(range(first, len(self._points)))
        self._history.append(step)

    def restore(self, history: Sequence[Step]) -> None:
        """Hands a history over: whole, to a service that can restore; else all that was observed."""
        for step in history:
            if isinstance(step, Told):
                self._note_told(step.observations)
            else:
                self._note_asked(step)
        self._hang_up()

    # ------------------------------------------------------------ the process

    def _connect(self) -> Line:
        """The service, up and opened, and told what came before."""
        if self._line is not None and self._line.up:
            return self._line
        line = self._line = Line.shared(self._spec, self.folder)
        line.send(self._opening)
        reply = line.reply("opened", self._model, self._timeout_s)
        if self._history and reply.get("restore") is True:
            line.send({"op": "restore", "model": self._model, "history": history_to_json(self._history)})
        elif told := [each for step in self._history if isinstance(step, Told) for each in step.observations]:
            line.send(self._told(told))
        return line

    def _hang_up(self) -> None:
        """Ends the service; the next ask starts it again."""
        if self._line is not None:
            self._line.close()
            self._line = None


def opening(
    space: SearchSpace,
    objectives: Sequence[Objective],
    seed: int,
    model: str,
    *,
    max_points: int | None,
    segment: int = 0,
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The request that opens the search of a model; arguments as of `ServiceSearch`."""
    return {
        "op": "open",
        "v": PROTOCOL,
        "model": model,
        "search_space": space.to_dict(),
        "constraints": [constraint.text for constraint in space.constraints],
        "objectives": {
            goal.name: {"direction": goal.direction, "target": goal.target, "reference": goal.reference}
            for goal in objectives
        },
        "seed": seed,
        "max_points": max_points,
        "segment": segment,
        "options": dict(options or {}),
    }


def read_points(reply: Mapping[str, Any]) -> tuple[list[Point], str | None, str | None]:
    """The points of an answer, counted from 0, which may lie outside the space; why there are no more; what it says.

    Raises:
        AlgorithmError: the answer has another form.
    """
    listed, ended, note = reply.get("points"), reply.get("ended"), reply.get("note")
    if not isinstance(listed, list) or not isinstance(ended, str | None) or not isinstance(note, str | None):
        raise AlgorithmError(f"the steering service answered {_shown(reply)}; expected {_POINTS}")
    for entry in listed:
        if not isinstance(entry, dict) or not isinstance(entry.get("params"), dict):
            raise AlgorithmError(f"the steering service answered a point {_shown(entry)}; expected {_POINTS}")
    try:
        points = [
            Point(i, entry["params"], read_parent(entry.get("parent"))) for i, entry in enumerate(listed)
        ]
    except MalformedMessage as exc:
        raise AlgorithmError(f"the steering service answered {exc}") from None
    return points, ended, note


_POINTS = '{"op": "points", "model": …, "points": [{"params": {…}}, …], "ended": null}'


class Line:
    """A running service and the lines to and from it.

    Args:
        argv: program and arguments.
        spec: its container and environment.
        folder: the config's folder.
        log_fd: where goes what it prints beside its answers.
    """

    _running: ClassVar[dict[str, Line]] = {}

    def __init__(self, argv: list[str], spec: Mapping[str, Any], folder: Path, log_fd: int = LOG_FD) -> None:
        self._log_fd = log_fd
        self._closed: set[int] = set()
        around = surroundings(spec, folder)
        if argv:
            check_program(argv, around, "algorithm.service")
        elif around.enclosure is None or not around.enclosure.real:
            raise ConfigError(
                "algorithm.service", "is empty; only an image has an entry point to run instead"
            )
        (requests, self._to), (self._from, answers) = os.pipe(), os.pipe()
        try:
            self._group = ProcessGroup(argv, around, log_fd=log_fd, stdin_fd=requests, stdout_fd=answers)
        except OSError as exc:
            self._hang_up()
            raise AlgorithmError(f"the steering service cannot be started: {exc}") from None
        finally:
            os.close(requests)
            os.close(answers)
        self._buffer = bytearray()
        self._noise = 0
        self.up = True

    @classmethod
    def shared(cls, spec: Mapping[str, Any], folder: Path) -> Line:
        """The service of this program, started if it is not up: all models that name it share one."""
        key = json.dumps([spec, str(folder)], sort_keys=True)
        line = cls._running.get(key)
        if line is None or not line.up:
            line = cls._running[key] = cls(spec["argv"], spec, folder)
        return line

    def send(self, message: Mapping[str, Any]) -> None:
        """Sends a line; whether it arrived shows in the next answer."""
        data = memoryview(dumps(message))
        with contextlib.suppress(OSError):  # it has died, which the next answer tells
            while data:
                data = data[os.write(self._to, data) :]

    def reply(self, op: str, model: str, timeout_s: float | None) -> dict[str, Any]:
        """Its answer; lines that are none go to the log.

        Raises:
            ConfigError: it answers with an error that is the user's to mend.
            AlgorithmError: it answers with another error or with something else, dies, or says nothing in time.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            line = self._next(until, timeout_s)
            try:
                reply = loads(bytes(line))
            except MalformedMessage:
                self._log(line)
                continue
            if reply["op"] == "error":
                message = str(reply.get("message", "it does not say what"))
                if reply.get("user") is True:
                    raise ConfigError(
                        str(reply.get("key") or "algorithm"), f"the steering service says: {message}"
                    )
                raise AlgorithmError(f"the steering service says: {message}")
            if reply["op"] == op and reply.get("model", model) == model:
                return reply
            raise AlgorithmError(
                f'the steering service answered {_shown(reply)} where "{op}" of "{model}" was due'
            )

    def _next(self, until: float | None, timeout_s: float | None) -> bytes:
        while b"\n" not in self._buffer:
            if len(self._buffer) > MAX_LINE:
                raise AlgorithmError(f"the steering service sent a line of more than {MAX_LINE:,} bytes")
            left = None if until is None else until - time.monotonic()
            if left is not None and left <= 0:
                raise AlgorithmError(
                    f"the steering service has not answered within {timeout_s:g} s (timeout_s)"
                )
            ready, _, _ = select.select([self._from], [], [], left)
            if not ready:
                continue
            if not (data := os.read(self._from, 1_048_576)):
                raise AlgorithmError(f"the steering service {self._death()}; its last words are in the log")
            self._buffer += data
        line, _, rest = self._buffer.partition(b"\n")
        self._buffer = rest
        return bytes(line)

    def _log(self, line: bytes) -> None:
        self._noise += 1
        if self._noise > _NOISE:
            such = _shown(line.decode("utf-8", "replace"))
            raise AlgorithmError(
                f"the steering service has printed {_NOISE:,} lines that are no answers, such as {such}: its standard "
                "output is for answers; print to standard error"
            )
        os.write(self._log_fd, line[:1000] + b"\n")

    def _death(self) -> str:
        until = time.monotonic() + 5.0
        while not self._group.exited() and time.monotonic() < until:
            time.sleep(0.02)
        if not self._group.exited():
            self._group.kill()
            self._group.reap()
            self.up = False
            return "closed its standard output"
        code = self._group.reap()
        self.up = False
        return self._group.died(code)

    def close(self) -> None:
        """Ends it."""
        if self.up:
            self.up = False
            self._group.kill()
            self._group.reap()
        self._hang_up()

    def _hang_up(self) -> None:
        for fd in (self._to, self._from):
            if fd not in self._closed:
                self._closed.add(fd)
                os.close(fd)


def _shown(value: Any) -> str:
    text = tidy(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
