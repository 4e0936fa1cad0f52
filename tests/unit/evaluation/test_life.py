"""When a worker takes no more points, and when it ends."""

from __future__ import annotations

import time

from evaluation.life import Life, Terms, terms
from hpo_steer.config.worker_life import WorkerLife


def test_max_points_counts_what_runs() -> None:
    life = Life(Terms(WorkerLife(max_points=3)), 0.0)
    assert life.left(0) == 3
    assert life.left(2) == 1
    life.ended(1.0)
    assert life.closing(0.0, 1) is None
    assert life.closing(0.0, 2) == "max_points (3) reached"
    life.ended(1.0)
    life.ended(1.0)
    assert life.left(0) == 0
    assert Life(Terms(), 0.0).left(7) is None


def test_idle_time_counts_from_the_last_training() -> None:
    life = Life(Terms(WorkerLife(idle_exit_s=10)), 0.0)
    assert life.closing(9.0, 0) is None
    assert life.closing(12.0, 1) is None  # busy
    assert life.wake == 22.0
    assert life.closing(21.0, 0) is None
    assert life.closing(22.0, 0) == "no point for 10 s (idle_exit_s)"
    assert Life(Terms(WorkerLife(idle_exit_s=10), stays=True), 0.0).closing(99.0, 0) is None


def ending_in(seconds: float, *, saves: bool = False, stays: bool = False) -> Life:
    rules = WorkerLife(grace_s=5)
    return Life(Terms(rules, time.time() + seconds, stays, saves), 0.0)


def test_no_point_is_begun_that_would_not_end_in_time() -> None:
    life = ending_in(100)
    assert life.closing(0.0, 0) is None  # nobody knows how long one takes
    life.ended(30.0)
    life.ended(60.0)
    life.ended(20.0)
    assert life.closing(30.0, 0) is None
    late = life.closing(40.0, 0)
    assert late is not None
    assert late.endswith("and points take up to 60 s")
    assert life.over(40.0) is None
    assert life.over(96.0) is not None


def test_before_anything_has_ended_the_timeout_is_what_is_known() -> None:
    life = Life(Terms(WorkerLife(grace_s=5), time.time() + 100, timeout_s=50.0), 0.0)
    assert life.closing(44.0, 0) is None
    assert life.closing(46.0, 0) is not None
    life.ended(10.0)
    assert life.closing(46.0, 0) is None
    longer = Life(Terms(WorkerLife(grace_s=5), time.time() + 100, timeout_s=500.0), 0.0)
    assert longer.closing(46.0, 0) is None


def test_trainings_that_are_carried_on_elsewhere_may_begin_until_the_end() -> None:
    life = ending_in(100, saves=True)
    life.ended(60.0)
    assert life.closing(90.0, 0) is None
    assert life.closing(96.0, 0) is not None


def test_a_worker_of_steerings_stays_at_its_end() -> None:
    life = ending_in(100, stays=True)
    assert not life.stays(50.0, 0)
    assert life.closing(96.0, 0) is not None
    assert life.stays(96.0, 0)


def test_slurm_says_when_its_job_ends() -> None:
    rules = WorkerLife(max_time_s=100)
    assert terms(rules, {}, 1000.0).ends_at == 1100.0
    assert terms(rules, {"SLURM_JOB_END_TIME": "1050"}, 1000.0).ends_at == 1050.0
    assert terms(rules, {"SLURM_JOB_END_TIME": "2000"}, 1000.0).ends_at == 1100.0
    assert terms(WorkerLife(), {"SLURM_JOB_END_TIME": "unknown"}, 1000.0).ends_at is None
