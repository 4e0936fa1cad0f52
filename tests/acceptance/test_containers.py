"""Both halves in real containers, as a user runs them; and what PanDA's users have runs here unchanged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.program import EVALUATE, STEER, children, wait_for, without_plots
from tests.servers.containers import containers_here

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.rabbitmq import RabbitNode

PAYLOADS = Path(__file__).parents[1] / "payloads/phpo"
STEERING = """
import json, random, sys
known = json.load(open(sys.argv[1]))["points"]
n = min(int(sys.argv[3]), int(sys.argv[4]) - len(known))
rng = random.Random(len(known))
json.dump([{"x": rng.random()} for _ in range(n)], open(sys.argv[2], "w"))
"""
SERVICE = """
import json, random, sys
rng = {}
for line in sys.stdin:
    asked = json.loads(line)
    if asked["op"] == "open":
        rng[asked["model"]] = random.Random(asked["seed"])
        print(json.dumps({"op": "opened", "model": asked["model"]}), flush=True)
    elif asked["op"] == "ask":
        points = [{"params": {"x": rng[asked["model"]].random()}} for _ in range(asked["n"])]
        print(json.dumps({"op": "points", "model": asked["model"], "points": points, "ended": None}), flush=True)
"""
TRAINING = """
import json, time
time.sleep(SLEEP)
x = json.load(open("input.json"))["x"]
json.dump({"status": 0, "loss": (x - 0.3) ** 2}, open("output.json", "w"))
"""


class Folder:
    """A user's folder with a config in it."""

    def __init__(
        self, path: Path, image: str, broker: str = "local", *, sleep: float = 0.0, **changes: Any
    ) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        (path / "steer.py").write_text(STEERING)
        (path / "serve.py").write_text(SERVICE)
        (path / "train.py").write_text(TRAINING.replace("SLEEP", str(sleep)))
        config: dict[str, Any] = {
            "name": path.name,
            "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
            "objectives": {"loss": "minimize"},
            "algorithm": {"command": "python3 steer.py %IN %OUT %NUM_POINTS %MAX_POINTS", "container": image},
            "steering": {"points_per_iteration": 4, "max_points": 10},
            "evaluation": {
                "container": {"image": image, "workdir": "/srv/workDir"},
                "command": "python3 train.py",
                "files": {},
                "workers": 0 if broker != "local" else 2,
            },
            "broker": broker,
        }
        (path / "config.json").write_text(json.dumps(config | changes))

    def start(self, *arguments: str, program: str = STEER) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [program, *arguments],
            cwd=self.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **without_plots()},
        )

    def run(self, *arguments: str, code: int = 0) -> str:
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=200)
        assert process.returncode == code, said
        return said

    def points(self, name: str | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("points", name or self.path.name, "--json"))
        return found

    def done(self) -> int:
        if not (self.path / "runs").exists():
            return 0
        process = self.start("points", self.path.name, "--json")
        said, _ = process.communicate(timeout=60)
        return sum(point["state"] == "done" for point in json.loads(said)) if process.returncode == 0 else 0


@pytest.fixture(autouse=True)
def _nothing_is_left(podman_image: str) -> Iterator[None]:
    """No test leaves a container behind."""
    before = set(containers_here())
    yield
    deadline = time.monotonic() + 30
    while left := set(containers_here()) - before:
        assert time.monotonic() < deadline, left
        time.sleep(0.2)


def end(process: subprocess.Popen[str]) -> None:
    """Kills a program, if it still runs."""
    process.kill()
    if process.stdout is not None and not process.stdout.closed:
        process.communicate()


def check(points: list[dict[str, Any]], number: int) -> None:
    assert [point["state"] for point in points] == ["done"] * number
    for point in points:
        assert point["values"]["loss"] == pytest.approx((point["params"]["x"] - 0.3) ** 2)


def test_both_halves_in_containers(tmp_path: Path, podman_image: str) -> None:
    folder = Folder(tmp_path / "both", podman_image)
    said = folder.run("--config", "config.json")
    assert "done: 10 points" in said
    check(folder.points(), 10)
    checked = folder.run("check", "config.json")
    assert f"ok    evaluation: python3 train.py in {podman_image} (podman)" in checked


@pytest.mark.rabbitmq
def test_steering_that_is_killed_leaves_no_container_and_carries_on(
    tmp_path: Path, podman_image: str, rabbitmq: RabbitNode
) -> None:
    """Over the broker, with a service that stays up: it is killed while its container runs."""
    url = f"amqp://guest@127.0.0.1:{rabbitmq.port}/"
    algorithm = {"service": "python3 serve.py", "container": podman_image}
    folder = Folder(tmp_path / "killed", podman_image, url, sleep=0.3, algorithm=algorithm)
    worker = folder.start("--config", "config.json", "--work-dir", str(tmp_path / "work"), program=EVALUATE)
    steering = folder.start("--config", "config.json")
    try:
        wait_for(lambda: folder.done() >= 2, what="two points")
        assert any("steering" in name for name in containers_here())
        end(steering)
        wait_for(
            lambda: not any("steering" in name for name in containers_here()), what="the end of its container"
        )
        assert "resuming" in folder.run("--config", "config.json")
        check(folder.points(), 10)
    finally:
        for process in (worker, steering):
            end(process)


@pytest.mark.rabbitmq
def test_a_worker_that_is_killed_leaves_no_container_and_loses_no_point(
    tmp_path: Path, podman_image: str, rabbitmq: RabbitNode
) -> None:
    url = f"amqp://guest@127.0.0.1:{rabbitmq.port}/"
    folder = Folder(tmp_path / "worker", podman_image, url, sleep=1.0)
    config = json.loads((folder.path / "config.json").read_text())
    config["evaluation"] |= {"heartbeat_s": 0.5, "lease_s": 2.0, "slots": 2}
    (folder.path / "config.json").write_text(json.dumps(config))
    worker = ("--config", "config.json", "--work-dir", str(tmp_path / "work"))
    running = [folder.start("--config", "config.json"), folder.start(*worker, program=EVALUATE)]
    steering, first = running
    try:
        wait_for(lambda: len(containers_here()) >= 2, what="two trainings")
        end(first)
        wait_for(lambda: not children(["train.py"], folder.path), what="the end of its trainings")
        wait_for(lambda: not containers_here(), what="the end of its containers")
        running.append(folder.start(*worker, program=EVALUATE))
        said, _ = steering.communicate(timeout=120)
        assert "done: 10 points" in said
        check(folder.points(), 10)
    finally:
        for process in running:
            end(process)


@pytest.mark.rabbitmq
def test_a_config_of_phpo_from_pandas_documentation_runs_with_the_real_hpogrid(
    tmp_path: Path, podman_image: str, hpogrid_image: str, rabbitmq: RabbitNode
) -> None:
    """As documented, but for the images' names, the data set, and what hpogrid 1.3.3 has come to want."""
    folder = Folder(tmp_path / "panda", podman_image)
    options = json.loads((PAYLOADS / "documented.json").read_text())
    del options["trainingDS"]
    options |= {
        "steeringContainer": hpogrid_image,
        "evaluationContainer": podman_image,
        "outDS": "user.me.panda",
    }
    options["steeringExec"] = (
        options["steeringExec"]
        .replace("generate ", "generate -s none ")
        .replace("-l=nevergrad", "-l nevergrad")
    )
    options |= {"maxPoints": 6, "nPointsPerIteration": 3}
    (folder.path / "phpo.json").write_text(json.dumps(options))
    shutil.copy(PAYLOADS / "search_space_example2.json", folder.path)
    space = json.loads((folder.path / "search_space_example2.json").read_text())
    (folder.path / "exec_in_container.sh").write_text(
        "pwd; ls\npython3 train_all.py && tar czf metrics.tgz output.json\n"
    )
    (folder.path / "train_all.py").write_text(
        "import json\n"
        "point = json.load(open('input.json'))\n"
        "json.dump({'status': 0, 'loss': float(len(point))}, open('output.json', 'w'))\n"
    )
    folder.run("import-phpo", "phpo.json", "-o", "config.yaml")
    url = f"amqp://guest@127.0.0.1:{rabbitmq.port}/"
    setting = ("--set", f"broker.url={url}", "--set", "evaluation.workers=2")
    said = folder.run("--config", "config.yaml", *setting)
    assert "done: 6 points" in said
    points = folder.points("user.me.panda")
    assert [point["state"] for point in points] == ["done"] * 6
    assert {tuple(sorted(point["params"])) for point in points} == {tuple(sorted(space))}
    trained = {point["id"]: point["params"] for point in points if point["duplicate_of"] is None}
    repeated = [point for point in points if point["id"] not in trained]  # hpogrid has no seed
    assert len({json.dumps(params) for params in trained.values()}) == 6 - len(repeated)
    assert all(point["params"] == trained[point["duplicate_of"]] for point in repeated)
    logs = folder.path / "runs/user.me.panda/logs"
    assert (logs / "1-1.metrics.tgz").stat().st_size
    assert (logs / "1-1.log").read_text().splitlines()[0] == "/srv/workDir"


@pytest.mark.rabbitmq
def test_code_that_is_shipped_runs_in_a_container(
    tmp_path: Path, podman_image: str, rabbitmq: RabbitNode
) -> None:
    """The worker has no config and none of the files; both come from steering."""
    url = f"amqp://guest@127.0.0.1:{rabbitmq.port}/"
    folder = Folder(tmp_path / "shipped", podman_image, url)
    config = json.loads((folder.path / "config.json").read_text())
    config["evaluation"]["ship"] = True
    (folder.path / "config.json").write_text(json.dumps(config))
    elsewhere = Folder(tmp_path / "elsewhere", podman_image)
    for file in elsewhere.path.iterdir():
        file.unlink()
    arguments = ("--broker", url, "--experiment", "shipped", "--ship", "--work-dir", str(tmp_path / "work"))
    worker = elsewhere.start(*arguments, program=EVALUATE)
    try:
        assert "done: 10 points" in folder.run("--config", "config.json")
        check(folder.points(), 10)
    finally:
        end(worker)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"algorithm": {"command": "python3 steer.py %IN %OUT", "container": "localhost/no/such:7"}},
            'there is no image "localhost/no/such:7" here',
        ),
        (
            {
                "algorithm": {
                    "command": "python3 steer.py %IN %OUT %NUM_POINTS",
                    "container": {"runtime": "podman"},
                }
            },
            "config.json:1: algorithm.container: needs an image",
        ),
        (
            {"algorithm": {"name": "random", "container": "x"}},
            "algorithm.container: goes with command or service, or alone",
        ),
        (
            {"algorithm": {"comand": "x"}},
            'did you mean "command"',
        ),
    ],
)
def test_mistakes_are_said_in_one_sentence(
    tmp_path: Path, podman_image: str, change: dict[str, Any], says: str
) -> None:
    folder = Folder(tmp_path / "bad", podman_image, **change)
    said = folder.run("--config", "config.json", code=2)
    (line,) = said.splitlines()
    assert line.startswith("error: ")
    assert says in line


def test_a_steering_command_that_fails_leaves_a_run_that_can_be_resumed(
    tmp_path: Path, podman_image: str
) -> None:
    folder = Folder(tmp_path / "broken", podman_image)
    good = (folder.path / "steer.py").read_text()
    (folder.path / "steer.py").write_text(good + "\nassert len(known) < 4, 'out of ideas'\n")
    said = folder.run("--config", "config.json", code=1)
    assert "error: the steering command ended with exit code 1. It printed last:" in said
    assert "AssertionError: out of ideas" in said
    assert "(tried 3 times)" in said
    (folder.path / "steer.py").write_text(good)
    assert "resuming" in folder.run("--config", "config.json")
    check(folder.points(), 10)
