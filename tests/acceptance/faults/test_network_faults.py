"""What a network does between the programs and the broker delays results, and does nothing else to them."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pika
import pytest

from hpo_steer.messages import Result
from tests.acceptance.faults.arena import Arena
from tests.acceptance.faults.network import island
from tests.acceptance.faults.proxy import Proxy, Way
from tests.acceptance.faults.test_broker_faults import (
    PATIENT,
    assert_nothing_repeated,
    await_busy,
    await_trained,
    said,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq

UP, DOWN = Way.TO_SERVER, Way.TO_CLIENT
CUTS = ((UP, 3), (DOWN, 5), (UP, 700), (DOWN, 1100), (UP, 2500), (DOWN, 1900), (UP, 1))
"""Inside the protocol's greeting, a frame's head, the declarations, bodies, and a frame's first byte."""


def url(port: int, host: str = "127.0.0.1") -> str:
    """A broker's address without its password."""
    return f"amqp://guest@{host}:{port}/"


def test_frames_cut_in_half(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """Connections end in the middle of a frame, on both sides and in both directions."""
    with Proxy(rabbitmq.port) as steerings, Proxy(rabbitmq.port) as workers, ExitStack() as stack:
        settings = {**PATIENT, "broker": {"url": url(steerings.port)}}
        arena = stack.enter_context(
            Arena(
                tmp_path,
                name="cut",
                broker=rabbitmq,
                workers=0,
                points=24,
                training_s=(0.3, 0.9),
                settings=settings,
            )
        )
        arena.start()
        for _ in range(2):
            arena.add_worker("--broker", url(workers.port))
        await_trained(arena, 2)
        at = time.monotonic()
        for proxy in (steerings, workers):
            proxy.cut_after(*CUTS)
        arena.wait_for(lambda: steerings.cuts + workers.cuts >= 8, "eight cuts", timeout_s=120.0)
        for proxy in (steerings, workers):
            proxy.cut_after()
        assert steerings.cuts >= 2
        assert workers.cuts >= 2
        arena.note(0, "cut off before its work was acknowledged", at, kind="worker")
        audit = arena.finish(stall_s=60.0)
        assert not audit.wrong, audit.text() + arena.story()
        assert not audit.unexplained, audit.text() + arena.story()
        arena.remove_queues()


def test_stalls_silence_and_refusal(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """Connections that carry nothing, or in one direction only; and none at all for a while."""
    with Proxy(rabbitmq.port) as steerings, Proxy(rabbitmq.port) as workers, ExitStack() as stack:
        settings = {**PATIENT, "broker": {"url": url(steerings.port)}}
        arena = stack.enter_context(
            Arena(
                tmp_path,
                name="stall",
                broker=rabbitmq,
                workers=0,
                points=20,
                training_s=(0.3, 0.6),
                settings=settings,
            )
        )
        arena.start()
        for _ in range(2):
            arena.add_worker("--broker", url(workers.port))
        await_trained(arena, 2)
        for proxy in (workers, steerings):
            for ways in ((UP, DOWN), (UP,), (DOWN,)):
                proxy.stall(*ways)
                time.sleep(0.8)
                proxy.flow()
        with arena.holding():
            await_busy(arena)
            before = arena.trained()
            at = time.monotonic()
            for proxy in (workers, steerings):
                proxy.refuse()
                proxy.reset()
        arena.wait_for(lambda: "waiting: no connection to the broker" in said(arena), "a word about it")
        arena.wait_for(lambda: len(arena.spooled()) == 2, "two results on the workers' disks")
        for proxy in (workers, steerings):
            proxy.accept()
        await_trained(arena, before + 4)
        for _ in range(4):  # what was not settled comes once more
            workers.reset()
            steerings.reset()
            time.sleep(0.3)
        arena.note(0, "cut off before its work was acknowledged", at, kind="worker")
        audit = arena.finish(stall_s=60.0)
        assert not audit.wrong, audit.text() + arena.story()
        assert not audit.unexplained, audit.text() + arena.story()
        arena.remove_queues()


def test_results_that_come_twice_and_others_under_a_points_name(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """The first final result of a point counts; whatever comes later changes nothing."""
    with Arena(tmp_path, name="twice", broker=rabbitmq, points=8, training_s=(0.4, 0.5)) as arena:
        arena.start()
        arena.wait_for(lambda: arena.ended() >= 2, "two points that have ended")
        store = arena.store()
        run = store.run()
        assert run is not None
        first = [p for p in store.points() if p.state == "done"][:2]
        store.close()
        connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
        channel = connection.channel()
        for point in first * 3:
            late = Result(
                experiment="twice",
                run=run.run,
                worker=point.worker or "somebody",
                at=time.time(),
                point=point.id,
                attempt=point.attempts,
                slot=0,
                metrics={"loss": -1000.0},
                started_at=time.time(),
                duration_s=0.1,
            )
            channel.basic_publish("", "hpo.twice.events", late.encoded())
        connection.close()
        assert_nothing_repeated(arena.finish(), arena.story())
        arena.remove_queues()


def test_a_worker_on_an_island(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """Its link is gone for longer than its lease: another trains the point, the first final result counts."""
    with island() as land, ExitStack() as stack:
        arena = stack.enter_context(
            Arena(tmp_path, name="island", broker=rabbitmq, workers=0, points=8, training_s=(1.0, 1.2))
        )
        rabbitmq.ctl("eval", "application:set_env(rabbit, loopback_users, []).")
        with arena.holding():
            arena.start()
            far = arena.add_worker("--broker", url(rabbitmq.port, land.mainland), inside=land.command)
            arena.wait_for(lambda: len(arena.trainings()) == 1, "a training on the island")
            arena.add_worker()
            arena.wait_for(lambda: sum(p.state == "running" for p in arena.records()) == 2, "two leases")
            arena.wait_for(lambda: len(arena.trainings()) == 2, "a training on the mainland")
            land.cut_off()
            at = time.monotonic()
            arena.wait_for(lambda: "lost its worker" in said(arena), "a lease that expires")
        arena.wait_for(
            lambda: len([t for t in arena.trainings() if t.point == 1]) == 2, "the point elsewhere"
        )
        with arena.holding():
            land.connect()
            arena.note(0, "cut off", at, kind="worker")
            arena.wait_for(
                lambda: len([t for t in arena.trainings() if t.worker_pid == far.pid]) >= 2,
                "the far worker at its next point",
                timeout_s=120.0,
            )
        audit = arena.finish(stall_s=60.0)
        assert not audit.wrong, audit.text() + arena.story()
        assert {r.training.point for r in (*audit.repeats, *audit.stopped)} == {1}
        arena.remove_queues()
