"""Workers and steering that are preempted, as a user sees it."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.program import EVALUATE, Project, wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.rabbitmq import RabbitNode

TRAIN = """
import os
import time
import hpo_steer

def train(params):
    state = hpo_steer.checkpoint_dir() / "step"
    begin = int(state.read_text()) if state.exists() else 0
    step = begin
    while step < 30 or not os.path.exists("gate-is-open"):
        step += 1
        time.sleep(0.02)
        state.with_suffix(".tmp").write_text(str(step))
        state.with_suffix(".tmp").rename(state)
        hpo_steer.report(step, loss=1.0 / step)
    return {"loss": params["x"], "begin": begin}
"""


def project(folder: Path, **changes: Any) -> Project:
    changes["evaluation"] = {"workers": 0, "max_attempts": 1, "max_lost": 1, **changes["evaluation"]}
    made = Project(folder, name="taken", steering={"points_per_iteration": 1, "max_points": 1}, **changes)
    (folder / "train.py").write_text(TRAIN)
    return made


def logs(made: Project) -> list[dict[str, Any]]:
    out, _ = made.run("logs", "1", "--config", "config.yaml", "--json")
    found: list[dict[str, Any]] = json.loads(out)
    return found


def reported(made: Project) -> bool:
    """Whether the point has reported some steps."""
    if not (made.folder / "runs").exists():
        return False
    process = made.start("points", "--config", "config.yaml", "--json")
    out, _ = process.communicate(timeout=60)
    return process.returncode == 0 and any(point["state"] == "running" for point in json.loads(out))


@pytest.mark.rabbitmq
def test_a_point_whose_worker_is_preempted_is_carried_on_by_another(
    tmp_path: Path, rabbitmq: RabbitNode
) -> None:
    url = f"amqp://guest@127.0.0.1:{rabbitmq.port}/"
    made = project(
        tmp_path,
        broker=url,
        evaluation={"checkpoint": f"file://{tmp_path}/shared", "worker": {"grace_s": 10}},
    )
    secret = {"HPO_STEER_BROKER_PASSWORD": "guest"}
    steering = made.start("--config", "config.yaml", env=secret)
    arguments = ("--config", "config.yaml", "--work-dir")
    first = made.start(*arguments, "one", program=EVALUATE, env=secret)
    step = tmp_path / "one/taken/points/1/checkpoint/step"
    wait_for(lambda: step.exists() and int(step.read_text()) >= 20, what="twenty steps")
    first.send_signal(signal.SIGTERM)
    out, err = first.communicate(timeout=20)
    assert first.returncode == 0, err
    assert "SIGTERM: 1 running, saved and released within 10 s" in out
    assert "point 1 is released (attempt 1): the worker has to leave (SIGTERM)" in out
    reached = int(step.read_text())
    (tmp_path / "gate-is-open").touch()
    second = made.start(*arguments, "two", program=EVALUATE, env=secret)
    try:
        out, err = steering.communicate(timeout=60)
        assert steering.returncode == 0, err
    finally:
        second.send_signal(signal.SIGTERM)
        out, _ = second.communicate(timeout=20)
    assert "point 1 carries on from the checkpoint of attempt 1" in out
    (point,) = made.points()
    assert (point["state"], point["attempts"], point["metrics"]["begin"]) == ("done", 2, reached)
    assert [attempt["outcome"] for attempt in logs(made)] == ["released", "done"]
    shown, _ = made.run("status", "--config", "config.yaml")
    assert "  released    1 attempt, as their workers had to leave; others carry on\n" in shown
    shown, _ = made.run("logs", "1", "--config", "config.yaml")
    assert "attempt 1: released after" in shown
    assert "the worker has to leave (SIGTERM)" in shown


def test_steering_that_is_preempted_has_its_workers_save(tmp_path: Path) -> None:
    made = project(tmp_path, evaluation={"workers": 1, "worker": {"grace_s": 10}})
    steering = made.start("--config", "config.yaml")
    step = tmp_path / "runs/taken/points/1/checkpoint/step"
    wait_for(lambda: step.exists() and int(step.read_text()) >= 20, what="twenty steps")
    wait_for(lambda: reported(made), what="the point's lease")
    steering.send_signal(signal.SIGTERM)
    _, err = steering.communicate(timeout=20)
    assert steering.returncode == 130, err
    reached = int(step.read_text())
    assert [attempt["outcome"] for attempt in logs(made)] == ["released"]
    (tmp_path / "gate-is-open").touch()
    made.steer()
    (point,) = made.points()
    assert (point["state"], point["attempts"], point["metrics"]["begin"]) == ("done", 2, reached)
