"""Where algorithms live: cheap ones in the loop's process, heavy ones and users' in processes beside it.

Both kinds have one face. An ask is answered later, through `replies`, so that the loop never waits for one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo_steer.algorithm import Observation, Point, Step
from hpo_steer.config.secrets import without_secrets
from hpo_steer.errors import AlgorithmError, ConfigError, HpoSteerError, MalformedMessage, UserError
from hpo_steer.guests import Guest
from hpo_steer.jsonlines import (
    PROTOCOL,
    dumps,
    history_to_json,
    observation_to_json,
    point_from_json,
    read_lines,
    read_reply,
)
from hpo_steer.registry import algorithm_name, is_outside

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hpo_steer.config import Experiment, Model
    from hpo_steer.objectives import Objective
    from hpo_steer.space import SearchSpace


_SEED_STEP = 7919
_OUTSIDE = ("-c", "from hpo_steer.launcher import outside; outside()")


@dataclass(frozen=True)
class Proposal:
    """The answer to an ask.

    Attributes:
        model: whose.
        points: what was proposed.
        ended: why there are no more, if so.
        ask_s: how long it took.
        note: what the algorithm has to say to the user, if anything.
    """

    model: str
    points: Sequence[Point]
    ended: str | None
    ask_s: float
    note: str | None = None


class HostDied(AlgorithmError):
    """The process of an algorithm has ended; a new one may do better."""


@dataclass(frozen=True)
class HostFailure:
    """A host could not do what it was asked.

    Attributes:
        error: what to tell the user.
        died: its process is gone; a new one may do better.
    """

    error: HpoSteerError
    died: bool = False


@dataclass(frozen=True)
class Opened:
    """A model's algorithm could be created."""

    model: str


Reply: TypeAlias = Proposal | HostFailure | Opened


@dataclass(frozen=True)
class Opening:
    """What an algorithm is made from.

    Attributes:
        model: whose it is.
        spec: ``{name: …}``, ``{class: …}`` or another form, with options.
        space: where points come from.
        objectives: what to optimise.
        seed: fixes every random choice.
        constraints: the space's, as written.
        folder: the config's folder.
        duplicates: the policy for points proposed again.
        outcome_constraints: over what trainings measure, as written.
    """

    model: str
    spec: Mapping[str, Any]
    space: SearchSpace
    objectives: Sequence[Objective]
    seed: int
    constraints: Sequence[str]
    folder: Path
    duplicates: str
    outcome_constraints: Sequence[str] = ()

    @property
    def method(self) -> str:
        """The algorithm as the user named it."""
        return algorithm_name(self.spec)

    @classmethod
    def of(cls, experiment: Experiment, model: Model, number: int, folder: Path) -> Opening:
        """What the algorithm of one of an experiment's models is made from.

        Args:
            experiment: the config.
            model: one of its models.
            number: its place in the config, from 0; models with equal spaces get unlike seeds by it.
            folder: the config's folder.
        """
        spec = experiment.algorithm_of(model)
        if spec.get("name") == "auto" and (limit := experiment.steering.point_limit) is not None:
            spec = {"budget": limit, **spec}
        if is_outside(spec):
            limit = experiment.steering.point_limit
            spec = {"model": model.name, "segment": number, "max_points": limit, **spec}
        return cls(
            model.name,
            spec,
            experiment.space(model),
            experiment.goals,
            (experiment.seed + _SEED_STEP * number) % 2**32,
            experiment.constraints,
            folder,
            experiment.steering.duplicates,
            experiment.outcome_constraints,
        )


class AlgorithmHost(ABC):
    """Hosts the algorithms of some models."""

    @abstractmethod
    def open(self, opening: Opening) -> None:
        """Creates a model's algorithm; answered by `Opened`, or a `HostFailure` with a `UserError`."""

    @abstractmethod
    def restore(self, model: str, history: Sequence[Step]) -> None:
        """Takes it through a history, or through what comes next of it."""

    @abstractmethod
    def tell(self, model: str, observations: Sequence[Observation]) -> None:
        """Gives it observations."""

    @abstractmethod
    def ask(self, model: str, n: int) -> None:
        """Asks for points; one ask of a model at a time."""

    @abstractmethod
    def replies(self) -> list[Reply]:
        """What has been answered since the last call."""

    def fileno(self) -> int | None:
        """Readable while `replies` would return something; None where they come at once."""
        return None

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """Ends it."""


class InProcessHost(AlgorithmHost):
    """Algorithms that answer in microseconds."""

    def __init__(self) -> None:
        self._guests: dict[str, Guest] = {}
        self._replies: list[Reply] = []

    def open(self, opening: Opening) -> None:
        """Creates a model's algorithm."""
        try:
            self._guests[opening.model] = Guest(
                opening.spec,
                opening.space,
                opening.objectives,
                opening.seed,
                opening.folder,
                forbid=opening.duplicates == "forbid",
                outcome_constraints=opening.outcome_constraints,
            )
        except HpoSteerError as exc:
            self._replies.append(HostFailure(exc))
        else:
            self._replies.append(Opened(opening.model))

    def restore(self, model: str, history: Sequence[Step]) -> None:
        """Takes it through a history."""
        self._guests[model].restore(history)

    def tell(self, model: str, observations: Sequence[Observation]) -> None:
        """Gives it observations."""
        self._guests[model].tell(observations)

    def ask(self, model: str, n: int) -> None:
        """Asks, and keeps the answer for `replies`."""
        guest = self._guests[model]
        begin = time.perf_counter()
        try:
            points = guest.ask(n)
        except HpoSteerError as exc:
            self._replies.append(HostFailure(exc))
            return
        ask_s = time.perf_counter() - begin
        self._replies.append(Proposal(model, points, guest.ended, ask_s, guest.note))

    def replies(self) -> list[Reply]:
        """The answers so far."""
        found, self._replies = self._replies, []
        return found


class ProcessHost(AlgorithmHost):
    """Algorithms in a process of their own.

    Args:
        log: file that takes what the process prints.
        outside: whether it is one that runs programs of the user's.
    """

    def __init__(self, log: Path, *, outside: bool = False) -> None:
        self._log, self._outside = log, outside
        self._out: SimpleQueue[bytes | None] = SimpleQueue()
        self._in: deque[bytes | MalformedMessage | None] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._asked: dict[str, float] = {}
        self._closed = False
        with log.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-P", *(_OUTSIDE if outside else ("-m", "hpo_steer.host"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stream,
                env=without_secrets(os.environ),
                start_new_session=True,
            )
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._write, self._read)]
        for thread in self._threads:
            thread.start()

    def again(self) -> ProcessHost:
        """A new process in place of this one; its algorithms have to be opened anew."""
        return ProcessHost(self._log, outside=self._outside)

    # ------------------------------------------------------------ its threads

    def _write(self) -> None:
        """Requests never block the loop, however long the process takes to read them."""
        assert self._process.stdin is not None  # noqa: S101 - opened as a pipe above
        try:
            while (line := self._out.get()) is not None:
                self._process.stdin.write(line)
                if self._out.empty():
                    self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass
        finally:
            with contextlib.suppress(BrokenPipeError, ValueError):
                self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None  # noqa: S101 - opened as a pipe above
        try:
            for line in read_lines(self._process.stdout):
                self._in.append(line)
                os.write(self._wake_write, b".")
        except MalformedMessage as exc:
            self._in.append(exc)
            os.write(self._wake_write, b".")
            self._process.kill()  # it would wait for ever to be read
        self._in.append(None)
        os.write(self._wake_write, b".")

    # ------------------------------------------------------------ the loop's side

    def open(self, opening: Opening) -> None:
        """Has a model's algorithm created."""
        self._send(
            op="open",
            v=PROTOCOL,
            model=opening.model,
            algorithm=dict(opening.spec),
            search_space=opening.space.to_dict(),
            constraints=list(opening.constraints),
            objectives={
                o.name: {"direction": o.direction, "target": o.target, "reference": o.reference}
                for o in opening.objectives
            },
            seed=opening.seed,
            folder=str(opening.folder),
            duplicates=opening.duplicates,
            outcome_constraints=list(opening.outcome_constraints),
        )

    def restore(self, model: str, history: Sequence[Step]) -> None:
        """Has it taken through a history."""
        self._send(op="restore", model=model, history=history_to_json(history))

    def tell(self, model: str, observations: Sequence[Observation]) -> None:
        """Sends it observations."""
        self._send(op="tell", model=model, observations=[observation_to_json(o) for o in observations])

    def ask(self, model: str, n: int) -> None:
        """Asks; the answer comes through `replies`."""
        self._asked[model] = time.perf_counter()
        self._send(op="ask", model=model, n=n, id=model)

    def _send(self, **request: Any) -> None:
        self._out.put(dumps(request))

    def fileno(self) -> int:
        """Readable while there are replies."""
        return self._wake_read

    def replies(self) -> list[Reply]:
        """The answers since the last call."""
        try:
            os.read(self._wake_read, 65536)
        except BlockingIOError:
            return []
        found: list[Reply] = []
        while self._in:
            line = self._in.popleft()
            if line is None:
                if not self._closed:
                    found.append(HostFailure(self._death(), died=True))
                continue
            found.append(self._reply(line))
        return found

    def _reply(self, line: bytes | MalformedMessage) -> Reply:
        try:
            if isinstance(line, MalformedMessage):
                raise line
            reply = read_reply(line)
            if reply["op"] == "points" and reply["model"] not in self._asked:
                raise MalformedMessage("points that nobody asked for")  # noqa: TRY301 - likewise
        except MalformedMessage as exc:
            return HostFailure(
                AlgorithmError(f"the process that runs the algorithm gave no answer: {exc} (see {self._log})")
            )
        if reply["op"] == "error":
            return HostFailure(self._error(reply))
        model = reply["model"]
        if reply["op"] == "opened":
            return Opened(model)
        points = [point_from_json(each) for each in reply["points"]]
        ask_s = time.perf_counter() - self._asked.pop(model)
        return Proposal(model, points, reply["ended"], ask_s, reply.get("note"))

    def _error(self, reply: Mapping[str, Any]) -> HpoSteerError:
        if reply.get("key") is not None:
            return ConfigError(reply["key"], reply["message"])
        if reply["user"]:
            return UserError(reply["message"])
        return AlgorithmError(f"{reply['message']} (see {self._log})")

    def _death(self) -> HostDied:
        code = self._process.wait()
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return HostDied(f"the process that runs the algorithm ended with {how} (see {self._log})")

    def close(self) -> None:
        """Ends the process: at once, an ask under way is of no use any more."""
        if self._closed:
            return
        self._closed = True
        self._out.put(None)
        self._process.kill()
        self._process.wait()
        for thread in self._threads:
            thread.join(timeout=5)
        if self._process.stdout is not None:
            self._process.stdout.close()
        for fd in (self._wake_read, self._wake_write):
            os.close(fd)


def wait_opened(host: AlgorithmHost, models: set[str], timeout_s: float = 300.0) -> None:
    """Waits until the algorithms of these models were created.

    Raises:
        UserError: one can't be created from its config.
        AlgorithmError: its process ended, or gave no answer in time.
    """
    import select

    deadline = time.monotonic() + timeout_s
    missing = set(models)
    while missing:
        for reply in host.replies():
            if isinstance(reply, HostFailure):
                raise reply.error
            if isinstance(reply, Opened):
                missing.discard(reply.model)
        fd = host.fileno()
        if (
            missing
            and fd is not None
            and not select.select([fd], [], [], max(deadline - time.monotonic(), 0))[0]
        ):
            raise AlgorithmError(f"the algorithm gave no sign of life in {timeout_s:g} s")
