"""What must be true after a run, whatever was done to it: read from the store, the journal and the queues.

Every training writes its begin and its end to a journal of its own, before and after all that hpo-steer does with
it. The store is then compared with that journal, and every training that was repeated has to be explained.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from steering.store.base import AttemptRecord, PointRecord, Store

SAFE_AFTER_S = 3.0
"""A worker that lived on for so long after a training's end has put its result into safety."""

TRAIN = '''
"""A training that takes a given time and writes down that it began and that it ended."""

import json
import os
import time

import hpo_steer

JOURNAL, HOLD = {journal!r}, {hold!r}
SHORTEST_S, LONGEST_S = {shortest_s!r}, {longest_s!r}


def note(what, **more):
    point = hpo_steer.point()
    worker = os.environ.get("HPO_STEER_WORKER", "")
    line = {{"what": what, "point": point.id, "attempt": point.attempt, "pid": os.getpid(), "worker": worker}}
    fd = os.open(JOURNAL, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, json.dumps({{**line, "at": time.monotonic(), **more}}).encode() + b"\\n")
        os.fsync(fd)
    finally:
        os.close(fd)


def value(params):
    return (params["x"] - 0.3) ** 2 + (params["k"] - 4) ** 2 / 100


def train(params):
    note("begin")
    until = time.monotonic() + SHORTEST_S + (LONGEST_S - SHORTEST_S) * (params["x"] * 997 % 1)
    step = 0
    while (left := until - time.monotonic()) > 0 or os.path.exists(HOLD):
        time.sleep(min(max(left, 0.05), 0.1))
        try:
            hpo_steer.report(step=step, left=left)  # where steering's stop is heeded
        except hpo_steer.Stopped:
            note("stopped")
            raise
        step += 1
    if os.environ.get("ARENA_SAVES"):
        saved = hpo_steer.checkpoint_dir() / "state"
        saved.with_suffix(".new").write_text(str(step))
        saved.with_suffix(".new").rename(saved)
    loss = value(params)
    note("end", value=loss)
    return {{"loss": loss, "attempt": hpo_steer.point().attempt}}
'''
"""The user's file. Its value depends on the parameters alone."""


def value(params: Mapping[str, Any]) -> float:
    """What the training makes of these parameters."""
    return float((params["x"] - 0.3) ** 2 + (params["k"] - 4) ** 2 / 100)


def worker_pid(worker: str) -> int:
    """The process of a worker of this name; 0 if the name does not say."""
    return int(worker.rsplit("-", 2)[1]) if worker.count("-") >= 2 else 0


@dataclass(frozen=True)
class Training:
    """One training, as it wrote itself down.

    Attributes:
        point: id of the point.
        attempt: which attempt it was.
        pid: its process.
        worker: id of its worker.
        begin: monotonic seconds.
        end: likewise; None: it never came to its end.
        value: what it returned.
        stopped: when it ended before its time because steering said so.
    """

    point: int
    attempt: int
    pid: int
    worker: str
    begin: float
    end: float | None = None
    value: float | None = None
    stopped: float | None = None

    @property
    def worker_pid(self) -> int:
        """Its worker's process."""
        return worker_pid(self.worker)


@dataclass(frozen=True)
class Disturbance:
    """What was done to a process; it may explain that a training was repeated.

    Attributes:
        pid: the process; 0: all of them.
        what: such as ``killed`` or ``paused``.
        at: monotonic seconds.
        until: when it was over; infinity for a process that was killed.
        kind: what the process was.
    """

    pid: int
    what: str
    at: float
    until: float
    kind: str = ""


@dataclass(frozen=True)
class Repeat:
    """A training that a later one repeated.

    Attributes:
        training: the earlier one.
        why: what explains the repetition; None: nothing does.
    """

    training: Training
    why: str | None

    @property
    def seconds(self) -> float:
        """How much work was in vain; that of one which was killed is not known, and counts as nothing."""
        until = self.training.end if self.training.end is not None else self.training.stopped
        return 0.0 if until is None else until - self.training.begin


@dataclass(frozen=True)
class Audit:
    """What the books say.

    Attributes:
        points: points in the store.
        begun: trainings that began.
        ended: trainings that came to their end.
        repeats: trainings that were repeated.
        stopped: trainings that steering ended soon after their begin, as the point was done or in other hands.
        lost: results that a training produced and the store does not have, and points that never ended.
        doubled: points told, ended or proposed twice.
        wrong: sentences about everything that is not as it must be; empty: the books are right.
        attempts: of each point, in the order of ids.
    """

    points: int
    begun: int
    ended: int
    repeats: tuple[Repeat, ...] = ()
    lost: int = 0
    doubled: int = 0
    wrong: tuple[str, ...] = ()
    attempts: Mapping[int, int] = field(default_factory=dict)
    stopped: tuple[Repeat, ...] = ()

    @property
    def repeated(self) -> int:
        """How many trainings were repeated."""
        return len(self.repeats)

    @property
    def unexplained(self) -> list[Repeat]:
        """Those that no death of a worker or a training explains."""
        return [r for r in (*self.repeats, *self.stopped) if r.why is None]

    @property
    def repeated_s(self) -> float:
        """Seconds of work that was done and then once more."""
        return sum(r.seconds for r in (*self.repeats, *self.stopped))

    def text(self) -> str:
        """The audit for people."""
        lines = [
            f"{self.points} points, {self.begun} trainings begun, {self.ended} ended, {self.repeated} repeated",
            *(f"wrong: {sentence}" for sentence in self.wrong),
            *(f"repeated ({r.why or 'UNEXPLAINED'}): {asdict(r.training)}" for r in self.repeats),
            *(f"stopped ({r.why or 'UNEXPLAINED'}): {asdict(r.training)}" for r in self.stopped),
        ]
        return "\n".join(lines)


def read_journal(path: Path) -> list[Training]:
    """The trainings, in the order of their begin."""
    begun: dict[tuple[int, int, int], list[Training]] = defaultdict(list)
    lines = path.read_bytes().splitlines() if path.exists() else []
    for line in lines:
        entry = json.loads(line)
        key = (entry["point"], entry["attempt"], entry["pid"])
        if entry["what"] == "begin":
            begun[key].append(Training(*key, entry["worker"], entry["at"]))
        elif entry["what"] == "stopped":
            begun[key][-1] = replace(begun[key][-1], stopped=entry["at"])
        else:
            begun[key][-1] = replace(begun[key][-1], end=entry["at"], value=entry["value"])
    return sorted((t for each in begun.values() for t in each), key=lambda t: t.begin)


def explain(training: Training, disturbances: Iterable[Disturbance]) -> str | None:
    """What happened to a training's process or worker while its result was in neither spool nor queue."""
    end = training.end if training.end is not None else float("inf")
    for one in disturbances:
        about = one.pid in (0, training.pid, training.worker_pid)
        if about and one.until >= training.begin and one.at <= end + SAFE_AFTER_S:
            return f"{one.kind or 'process'} {one.pid} {one.what}"
    return None


def find_repeats(trainings: Sequence[Training], disturbances: Iterable[Disturbance]) -> tuple[Repeat, ...]:
    """Every training but the last of its point was repeated; see `find_stopped` for those that steering ended."""
    of_point: dict[int, list[Training]] = defaultdict(list)
    for training in trainings:
        if training.stopped is None:
            of_point[training.point].append(training)
    known = list(disturbances)
    return tuple(Repeat(t, explain(t, known)) for each in of_point.values() for t in each[:-1])


def find_stopped(
    trainings: Sequence[Training], disturbances: Iterable[Disturbance], attempts: Iterable[AttemptRecord]
) -> tuple[Repeat, ...]:
    """The trainings that steering ended, as their points were done or in other hands.

    A worker that dies leaves a message or a result behind, and its point may have gone out again before that was
    found: then one of the two is stopped where it begins. So what happened to any worker of the point explains it.
    """
    known = list(disturbances)
    lost = [a for a in attempts if a.outcome == "lost"]
    found = []
    for training in trainings:
        if training.stopped is not None:
            others = [t for t in trainings if t.point == training.point]
            whys = [why for t in others if (why := explain(t, known)) is not None]
            holders = {worker_pid(a.worker) for a in lost if a.point == training.point and a.worker}
            whys += [f"{d.kind or 'process'} {d.pid} {d.what}" for d in known if d.pid in {0, *holders}]
            found.append(Repeat(training, whys[0] if whys else None))
    return tuple(found)


def audit(
    store: Store,
    trainings: Sequence[Training],
    disturbances: Iterable[Disturbance] = (),
    *,
    expected: int | None,
    failures: bool = False,
) -> Audit:
    """Compares a finished run's store with the journal of its trainings.

    Args:
        store: opened for reading.
        trainings: from `read_journal`.
        disturbances: what was done to processes.
        expected: how many points there must be; None: that is not checked.
        failures: whether points may have failed.
    """
    points, wrong = store.points(), _Sentences()
    attempts = store.attempts()
    ended = defaultdict(list)
    for training in trainings:
        if training.end is not None:
            ended[training.point].append(training)
    if expected is not None and len(points) != expected:
        wrong.add("other", f"there are {len(points)} points, not {expected}")
    _check_proposals(points, wrong)
    _check_ends(points, ended, wrong, failures=failures)
    _check_told(points, wrong)
    _check_counts(store, points, wrong)
    _check_attempts(points, attempts, wrong)
    disturbances = list(disturbances)
    repeats = find_repeats(trainings, disturbances)
    return Audit(
        len(points), len(trainings), sum(map(len, ended.values())), repeats,
        wrong.count("lost"), wrong.count("doubled"), tuple(wrong.all), {p.id: p.attempts for p in points},
        find_stopped(trainings, disturbances, attempts),
    )  # fmt: skip


class _Sentences:
    """What is wrong, by kind."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self._kinds: Counter[str] = Counter()

    def add(self, kind: str, sentence: str) -> None:
        self._kinds[kind] += 1
        self.all.append(f"{kind}: {sentence}")

    def count(self, kind: str) -> int:
        return self._kinds[kind]


def _check_proposals(points: Sequence[PointRecord], wrong: _Sentences) -> None:
    """Ids and numbers have no gaps, and no parameters were proposed twice."""
    if [p.id for p in points] != list(range(1, len(points) + 1)):
        wrong.add("other", f"the ids of the points have gaps: {[p.id for p in points]}")
    for model, of_model in _by_model(points).items():
        numbers = sorted(p.number for p in of_model)
        if numbers != list(range(len(numbers))):
            wrong.add("other", f"the numbers of model {model} have gaps: {numbers}")
        for digest, times in Counter(p.hash for p in of_model if p.duplicate_of is None).items():
            if times > 1:
                same = [p.id for p in of_model if p.hash == digest]
                wrong.add("doubled", f"points {same} are one and the same, proposed twice")


def _check_ends(
    points: Sequence[PointRecord],
    ended: Mapping[int, Sequence[Training]],
    wrong: _Sentences,
    *,
    failures: bool,
) -> None:
    """Every point has ended, and with what its training returned."""
    for point in points:
        trained = ended.get(point.id, ())
        if point.state in ("queued", "running"):
            wrong.add("lost", f"point {point.id} has not ended, it is {point.state}")
        elif point.state == "failed":
            why = f"{point.failure.kind}: {point.failure.message}" if point.failure else "?"
            if trained:
                wrong.add("lost", f"point {point.id} was trained to its end, and failed ({why})")
            elif not failures:
                wrong.add("lost", f"point {point.id} failed ({why})")
        elif point.duplicate_of is None:
            got = (point.values or {}).get("loss")
            if got != value(point.params):
                wrong.add("lost", f"point {point.id} has the value {got}, not {value(point.params)}")
            taken = (point.metrics or {}).get("attempt")
            if not any(t.attempt == taken and t.value == got for t in trained):
                wrong.add("other", f"the result of point {point.id} (attempt {taken}) comes from no training")


def _check_told(points: Sequence[PointRecord], wrong: _Sentences) -> None:
    """Each model's algorithm was told once of every point that has ended."""
    for model, of_model in _by_model(points).items():
        told = sorted(p.told for p in of_model if p.told is not None)
        if told != list(range(1, len(told) + 1)):
            wrong.add("doubled", f"what model {model} was told is not 1 to {len(told)}: {told}")
        for point in of_model:
            if (point.told is None) != (point.state in ("queued", "running")):
                wrong.add("other", f"point {point.id} is {point.state}, and told is {point.told}")


def _check_counts(store: Store, points: Sequence[PointRecord], wrong: _Sentences) -> None:
    """The store's counts are those of its rows."""
    counts = store.counts()
    states = Counter(p.state for p in points)
    kinds = Counter(p.failure.kind for p in points if p.failure is not None)
    said = (counts.queued, counts.running, counts.done, dict(counts.failed))
    real = (states["queued"], states["running"], states["done"], dict(kinds))
    if said != real:
        wrong.add("other", f"the counts are {said}, but the points are {real}")


def _check_attempts(
    points: Sequence[PointRecord], attempts: Sequence[AttemptRecord], wrong: _Sentences
) -> None:
    """A point has at most one result that was taken, and as many attempts as it says at least."""
    done = Counter(a.point for a in attempts if a.outcome == "done")
    for point in points:
        if done[point.id] > 1:
            wrong.add("doubled", f"point {point.id} has {done[point.id]} results that were taken")


def _by_model(points: Sequence[PointRecord]) -> dict[str, list[PointRecord]]:
    found: dict[str, list[PointRecord]] = defaultdict(list)
    for point in points:
        found[point.model].append(point)
    return found
