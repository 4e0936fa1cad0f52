"""Code that steering ships: the installed programs, a real broker, and workers that share no folder with steering."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import pytest

from hpo_steer.transport import BrokerSettings, steering_end
from tests.acceptance.faults.disks import small_disk
from tests.acceptance.program import EVALUATE, Project, wait_for

if TYPE_CHECKING:
    from tests.servers.objects import S3Server, WebFolder
    from tests.servers.rabbitmq import RabbitNode

PASSWORD = {"HPO_STEER_BROKER_PASSWORD": "guest"}
CODE = """
import os
import time
from helper import LOSS

def train(params):
    print("in", os.getcwd(), flush=True)
    while not os.path.exists(os.environ["GATE"]):
        time.sleep(0.02)
    return {"loss": LOSS}
"""
LARGE = 21 * 524_288
"""Bytes that make a bundle of more than one window of parts."""


class Shop:
    """A project that ships its code, and workers elsewhere."""

    def __init__(self, folder: Path, broker: str | None, name: str = "shop", **changes: Any) -> None:
        self.folder = folder
        self.gate = folder / "gate-is-open"
        self.gate.touch()
        evaluation = {
            "workers": 0,
            "ship": True,
            "env": {"GATE": str(self.gate)},
            "heartbeat_s": 0.5,
            "lease_s": 5.0,
            "reuse": False,
            **changes.pop("evaluation", {}),
        }
        steering = {"points_per_iteration": 3, "max_points": 6, **changes.pop("steering", {})}
        self.name = name
        self.broker = broker
        self.project = Project(
            folder / "project",
            name=name,
            broker=broker or "local",
            evaluation=evaluation,
            steering=steering,
            **changes,
        )
        self.code(1.0)
        self.workers: list[subprocess.Popen[str]] = []

    def code(self, loss: float, extra: int = 0) -> None:
        """Writes the code that gives a loss; with so many bytes that do not get smaller."""
        (self.project.folder / "train.py").write_text(CODE)
        (self.project.folder / "helper.py").write_text(f"LOSS = {loss}\n")
        if extra:
            (self.project.folder / "weights.bin").write_bytes(os.urandom(extra))

    def home(self, number: int) -> Path:
        """Where a worker lives; nothing of the project is in there."""
        home = self.folder / f"home-{number}"
        home.mkdir(exist_ok=True)
        return home

    def log(self, number: int) -> str:
        """What a worker has said."""
        return (self.home(number) / "log").read_text()

    def worker(self, number: int = 0, *arguments: str, **env: str) -> subprocess.Popen[str]:
        """Starts a worker without a config."""
        home = self.home(number)
        surroundings = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
        with (home / "log").open("a") as log:
            process = subprocess.Popen(
                [EVALUATE, "--broker", str(self.broker), "--experiment", self.name, "--ship", *arguments],
                cwd=home,
                env={**surroundings, **PASSWORD, "HOME": str(home), **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
            )
        self.workers.append(process)
        return process

    def says(self, number: int, words: str) -> None:
        """Waits until a worker has said something."""
        wait_for(lambda: words in self.log(number), what=f"{words!r} from worker {number}")

    def cache(self, number: int = 0) -> Path:
        return self.home(number) / ".cache/hpo-steer" / self.name

    def losses(self) -> list[float]:
        """The losses of all points in order; each was tried once, and none has failed."""
        points = self.project.points()
        assert [(p["state"], p["attempts"]) for p in points] == [("done", 1)] * len(points)
        return [p["values"]["loss"] for p in points]

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()


@pytest.fixture
def shops(tmp_path: Path) -> Iterator[Any]:
    made: list[Shop] = []

    def make(broker: str | None, **changes: Any) -> Shop:
        made.append(Shop(tmp_path, broker, name=f"shop-{os.getpid()}-{tmp_path.name[-20:]}", **changes))
        return made[-1]

    yield make
    for shop in made:
        shop.close()


def url(node: RabbitNode) -> str:
    return f"amqp://guest@127.0.0.1:{node.port}/"


@pytest.mark.rabbitmq
def test_workers_that_have_nothing_evaluate_everything(shops: Any, any_rabbitmq: RabbitNode) -> None:
    shop = shops(url(any_rabbitmq))
    shop.code(1.0, LARGE)
    for number in range(2):
        shop.worker(number)
    out, _ = shop.project.steer(env=PASSWORD)
    assert "code bundle" in out
    assert shop.losses() == [1.0] * 6
    for number in range(2):
        assert "from steering" in shop.log(number)
        for file in shop.cache(number).glob("logs/*.log"):
            assert file.read_text().startswith(f"in {shop.cache(number)}/bundles/")


@pytest.mark.rabbitmq
def test_workers_that_ask_together_get_one_transmission(shops: Any, rabbitmq: RabbitNode) -> None:
    shop = shops(url(rabbitmq), steering={"points_per_iteration": 4, "max_points": 4})
    shop.code(1.0, LARGE)
    with contextlib.closing(steering_end(BrokerSettings(rabbitmq.url), shop.name, "earlier")) as end:
        end.open()  # makes the exchange
    with contextlib.closing(pika.BlockingConnection(pika.URLParameters(rabbitmq.url))) as connection:
        channel = connection.channel()
        channel.queue_declare("onlooker", exclusive=True)
        channel.queue_bind("onlooker", f"hpo.{shop.name}.bundles")
        for number in range(4):
            shop.worker(number)
        for number in range(4):
            shop.says(number, "waiting for points")
        shop.project.steer(env=PASSWORD)
        parts = channel.queue_declare("onlooker", passive=True).method.message_count
    assert shop.losses() == [1.0] * 4
    assert all("from steering" in shop.log(number) for number in range(4))
    assert 22 <= parts < 2 * 22  # of 88, had each its own


@pytest.mark.rabbitmq
def test_a_full_disk_costs_no_point(shops: Any, rabbitmq: RabbitNode, tmp_path: Path) -> None:
    shop = shops(url(rabbitmq))
    shop.code(1.0, LARGE)
    with small_disk(tmp_path / "disk", 8192):
        first = shop.worker(0, "--work-dir", str(tmp_path / "disk"))
        steering = shop.project.start("--config", "config.yaml", env=PASSWORD)
        shop.says(0, "cannot be used: No space left on device. Its points wait; trying again in 5 s")
        shop.worker(1)
        _, err = steering.communicate(timeout=120)
        assert steering.returncode == 0, err
        assert first.poll() is None
        first.kill()
        first.wait()
    assert shop.losses() == [1.0] * 6


@pytest.mark.rabbitmq
def test_a_change_of_the_code_reaches_workers_that_stay(shops: Any, rabbitmq: RabbitNode) -> None:
    """What runs goes on with the code it began with, and its result counts."""
    shop = shops(url(rabbitmq), steering={"points_per_iteration": 1, "max_points": 1})
    worker = shop.worker(0, "--slots", "2")
    shop.project.steer(env=PASSWORD)
    shop.gate.unlink()
    more = ["--extend", "--set", "steering.max_points=3", "--set", "steering.points_per_iteration=1"]
    first = shop.project.start("--config", "config.yaml", *more, env=PASSWORD)
    wait_for(lambda: len(list(shop.cache().glob("logs/2-1.log"))) == 1, what="the second point")
    first.kill()
    first.communicate()
    shop.code(2.0, LARGE)
    second = shop.project.start("--config", "config.yaml", *more, env=PASSWORD)
    shop.gate.touch()
    _, err = second.communicate(timeout=120)
    assert second.returncode == 0, err
    assert shop.losses() == [1.0, 1.0, 2.0]
    assert worker.poll() is None
    assert len(list(shop.cache().glob("bundles/*.tar.gz"))) == 2


@pytest.mark.rabbitmq
def test_killed_in_the_middle_of_a_transfer(shops: Any, tmp_path: Path, rabbitmq: RabbitNode) -> None:
    shop = shops(url(rabbitmq))
    shop.code(3.0, LARGE)
    faults = {"HPO_STEER_FAULTS_FOLDER": str(tmp_path)}
    first = shop.worker(0, HPO_STEER_FAULTS="worker.collected:3:kill", **faults)
    steering = shop.project.start(
        "--config", "config.yaml", env={**PASSWORD, **faults, "HPO_STEER_FAULTS": "steering.shipped:2:kill"}
    )
    steering.communicate(timeout=60)
    assert steering.returncode == -9
    assert first.wait(60) == -9
    second = shop.worker(1)
    shop.worker(0)
    shop.project.steer(env=PASSWORD)
    assert shop.losses() == [3.0] * 6
    assert second.poll() is None
    assert not [p for p in tmp_path.glob("home-*/**/bundles/*") if p.name.startswith(".")]


@pytest.mark.rabbitmq
def test_a_worker_outlives_steering_in_the_middle_of_a_transfer(
    shops: Any, tmp_path: Path, rabbitmq: RabbitNode
) -> None:
    shop = shops(url(rabbitmq))
    shop.code(3.0, LARGE)
    shop.worker(0)
    faults = {"HPO_STEER_FAULTS_FOLDER": str(tmp_path), "HPO_STEER_FAULTS": "steering.shipped:2:kill"}
    steering = shop.project.start("--config", "config.yaml", env={**PASSWORD, **faults})
    steering.communicate(timeout=60)
    assert steering.returncode == -9
    shop.says(0, "fetching bundle")
    assert "is ready" not in shop.log(0)
    shop.project.steer(env=PASSWORD)
    assert shop.losses() == [3.0] * 6
    assert shop.log(0).count("from steering") == 1


@pytest.mark.rabbitmq
def test_a_bundle_that_is_of_no_use_any_more_is_given_up(
    shops: Any, tmp_path: Path, rabbitmq: RabbitNode
) -> None:
    """Killed while a worker waits, then started with other code and without the old bundle; then with the old code."""
    shop = shops(url(rabbitmq))
    shop.code(3.0, LARGE)
    shop.worker(0)
    faults = {"HPO_STEER_FAULTS_FOLDER": str(tmp_path), "HPO_STEER_FAULTS": "steering.shipped:1:kill"}
    steering = shop.project.start("--config", "config.yaml", env={**PASSWORD, **faults})
    steering.communicate(timeout=60)
    assert steering.returncode == -9
    for file in (shop.project.folder / "runs" / shop.name / "bundles").iterdir():
        file.unlink()
    shop.code(4.0)
    shop.project.steer(env=PASSWORD)
    assert set(shop.losses()) == {4.0}
    assert "is no more: it is of an earlier session of this run" in shop.log(0)
    shop.code(3.0)  # the same bytes as at first, and so the same bundle
    shop.project.steer("--extend", "--set", "steering.max_points=8", env=PASSWORD)
    assert shop.losses() == [4.0] * 6 + [3.0] * 2


@pytest.mark.rabbitmq
@pytest.mark.parametrize("how", ["sound", "damaged", "missing"])
def test_a_shared_folder_and_what_may_be_wrong_with_it(shops: Any, rabbitmq: RabbitNode, how: str) -> None:
    shop = shops(url(rabbitmq))
    shared = shop.folder / "shared"
    shop.project.configure(
        name=shop.name,
        broker=shop.broker,
        steering={"points_per_iteration": 3, "max_points": 6},
        evaluation={"workers": 0, "env": {"GATE": str(shop.gate)}, "ship": {"url": f"file://{shared}"}},
    )
    steering = shop.project.start("--config", "config.yaml", env=PASSWORD)
    wait_for(lambda: bool(list(shared.glob("*.tar.gz"))), what="the bundle")
    [bundle] = shared.iterdir()
    if how == "damaged":
        bundle.write_bytes(bundle.read_bytes()[:-1] + b"x")
    elif how == "missing":
        bundle.unlink()
    shop.worker(0)
    out, err = steering.communicate(timeout=120)
    assert steering.returncode == 0, err
    assert f"file://{shared}/" in out
    assert shop.losses() == [1.0] * 6
    log = shop.log(0)
    assert f"downloading bundle {bundle.name[:8]} from file://{shared}/{bundle.name}" in log
    warnings = [line for line in log.splitlines() if line.startswith("warning:")]
    if how == "sound":
        assert warnings == []
    else:
        [warning] = warnings
        words = "what came has the SHA-256" if how == "damaged" else "there is nothing at"
        assert words in warning
        assert warning.endswith(f"; asking steering for bundle {bundle.name[:8]}")


@pytest.mark.rabbitmq
def test_written_to_a_folder_and_read_from_a_web_server(
    shops: Any, rabbitmq: RabbitNode, web_folder: WebFolder
) -> None:
    shop = shops(
        url(rabbitmq),
        evaluation={"ship": {"url": f"file://{web_folder.folder}", "download_url": web_folder.url}},
    )
    shop.worker(0)
    shop.project.steer(env=PASSWORD)
    assert shop.losses() == [1.0] * 6
    assert f"from {web_folder.url}/" in shop.log(0)
    assert "warning" not in shop.log(0)


@pytest.mark.rabbitmq
def test_through_s3(shops: Any, rabbitmq: RabbitNode, s3_server: S3Server) -> None:
    pytest.importorskip("s3fs")
    shop = shops(url(rabbitmq), evaluation={"ship": {"url": f"s3://{s3_server.bucket}/shops"}})
    shop.worker(0, **s3_server.environment)
    shop.project.steer(env={**PASSWORD, **s3_server.environment})
    assert shop.losses() == [1.0] * 6
    assert f"from s3://{s3_server.bucket}/shops/" in shop.log(0)
    assert "warning" not in shop.log(0)


@pytest.mark.rabbitmq
def test_a_worker_that_cannot_run_it_fails_no_point(shops: Any, rabbitmq: RabbitNode) -> None:
    shop = shops(url(rabbitmq), evaluation={"python": "/opt/nowhere/bin/python", "workers": 0})
    shop.worker(0)
    steering = shop.project.start("--config", "config.yaml", env=PASSWORD)
    shop.says(0, "there is no interpreter /opt/nowhere/bin/python; give this worker its own with --python")
    wait_for(
        lambda: (
            "has not got the code: evaluation.python"
            in shop.project.run("status", "--config", "config.yaml")[0]
        ),
        what="the reason in status",
    )
    shop.worker(1, "--python", sys.executable)
    out, err = steering.communicate(timeout=120)
    assert steering.returncode == 0, err
    assert "has not got the code: evaluation.python: there is no interpreter" in out
    assert shop.losses() == [1.0] * 6


@pytest.mark.rabbitmq
def test_a_worker_that_was_not_told_to_runs_no_shipped_code(shops: Any, rabbitmq: RabbitNode) -> None:
    shop = shops(url(rabbitmq))
    own = shop.home(0)
    (own / "mine.py").write_text("def train(params):\n    return {'loss': 7.0}\n")
    shop.workers.append(
        subprocess.Popen(
            [EVALUATE, "--broker", shop.broker, "--experiment", shop.name, "--function", "mine.py:train"],
            cwd=own,
            env={**os.environ, **PASSWORD, "HOME": str(own)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    shop.project.steer(env=PASSWORD)
    assert shop.losses() == [7.0] * 6


@pytest.mark.rabbitmq
def test_steering_that_ships_nothing_is_said_to(shops: Any, rabbitmq: RabbitNode) -> None:
    shop = shops(url(rabbitmq), evaluation={"ship": False})
    shop.worker(0)
    steering = shop.project.start("--config", "config.yaml", env=PASSWORD)
    shop.says(0, "steering ships none; set evaluation.ship: true in its config, and start it again")
    steering.terminate()
    steering.communicate(timeout=60)
    assert {p["state"] for p in shop.project.points()} == {"queued"}


def test_workers_of_this_machine_run_the_bundle_too(shops: Any) -> None:
    """So a change of the files in the middle of a run makes no difference to it; damage to the copy is mended."""
    shop = shops(None, evaluation={"workers": 1, "reuse": False, "heartbeat_s": 0.5, "lease_s": 5.0})
    shop.gate.unlink()
    steering = shop.project.start("--config", "config.yaml")
    bundles = shop.project.folder / "runs" / shop.name / "bundles"
    wait_for(lambda: bool(list(bundles.glob("*/helper.py"))), what="the bundle")
    wait_for(lambda: bool(list(bundles.parent.glob("logs/*-1.log"))), what="a training")
    (shop.project.folder / "helper.py").write_text("LOSS = 5.0\n")
    [copy] = bundles.glob("*/helper.py")
    time.sleep(5.5)  # the worker looks no more often
    copy.write_text("LOSS = 6.0\n")
    shop.gate.touch()
    _, err = steering.communicate(timeout=120)
    assert steering.returncode == 0, err
    assert shop.losses() == [1.0] * 6
    assert copy.read_text() == "LOSS = 1.0\n"


def test_short_evaluations_are_handed_to_warm_children_of_a_bundle(shops: Any) -> None:
    shop = shops(
        None,
        evaluation={"workers": 1, "reuse": True},
        steering={"points_per_iteration": 100, "max_points": 500},
    )
    shop.project.steer()
    assert shop.losses() == [1.0] * 500


def test_mistakes_are_one_sentence_before_anything_is_started(shops: Any, tmp_path: Path) -> None:
    shop = shops(None)
    evaluation: dict[str, Any] = {"workers": 1, "env": {"GATE": str(shop.gate)}}

    def refused(ship: Any, env: dict[str, str] | None = None) -> str:
        shop.project.configure(evaluation={**evaluation, "ship": ship})
        err: str = shop.project.steer(code=2, env=env)[1]
        assert len(err.strip().splitlines()) == 1
        assert "config.yaml:" in err or "pip install" in err
        assert not (shop.project.folder / "runs").exists()
        return err

    (shop.project.folder / "weights.bin").write_bytes(os.urandom(3_000_000))
    assert "more than max_mib (2 MiB); the largest are weights.bin (2.9 MiB)" in refused({"max_mib": 2})
    (shop.project.folder / "weights.bin").unlink()
    (tmp_path / "file").touch()
    assert "cannot be written to" in refused({"url": f"file://{tmp_path}/file/x"})
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    (shadow / "s3fs.py").write_text("raise ImportError('no such package')\n")
    path = os.pathsep.join(filter(None, (str(shadow), os.environ.get("PYTHONPATH"))))
    assert 'pip install "hpo-steer[s3]"' in refused({"url": "s3://bucket/x"}, env={"PYTHONPATH": path})
    (shop.project.folder / "data").symlink_to("/etc")
    assert "a link out of the folder" in refused(True)


def test_a_worker_is_told_what_does_not_go_with_ship(shops: Any) -> None:
    shop = shops(None)
    for more in (["--function", "a.py:f"], ["--command", "x"], ["--objective", "loss"]):
        _, err = shop.project.run(
            "--broker", "amqp://h", "--experiment", "e", "--ship", *more, program=EVALUATE, code=2
        )
        assert err.strip() == f"error: --ship: says what to run, so {more[0]} does not go with it"
