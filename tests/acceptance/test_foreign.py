"""Both halves in another language: the examples in Node, with ours and with one another, over a real broker."""

from __future__ import annotations

import json
import secrets
import time
from typing import TYPE_CHECKING

import pytest

from hpo_steer.transport.rabbitmq_permissions import steering_permissions, worker_permissions
from tests.acceptance.foreign import Stage
from tests.acceptance.program import STEER, Project, wait_for
from tests.servers.node import EXAMPLES
from tests.servers.rabbitmq import RabbitNode

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.rabbitmq

NEW_QUEUE_S = 2.0
"""RabbitMQ 3.10 says that a new quorum queue is there before it is on disk; killed then, it loses it."""

EVALUATION = {"workers": 0, "heartbeat_s": 0.5, "lease_s": 5.0}
SLOW = """
import pathlib, time

def train(params):
    pathlib.Path({began!r}).touch()
    time.sleep(600)
"""


@pytest.fixture
def stage(tmp_path: Path, rabbitmq: RabbitNode) -> Iterator[Stage]:
    one = Stage(tmp_path, rabbitmq, f"foreign-{secrets.token_hex(4)}")
    yield one
    one.close()


def project_of(stage: Stage) -> Project:
    return Project(stage.folder, name=stage.experiment, broker=stage.broker.url, evaluation=EVALUATION)


def test_our_steering_with_workers_in_node(stage: Stage) -> None:
    workers = [stage.worker("--slots", "2"), stage.worker()]
    project = project_of(stage)
    out = stage.finish(stage.keep(project.start("--config", "config.yaml")))
    assert "done: 20 points" in out
    points = project.points()
    assert all(p["state"] == "done" and p["attempts"] == 1 for p in points)
    for point in points:
        x, k = point["params"]["x"], point["params"]["k"]
        assert point["values"]["loss"] == pytest.approx((x - 0.3) ** 2 + (k - 4) ** 2 / 100)
    for worker in workers:
        stage.bow_out(worker)
    assert stage.dead_letters() == []


def test_the_worker_example_as_its_readme_says(stage: Stage) -> None:
    stage.experiment = "foreign_worker"
    stage.worker("--slots", "2")
    config = str(EXAMPLES / "foreign-worker" / "experiment.yaml")
    broker = f"broker.url=amqp://guest@127.0.0.1:{stage.broker.port}/"
    steering = stage.run(STEER, "--config", config, "--set", broker, "--json")
    answer = json.loads(stage.finish(steering))
    assert (answer["done"], answer["failed"]) == (24, {})
    assert answer["best"]["values"]["loss"] < 0.05


def test_a_worker_in_node_that_is_killed_loses_nothing(stage: Stage) -> None:
    victim = stage.worker("--slots", "2", seconds=30.0)
    project = project_of(stage)
    steering = stage.keep(project.start("--config", "config.yaml"))
    wait_for(lambda: len(_running(project)) == 2, what="two running points")
    taken = _running(project)
    victim.kill()
    victim.communicate()
    stage.worker()
    assert "done: 20 points" in stage.finish(steering)
    points = project.points()
    assert all(p["state"] == "done" for p in points)
    assert {p["attempts"] for p in points if p["id"] in taken} == {2}
    assert stage.dead_letters() == []


def test_a_worker_in_node_connects_again(stage: Stage) -> None:
    worker = stage.worker("--slots", "2", seconds=0.3)
    project = project_of(stage)
    steering = stage.keep(project.start("--config", "config.yaml"))
    wait_for(lambda: project.ended() >= 4, what="four points")
    time.sleep(NEW_QUEUE_S)
    stage.broker.kill()
    stage.broker.start()
    assert "done: 20 points" in stage.finish(steering)
    assert all(p["state"] == "done" for p in project.points())
    wait_for(lambda: stage.log().count("connected to experiment") >= 2, what="its word that it is back")
    stage.bow_out(worker)


def test_steering_in_node_with_our_workers(stage: Stage) -> None:
    steering = stage.steering("--points", "30")
    workers = [stage.evaluate(EXAMPLES / "foreign-steering" / "train.py") for _ in range(2)]
    answer = json.loads(stage.finish(steering))
    assert (answer["done"], answer["failed"]) == (30, 0)
    assert answer["best"]["metrics"]["loss"] < 0.1
    assert stage.dead_letters() == []
    for worker in workers:
        stage.bow_out(worker)


def test_steering_in_node_sends_lost_points_out_again(stage: Stage) -> None:
    slow = stage.folder / "slow.py"
    slow.write_text(SLOW.format(began=str(stage.folder / "began")))
    steering = stage.steering("--points", "6")
    victim = stage.evaluate(slow)
    wait_for((stage.folder / "began").exists, what="a running point")
    victim.kill()
    victim.communicate()
    stage.evaluate(EXAMPLES / "foreign-steering" / "train.py", "other")
    answer = json.loads(stage.finish(steering))
    assert (answer["done"], answer["failed"]) == (6, 0)
    assert "lost: no heartbeat of" in stage.log()


def test_both_halves_in_node(stage: Stage) -> None:
    steering = stage.steering("--points", "30", "--parallel", "4")
    workers = [stage.worker("--slots", "2") for _ in range(2)]
    answer = json.loads(stage.finish(steering))
    assert (answer["done"], answer["failed"]) == (30, 0)
    for worker in workers:
        stage.bow_out(worker)
    assert stage.dead_letters() == []


def test_both_halves_in_node_connect_again(stage: Stage) -> None:
    steering = stage.steering("--points", "20", "--parallel", "4")
    stage.worker("--slots", "2", seconds=0.2)
    wait_for(lambda: "1 done, best" in stage.log(), what="the first result")
    time.sleep(NEW_QUEUE_S)
    stage.broker.kill()
    stage.broker.start()
    answer = json.loads(stage.finish(steering))
    assert (answer["done"], answer["failed"]) == (20, 0)
    assert stage.log().count("connected: experiment") >= 2


def test_both_halves_in_node_get_by_with_few_rights(stage: Stage) -> None:
    name = stage.experiment
    for half, rights in (("steering", steering_permissions(name)), ("worker", worker_permissions(name))):
        user = f"{name}-{half}"
        stage.broker.ctl("add_user", user, "secret")
        stage.broker.ctl("set_permissions", user, rights.configure, rights.write, rights.read)
        setattr(stage, f"{half}_url", f"amqp://{user}:secret@127.0.0.1:{stage.broker.port}/")
    worker = stage.worker(seconds=0.5)  # before there are queues, which it may not make
    wait_for(lambda: "trying again" in stage.log(), what="a worker that waits")
    steering = stage.steering("--points", "5", "--parallel", "1")
    stage.wait_for_queues()
    stage.put("work", b"nonsense")
    stage.put("events", b"nonsense")
    assert json.loads(stage.finish(steering))["done"] == 5
    assert {origin for origin, _, _ in stage.wait_for_dead_letters(2)} == {"work", "events"}
    stage.bow_out(worker)


def _running(project: Project) -> set[int]:
    """Ids of the points that are running, while steering runs."""
    if not (project.folder / "runs").exists():
        return set()
    process = project.start("points", "--config", "config.yaml", "--json")
    out, _ = process.communicate(timeout=60)
    return {p["id"] for p in json.loads(out) if p["state"] == "running"} if process.returncode == 0 else set()


def test_both_examples_share_their_connection() -> None:
    one, other = (EXAMPLES / f"foreign-{half}" / "broker.mjs" for half in ("worker", "steering"))
    assert one.read_bytes() == other.read_bytes()
