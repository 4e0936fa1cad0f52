"""What every store must do, as tests: subclass `StoreContract` and give it a `place`.

class TestMine(StoreContract):
    @pytest.fixture
    def place(self): return Place(my_store)
"""

# ruff: noqa: D102, S101 - tests
from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.algorithm import Failure
from hpo_steer.errors import LockLost, NoSuchRun, RunLocked, StoreError
from steering.store.base import (
    AttemptRecord,
    Condition,
    Counts,
    IterationRecord,
    ModelRecord,
    PointRecord,
    ReportRecord,
    RunRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from steering.store.base import Store

RUN = RunRecord("digits", "a1b2", {"name": "digits", "seed": 1, "x": [1, 1.0, None, "ä"]}, 1700000000.25)
ODD_PARAMS: dict[str, Any] = {
    "small": 1e-300,
    "tenth": 0.1,
    "one": 1,
    "one_float": 1.0,
    "large": 1e22,
    "negative_zero": -0.0,
    "flag": True,
    "none": None,
    "text": "µ ☃ 😀 \x00 \" ' \\",
}


@dataclass(frozen=True)
class Place:
    """Where the stores of one test lie.

    Attributes:
        open: opens a store by name (with ``create`` and ``read_only``); every call makes another handle.
        take_over: makes the fence of all runs move on, as another writer does that got the lock; None where
            only this process can open the store.
    """

    open: Callable[..., Store]
    take_over: Callable[[], None] | None = None


def point(number: int, model: str = "m0", **changes: Any) -> PointRecord:
    """A new point whose id is `number` and one more than its algorithm's."""
    fresh = PointRecord(number, model, number - 1, 1, {"eta": 0.1 * number}, f"{number:032x}", created_at=5.5)
    return replace(fresh, **changes)


def iteration(size: int, model: str = "m0", number: int = 1) -> IterationRecord:
    """An iteration of so many points."""
    return IterationRecord(model, number, size, size, 0, 1700000001.125, 0.25)


def done(of: PointRecord, **changes: Any) -> PointRecord:
    """The same point, ended with a value."""
    values = {"loss": 0.5}
    return replace(of, **{"state": "done", "values": values, "metrics": {**values, "acc": 1.0}, **changes})


class StoreContract:
    """Tests of one kind of store."""

    @pytest.fixture
    def place(self) -> Place:
        """Where the stores lie; to be overridden."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, place: Place) -> Iterator[Store]:
        """A locked store with one model and nothing in it."""
        store = place.open("digits", create=True)
        try:
            store.lock("here, process 1")
            store.create(RUN, [ModelRecord("m0", 0)])
            yield store
        finally:
            store.close()

    @pytest.fixture
    def reader(self, place: Place, store: Store) -> Iterator[Store]:
        """A second handle that only reads."""
        assert store is not None
        reader = place.open("digits", create=False, read_only=True)
        try:
            yield reader
        finally:
            reader.close()

    # ------------------------------------------------------------ the run

    def test_a_run_comes_back_as_it_was_written(self, store: Store, reader: Store) -> None:
        for one in (store, reader):
            assert one.run() == RUN
            assert one.models() == [ModelRecord("m0", 0)]
            assert one.counts() == Counts()
            assert not any((one.points(), one.iterations(), one.attempts(), one.reports(1)))

    def test_a_new_store_has_no_run(self, place: Place) -> None:
        store = place.open("digits", create=True)
        try:
            assert store.run() is None
            with pytest.raises(NoSuchRun, match="digits"):
                store.points()
        finally:
            store.close()

    def test_what_was_never_made_is_not_opened(self, place: Place) -> None:
        for read_only in (False, True):
            with pytest.raises(NoSuchRun, match="nothing"):
                place.open("nothing", create=False, read_only=read_only)

    def test_a_second_run_of_one_name_is_refused(self, store: Store) -> None:
        with pytest.raises(StoreError, match="digits"):
            store.create(RUN, [ModelRecord("m0", 0)])
        assert store.run() == RUN

    def test_a_run_made_before_the_lock_can_be_locked_and_written(self, place: Place) -> None:
        store = place.open("digits", create=True)
        try:
            store.create(RUN, [ModelRecord("m0", 0)])
            with pytest.raises(RuntimeError, match="lock"), store.transaction():
                pass
            store.lock("here")
            with store.transaction() as transaction:
                transaction.set_run(elapsed_s=1.5)
            assert store.run() == replace(RUN, elapsed_s=1.5)
        finally:
            store.close()

    def test_an_end_is_written_and_taken_back(self, store: Store) -> None:
        with store.transaction() as transaction:
            transaction.set_run(elapsed_s=12.5, ended="max_points reached")
        ended = store.run()
        assert ended is not None
        assert (ended.elapsed_s, ended.ended) == (12.5, "max_points reached")
        assert ended.ended_at is not None
        with store.transaction() as transaction:
            transaction.set_run(ended=None, config={"seed": 2})
        assert store.run() == replace(RUN, elapsed_s=12.5, config={"seed": 2})

    def test_three_hundred_models_and_more(self, store: Store, reader: Store) -> None:
        assert reader.models() == [ModelRecord("m0", 0)]
        store.add_models([ModelRecord(f"slice 0.{n:03}_η", n) for n in range(1, 301)])
        with store.transaction() as transaction:
            transaction.end_model("slice 0.300_η", "converged")
            transaction.end_model("m0", "done")
            transaction.add_iteration(iteration(1, "slice 0.007_η"), [point(1, "slice 0.007_η")])
        assert reader.points()[0].model == "slice 0.007_η"
        models = reader.models()
        assert [model.number for model in models] == list(range(301))
        assert (models[0].ended, models[1].ended, models[300].ended) == ("done", None, "converged")
        with store.transaction() as transaction:
            transaction.end_model("m0", None)
        assert reader.models()[0].ended is None
        with pytest.raises(StoreError, match="no model named"), store.transaction() as transaction:
            transaction.end_model("m1", None)

    def test_a_run_is_deleted_whole_and_can_be_made_again(self, store: Store) -> None:
        self._fill(store)
        store.delete()
        assert store.run() is None
        store.delete()
        store.create(replace(RUN, run="c3"), [ModelRecord("other", 0)])
        assert not any((store.points(), store.iterations(), store.attempts(), store.reports(1)))
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(1, "other"), [point(1, "other")])
        assert [p.model for p in store.points()] == ["other"]

    def test_a_run_is_deleted_without_the_lock_unless_another_has_it(
        self, place: Place, store: Store
    ) -> None:
        second = place.open("digits", create=False)
        try:
            with pytest.raises(RunLocked):
                second.delete()
            assert store.run() == RUN
            store.close()
            second.delete()
            assert second.run() is None
        finally:
            second.close()

    # ------------------------------------------------------------ one writer

    def test_a_second_lock_is_refused_and_names_the_first(self, place: Place, store: Store) -> None:
        second = place.open("digits", create=False)
        try:
            with pytest.raises(
                RunLocked, match=r"digits is already being run by here, process 1, since \d\d:\d\d"
            ):
                second.lock("there, process 2")
            store.close()
            second.lock("there, process 2")
            with second.transaction() as transaction:
                transaction.set_run(elapsed_s=2.0)
        finally:
            second.close()

    def test_who_steers_can_be_seen_by_all(self, place: Place, store: Store, reader: Store) -> None:
        for one in (store, reader):
            owner = one.owner()
            assert owner is not None
            assert owner.name == "here, process 1"
            assert owner.since > RUN.created_at
        store.close()
        again = place.open("digits", create=False)
        try:
            assert again.owner() is None
            again.lock("there, process 2")
            second = again.owner()
            assert second is not None
            assert second.name == "there, process 2"
        finally:
            again.close()

    def test_the_condition_is_written_and_read(self, store: Store, reader: Store) -> None:
        fleet = ({"worker": "gpu-1-abc", "state": "quarantined", "cpu": 0.5},)
        condition = Condition(1.5, "waiting: for “better” days", 2, 8, fleet)
        with store.transaction() as transaction:
            transaction.set_run(condition=condition)
        assert reader.run() == replace(RUN, condition=condition)
        with store.transaction() as transaction:
            transaction.set_run(condition=Condition(2.5), elapsed_s=3.0)
        assert reader.run() == replace(RUN, condition=Condition(2.5), elapsed_s=3.0)

    def test_the_lock_comes_before_the_run(self, place: Place) -> None:
        first, second = place.open("early", create=True), place.open("early", create=True)
        try:
            first.lock("here")
            with pytest.raises(RunLocked, match="early is already being run"):
                second.lock("there")
        finally:
            second.close()
            first.close()

    def test_locking_twice_is_once(self, store: Store) -> None:
        store.lock("here, process 1")
        with store.transaction() as transaction:
            transaction.set_run(elapsed_s=1.0)

    def test_a_deleted_run_is_not_written(self, store: Store) -> None:
        store.delete()
        with pytest.raises(NoSuchRun), store.transaction():
            pass

    def test_closing_twice_is_closing_once(self, store: Store) -> None:
        store.close()
        store.close()

    # ------------------------------------------------------------ writing and reading back

    def test_every_field_of_a_point_comes_back(self, store: Store, reader: Store) -> None:
        new = [
            point(1, params=ODD_PARAMS),
            point(2, params={}),
            point(3, parent=1),
            point(4, state="done", values={"loss": 1e-300}, told=1, duplicate_of=1, ended_at=7.0),
        ]
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(4), new)
        assert reader.points() == new
        got = reader.points(ids=[1])[0].params
        assert {name: type(value) for name, value in got.items()} == {
            k: type(v) for k, v in ODD_PARAMS.items()
        }
        assert list(got) == list(ODD_PARAMS)
        assert math.copysign(1, got["negative_zero"]) == -1
        ends = [
            done(new[0], values={"loss": 0.1, "b": -1e-300}, attempts=2, lost=1, worker="h:1/ä", told=2,
                 started_at=1700000002.123456, ended_at=1700000003.1, duration_s=0.977),
            replace(new[1], state="failed", failure=Failure("error", "Traceback…\nboom"), attempts=3),
            replace(new[2], state="failed", failure=Failure("lost"), metrics={"loss": 2.0}),
        ]  # fmt: skip
        with store.transaction() as transaction:
            for end in ends:
                transaction.end_point(end)
        assert reader.points() == [*ends, new[3]]

    def test_metrics_may_be_no_numbers(self, store: Store) -> None:
        self._fill(store, points=1)
        with store.transaction() as transaction:
            metrics = {"grad": math.inf, "loss": math.nan}
            transaction.add_report(ReportRecord(1, 1, 0, metrics, 1.0))
            transaction.end_point(done(point(1), metrics=metrics))
        for got in (store.reports(1)[0].metrics, store.points()[0].metrics):
            assert got is not None
            assert got["grad"] == math.inf
            assert math.isnan(got["loss"])

    def test_text_that_no_database_takes_is_mended(self, store: Store) -> None:
        self._fill(store, points=1)
        with store.transaction() as transaction:
            transaction.end_attempt(AttemptRecord(1, 1, "w", 0, 1.0, 2.0, 1.0, "error", "a\x00b", "c\ud800d"))
            transaction.end_point(
                replace(point(1), state="failed", failure=Failure("error", "e\x00f"), worker="g\udc00")
            )
        attempt, failed = store.attempts()[0], store.points()[0]
        assert (attempt.message, attempt.log) == ("a\ufffdb", "c?d")
        assert failed.failure == Failure("error", "e\ufffdf")

    def test_iterations_come_in_the_order_of_the_config(self, store: Store) -> None:
        store.add_models([ModelRecord("a", 1)])
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(1, "a"), [point(1, "a")])
            transaction.add_iteration(iteration(1), [point(2)])
            transaction.add_iteration(replace(iteration(0, number=2), wanted=5, told=1), [])
        assert [(i.model, i.number, i.wanted, i.told) for i in store.iterations()] == [
            ("m0", 1, 1, 0), ("m0", 2, 5, 1), ("a", 1, 1, 0),
        ]  # fmt: skip
        assert store.iterations("a") == [iteration(1, "a")]

    def test_an_attempt_makes_its_point_run(self, store: Store, reader: Store) -> None:
        self._fill(store, points=2)
        begun = AttemptRecord(1, 1, "w1", 3, 10.5)
        with store.transaction() as transaction:
            transaction.start_attempt(begun)
        assert reader.points(ids=[1]) == [point(1, state="running", attempts=1, worker="w1", started_at=10.5)]
        assert reader.attempts(1) == [begun]
        ended = replace(begun, ended_at=12.0, duration_s=1.5, outcome="lost", message="gone", log="…\nlast")
        ended = replace(ended, gpus=("GPU-5f3c", "MIG-01"))
        with store.transaction() as transaction:
            transaction.end_attempt(ended)
        assert reader.attempts() == [ended]
        assert reader.points(ids=[1])[0].state == "running"
        with store.transaction() as transaction:
            transaction.requeue_point(1, 1, 1)
        requeued = reader.points(ids=[1])[0]
        assert (requeued.state, requeued.attempts, requeued.lost) == ("queued", 1, 1)

    def test_an_attempt_may_end_unstarted_and_start_late(self, store: Store) -> None:
        self._fill(store, points=1)
        ended = AttemptRecord(1, 1, "w1", 0, 1.0, 2.0, 1.0, "done")
        with store.transaction() as transaction:
            transaction.end_attempt(ended)
            transaction.end_point(done(point(1), attempts=1))
        with store.transaction() as transaction:
            transaction.start_attempt(replace(ended, ended_at=None, duration_s=None, outcome=None))
        assert store.attempts() == [ended]
        assert store.points() == [done(point(1), attempts=1)]

    def test_a_whole_life_in_one_transaction(self, store: Store) -> None:
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(1), [point(1)])
            for attempt in (1, 2):
                begun = AttemptRecord(1, attempt, f"w{attempt}", 0, 1.0 * attempt)
                transaction.start_attempt(begun)
                transaction.end_attempt(replace(begun, ended_at=9.0, outcome="lost"))
                transaction.requeue_point(1, attempt, attempt)
            transaction.start_attempt(AttemptRecord(1, 3, "w3", 0, 3.0))
        (got,) = store.points()
        assert (got.state, got.attempts, got.lost, got.worker, got.started_at) == ("running", 3, 2, "w3", 3.0)
        assert [(a.attempt, a.outcome) for a in store.attempts()] == [(1, "lost"), (2, "lost"), (3, None)]

    def test_a_point_ends_once(self, store: Store) -> None:
        self._fill(store, points=2)
        with store.transaction() as transaction:
            transaction.end_point(done(point(1)))
        wrong: list[Callable[[Any], None]] = [
            lambda t: t.end_point(done(point(1), values={"loss": 9.0})),
            lambda t: t.requeue_point(1, 1, 0),
            lambda t: t.end_point(done(point(99))),
            lambda t: t.end_point(point(2)),
        ]
        for change in wrong:
            with pytest.raises(ValueError, match="point"), store.transaction() as transaction:  # noqa: PT012
                transaction.set_run(elapsed_s=77.0)
                change(transaction)
        assert store.points() == [done(point(1)), point(2)]
        assert store.run() == RUN

    def test_a_failed_point_gets_a_fresh_start(self, store: Store, reader: Store) -> None:
        new = point(1)
        ended = replace(
            new,
            state="failed",
            failure=Failure("error", "boom"),
            attempts=3,
            lost=2,
            worker="w",
            started_at=7.0,
            ended_at=9.0,
            duration_s=2.0,
            told=1,
        )
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(1), [new])
            transaction.end_attempt(AttemptRecord(1, 3, "w", 0, 7.0, 9.0, 2.0, "error", "boom"))
            transaction.end_point(ended)
            transaction.reopen_point(1)  # in the same transaction, even
        assert reader.points() == [replace(new, attempts=3, forgiven=3)]
        assert reader.counts() == Counts(queued=1)
        assert [a.outcome for a in reader.attempts(1)] == ["error"]
        with store.transaction() as transaction:
            transaction.end_point(done(new, attempts=4, told=2, forgiven=3))
        assert reader.counts() == Counts(done=1)
        for state in ("done", "unknown"):
            with pytest.raises(ValueError, match="not in that state"), store.transaction() as transaction:
                transaction.reopen_point(1 if state == "done" else 99)

    def test_a_log_may_come_late_and_replaces_none(self, store: Store) -> None:
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(2), [point(1), point(2)])
            transaction.end_attempt(AttemptRecord(1, 1, "w", 0, 7.0, 9.0, 2.0, "lost", "gone"))
            transaction.add_log(1, 1, "last words")
        for log in ("other words", ""):
            with store.transaction() as transaction:
                transaction.add_log(1, 1, log)
                transaction.add_log(2, 7, log)  # an attempt that nobody knows
        assert [a.log for a in store.attempts()] == ["last words"]

    def test_a_later_report_of_a_step_replaces_the_first(self, store: Store) -> None:
        self._fill(store, points=2)
        with store.transaction() as transaction:
            for step in (2, 1):
                transaction.add_report(ReportRecord(1, 1, step, {"loss": 1.0 / step}, 5.0))
            transaction.add_report(ReportRecord(1, 2, 0, {}, 6.0))
            transaction.add_report(ReportRecord(2, 1, 1, {"loss": 3.0}, 7.0))
        with store.transaction() as transaction:
            transaction.add_report(ReportRecord(1, 1, 2, {"loss": 8.0}, 8.0))
            transaction.add_report(ReportRecord(1, 1, 2, {"loss": 9.0}, 9.0))
        assert store.reports(1) == [
            ReportRecord(1, 1, 1, {"loss": 1.0}, 5.0),
            ReportRecord(1, 1, 2, {"loss": 9.0}, 9.0),
            ReportRecord(1, 2, 0, {}, 6.0),
        ]

    def test_an_exception_leaves_nothing_behind(self, store: Store, reader: Store) -> None:
        self._fill(store, points=1)
        with pytest.raises(ZeroDivisionError), store.transaction() as transaction:  # noqa: PT012
            transaction.add_iteration(iteration(1, number=2), [point(2)])
            transaction.set_run(elapsed_s=5.0)
            raise ZeroDivisionError
        # One that the database refuses, half-way through.
        with pytest.raises(StoreError), store.transaction() as transaction:
            transaction.add_iteration(iteration(1, number=3), [point(3), point(1)])
        assert reader.points() == [point(1)]
        assert reader.iterations() == [iteration(1)]
        assert reader.run() == RUN
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(1, number=2), [point(2)])
        assert reader.points() == [point(1), point(2)]

    def test_counts_by_state_and_model(self, store: Store) -> None:
        store.add_models([ModelRecord("a", 1)])
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(6), [point(n) for n in range(1, 7)])
            transaction.add_iteration(iteration(2, "a"), [point(n, "a") for n in (7, 8)])
            transaction.end_point(done(point(1)))
            transaction.end_point(done(point(2), duplicate_of=1))
            for number, kind in ((3, "error"), (4, "lost"), (7, "error")):
                model = "a" if number == 7 else "m0"
                failure = Failure(kind)  # type: ignore[arg-type]
                transaction.end_point(point(number, model, state="failed", failure=failure))
            transaction.start_attempt(AttemptRecord(5, 1, "w", 0, 1.0))
        assert store.counts() == Counts(2, 1, 2, {"error": 2, "lost": 1}, 1)
        assert store.counts("m0") == Counts(1, 1, 2, {"error": 1, "lost": 1}, 1)
        assert store.counts("a") == Counts(1, 0, 0, {"error": 1}, 0)

    def test_points_are_chosen_and_paged(self, store: Store) -> None:
        store.add_models([ModelRecord("a", 1)])
        own = {"m0": [1, 2, 3, 7, 8], "a": [4, 5, 6, 9]}
        with store.transaction() as transaction:
            for model, its in own.items():
                transaction.add_iteration(iteration(len(its), model), [point(n, model) for n in its])
            for number in (2, 5, 7):
                transaction.end_point(done(point(number, "a" if number == 5 else "m0")))
            transaction.start_attempt(AttemptRecord(8, 1, "w", 0, 1.0))

        def ids(**choice: Any) -> list[int]:
            return [p.id for p in store.points(**choice)]

        assert ids() == list(range(1, 10))
        assert ids(model="a") == own["a"]
        assert ids(states=["done"]) == [2, 5, 7]
        assert ids(states={"running", "queued"}, model="m0") == [1, 3, 8]
        assert ids(states=["queued"], after=3, limit=2) == [4, 6]
        assert ids(states=[]) == ids(ids=[]) == ids(limit=0) == []
        assert ids(after=7) == [8, 9]
        assert ids(after=2, limit=3) == [3, 4, 5]
        assert ids(ids=[9, 1, 4, 1, 77], model="a") == [4, 9]
        assert ids(ids=range(1, 5000), limit=2, after=1) == [2, 3]
        assert [p.id for p in store.each_point(batch=2)] == list(range(1, 10))
        assert [p.id for p in store.each_point(model="a", batch=3)] == own["a"]

    def test_a_big_batch(self, store: Store, reader: Store) -> None:
        many = [point(n) for n in range(1, 3001)]
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(len(many)), many)
            for one in many:
                transaction.end_attempt(AttemptRecord(one.id, 1, "w", 0, 1.0, 2.0, 1.0, "done"))
                transaction.end_point(done(one))
        assert reader.points() == list(map(done, many))
        assert len(reader.attempts()) == len(many)
        assert reader.points(ids=range(1, 3001)) == reader.points()

    # ------------------------------------------------------------ side by side

    def test_a_reader_sees_what_is_committed_and_nothing_else(self, store: Store, reader: Store) -> None:
        self._fill(store, points=1)
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(1, number=2), [point(2)])
            assert reader.points() == [point(1)]
        assert reader.points() == [point(1), point(2)]

    def test_readers_never_see_half_a_transaction(self, store: Store, reader: Store) -> None:
        wrong: list[int] = []
        stop = threading.Event()

        def watch() -> None:
            while not stop.is_set():
                if (total := reader.counts().total) % 10:
                    wrong.append(total)

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for number in range(30):
                with store.transaction() as transaction:
                    first = 10 * number + 1
                    new = [point(n, iteration=number + 1) for n in range(first, first + 10)]
                    transaction.add_iteration(iteration(10, number=number + 1), new)
        finally:
            stop.set()
            watcher.join()
        assert wrong == []
        assert reader.counts() == Counts(queued=300)

    def _fill(self, store: Store, points: int = 3) -> None:
        with store.transaction() as transaction:
            transaction.add_iteration(iteration(points), [point(n) for n in range(1, points + 1)])
            if points == 3:
                transaction.start_attempt(AttemptRecord(1, 1, "w", 0, 1.0))
                transaction.add_report(ReportRecord(1, 1, 1, {"loss": 1.0}, 1.0))


class SharedStoreContract(StoreContract):
    """Tests of stores that several processes can open: the lock may be lost to another one."""

    def test_a_writer_that_was_taken_over_writes_nothing(
        self, place: Place, store: Store, reader: Store
    ) -> None:
        self._fill(store, points=1)
        assert place.take_over is not None
        place.take_over()
        for _ in range(2):
            with pytest.raises(LockLost, match="taken over"), store.transaction() as transaction:
                transaction.end_point(done(point(1)))
        with pytest.raises(LockLost):
            store.add_models([ModelRecord("late", 1)])
        with pytest.raises(LockLost):
            store.delete()
        assert reader.points() == [point(1)]
        assert len(reader.models()) == 1
