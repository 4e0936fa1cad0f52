"""The installed programs with a real PostgreSQL as their store and a real RabbitMQ as their broker."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.acceptance.program import EVALUATE, Project, children, wait_for
from tests.servers.postgresql import PostgresqlServer
from tests.servers.rabbitmq import RabbitNode


@pytest.mark.postgresql
def test_a_run_kept_in_postgresql_survives_a_kill(tmp_path: Path, postgresql: PostgresqlServer) -> None:
    url = postgresql.create_database("acceptance")
    project = Project(tmp_path, gated=True, store=url)
    project.let_through(3)
    secret = {"HPO_STEER_STORE_PASSWORD": postgresql.password}
    process = project.start("--config", "config.yaml", env=secret)

    def ended() -> int:
        listing = project.start("points", "--config", "config.yaml", "--json", env=secret)
        out, _ = listing.communicate(timeout=60)
        if listing.returncode:
            return 0
        return sum(p["state"] == "done" for p in json.loads(out))

    wait_for(lambda: ended() == 3, what="three points")
    _, err = project.steer(code=2, env=secret)
    assert "already being run" in err
    process.kill()
    process.communicate()
    wait_for(lambda: not children(["evaluation", "hpo_steer"], tmp_path), what="the end of all workers")
    project.open_gate()
    out, _ = project.steer(env=secret)
    assert "resuming" in out
    for command in ("status", "best"):
        project.run(command, "demo", "--json", env=secret)
    points = json.loads(project.run("points", "demo", "--json", env=secret)[0])
    assert [p["state"] for p in points] == ["done"] * 20
    assert postgresql.password not in "".join(p.read_text() for p in (tmp_path / "runs/demo").glob("*.json"))


@pytest.mark.postgresql
def test_a_wrong_database_password(tmp_path: Path, postgresql: PostgresqlServer) -> None:
    project = Project(tmp_path, store=postgresql.url)
    _, err = project.steer(code=2, env={"HPO_STEER_STORE_PASSWORD": "wrong"})
    assert "password" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.rabbitmq
def test_steering_and_a_worker_killed_over_rabbitmq(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    """Workers outlive steering, go on with what they have, and their results are read by the next steering."""
    url = f"amqp://guest@127.0.0.1:{rabbitmq.port}/"
    evaluation = {"workers": 0, "heartbeat_s": 0.5, "lease_s": 2.0}
    project = Project(tmp_path, gated=True, name="outlive", broker=url, evaluation=evaluation)
    project.let_through(4)
    secret = {"HPO_STEER_BROKER_PASSWORD": "guest", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    workers = [project.start("--config", "config.yaml", program=EVALUATE, env=secret) for _ in range(2)]
    steering = project.start("--config", "config.yaml", env=secret)
    try:
        wait_for(lambda: project.ended() == 4, what="four points")
        steering.kill()
        steering.communicate()
        workers[0].kill()
        workers[0].communicate()
        project.open_gate()
        out, _ = project.steer(env=secret)
        assert "done: 20 points" in out
        points = project.points()
        assert all(p["state"] == "done" for p in points)
        assert sum(p["attempts"] > 1 for p in points) <= 2  # what the killed worker ran, and no more
    finally:
        workers[1].send_signal(signal.SIGTERM)
        _, err = workers[1].communicate(timeout=30)
    assert workers[1].returncode == 0, err


@pytest.mark.rabbitmq
def test_a_wrong_broker_password(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    project = Project(tmp_path, broker=f"amqp://guest@127.0.0.1:{rabbitmq.port}/")
    out, err = project.steer(code=2, env={"HPO_STEER_BROKER_PASSWORD": "wr0ng-secret"})
    assert "wrong user name or password" in err
    assert "wr0ng-secret" not in out + err
