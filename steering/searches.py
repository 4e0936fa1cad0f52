"""The searches of an experiment's models: asks, iterations, and what becomes of points.

This is the side of the loop that faces the algorithms; `steering.loop` faces the workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from hpo_steer import faults
from hpo_steer.algorithm import Failure
from hpo_steer.messages import Cancel
from steering.asks import Asks
from steering.book import Book, Ended, LivePoint, observation, steps
from steering.budget import budget_of
from steering.curves import pruned_curves
from steering.failures import Ending, FailureNotices
from steering.hosts import AlgorithmHost, Opening, Proposal
from steering.look_ahead import LookAhead
from steering.search import ModelSearch
from steering.store.base import IterationRecord, Origin, PointRecord
from steering.tuned import Tuned
from steering.words import plural

if TYPE_CHECKING:
    from hpo_steer.config import Experiment, Model
    from steering.clock import Clock
    from steering.fleet import Fleet
    from steering.ledger import Ledger, Notify
    from steering.store.base import Transaction

_MODELS_NAMED = 10
"""With more models than this, each one's iterations are no news."""
_SAID_OF_THE_POINT = ("invalid", "error", "timeout", "pruned")
"""Failures that say something about the parameters; a point lost or cancelled was merely unlucky."""
_NO_ENDING = Ending()


class Searches:
    """All models of an experiment, each with its search and its algorithm.

    Args:
        experiment: its config.
        run: id of the run.
        openings: what each model's algorithm was made from, with the host it was opened in.
        book: the points on their way.
        ledger: takes what is decided.
        fleet: whose slots are to be kept busy.
        clock: the time.
        notify: hears what happens.
        watch: told of each host that replies through a descriptor, and of the one it replaces.

    Attributes:
        models: by name.
        asks: of their algorithms.
        holding: nothing is asked for any more.
        ahead: how many points are chosen ahead of need.
        failures: says which points fail.
    """

    def __init__(
        self,
        experiment: Experiment,
        run: str,
        openings: Sequence[tuple[Model, Opening, AlgorithmHost]],
        *,
        book: Book,
        ledger: Ledger,
        fleet: Fleet,
        clock: Clock,
        notify: Notify,
        watch: Callable[[AlgorithmHost, AlgorithmHost | None], None],
    ) -> None:
        self._experiment, self._run, self._book, self._ledger = experiment, run, book, ledger
        self._clock, self._notify = clock, notify
        self.models = {
            model.name: Tuned(
                model,
                opening.space,
                host,
                ModelSearch(
                    experiment.steering,
                    experiment.goals,
                    experiment.outcomes,
                    budget_of(opening.spec, opening.space),
                ),
            )
            for model, opening, host in openings
        }
        self.asks = Asks(
            self.models,
            {model.name: opening for model, opening, _ in openings},
            experiment.steering.ask_timeout_s,
            ledger=ledger,
            clock=clock,
            notify=notify,
            watch=watch,
            proposed=self._proposed,
        )
        self.holding = False
        self.failures = FailureNotices(experiment, notify)
        self.ahead = LookAhead(experiment.steering.trigger, self.models.values(), fleet, clock)
        self._due: deque[str] = deque()

    # ------------------------------------------------------------ taking up a run

    def load(self) -> int:
        """Takes up the run where the store has it, and has the algorithms restored.

        Returns:
            How often failed points had been sent out again.
        """
        ends = {m.name: m.ended for m in self._ledger.store.models()}
        retries = 0
        taken_up = []
        for name, tuned in self.models.items():
            points = self._ledger.store.points(model=name)
            retries += sum(max(_tries(p) - (p.state != "queued"), 0) for p in points)
            self._take_up(points)
            tuned.ended = ends.get(name)
            taken_up.append((tuned, points))
        # only now, as it may ask: a new point's id is above all that there are
        for tuned, points in taken_up:
            self._rebuild(tuned, points)
            self._take_over_known(points)
        return retries

    def _take_up(self, points: Sequence[PointRecord]) -> None:
        """Notes every point; those that have not ended wait, run, or follow again."""
        now = self._clock.monotonic()
        leaders: dict[str, LivePoint] = {}
        taken_over = {p.id: p.duplicate_of for p in points if p.duplicate_of is not None}
        reuse = self._reuse
        for record in points:
            self._book.remember(record)
            if record.state in ("done", "failed"):
                if _unlucky(record.failure):
                    self._book.pass_over(record)
                continue
            origin = None if record.parent is None else taken_over.get(record.parent, record.parent)
            live = LivePoint(
                record, attempts=record.attempts, lost=record.lost, forgiven=record.forgiven, origin=origin
            )
            self._book.add(live)
            leader = leaders.setdefault(record.hash, live) if reuse else live
            if leader is not live and record.state == "queued":
                self._follow(live, leader)
            elif record.state == "running":
                live.worker, live.started_at = record.worker, record.started_at
                live.started = live.heard = now
                self._book.run(live)
            else:
                self._ledger.publish[live.record.id] = live
        for record in points:
            if record.state == "done" and record.duplicate_of is None:
                self._book.lead(record)

    def _take_over_known(self, points: Sequence[PointRecord]) -> None:
        """Queued points equal to one that has a value take it over: they had failed and got a fresh start."""
        known = (
            {r.hash: r for r in points if r.state == "done" and r.duplicate_of is None} if self._reuse else {}
        )
        for record in points:
            live = self._book.get(record.id) if record.hash in known else None
            if live is not None and live.state == "queued" and live.follows is None:
                self._ledger.publish.pop(record.id, None)
                self._take_over(live, known[record.hash])

    @property
    def _reuse(self) -> bool:
        """Whether equal points are evaluated once."""
        return self._experiment.steering.duplicates != "replicate"

    def _rebuild(self, tuned: Tuned, points: list[PointRecord]) -> None:
        """Repeats the model's history for its search and its algorithm, then what was told after the last ask."""
        name, search = tuned.model.name, tuned.search
        iterations = self._ledger.store.iterations(name)
        ended = Ended(points)
        for iteration in iterations:
            if iteration.origin == "known":
                for record in ended.between(0, iteration.size):
                    search.know(record.values, record.params)
                continue
            for record in ended.between(search.told, iteration.told):
                search.end_point(record.iteration, record.values, record.params)
            search.told = iteration.told
            search.begin_iteration(iteration.size)
            tuned.last_ask_s = iteration.ask_s
            if iteration.origin == "algorithm":
                self.ahead.answered(iteration.ask_s)
        if tuned.ended is not None:  # but a failed point of it may get a fresh start
            for record in ended.between(search.told):
                search.end_point(record.iteration, record.values, record.params)
                search.told = record.told or search.told
            return
        if iterations:
            curves = pruned_curves(self._ledger.store, points)
            tuned.host.restore(name, [step for step, _ in steps(iterations, points, curves)])
        for record in ended.between(search.told):
            if record.duplicate_of is None:  # duplicates are told together with what they duplicate
                self._consider(tuned)
            self._tell(tuned, record)
            search.told = record.told or search.told
        self._consider(tuned)

    # ------------------------------------------------------------ asking

    def run_due(self) -> None:
        """Asks for the iterations that are due.

        Call it after every event: when an ask goes out must not depend on how many events were read at once.
        """
        while self._due:
            self._consider(self.models[self._due.popleft()])

    def _consider(self, tuned: Tuned) -> None:
        """Asks for the next iteration if it is due."""
        n = 0 if self.holding or tuned.ended else tuned.search.wanted(self.ahead.spare(tuned))
        if n:
            self.asks.ask(tuned, n)
        elif tuned.search.stopped is not None:
            self.wind_down(tuned)

    def _proposed(self, proposal: Proposal, origin: Origin) -> None:
        """Writes an iteration down and sends its points out."""
        tuned = self.models[proposal.model]
        search = tuned.search
        tuned.last_ask_s = proposal.ask_s
        if origin == "algorithm":
            self.ahead.answered(proposal.ask_s)
        size = len(proposal.points)
        if size:
            hashes = [tuned.space.hash(point.params, point.parent) for point in proposal.points]
            if any(self._book.first(proposal.model, each) is not None for each in hashes):
                self._ledger.commit()  # what they may take over is read from the store
            now = self._clock.time()
            iteration = IterationRecord(
                proposal.model,
                search.iterations + 1,
                search.wanted_at_ask,
                size,
                search.told_at_ask,
                now - proposal.ask_s,
                proposal.ask_s,
                origin,
                proposal.note,
            )
            records = self._records(proposal, iteration.number, hashes, now)
            self._ledger.add(lambda tx: tx.add_iteration(iteration, records))
            self._ledger.count(queued=size)
            faults.reached("steering.proposed")
        search.begin_iteration(size, proposal.ended)
        if proposal.note and len(self.models) <= _MODELS_NAMED:
            self._notify("algorithm", f"{_of(tuned, self.models)}{proposal.note}")
        if size and len(self.models) <= _MODELS_NAMED:
            self._notify(
                "iteration",
                f"{_of(tuned, self.models)}iteration {search.iterations}: {plural(size, 'point')}",
            )
        if size:
            for record in records:
                self._send_out(record)
        self._due.append(proposal.model)

    def _records(
        self, proposal: Proposal, iteration: int, hashes: Sequence[str], now: float
    ) -> list[PointRecord]:
        """What is written down of new points; one may continue another of the same iteration."""
        ids = {point.id: self._book.next_id() for point in proposal.points}
        model = proposal.model
        return [
            PointRecord(
                ids[point.id],
                model,
                point.id,
                iteration,
                point.params,
                hash_,
                created_at=now,
                parent=None
                if point.parent is None
                else ids.get(point.parent) or self._book.id_of(model, point.parent),
            )
            for point, hash_ in zip(proposal.points, hashes, strict=True)
        ]

    def _send_out(self, record: PointRecord) -> None:
        """A new point waits for a worker, or takes over what becomes (or became) of an equal one."""
        live = LivePoint(record, origin=self._origin(record.parent))
        first = self._book.remember(record)
        self._book.add(live)
        if first is None or not self._reuse:
            self._ledger.publish[live.record.id] = live
            return
        leader = self._book.get(first)
        if leader is not None:
            self._follow(live, leader)
            return
        (known,) = self._ledger.store.points(ids=[first])
        self._take_over(live, known)

    def _origin(self, parent: int | None) -> int | None:
        """The point that has a parent's checkpoint: itself, unless it took the values of an equal one over."""
        if parent is None:
            return None
        live = self._book.get(parent)
        if live is not None:
            return live.follows or parent
        self._ledger.commit()  # it may have ended a moment ago
        (record,) = self._ledger.store.points(ids=[parent])
        return record.duplicate_of or parent

    def _follow(self, live: LivePoint, leader: LivePoint) -> None:
        live.follows = leader.record.id
        leader.followers.append(live)

    def _take_over(self, live: LivePoint, known: PointRecord) -> None:
        outcome: dict[str, float] | Failure = known.failure or dict(known.values or {})
        self.end_point(live, outcome, metrics=known.metrics, duplicate_of=known.id)

    # ------------------------------------------------------------ ends

    def end_point(
        self,
        point: LivePoint,
        outcome: dict[str, float] | Failure,
        *,
        metrics: Mapping[str, float] | None = None,
        ending: Ending = _NO_ENDING,
        duplicate_of: int | None = None,
    ) -> None:
        """A point has ended for good: write it down, tell its algorithm, see what is due."""
        tuned = self.models[point.record.model]
        failure = outcome if isinstance(outcome, Failure) else None
        record = replace(
            point.record,
            state="failed" if failure else "done",
            values=None if isinstance(outcome, Failure) else outcome,
            metrics=metrics,
            failure=failure,
            attempts=point.attempts,
            lost=point.lost,
            forgiven=point.forgiven,
            worker=ending.worker,
            started_at=ending.started_at,
            ended_at=max(self._clock.time(), ending.started_at or 0.0),
            duration_s=ending.duration_s,
            told=tuned.search.told + 1,
            duplicate_of=duplicate_of,
        )
        self._book.remove(point)
        self.ahead.ended()
        self._ledger.add(lambda tx: tx.end_point(record))
        self._ledger.count(
            queued=-(point.state == "queued"),
            running=-(point.state == "running"),
            done=int(failure is None),
            failed=failure.kind if failure else None,
            duplicates=int(failure is None and duplicate_of is not None),
        )
        if failure is not None and failure.kind != "cancelled" and duplicate_of is None:
            self.failures.final(point, failure, ending)
        self._tell(tuned, record)
        self._due.append(record.model)
        if _unlucky(failure):
            self._book.pass_over(record)
        if failure is not None and failure.kind not in (*_SAID_OF_THE_POINT, "cancelled"):
            self._hand_over(point.followers)
            return
        for follower in point.followers:
            follower.follows = None
            self._take_over(follower, record)

    def _hand_over(self, followers: list[LivePoint]) -> None:
        """The point that they follow was unlucky: the first of them is evaluated, and the others follow it."""
        for leader in followers[:1]:
            leader.follows = None
            self._book.remember(leader.record)
            self._ledger.publish[leader.record.id] = leader
            for follower in followers[1:]:
                self._follow(follower, leader)

    def _tell(self, tuned: Tuned, record: PointRecord) -> None:
        curve = None
        if record.failure is not None and record.failure.kind == "pruned":
            self._ledger.commit()  # its reports are read from the store, as they are when the history is repeated
            curve = pruned_curves(self._ledger.store, [record]).get(record.id)
        tuned.host.tell(tuned.model.name, [observation(record, curve)])
        if tuned.search.end_point(record.iteration, record.values, record.params) and record.values:
            self._notify("best", f"point {record.id}")

    def retry(self, points: Sequence[int]) -> int | None:
        """Gives failed points a fresh start; those that have not failed are left alone.

        The algorithm is set back to the history without their failures: each observation is told once.

        Returns:
            How many it were; None if an algorithm is choosing points at this moment, so that it must wait.
        """
        self._ledger.commit()
        known = self._ledger.store.points(ids=points)
        failed = [
            p for p in known if p.failure is not None and p.failure.kind != "cancelled" and p.iteration > 0
        ]
        concerned = {record.model: self.models[record.model] for record in failed}
        if any(tuned.search.asking for tuned in concerned.values()):
            return None
        for record in failed:
            self._reopen(concerned[record.model], record)
        for name, tuned in concerned.items():
            tuned.ended = None
            self._ledger.add(partial(_reopen_model, model=name))
        self._ledger.commit()
        for name, tuned in concerned.items():
            self.asks.repeat(tuned, name)
            self._take_over_known(self._ledger.store.points(model=name))
            self._due.append(name)
        return len(failed)

    def _reopen(self, tuned: Tuned, record: PointRecord) -> None:
        fresh = replace(record, state="queued", failure=None, told=None, duplicate_of=None, ended_at=None)
        origin = self._origin(record.parent)
        live = LivePoint(fresh, attempts=record.attempts, forgiven=record.attempts, origin=origin)
        tuned.search.reopen_point(record.iteration)
        self._ledger.add(lambda tx: tx.reopen_point(record.id))
        self._ledger.reopen((record.failure or Failure("error")).kind)
        first = self._book.remember(record)
        leader = None if first is None else self._book.get(first)
        self._book.add(live)
        if leader is not None and self._reuse:
            self._follow(live, leader)
        else:
            self._book.lead(record)
            self._ledger.publish[record.id] = live

    def cut(self, point: LivePoint) -> bool:
        """Whether a point that no worker has is of no use any more, as its search has stopped.

        One that somebody has asked for again is wanted all the same.
        """
        return self.models[point.record.model].search.cut and not point.forgiven

    def wind_down(self, tuned: Tuned) -> None:
        """A model's search has stopped: what no worker has begun is cancelled, and when all is in, it is over."""
        if tuned.ended is not None:
            return
        reason = tuned.search.stopped or ""
        if tuned.search.cut:
            self._cancel_queued(tuned, reason)
        if tuned.search.over:
            tuned.ended = reason
            self._ledger.add(lambda tx: tx.end_model(tuned.model.name, reason))
            if 1 < len(self.models) <= _MODELS_NAMED:
                self._notify("ended", f"model {tuned.model.name}: {reason}")

    def _cancel_queued(self, tuned: Tuned, reason: str) -> None:
        queued = [point for point in self._book.queued(tuned.model.name) if self.cut(point)]
        if queued:
            numbers = [p.record.id for p in queued]
            self._ledger.controls.append(
                Cancel(experiment=self._experiment.name, run=self._run, points=numbers)
            )
            for point in queued:
                self.end_point(point, Failure("cancelled", f"the search has stopped: {reason}"))

    @property
    def over(self) -> bool:
        """Whether every model's search is over."""
        return not self._due and all(tuned.ended is not None for tuned in self.models.values())


def _reopen_model(tx: Transaction, *, model: str) -> None:
    tx.end_model(model, None)
    tx.set_run(ended=None)


def _tries(record: PointRecord) -> int:
    """Attempts that count against a point."""
    return record.attempts - record.lost - record.forgiven


def _unlucky(failure: Failure | None) -> bool:
    """Whether a failure says nothing about the parameters."""
    return failure is not None and failure.kind not in _SAID_OF_THE_POINT


def _of(tuned: Tuned, models: Mapping[str, Tuned]) -> str:
    return f"{tuned.model.name}: " if len(models) > 1 else ""
