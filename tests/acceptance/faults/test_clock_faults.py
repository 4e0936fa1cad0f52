"""Clocks that jump, and processes that are not there for a while, lose nothing."""

from __future__ import annotations

import signal
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.acceptance.faults.arena import LEASE_S, Arena
from tests.acceptance.faults.clocks import DAY_S, YEAR_S, WallClock
from tests.acceptance.faults.processes import send
from tests.acceptance.faults.test_broker_faults import assert_nothing_repeated, await_trained, said

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq


def test_a_wall_clock_that_jumps(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """Leases go by the monotonic clock; the times in the store make sense; a lock has no age."""
    clock = WallClock(tmp_path / "clock")
    with Arena(
        tmp_path / "arena",
        name="jump",
        broker=rabbitmq,
        points=14,
        training_s=(0.6, 0.8),
        env=clock.environment,
    ) as arena:
        arena.start()
        for offset_s in (10 * YEAR_S, -10 * YEAR_S, 0.0, -DAY_S):
            await_trained(arena, arena.trained() + 2)
            clock.turn(offset_s)
        arena.kill("steering")  # the next one finds a run that began in its future
        assert_nothing_repeated_but_explained(arena)
        for point in arena.records():
            assert point.started_at is not None
            assert point.ended_at is not None
            assert point.duration_s is not None
            assert 0.0 <= point.duration_s < 60.0
            assert point.ended_at >= point.started_at, point


def assert_nothing_repeated_but_explained(arena: Arena) -> None:
    """For runs in which steering was killed as well."""
    audit = arena.finish()
    assert not audit.wrong, audit.text() + said(arena)
    assert not audit.unexplained, audit.text() + arena.story()
    assert "no heartbeat" not in said(arena)
    arena.remove_queues()


def test_a_steering_that_stood_still_for_longer_than_a_lease(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """When it wakes up it reads what is waiting before it takes a lease from anybody."""
    with Arena(tmp_path, name="asleep", broker=rabbitmq, points=4, training_s=(4.0, 4.0)) as arena:
        arena.start()
        arena.wait_for(lambda: len(arena.trainings()) == 2, "two trainings that begin")
        arena.wait_for(lambda: sum(p.state == "running" for p in arena.records()) == 2, "two leases")
        for _ in range(2):
            sleeper = arena.pause("steering")
            assert sleeper is not None
            time.sleep(2 * LEASE_S)
            arena.wake(sleeper)
            await_trained(arena, arena.trained() + 1)
        assert_nothing_repeated(arena.finish(), said(arena))
        assert "no heartbeat" not in said(arena)
        arena.remove_queues()


def _said_often(arena: Arena, words: str, times: int) -> bool:
    return said(arena).count(words) >= times


def test_workers_that_wake_up_after_their_leases(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """One of two, then both: the first final result of each point counts, and they go on."""
    with Arena(tmp_path, name="woken", broker=rabbitmq, points=10, training_s=(0.8, 1.0)) as arena:
        arena.start()
        await_trained(arena, 2)
        for count in (1, 2):
            silent = said(arena).count("has not been heard of") + count
            asleep = [arena.pause("worker") for _ in range(count)]
            arena.wait_for(
                partial(_said_often, arena, "has not been heard of", silent), "workers that are gone"
            )
            time.sleep(LEASE_S)
            back = said(arena).count("has connected") + count
            for pid in asleep:
                assert pid is not None
                arena.wake(pid)
            arena.wait_for(partial(_said_often, arena, "has connected", back), "workers that are back")
        audit = arena.finish()
        assert not audit.wrong, audit.text() + said(arena)
        assert not audit.unexplained, audit.text()
        assert all(worker.exits == [0] for worker in arena.workers)
        arena.remove_queues()


def test_a_whole_machine_that_stood_still(tmp_path: Path) -> None:
    """As a laptop that was closed: steering and its local workers alike."""
    with Arena(tmp_path, name="laptop", points=8, training_s=(0.6, 0.8)) as arena:
        arena.start()
        await_trained(arena, 2)
        everything = arena.processes()
        for number in (signal.SIGSTOP, signal.SIGCONT):
            for process in everything:
                send(process.pid, number)
            if number == signal.SIGSTOP:
                time.sleep(2 * LEASE_S)
        assert_nothing_repeated(arena.finish(), said(arena))
