"""Why nothing moves, as people are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.messages import Health
from hpo_steer.transport.base import TransportStatus
from steering.waiting import Watchdog
from tests.unit.steering.test_loop import closing, new, pass_time

if TYPE_CHECKING:
    from steering.loop import SteeringLoop
    from tests.unit.steering.simulation import Bench

__all__ = ["closing"]
UP = TransportStatus(connected=True)


class Scene:
    """A loop, its bench, and a watchdog that looks at it."""

    def __init__(
        self, b: Bench, loop: SteeringLoop, start: str | None = "hpo-evaluate --config c.yaml"
    ) -> None:
        self.b, self.loop = b, loop
        self.watchdog = Watchdog(loop, b.clock, start)

    def after(self, seconds: int, status: TransportStatus = UP) -> str | None:
        """What it says after so many seconds, having looked every second."""
        said = self.watchdog.look(status)
        for _ in range(seconds):
            pass_time(self.b, self.loop, 1)
            said = self.watchdog.look(status)
        return said


@pytest.fixture
def scene(closing: list[Bench]) -> Scene:
    return Scene(*new(closing))


def test_points_that_go_on_need_no_words(scene: Scene) -> None:
    for _ in range(8):
        scene.b.finish(scene.b.take(), loss=0.5)
        assert scene.after(1) is None


def test_no_worker(scene: Scene) -> None:
    assert scene.after(4) is None
    said = scene.after(60)
    assert said is not None
    assert said.startswith('waiting: 4 points queued, no worker is connected to "sim" (1 min')
    assert said.endswith("Start one: hpo-evaluate --config c.yaml")
    scene.b.beat()
    assert scene.after(1) is None


def test_a_broker_that_is_gone_or_blocks(scene: Scene) -> None:
    said = scene.after(1, TransportStatus(connected=False, detail="amqp://broker"))
    assert said is not None
    assert said.startswith("waiting: no connection to the broker (amqp://broker) since ")
    assert "trying again" in said
    assert scene.watchdog.cause == "disconnected"
    said = scene.after(1, TransportStatus(connected=True, blocked="low on memory"))
    assert said is not None
    assert said.startswith("waiting: RabbitMQ blocks publishers (low on memory) since ")
    assert scene.after(1, TransportStatus(connected=True, trouble="it is bad")) == "waiting: it is bad"


def test_a_worker_that_takes_nothing(scene: Scene) -> None:
    scene.b.beat()
    assert scene.after(3) is None
    for _ in range(4):
        scene.b.beat()
        said = scene.after(5)
    assert said is not None
    assert said.startswith("waiting: 4 points queued, and 1 worker took none for ")


def test_a_busy_slot(scene: Scene) -> None:
    work = scene.b.take()
    scene.b.start(work)
    assert scene.after(30) is None
    scene.b.beat(work)
    said = scene.after(50)
    assert said is not None
    assert said.startswith(f"waiting: the slot is busy, point {work.point} for 1 min")


def test_attempts_that_all_fail(closing: list[Bench]) -> None:
    rules = {"function": "t.py:t", "workers": 0, "max_attempts": 3, "retry_delay_s": 0}
    scene = Scene(*new(closing, evaluation=rules))
    for _ in range(5):
        scene.b.finish(scene.b.take(), kind="error")
        assert scene.after(1) is None
    work = scene.b.take()
    scene.b.finish(work, kind="error")
    said = scene.after(1)
    assert said is not None
    assert said.startswith("stalled: the last 6 attempts failed on host (error: x). ")
    assert f"hpo-steer logs {work.point}" in said
    scene.b.finish(scene.b.take(), loss=0.1)
    assert scene.after(1) is None


SHUT = Health(state="quarantined", reason="3 failures in a row (error: x); one point is tried in 60 s")


def test_a_worker_in_quarantine_is_named_with_what_failed(closing: list[Bench]) -> None:
    rules = {"function": "t.py:t", "workers": 0, "max_attempts": 3, "retry_delay_s": 0}
    scene = Scene(*new(closing, evaluation=rules))
    for _ in range(3):
        work = scene.b.take()
        scene.b.finish(work, kind="error")
        assert scene.after(1) is None
    scene.b.beat(health=SHUT)
    assert scene.after(1) == (
        'stalled: 3 of the last 3 attempts failed with "x" on host, now quarantined (one point is tried there now '
        f"and then). Last lines: hpo-steer logs {work.point}; once it is mended: hpo-steer retry --failed"
    )
    scene.b.beat(worker="other-2-b")  # it takes some, so nothing stalls
    assert scene.after(1) is None
    scene.b.beat(worker="other-2-b", health=SHUT)
    said = scene.after(1)
    assert said is not None
    assert said.startswith("stalled: 3 of the last 3")
    for worker in ("host-1-a", "other-2-b"):
        scene.b.beat(worker=worker, health=Health())
    assert scene.after(1) is None


def test_a_new_session_finds_its_workers_in_quarantine(scene: Scene) -> None:
    scene.b.beat(health=SHUT)
    said = scene.after(1)
    assert said is not None
    assert said.startswith("stalled: all workers are quarantined, on host: 3 failures in a row")


def test_workers_at_the_end_of_their_time(scene: Scene) -> None:
    scene.b.beat(health=Health(state="waiting", reason="its time ends at 14:05"))
    scene.b.beat(worker="host-2-b", health=Health(state="draining", reason="max_points (5) reached"))
    assert scene.after(1) == "waiting: 4 points queued, and no worker takes one: its time ends at 14:05"


def test_how_the_workers_are_is_in_the_store(scene: Scene) -> None:
    scene.b.beat(worker="host-9-z")
    scene.b.beat(health=SHUT.model_copy(update={"cpu": 0.5, "disk_free_mib": 7}))
    scene.after(1)
    pass_time(scene.b, scene.loop, 6)
    record = scene.b.store.run()
    assert record is not None
    assert record.condition is not None
    first, second = record.condition.fleet
    assert (first["worker"], first["state"], first["cpu"], first["disk_free_mib"]) == (
        "host-1-a",
        "quarantined",
        0.5,
        7,
    )
    assert (second["worker"], second["state"]) == ("host-9-z", "ok")


def test_points_that_wait_for_their_next_attempt(closing: list[Bench]) -> None:
    rules = {"function": "t.py:t", "workers": 0, "retry_delay_s": 100}
    scene = Scene(*new(closing, evaluation=rules, steering={"points_per_iteration": 2, "max_points": 2}))
    for _ in range(2):
        scene.b.finish(scene.b.take(), kind="error")
    assert scene.after(10) == "waiting: 2 points go out again after a failed attempt, the first in 1 min 31 s"


def test_slots_that_the_trigger_leaves_idle(closing: list[Bench]) -> None:
    steering: dict[str, Any] = {"points_per_iteration": 2, "max_points": 8, "trigger": {"fraction": 1.0}}
    scene = Scene(*new(closing, steering=steering))
    first, second = scene.b.take(), scene.b.take()
    scene.b.start(first, worker="host-1-a")
    scene.b.finish(second, loss=0.1, worker="host-2-b")
    for _ in range(4):
        said = scene.after(5)
        scene.b.beat(first, worker="host-1-a")
        scene.b.beat(worker="host-2-b")
    assert said is not None
    assert said.startswith("waiting: 1 slot idle until more of iteration 1 has ended (1/2, ")


def test_what_is_waited_for_is_in_the_store(scene: Scene) -> None:
    said = scene.after(10)
    scene.loop.note(scene.watchdog.cause, said)
    scene.loop.flush()
    run = scene.b.store.run()
    assert run is not None
    assert run.condition is not None
    assert run.condition.waiting == said
    assert (run.condition.workers, run.condition.slots) == (0, 0)
