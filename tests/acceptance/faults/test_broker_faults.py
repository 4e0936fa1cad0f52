"""What happens to a broker happens to nobody's results."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pika
import pytest

from tests.acceptance.faults.arena import LEASE_S, Arena
from tests.acceptance.faults.long_form import LONG
from tests.acceptance.program import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.faults.books import Audit
    from tests.servers.rabbitmq import RabbitNode

pytestmark = pytest.mark.rabbitmq

AWAY_S = 60.0 if LONG else 1.0
WRITTEN_S = 1.0
"""By then a broker has written down what was acknowledged; one that is killed before hands that work out again."""
PATIENT = {"evaluation": {"lease_s": 30.0}}
"""A lease that outlasts the pauses between tries to connect, as the default does."""


def said(arena: Arena) -> str:
    """What steering has written."""
    assert arena.steering is not None
    return arena.steering.log.read_text()


def await_trained(arena: Arena, count: int) -> None:
    """Waits until so many trainings have ended."""
    arena.wait_for(lambda: arena.trained() >= count, f"{count} trainings")


def await_busy(arena: Arena, count: int = 2) -> None:
    """Waits until so many workers train, by their own word and by steering's books, which may lag behind."""

    def busy() -> bool:
        leased = {point.id for point in arena.records() if point.state == "running"}
        return len(leased) == count and leased <= {
            each.point for each in arena.trainings() if each.end is None
        }

    arena.wait_for(busy, f"{count} leases")


def assert_nothing_repeated(audit: Audit, story: str) -> None:
    """Everything is there, and nothing was trained twice."""
    assert not audit.wrong, audit.text() + story
    assert audit.repeated == 0, audit.text() + story


@pytest.fixture
def alarms(rabbitmq: RabbitNode) -> Iterator[RabbitNode]:
    """The node; its alarms are off in the end."""
    try:
        yield rabbitmq
    finally:
        rabbitmq.ctl("set_vm_memory_high_watermark", "0.4")
        rabbitmq.ctl("set_disk_free_limit", "50MB")


@contextmanager
def locked_out(node: RabbitNode) -> Iterator[None]:
    """The user may do nothing at the broker."""
    node.ctl("set_permissions", "guest", "^$", "^$", "^$")
    try:
        yield
    finally:
        node.ctl("set_permissions", "guest", ".*", ".*", ".*")


def test_a_broker_that_is_away_and_one_that_is_killed(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """Trainings go on, results wait on the workers' disks, and nothing is repeated."""
    with Arena(
        tmp_path, name="away", broker=rabbitmq, points=8, training_s=(0.4, 0.5), settings=PATIENT
    ) as arena:
        arena.start()
        await_trained(arena, 2)
        with arena.holding():
            await_busy(arena)
            rabbitmq.stop()
        try:
            arena.wait_for(lambda: len(arena.spooled()) == 2, "two results on the workers' disks")
            time.sleep(AWAY_S)
        finally:
            rabbitmq.start()
        assert "waiting: no connection to the broker" in said(arena)
        await_trained(arena, arena.trained() + 2)
        with arena.holding():
            await_busy(arena)
            time.sleep(WRITTEN_S)
            rabbitmq.kill()
            rabbitmq.start()
        assert_nothing_repeated(arena.finish(stall_s=60.0), said(arena))
        arena.remove_queues()


def test_queues_that_are_purged_or_deleted(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """Points that were in no worker's hands go out again, and queues are made anew.

    A confirmed result is the broker's. Whoever empties its queue destroys it; then its point is trained again.
    Steering may not notice that its events queue was deleted: if a worker makes it anew first, the broker lets
    steering go on there.
    """

    def arena_of(name: str, points: int = 8) -> Arena:
        return Arena(
            tmp_path / name, name=name, broker=rabbitmq, workers=1, points=points, training_s=(0.4, 0.6)
        )

    with ExitStack() as stack:
        purged, deleted, deaf = (
            stack.enter_context(arena_of(name)) for name in ("purged", "deleted", "deaf")
        )
        robbed = stack.enter_context(arena_of("robbed", points=4))
        harmed = (
            (purged, "purge_queue", "work"),
            (deleted, "delete_queue", "work"),
            (deaf, "delete_queue", "events"),
        )
        with ExitStack() as held:
            for arena, _, _ in harmed:
                held.enter_context(arena.holding())
            for arena in (robbed, purged, deleted, deaf):
                arena.start()
            await_trained(robbed, 1)
            assert robbed.steering is not None
            robbed.steering.stop(signal.SIGKILL)
            for arena, does, queue in harmed:
                await_busy(arena, 1)
                rabbitmq.ctl(does, f"hpo.{arena.name}.{queue}")

        robbed.wait_for(lambda: robbed.trained() == 4 and not robbed.spooled(), "all results in the queue")
        rabbitmq.ctl("purge_queue", "hpo.robbed.events")
        robbed.note(0, "robbed of their results", time.monotonic() - 60.0, kind="all")
        robbed.start_steering()

        for arena in (purged, deleted, deaf):
            assert_nothing_repeated(arena.finish(stall_s=60.0), arena.story())
        audit = robbed.finish(stall_s=60.0)
        assert not audit.wrong, audit.text()
        assert 1 <= audit.repeated <= 4
        assert "vanished from the work queue" in said(purged)
        for arena in (robbed, purged, deleted, deaf):
            arena.remove_queues()


def test_alarms_hold_results_up_and_repeat_nothing(tmp_path: Path, alarms: RabbitNode) -> None:
    """A broker short of memory or disk takes no results, and hears no heartbeats."""
    with Arena(tmp_path, name="alarm", broker=alarms, points=8, training_s=(0.4, 0.5)) as arena:
        arena.start()
        for on, off in (
            (("set_vm_memory_high_watermark", "0.00001"), ("set_vm_memory_high_watermark", "0.4")),
            (("set_disk_free_limit", "900000000MB"), ("set_disk_free_limit", "50MB")),
        ):
            await_trained(arena, arena.trained() + 2)
            with arena.holding():
                await_busy(arena)
                alarms.ctl(*on)
            arena.wait_for(lambda: len(arena.spooled()) == 2, "two results on the workers' disks")
            time.sleep(2 * LEASE_S)
            assert len(arena.spooled()) == 2
            alarms.ctl(*off)
        assert said(arena).count("waiting: RabbitMQ blocks publishers") == 2
        assert_nothing_repeated(arena.finish(), said(arena))
        arena.remove_queues()


def test_an_alarm_that_outlasts_a_lease_during_a_training(tmp_path: Path, alarms: RabbitNode) -> None:
    """Steering hears no heartbeats, but its own words do not get through either: so it expires no lease."""
    with Arena(
        tmp_path,
        name="mute",
        broker=alarms,
        points=4,
        training_s=(0.4, 0.5),
        settings={"evaluation": {"lease_s": 2.0, "heartbeat_s": 0.5}},
    ) as arena:
        arena.start()
        with arena.holding():
            await_busy(arena)
            alarms.ctl("set_vm_memory_high_watermark", "0.00001")
            time.sleep(60.0 if LONG else 5.0)
            alarms.ctl("set_vm_memory_high_watermark", "0.4")
            time.sleep(2.0)  # heartbeats may come again before results do
            assert arena.trained() == 0
        assert_nothing_repeated(arena.finish(), arena.story())
        assert "no heartbeat" not in said(arena)
        assert {p.attempts for p in arena.records()} == {1}
        arena.remove_queues()


def test_connections_closed_permissions_gone_and_messages_held_too_long(
    tmp_path: Path, rabbitmq: RabbitNode
) -> None:
    """An operator closes connections and takes permissions away; the broker calls in what is held unsettled."""
    timeout = "application:set_env(rabbit, {}, {})."
    rabbitmq.ctl("eval", timeout.format("consumer_timeout", 1000))
    rabbitmq.ctl("eval", timeout.format("channel_tick_interval", 500))
    try:
        with Arena(
            tmp_path, name="closed", broker=rabbitmq, points=8, training_s=(2.0, 2.2), settings=PATIENT
        ) as arena:
            arena.start()
            await_trained(arena, 2)
            assert "PRECONDITION" not in said(arena)  # a training of two seconds holds nothing unsettled
            with arena.holding():
                for _ in range(3):
                    rabbitmq.ctl("close_all_connections", "of the tests")
                with locked_out(rabbitmq):
                    rabbitmq.ctl("close_all_connections", "of the tests")
                    time.sleep(60.0 if LONG else 0.0)
                    arena.wait_for(
                        lambda: all("refuses user" in worker.log.read_text() for worker in arena.workers),
                        "a word about the refusal from each worker",
                    )
            await_trained(arena, arena.trained() + 2)
            sleeper = arena.pause("steering")
            assert sleeper is not None
            time.sleep(4.0)
            os.kill(sleeper, signal.SIGCONT)
            assert_nothing_repeated(arena.finish(stall_s=60.0), said(arena))
            arena.remove_queues()
    finally:
        rabbitmq.ctl("eval", timeout.format("consumer_timeout", 1_800_000))
        rabbitmq.ctl("eval", timeout.format("channel_tick_interval", 60_000))


def test_a_queue_of_other_arguments_is_left_as_it_is(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """One sentence, nothing begun, and somebody's messages stay."""
    url = f"amqp://guest@127.0.0.1:{rabbitmq.port}/"
    project = Project(tmp_path, name="taken", broker=url, evaluation={"workers": 0})
    connection = pika.BlockingConnection(pika.URLParameters(rabbitmq.url))
    try:
        channel = connection.channel()
        channel.queue_declare("hpo.taken.work", durable=True, arguments={"x-max-length": 5})
        channel.basic_publish("", "hpo.taken.work", b"somebody's")
        out, err = project.steer(code=2, env={"HPO_STEER_BROKER_PASSWORD": "guest"})
        assert err.count("\n") == 1, err
        assert "hpo.taken.work" in err
        assert not (tmp_path / "runs" / "taken" / "run.json").exists(), out
        assert channel.basic_get("hpo.taken.work", auto_ack=True)[2] == b"somebody's"
        for queue in ("work", "events", "dead"):
            channel.queue_delete(f"hpo.taken.{queue}")
    finally:
        connection.close()
