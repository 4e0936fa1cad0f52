"""The images of both halves, as their recipes make them: what is in them, and a search that they run together."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.program import STEER, wait_for
from tests.servers.compose import a_stack
from tests.servers.containers import podman

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.images import Images
    from tests.servers.rabbitmq import RabbitNode

ROOT = Path(__file__).parents[2]
HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
LEFT = """
command -v pip gcc cc make
find / -xdev '(' -name '*.whl' -o -name pip -o -path '*/.cache' ')' -print 2>/dev/null
touch /opt/venv/writable 2>/dev/null && echo writable
id -u
"""
"""Names what should not be in an image, and the user."""
HALVES = {"steering": ("hpo-steer", "/runs"), "evaluation": ("hpo-evaluate", "/work")}


class Site:
    """A machine with podman: an experiment's folder, the folders for what is kept, and the containers started."""

    def __init__(self, folder: Path) -> None:
        self.experiment, self.runs, self.work = (folder / name for name in ("experiment", "runs", "work"))
        for each, mode in ((self.experiment, 0o755), (self.runs, 0o777), (self.work, 0o777)):
            each.mkdir()
            each.chmod(mode)
        self._mark = f"hpo-steer-tests-{os.getpid()}-{time.monotonic_ns()}"
        self._started: list[str] = []

    def start(self, name: str, image: str, options: list[str], *command: str) -> str:
        """Starts a container in the background; its full name."""
        full = f"{self._mark}-{name}"
        mounts = ["-v", f"{self.experiment}:/experiment:ro", "-v", f"{self.runs}:/runs"]
        self._started.append(full)
        podman(
            "run", "--detach", "--name", full, *HARDENED, *mounts, "-v", f"{self.work}:/work", *options,
            image, *command,
        )  # fmt: skip
        return full

    def close(self) -> None:
        if self._started:
            podman("rm", "--force", "--volumes", "--time", "0", "--ignore", *self._started)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    place = Site(tmp_path)
    try:
        yield place
    finally:
        place.close()


def said(name: str) -> str:
    """A container's sign of life."""
    done = subprocess.run(
        ["podman", "exec", name, "python3", "-I", "-m", "hpo_steer.pulse"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout


def health(name: str) -> int:
    return subprocess.run(["podman", "healthcheck", "run", name], capture_output=True, check=False).returncode


@pytest.mark.parametrize("half", HALVES)
def test_an_image_is_what_its_recipe_promises(
    images: Images, half: str, record_property: Callable[[str, object], None]
) -> None:
    (found,) = json.loads(podman("image", "inspect", getattr(images, half)))
    program, volume = HALVES[half]
    settings = found["Config"]
    assert settings["User"] == "1000:1000"
    assert settings["Entrypoint"] == [program]
    assert list(settings["Volumes"]) == [volume]
    assert settings["StopSignal"] == "SIGTERM"
    check = ["CMD", "/opt/venv/bin/python3", "-I", "-m", "hpo_steer.pulse"]
    assert found["HealthcheckConfig" if "HealthcheckConfig" in found else "Healthcheck"]["Test"] == check
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in found["Labels"].items()}
    version = podman("run", "--rm", "--entrypoint", "hpo-steer", images.steering, "--version").split()[1]
    assert labels["title"] == f"hpo-steer {half}"
    assert labels["version"] == version
    assert labels["licenses"] == "Apache-2.0"
    assert labels["base.name"] == images.base
    assert labels["source"].startswith("https://")
    (base,) = json.loads(podman("image", "inspect", images.base))
    added_mb = (found["Size"] - base["Size"]) / 1e6
    record_property("added_mb", added_mb)
    print(f"{half}: {found['Size'] / 1e6:.0f} MB, {added_mb:.0f} MB of them beside the base image")
    assert added_mb < {"steering": 290, "evaluation": 360}[half]
    left = podman(
        "run", "--rm", "--no-healthcheck", "--entrypoint", "/bin/sh", getattr(images, half), "-c", LEFT
    )
    assert left.split() == ["1000"]


@pytest.mark.rabbitmq
def test_the_quickstart_in_containers_over_rabbitmq(images: Images, rabbitmq: RabbitNode, site: Site) -> None:
    for name in ("rabbitmq.yaml", "digits.py"):
        shutil.copy(ROOT / "configs" / name, site.experiment)
    (site.experiment / "stuck.py").write_text("import time\ndef train(params):\n    time.sleep(3600)\n")
    (site.experiment / "password").write_text("guest")
    (site.experiment / "password").chmod(0o400)
    os.chown(site.experiment / "password", 1000, 1000)
    config = "--config=/experiment/rabbitmq.yaml"
    broker = f"--broker=amqp://guest@127.0.0.1:{rabbitmq.port}/"
    secret = ["--env", "HPO_STEER_BROKER_PASSWORD=guest"]
    by_file = "--set=broker.password_file=password"

    steering = site.start("steering", images.steering, [], config, broker, by_file)
    lost = site.start(
        "worker-1", images.evaluation, secret, config, broker, "--set=evaluation.function=stuck.py:train"
    )
    until_said(lost, "1/1 busy")
    worker = site.start("worker-2", images.evaluation, secret, config, broker)
    wait_for(
        lambda: bool(re.search(r"[1-9]\d* done", said(worker))),
        what="the second worker's first points",
        timeout_s=120,
    )
    assert podman("exec", worker, "id", "-u").strip() == "1000"
    assert health(steering) == health(worker) == health(lost) == 0
    podman("kill", "--signal", "KILL", lost)
    third = site.start("worker-3", images.evaluation, secret, config, broker)

    assert podman("wait", steering).strip() == "0", podman("logs", steering)
    log = podman("logs", steering)
    assert "done: 60 points" in log
    points = points_of(site.runs / "digits-rabbitmq")
    assert len(points) == 60
    assert all(point["state"] == "done" for point in points), [p["failure"] for p in points]
    assert sum(point["attempts"] == 2 for point in points) == 1, "the point of the worker that was killed"
    assert len({point["worker"] for point in points}) == 2
    replayed = podman(
        "run", "--rm", *HARDENED, "-v", f"{site.runs}:/runs", images.steering, "replay", "digits-rabbitmq"
    )
    assert "60 points reproduced" in replayed

    check_health(worker)
    for name in (worker, third):
        podman("stop", "--time", "60", name)
        assert podman("inspect", "--format", "{{.State.ExitCode}}", name).strip() == "0", podman("logs", name)
    assert not list((site.work / "hpo-steer/digits-rabbitmq/spool").iterdir()), "results that nobody has"


def check_health(worker: str) -> None:
    """A worker that waits is well; one that hangs is not, until it goes on."""
    assert health(worker) == 0
    podman("kill", "--signal", "STOP", worker)
    podman("exec", worker, "touch", "-d", "2 minutes ago", "/tmp/hpo-steer-pulse")
    assert health(worker) == 1
    assert "no sign of life for 12" in said(worker)
    podman("kill", "--signal", "CONT", worker)
    wait_for(lambda: health(worker) == 0, what="a sign of life")


def points_of(run: Path) -> list[dict[str, Any]]:
    done = subprocess.run([STEER, "points", str(run), "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_any_user_will_do(images: Images, site: Site) -> None:
    (site.experiment / "my.yaml").write_text(
        "name: my\nsearch_space: {x: {type: float, low: 0, high: 1}}\nobjectives: {loss: minimize}\n"
        "algorithm: random\nsteering: {max_points: 4, points_per_iteration: 2}\n"
        "evaluation: {function: train.py:train, workers: 1}\n"
    )
    (site.experiment / "train.py").write_text("def train(params):\n    return {'loss': params['x']}\n")
    name = site.start("any", images.steering, ["--user", "4321:4321"], "--config=/experiment/my.yaml")
    assert podman("wait", name).strip() == "0", podman("logs", name)
    assert (site.runs / "my").stat().st_uid == 4321
    assert "4 evaluated" in podman("logs", name)


@pytest.mark.parametrize("half", HALVES)
def test_a_mistake_is_one_sentence(images: Images, half: str) -> None:
    done = subprocess.run(
        [
            "podman",
            "run",
            "--rm",
            "--no-healthcheck",
            *HARDENED,
            getattr(images, half),
            "--config",
            "/experiment/none.yaml",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


GATED = """
import os, time

def train(params):
    while os.path.exists("/experiment/hold"):
        time.sleep(0.05)
    return {"loss": (params["x"] - 0.3) ** 2}
"""


@pytest.mark.rabbitmq
@pytest.mark.postgresql
def test_the_stack_of_compose_carries_on_whatever_is_killed(
    images: Images, site: Site, tmp_path: Path
) -> None:
    (site.experiment / "my.yaml").write_text(
        "name: my\nsearch_space: {x: {type: float, low: 0, high: 1}}\nobjectives: {loss: minimize}\n"
        "algorithm: sobol\nsteering: {max_points: 30, points_per_iteration: 10}\n"
        "evaluation: {function: train.py:train, reuse: true}\nstore: elsewhere\n"
    )
    (site.experiment / "train.py").write_text(GATED)
    hold = site.experiment / "hold"
    hold.touch()
    (tmp_path / "stack").mkdir()
    with a_stack(tmp_path / "stack", site.experiment, images) as stack:
        workers = [stack.container("worker", number) for number in (1, 2)]
        for worker in workers:
            until_said(worker, "1/1 busy")
        steering = stack.container("steering")
        assert "0 of 30 points ended, 2 running" in until_said(steering, "2 running")
        for name in (steering, workers[0]):
            assert health(name) == 0
        assert set(podman("top", steering, "user").split()[1:]) == {"hpo"}

        stack.kill("steering")
        stack.kill("worker", 1)
        wait_for(lambda: "resuming" in stack.logs("steering"), what="steering after its restart")
        wait_for(lambda: stack.logs("worker").count("→ 1 slot") == 2, what="a worker after its restart")
        hold.unlink()
        wait_for(lambda: stack.state("steering")["Status"] == "exited", what="the end", timeout_s=120)
        log = stack.logs("steering")
        assert stack.state("steering")["ExitCode"] == 0, log
        assert "done: 30 points" in log
        assert "30 evaluated" in log
        assert "warning" not in log
        assert [stack.state("worker", number)["Status"] for number in (1, 2)] == ["running"] * 2
        status = json.loads(
            podman(
                "run", "--rm", "--no-healthcheck", "--env", "HPO_STEER_STORE_PASSWORD=of-the-store",
                "-v", f"{stack.name}_runs:/runs", images.steering, "status", "--json",
            )
        )  # fmt: skip
        assert status["points"]["done"] == 30
        assert status["state"] == "ended"


def until_said(name: str, words: str) -> str:
    """A container's sign of life, once it has these words."""
    wait_for(lambda: words in said(name), what=words)
    return said(name)
