"""One task: a contender on a problem with a seed, and what came of it."""

from __future__ import annotations

import contextlib
import io
import math
import random
import signal
import time
import warnings
import zlib
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.search.contenders import contender
from benchmarks.search.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from benchmarks.search.contender import Contender
    from benchmarks.search.problem import Outcome, Problem, Setting
    from hpo_steer.space import Params


@dataclass(frozen=True)
class Task:
    """One contender on one problem with one seed.

    Attributes:
        problem: its name.
        contender: its name, with options.
        seed: of the contender, the noise, and the order of results.
        batch: how many points an ask is for.
        evaluations: how many points there are.
        overlap: the share of a batch that has been told when the next one is asked for; 1: all of it.
        ask_limit_s: an ask or tell that takes longer has failed.
    """

    problem: str
    contender: str
    seed: int
    batch: int = 20
    evaluations: int = 100
    overlap: float = 1.0
    ask_limit_s: float = field(default=900.0, compare=False)


@dataclass(frozen=True)
class Record:
    """What came of a task.

    Attributes:
        task: what was run.
        curve_at: numbers of evaluations.
        curve: the best value, or the hypervolume, after each of them; None where no point counted yet.
        ask_s: seconds in all asks.
        ask_cpu_s: processor seconds in them, which other work on the machine changes little.
        last_ask_s: seconds in the last one.
        tell_s: seconds in all tells.
        took_s: seconds of the whole task.
        short_by: how many points the contender did not propose, though asked to; random ones stood in.
        error: the sentence with which the contender failed.
        failed_at: how many points it had proposed by then; random ones follow.
    """

    task: Task
    curve_at: list[int]
    curve: list[float | None]
    ask_s: float
    last_ask_s: float
    tell_s: float
    took_s: float
    ask_cpu_s: float = 0.0
    short_by: int = 0
    error: str | None = None
    failed_at: int | None = None

    @property
    def best(self) -> float | None:
        """The value, or hypervolume, at the end."""
        return self.curve[-1]

    def as_json(self) -> dict[str, Any]:
        """For a line of a file."""
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Record:
        """From a line of a file."""
        return cls(task=Task(**found["task"]), **{k: v for k, v in found.items() if k != "task"})


def run(task: Task) -> Record:
    """Runs a task by its names, in silence."""
    seed_everything(task.seed)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return race(task, problem(task.problem), contender(task.contender).load())


def race(task: Task, on: Problem, make: Callable[[Setting], Contender]) -> Record:
    """Asks for a batch, evaluates it, tells, and so on.

    With an overlap below 1, that share of each batch is told before the next ask, and the others, drawn by the
    seed, after it: they are pending when it comes. A contender that raises is left alone from then on, and random
    points take its place, so that what it had found by then can be judged.

    Args:
        task: the seed, and how many points.
        on: the problem.
        make: makes the contender.
    """
    begin = time.perf_counter()
    found = _Race(task, on)
    found.run(make)
    at, curve = progress(on, found.true, found.observed)
    return Record(
        task,
        at,
        curve,
        found.ask_s,
        found.last_ask_s,
        found.tell_s,
        time.perf_counter() - begin,
        found.ask_cpu_s,
        found.short_by,
        found.error,
        found.failed_at,
    )


class _Race:
    """The state of a task.

    Args:
        task: what to run.
        on: its problem.
    """

    def __init__(self, task: Task, on: Problem) -> None:
        self.task, self.problem = task, on
        self.true: list[Outcome] = []
        self.observed: list[Outcome] = []
        self.ask_s = self.ask_cpu_s = self.last_ask_s = self.tell_s = 0.0
        self.short_by = 0
        self.error: str | None = None
        self.failed_at: int | None = None
        self._salt = zlib.crc32(on.name.encode())
        self._contender: Contender | None = None
        self._numbers: dict[int, int] = {}  # of points to those of the contender

    def run(self, make: Callable[[Setting], Contender]) -> None:
        """Spends the evaluations."""
        setting = self.problem.setting(
            seed=self.task.seed, batch=self.task.batch, evaluations=self.task.evaluations
        )
        with self._blamed():
            self._contender = make(setting)
        waiting: list[int] = []
        while len(self.true) < self.task.evaluations:
            n = min(self.task.batch, self.task.evaluations - len(self.true))
            new = self._evaluated(self._asked(n))
            if self.task.overlap >= 1.0:
                self._tell(new)
                continue
            order = self._rng(1, len(self.true))
            drawn = order.permutation(new).tolist()
            count = math.ceil(self.task.overlap * n)
            self._tell(order.permutation(waiting + drawn[:count]).tolist())
            waiting = drawn[count:]
        self._tell(waiting)

    def _rng(self, purpose: int, step: int) -> np.random.Generator:
        return np.random.default_rng([self.task.seed, self._salt, purpose, step])

    def _asked(self, n: int) -> list[Params]:
        """`n` points: the contender's, and random ones for those that it does not give."""
        found: list[Params] = []
        if self._contender is not None:
            begin, cpu = time.perf_counter(), time.process_time()
            with self._blamed():
                proposed = self._contender.ask(n)
                if len(proposed) > n:
                    raise ValueError(f"{len(proposed)} points were proposed, and {n} asked for")
                found = [self.problem.space.validate(params) for params in proposed]
                self.short_by += n - len(found)
                first = len(self._numbers)
                self._numbers |= {len(self.true) + i: first + i for i in range(len(found))}
            self.last_ask_s = time.perf_counter() - begin
            self.ask_s += self.last_ask_s
            self.ask_cpu_s += time.process_time() - cpu
        return found + self.problem.space.sample(n - len(found), self._rng(2, len(self.true)))

    def _evaluated(self, points: Sequence[Params]) -> list[int]:
        """The numbers of points that have been evaluated. Noise depends on the seed and the number alone."""
        numbers = []
        for params in points:
            number = len(self.true)
            outcome = self.problem.evaluate(params)
            noise = self._rng(3, number).normal(size=len(self.problem.noise))
            self.true.append(outcome)
            self.observed.append(self.problem.observed(outcome, noise.tolist()))
            numbers.append(number)
        return numbers

    def _tell(self, numbers: Sequence[int]) -> None:
        own = [(self._numbers[i], self.observed[i]) for i in numbers if i in self._numbers]
        if self._contender is not None and own:
            begin = time.perf_counter()
            with self._blamed():
                self._contender.tell(own)
            self.tell_s += time.perf_counter() - begin

    @contextlib.contextmanager
    def _blamed(self) -> Iterator[None]:
        """Takes the contender out of the race if it raises, or takes too long."""
        try:
            with limited(self.task.ask_limit_s):
                yield
        except Exception as exc:  # noqa: BLE001 - whatever a library raises is its failure
            self._contender = None
            self.error = sentence(exc)
            self.failed_at = len(self._numbers)


def progress(
    on: Problem, true: Sequence[Outcome], observed: Sequence[Outcome]
) -> tuple[list[int], list[float | None]]:
    """How good the best was as the points came in.

    Args:
        on: the problem.
        true: noiseless outcomes, in the order of the asks.
        observed: what the contender was told.

    Returns:
        Numbers of evaluations, and for each the noiseless value of the best observed point, None where no point
        counted yet; with several objectives, 20 numbers, and the hypervolume of the noiseless values.
    """
    if on.objectives > 1:
        from benchmarks.search.fronts import hypervolume

        at = sorted({math.ceil(len(true) * (i + 1) / 20) for i in range(20)})
        valid = [outcome.values if outcome.feasible else None for outcome in true]
        return at, [hypervolume([v for v in valid[:n] if v is not None], on.references) for n in at]
    curve: list[float | None] = []
    best, lowest = None, math.inf
    for truth, seen in zip(true, observed, strict=True):
        if seen.feasible and seen.values is not None and truth.values is not None and seen.values[0] < lowest:
            best, lowest = truth.values[0], seen.values[0]
        curve.append(best)
    return list(range(1, len(true) + 1)), curve


def seed_everything(seed: int) -> None:
    """Fixes the global random numbers, which some libraries draw from."""
    import torch

    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextlib.contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises `TimeoutError` after so many seconds; in the main thread only."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"it took more than {seconds:g} s")

    begin = time.monotonic()
    handler = signal.signal(signal.SIGALRM, stop)
    left, interval = signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
        if left:  # somebody else's alarm goes on
            signal.setitimer(signal.ITIMER_REAL, max(left - (time.monotonic() - begin), 0.001), interval)


def sentence(exc: BaseException) -> str:
    """An error in a line."""
    text = str(exc).strip().split("\n", maxsplit=1)[0]
    return f"{type(exc).__name__}: {text}" if text else type(exc).__name__
