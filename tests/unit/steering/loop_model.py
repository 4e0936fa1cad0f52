"""What must be true of the loop, whatever happens: the books of an observer who sees every message and commit.

The observer knows nothing of the loop's inside. It knows what workers wrote, what steering has heard since it began,
what the store says after each commit, and who is training what; each check is named after the sentence it checks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hpo_steer.messages import Bye, Cancel, Control, Event, Heartbeat, Hello, Result, Started, Stop, Work
from steering.store.base import Counts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from hpo_steer.config import Experiment
    from steering.loop import SteeringLoop
    from steering.store.base import PointRecord, Store
    from tests.unit.steering.hazards import HazardTransport, RecordingHost
    from tests.unit.steering.simulation import HandClock

ENDED = ("done", "failed")


@dataclass(eq=False)
class Job:
    """A worker has an attempt in its hands.

    Attributes:
        work: the attempt.
        worker: its id.
        held: it has said nothing yet and has not acknowledged the work.
        sound: nothing has come between it and steering: its signs of life arrive, in order and once.
        leased: the store has given it the lease.
    """

    work: Work
    worker: str
    held: bool = True
    sound: bool = True
    leased: bool = False

    @property
    def key(self) -> tuple[int, int]:
        return self.work.point, self.work.attempt


@dataclass
class Life:
    """What one steering process has heard and seen.

    Attributes:
        began: when, by the monotonic clock.
        results: by point, in the order heard.
        signs: when an attempt of a worker was last heard of.
        given_up: attempts and workers that somebody has said to be gone.
        not_before: when a failed point may go out again.
        last: the last that was heard of an attempt of a worker.
    """

    began: float
    results: dict[int, list[Result]] = field(default_factory=lambda: defaultdict(list))
    signs: dict[tuple[str, int, int], float] = field(default_factory=dict)
    given_up: set[tuple[int, int] | str] = field(default_factory=set)
    not_before: dict[int, float] = field(default_factory=dict)
    last: dict[tuple[str, int, int], Event] = field(default_factory=dict)


class Observer:
    """Sees every effect of steering and compares it with what must follow.

    Args:
        experiment: its config.
        store: read after each commit.
        transport: whose queue and connection it watches.
        clock: the time.
    """

    def __init__(
        self, experiment: Experiment, store: Store, transport: HazardTransport, clock: HandClock
    ) -> None:
        self._rules, self._steering = experiment.evaluation, experiment.steering
        self._constants = {m.name: m.constants for m in experiment.models}
        self._transport, self._clock = transport, clock
        self.store = store
        self.jobs: list[Job] = []
        self.points: dict[int, PointRecord] = {}
        self.ended: dict[int, PointRecord] = {}
        self.stopped: set[str] = set()
        """Models of which points were cancelled since the search had stopped."""
        self.retried: set[int] = set()
        """Points that somebody has asked to be tried again, whether or not that was heeded."""
        self._left: dict[str, set[int]] = defaultdict(set)
        """Places in the order of what a model was told that a fresh start has left empty."""
        self._errors: dict[int, int] = {}
        """How often a point had failed with an error when it got its last fresh start."""
        self._life = Life(clock.now)

    # ------------------------------------------------------------ what steering does

    def began(self) -> None:
        """A steering process begins; it knows what the store says, and nothing else."""
        self._life = Life(self._clock.now)

    def heard(self, event: Event) -> None:
        life, now = self._life, self._clock.now
        if isinstance(event, Started | Result):
            life.last[event.worker, event.point, event.attempt] = event
        match event:
            case Result():
                life.results[event.point].append(event)
                if event.failure is not None and event.failure.kind == "lost":
                    life.given_up.add((event.point, event.attempt))
            case Started():
                life.signs[event.worker, event.point, event.attempt] = now
            case Hello() | Heartbeat():
                for point, attempt in event.running:
                    life.signs[event.worker, point, attempt] = now
                    life.last[event.worker, point, attempt] = event
            case Bye():
                life.given_up.add(event.worker)
            case _:
                pass

    def forsaken(self, worker: str) -> None:
        """Steering was told that a worker process of its own machine has ended."""
        self._life.given_up.add(worker)

    def wrote(self) -> None:
        """A commit is durable."""
        before, self.points = self.points, {p.id: p for p in self.store.points()}
        for number in self.retried & self.ended.keys():
            if self.points[number].told != self.ended[number].told:
                self._a_fresh_start_forgets_a_failure(self.ended.pop(number), self.points[number])
        self._what_has_ended_never_changes_again()
        for record in self.points.values():
            earlier = before.get(record.id)
            if earlier != record:
                self._changed(earlier, record)
        self._told_numbers_have_no_gaps()
        self._a_search_proposes_no_more_than_it_may()
        for job in self.jobs:
            self._a_healthy_attempt_goes_on(job)

    def settling(self, event: Event) -> None:
        """An event is being acknowledged: what it says must be in the store."""
        if not isinstance(event, Started | Result):
            return
        record = self.points[event.point]
        if record.state in ENDED or self._may_follow(record):
            return
        if isinstance(event, Started):
            assert record.attempts >= event.attempt, f"acknowledged and not in the store: {event}"
            return
        assert self.values(event) is None, f"acknowledged and not in the store: {event}"
        key = event.worker, event.point, event.attempt
        holder = record.state == "running" and (record.worker, record.id, record.attempts) == key
        assert not holder or self._life.last[key] != event, (
            f"acknowledged, and its attempt still runs: {event}"
        )

    def rejected(self, event: Event) -> None:
        raise AssertionError(f"a good event was sent to the dead letters: {event}")

    def controlled(self, message: Control) -> None:
        if isinstance(message, Cancel):
            for point in message.points:
                assert self.points[point].state in ENDED, f"cancelled before its commit: {message}"
        elif isinstance(message, Stop) and self.points[message.point].state not in ENDED:
            for job in self.jobs:
                meant = job.key == (message.point, message.attempt) and message.worker in (None, job.worker)
                assert not (meant and job.sound and job.leased), f"a healthy attempt is stopped: {message}"

    def published(self, work: Work) -> None:
        """Nothing is published before its commit, nor while somebody has the lease."""
        record = self.points.get(work.point)
        assert record is not None, f"published before its commit: {work}"
        assert (record.state, record.attempts + 1) == ("queued", work.attempt), (
            f"published, but the store says {record.state}, {record.attempts} attempts: {work}"
        )
        assert (work.model, work.iteration) == (record.model, record.iteration)
        assert work.params == {**record.params, **self._constants[record.model]}
        due = self._life.not_before.get(work.point, 0.0)
        assert self._clock.now >= due, f"tried again {due - self._clock.now:g} s too early: {work}"

    # ------------------------------------------------------------ one point

    def _changed(self, before: PointRecord | None, record: PointRecord) -> None:
        if record.state in ENDED:
            self.ended[record.id] = record
        if before is None:
            before = replace(record, state="queued", attempts=0, lost=0, forgiven=0, worker=None)
        if record.lost > before.lost:
            self._a_lease_expires_only_in_silence_that_could_be_heard(before, record)
        if record.state == "queued" and _tried(record) > _tried(before):
            self._life.not_before[record.id] = self._clock.now + self._rules.retry_delay_s
        if record.state not in ENDED:
            return
        if record.duplicate_of is not None:
            self._a_duplicate_takes_over_what_became_of_the_other(record)
        elif record.state == "done":
            self._the_first_value_that_arrived_counts(record)
        else:
            self._a_failure_is_what_a_worker_reported(before, record)

    def _what_has_ended_never_changes_again(self) -> None:
        for number, record in self.ended.items():
            assert self.points[number] == record, f"point {number} had ended"

    def _a_fresh_start_forgets_a_failure(self, ended: PointRecord, record: PointRecord) -> None:
        assert ended.failure is not None, f"a point that had not failed gets a fresh start: {ended}"
        assert ended.failure.kind != "cancelled", f"nothing had failed: {ended}"
        fresh = (record.state, record.failure, record.told, record.lost, record.duplicate_of)
        assert fresh == ("queued", None, None, 0, None), f"no fresh start: {record}"
        assert record.attempts == record.forgiven == ended.attempts, f"not all is forgiven: {record}"
        assert (record.params, record.hash, record.iteration) == (ended.params, ended.hash, ended.iteration)
        self._left[record.model].add(ended.told or 0)
        self.stopped.discard(record.model)  # without that failure its patience may not be spent
        self._errors[record.id] = self._count_errors(record.id)
        self._life.results.pop(record.id, None)
        self._life.not_before.pop(record.id, None)

    def _told_numbers_have_no_gaps(self) -> None:
        told: dict[str, list[int]] = defaultdict(list)
        for record in self.points.values():
            assert (record.told is not None) == (record.state in ENDED), record
            if record.told is not None:
                told[record.model].append(record.told)
        for model, numbers in told.items():
            left = self._left[model]
            assert len(set(numbers)) == len(numbers), f"told of {model}: {numbers}"
            assert {*range(1, max(numbers) + 1)} <= {*numbers, *left}, (
                f"told of {model}: {numbers}, left: {left}"
            )

    def _a_search_proposes_no_more_than_it_may(self) -> None:
        numbers: dict[str, list[int]] = defaultdict(list)
        for record in self.points.values():
            numbers[record.model].append(record.number)
        for model, found in numbers.items():
            assert found == list(range(len(found))), f"points of {model}: {found}"
            if self._steering.max_points is not None:
                assert len(found) <= self._steering.max_points
            if self._steering.duplicates == "forbid":
                hashes = {p.hash for p in self.points.values() if p.model == model}
                assert len(hashes) == len(found), f"{model} proposed a point twice"

    def _a_healthy_attempt_goes_on(self, job: Job) -> None:
        record = self.points[job.work.point]
        mine = (record.state, record.worker, record.attempts) == ("running", job.worker, job.work.attempt)
        if job.leased and job.sound:
            assert mine or record.state == "done", f"a healthy attempt was given up: {job}, {record}"
        job.leased = mine and not job.held

    def _a_lease_expires_only_in_silence_that_could_be_heard(
        self, before: PointRecord, record: PointRecord
    ) -> None:
        life = self._life
        rows = [a for a in self.store.attempts(record.id) if a.outcome == "lost"]
        if not rows:
            return  # its late result has come in the same commit
        lost = rows[-1]
        if lost.worker in life.given_up or (record.id, lost.attempt) in life.given_up:
            return
        assert self._transport.connected, f"the lease of {before} expired while the broker was away"
        assert not self._transport.unread, f"the lease of {before} expired before all events were read"
        sign = life.signs.get((lost.worker or "", record.id, lost.attempt), life.began)
        silent_s = self._clock.now - max(sign, life.began)
        assert silent_s > self._rules.lease_s, f"the lease of {before} expired after {silent_s:g} s"

    def _the_first_value_that_arrived_counts(self, record: PointRecord) -> None:
        written = [r for r in self._life.results[record.id] if self.values(r) is not None]
        assert written, f"nobody wrote the values of {record}"
        welcome = written if self._is_shared(record) else written[:1]
        found = (record.values, record.metrics, record.worker)
        assert found in [(self.values(r), r.metrics, r.worker) for r in welcome], f"{record}: {welcome}"

    def _a_failure_is_what_a_worker_reported(self, before: PointRecord, record: PointRecord) -> None:
        assert record.failure is not None
        results = self._life.results[record.id]
        kind, text = record.failure.kind, record.failure.message
        if kind == "lost":
            assert record.lost >= self._rules.max_lost, f"set aside before its bound: {record}"
            return
        gone = kind == "cancelled" and text.startswith("its worker is gone")
        if gone or (kind == "cancelled" and text.startswith("the search has stopped")):
            taken = before.state == "running" and record.lost == before.lost
            assert gone or not taken, f"cancelled while it ran: {record}"
            self.stopped.add(record.model)
            return
        if not self._is_shared(record):
            self._no_value_was_there_before(record, kind)
        kinds = [r.failure.kind if r.failure is not None else "error" for r in results]
        assert kind in kinds, f"nobody reported the failure of {record}"
        if kind == "error":
            self._lost_attempts_count_not_against_the_point(record)

    def _no_value_was_there_before(self, record: PointRecord, kind: str) -> None:
        for result in self._life.results[record.id]:
            assert self.values(result) is None, f"{record} failed though it had a value"
            if (result.failure.kind if result.failure is not None else "error") == kind:
                return

    def _lost_attempts_count_not_against_the_point(self, record: PointRecord) -> None:
        errors = self._count_errors(record.id) - self._errors.get(record.id, 0)
        assert errors <= self._rules.max_attempts
        if self._rules.max_retries is None and not self._stops_early:
            assert errors == self._rules.max_attempts, f"{record} was given up after {errors} errors"

    def _count_errors(self, point: int) -> int:
        return sum(a.outcome == "error" for a in self.store.attempts(point))

    @property
    def _stops_early(self) -> bool:
        rules = self._steering
        return any(rule is not None for rule in (rules.target, rules.patience, rules.max_time_s))

    def _a_duplicate_takes_over_what_became_of_the_other(self, record: PointRecord) -> None:
        assert self._steering.duplicates != "replicate"
        other = self.points[record.duplicate_of or 0]
        assert (other.model, other.hash, other.values) == (record.model, record.hash, record.values)
        assert (other.failure and other.failure.kind) == (record.failure and record.failure.kind)
        assert (other.told or 0) < (record.told or 0)

    def _is_shared(self, record: PointRecord) -> bool:
        """Whether another point has the same parameters and may be evaluated in its stead."""
        return self._steering.duplicates == "reuse" and any(
            (p.model, p.hash) == (record.model, record.hash) and p.id != record.id
            for p in self.points.values()
        )

    def _may_follow(self, record: PointRecord) -> bool:
        return self._is_shared(record)

    def values(self, result: Result) -> dict[str, float] | None:
        """The objective, if a result has it."""
        metrics = result.metrics or {}
        return {"loss": metrics["loss"]} if "loss" in metrics else None

    # ------------------------------------------------------------ after a step

    def check(self, loop: SteeringLoop, host: RecordingHost) -> None:
        """Steering has taken a step and written it down."""
        self._loop_and_store_count_the_same(loop)
        self._the_algorithms_were_told_what_the_store_says(loop, host)
        for model in self.stopped:
            tuned = loop.models[model]
            assert tuned.search.cut or tuned.ended is not None, (
                f"points of {model} were cancelled, but it goes on"
            )

    def _loop_and_store_count_the_same(self, loop: SteeringLoop) -> None:
        failed: dict[str, int] = defaultdict(int)
        states: dict[str, int] = defaultdict(int)
        duplicates = 0
        for record in self.points.values():
            states[record.state] += 1
            if record.failure is not None:
                failed[record.failure.kind] += 1
            duplicates += record.state == "done" and record.duplicate_of is not None
        counts = Counts(states["queued"], states["running"], states["done"], dict(failed), duplicates)
        assert loop.counts == counts
        assert len(loop.book.running()) == counts.running

    def _the_algorithms_were_told_what_the_store_says(self, loop: SteeringLoop, host: RecordingHost) -> None:
        for model, heard in host.heard.items():
            if loop.models[model].ended is not None:
                continue  # an algorithm that is done with is not restored
            tells = [each[1:] for each in heard if each[0] == "tell"]
            assert tells == history(self.points.values(), model), f"{model} was told {tells}"

    def the_asks_are_those_in_the_store(self, loop: SteeringLoop, host: RecordingHost) -> None:
        """Each iteration is an ask, at the place among the tells where the store has it."""
        for model, heard in host.heard.items():
            if loop.models[model].ended is not None:
                continue
            asks, told = [], 0
            for each in heard:
                told += each[0] == "tell"
                if each[0] == "ask":
                    asks.append((each[1], told))
            used = {p.told for p in self.points.values() if p.model == model}
            left = self._left[model] - used  # the last place is used again if no ask has come after it
            iterations = self.store.iterations(model)
            recorded = [(i.wanted, i.told - sum(place <= i.told for place in left)) for i in iterations]
            assert asks[: len(recorded)] == recorded, f"{model} was asked {asks}, the store has {recorded}"
            assert len(asks) <= len(recorded) + 1  # the last may not be answered yet

    # ------------------------------------------------------------ at the end

    def every_point_has_ended_once(self) -> None:
        """And there are exactly as many as the stop rules want."""
        self.wrote()
        assert all(p.state in ENDED for p in self.points.values())
        retries: dict[int, int] = {}
        for model in self.store.models():
            points = [p for p in self.points.values() if p.model == model.name]
            iterations = self.store.iterations(model.name)
            assert model.ended is not None
            assert sum(i.size for i in iterations) == len(points)
            assert all(i.size <= i.wanted for i in iterations)
            if model.ended.startswith("max_points"):
                assert len(points) == self._steering.max_points
            if model.ended.startswith("max_iterations"):
                assert len(iterations) == self._steering.max_iterations
            if self._steering.duplicates == "reuse":
                own = [p.hash for p in points if p.state == "done" and p.duplicate_of is None]
                assert len(own) == len(set(own)), f"a point of {model.name} was evaluated twice"
            retries |= {p.id: max(_tried(p) - 1, 0) for p in points}
        if self._rules.max_retries is not None:
            assert sum(retries.values()) <= self._rules.max_retries


def history(points: Iterable[PointRecord], model: str) -> list[tuple[Any, ...]]:
    """What the algorithm of a model was told, as the store has it: number and values, or kind of failure."""
    ended = sorted((p for p in points if p.model == model and p.told is not None), key=lambda p: p.told or 0)
    return [(p.number, p.failure.kind if p.failure is not None else dict(p.values or {})) for p in ended]


def _tried(record: PointRecord) -> int:
    return record.attempts - record.lost - record.forgiven
