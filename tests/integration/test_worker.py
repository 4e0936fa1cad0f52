"""A real worker process, over the local transport and over RabbitMQ."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from select import select
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from hpo_steer.messages import Bye, Cancel, Event, Heartbeat, Hello, Report, Result, Started, Stop, Work
from hpo_steer.transport import BrokerSettings, steering_end
from hpo_steer.transport.base import Delivery
from hpo_steer.transport.local import LocalSteeringEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.servers.rabbitmq import RabbitNode

PAYLOADS = Path(__file__).parents[1] / "payloads"
ROOT = Path(__file__).parents[2]


def _heeds_ctrl_c() -> None:
    """Tests that run in the background are started with SIGINT ignored, and so would be what they start."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Bench:
    """Steering's side of a transport, and the workers it has started."""

    def __init__(self, folder: Path, broker: str | None = None, **evaluation: Any) -> None:
        self.folder, self.broker = folder, broker
        self.name = f"bench-{secrets.token_hex(4)}"
        config = {
            "name": self.name,
            "search_space": {"x": {"type": "float", "low": 0, "high": 10}},
            "objectives": {"loss": "minimize"},
            "algorithm": "random",
            "evaluation": {"heartbeat_s": 0.2, "lease_s": 5, **evaluation},
        }
        if not {"function", "command", "service"} & evaluation.keys():
            config["evaluation"]["function"] = f"{PAYLOADS / 'trainings.py'}:behave"  # type: ignore[index]
        self.config = folder / "config.json"
        self.config.write_text(json.dumps(config))
        self.steering = steering_end(BrokerSettings(broker or "local"), self.name, "run-1")
        self.steering.open()
        self.events: list[Event] = []
        self.workers: list[subprocess.Popen[str]] = []
        self.settles = True

    def start(self, folder: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """Starts a worker, as steering does; in a work folder of its own, if one is named."""
        folder = folder or self.folder
        command = [sys.executable, "-P", "-m", "evaluation", "--config", str(self.config)]
        if isinstance(self.steering, LocalSteeringEnd):
            env |= {"HPO_STEER_LOCAL": self.steering.address, "HPO_STEER_RUN": "run-1"}
            env["HPO_STEER_RUN_FOLDER"] = str(folder)
        else:
            command += ["--broker", str(self.broker), "--work-dir", str(folder / "work")]
        worker = subprocess.Popen(
            command,
            env={**os.environ, **env},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            preexec_fn=_heeds_ctrl_c,  # noqa: PLW1509 - no threads here
        )
        self.workers.append(worker)
        return worker

    def send(self, point: int, attempt: int = 1, timeout_s: float | None = None, **params: Any) -> None:
        self.steering.publish([self.work(point, attempt, timeout_s, **params)])

    def work(self, point: int, attempt: int = 1, timeout_s: float | None = None, **params: Any) -> Work:
        return Work(
            experiment=self.name,
            run="run-1",
            point=point,
            attempt=attempt,
            model="main",
            iteration=3,
            params=params,
            timeout_s=timeout_s,
        )

    def until(self, done: Callable[[], Any], within_s: float = 20.0) -> Any:
        """Takes events until something is true."""
        deadline = time.monotonic() + within_s
        while not (value := done()):
            assert time.monotonic() < deadline, f"waited in vain; there came {self.events}"
            select([self.steering], [], [], 0.05)
            got = [e for e in self.steering.receive() if isinstance(e, Delivery)]
            self.events += [delivery.message for delivery in got]
            if self.settles:
                self.steering.settle(got)
        return value

    def stop(self, point: int, **how: Any) -> None:
        self.steering.control(Stop(experiment=self.name, run="run-1", point=point, attempt=1, **how))

    def cancel(self, *points: int) -> None:
        self.steering.control(Cancel(experiment=self.name, run="run-1", points=list(points)))

    def all(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def result(self, point: int, attempt: int = 1, within_s: float = 20.0) -> Result:
        """Waits for the result of an attempt."""

        def found() -> list[Result]:
            return [r for r in self.all(Result) if (r.point, r.attempt) == (point, attempt)]

        return self.until(found, within_s)[0]  # type: ignore[no-any-return]

    def started(self, point: int) -> None:
        self.until(lambda: [s for s in self.all(Started) if s.point == point])

    def run(self, *, worker: bool = True, **params: Any) -> Result:
        """Evaluates one point with one worker."""
        if worker:
            self.start()
        self.send(1, **params)
        return self.result(1)

    def close(self) -> None:
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
            assert worker.stderr is not None
            worker.stderr.close()
        self.steering.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=[False, True], ids=["once", "reuse"])
def either(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    made = Bench(tmp_path, reuse=request.param)
    yield made
    made.close()


def gone(pid: int, within_s: float = 5.0) -> bool:
    """Whether a process ends within some time; a zombie has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            if psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


def pids(file: Path) -> list[int]:
    deadline = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(pid) for pid in file.read_text().split()]


def test_a_point_is_started_evaluated_and_answered(bench: Bench) -> None:
    result = bench.run(do="square", x=3.0)
    assert result.metrics == {"loss": 9.0}
    assert [type(e) for e in bench.events if not isinstance(e, Heartbeat)] == [Hello, Started, Result]
    assert (bench.folder / "logs/1-1.log").read_text() == "squaring 3.0\n"
    assert list((bench.folder / "points").iterdir()) == []
    assert result.duration_s > 0
    assert abs(result.started_at - time.time()) < 30


@pytest.mark.parametrize(
    ("do", "kind", "message"),
    [
        ("raises", "error", "ValueError: x is 2.0"),
        ("is_nan", "invalid", 'metric "loss" is nan'),
        ("wrong_metric", "error", 'behave() returned no metric "loss"; it returned: acc'),
        ("returns_none", "error", 'behave() returned None; expected a dict with "loss" or a number'),
        ("invalid", "invalid", "x is too large for the detector"),
        ("leaves", "error", "behave() left with sys.exit(3) before it returned"),
        ("dies", "error", "the training was killed by SIGKILL before it returned"),
    ],
)
def test_a_failure_is_one_sentence_and_the_worker_goes_on(
    either: Bench, do: str, kind: str, message: str
) -> None:
    result = either.run(do=do, x=2.0)
    assert result.failure is not None
    assert result.failure.kind == kind
    assert result.failure.message.startswith(message)
    either.send(2, do="square", x=2.0)
    assert either.result(2).metrics == {"loss": 4.0}


def test_the_log_of_a_failure_travels(either: Bench) -> None:
    log = either.run(do="raises", x=2.0).log
    assert "about to fail" in log
    assert "Traceback" in log
    assert log.endswith("ValueError: x is 2.0")
    assert "child.py" not in log
    assert (either.folder / "logs/1-1.log").read_text().startswith("about to fail")


def test_a_timeout_ends_the_attempt_and_its_grandchildren(either: Bench) -> None:
    either.start()
    file = either.folder / "pids"
    either.send(1, timeout_s=1.0, do="family", pids=str(file))
    result = either.result(1)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.message) == ("timeout", "no result within 1 s")
    assert all(gone(pid) for pid in pids(file))


@pytest.mark.slow
def test_a_training_that_ignores_sigterm_is_killed(bench: Bench) -> None:
    bench.start()
    bench.send(1, timeout_s=0.5, do="stubborn")
    result = bench.result(1)
    assert result.failure is not None
    assert result.failure.kind == "timeout"
    assert 5 < result.duration_s < 10


def test_grandchildren_end_with_their_attempt(bench: Bench) -> None:
    file = bench.folder / "pids"
    assert bench.run(do="family", pids=str(file), seconds=0.2).metrics == {"loss": 1.0}
    assert all(gone(pid) for pid in pids(file))


def test_killing_the_worker_leaves_nobody_behind(either: Bench) -> None:
    worker = either.start()
    file = either.folder / "pids"
    either.send(1, do="family", pids=str(file))
    either.started(1)
    family = pids(file)
    warden = [p for p in psutil.Process(worker.pid).children() if "warden" in " ".join(p.cmdline())]
    assert len(warden) == 1
    worker.kill()
    assert all(gone(pid) for pid in [*family, warden[0].pid])


def test_work_of_a_killed_worker_that_was_not_acknowledged_goes_to_another(bench: Bench) -> None:
    bench.settles = False
    worker = bench.start()
    bench.send(1, do="square", x=2.0)
    bench.started(1)
    worker.kill()
    bench.settles = True
    bench.start()
    assert bench.result(1).metrics == {"loss": 4.0}


def test_reuse_keeps_one_process_and_a_failure_replaces_it(tmp_path: Path) -> None:
    bench = Bench(tmp_path, reuse=True)
    try:
        bench.start()
        for point, do in enumerate(["who", "who", "invalid", "who", "raises", "who"]):
            bench.send(point, do=do, x=0)
        seen = [bench.result(point).metrics for point in (0, 1, 3, 5)]
        assert len({m["pid"] for m in seen[:3] if m}) == 1
        assert seen[3] is not None
        assert seen[0] is not None
        assert seen[3]["pid"] != seen[0]["pid"]
    finally:
        bench.close()


def test_a_warm_child_that_heeds_a_stop_stays_warm(tmp_path: Path) -> None:
    bench = Bench(tmp_path, reuse=True)
    try:
        bench.start()
        bench.send(0, do="who", x=0)
        bench.send(1, do="reports")
        bench.until(lambda: bench.all(Report))
        bench.stop(1, kind="pruned", reason="the best third is better")
        assert (failure := bench.result(1).failure) is not None
        assert failure.kind == "pruned"
        bench.send(2, do="who", x=0)
        before, after = bench.result(0).metrics, bench.result(2).metrics
        assert before is not None
        assert after is not None
        assert after["pid"] == before["pid"]
    finally:
        bench.close()


def test_a_training_knows_its_point_and_finds_its_checkpoints(either: Bench) -> None:
    assert either.run(do="who").metrics is not None
    either.send(1, attempt=2, do="who")
    metrics = either.result(1, attempt=2).metrics
    assert metrics is not None
    assert (metrics["id"], metrics["attempt"], metrics["iteration"], metrics["before"]) == (1, 2, 3, 1)


def test_reports_travel_and_stop_ends_the_training(either: Bench) -> None:
    either.start()
    either.send(1, do="reports")
    either.until(lambda: len(either.all(Report)) > 3)
    assert either.all(Report)[1].metrics == {"loss": 0.5}
    either.stop(1, kind="pruned", reason="worse than the median")
    result = either.result(1)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.message) == ("pruned", "worse than the median")


def test_a_swallowed_stop_still_counts(bench: Bench) -> None:
    bench.start()
    bench.send(1, do="swallows")
    bench.until(lambda: bench.all(Report))
    bench.stop(1)
    result = bench.result(1)
    assert result.failure is not None
    assert result.failure.kind == "cancelled"


def test_short_evaluations_cost_no_lease(tmp_path: Path) -> None:
    bench = Bench(tmp_path, reuse=True)
    try:
        bench.start()
        bench.steering.publish([bench.work(i, do="square", x=i) for i in range(300)])
        bench.until(lambda: len(bench.all(Result)) == 300)
        assert len(bench.all(Started)) < 10
        assert sorted(r.point for r in bench.all(Result)) == list(range(300))
        bench.send(1000, do="sleeps", seconds=2)
        assert bench.result(1000).metrics == {"loss": 1.0}
        assert [s.point for s in bench.all(Started)][-1] == 1000
    finally:
        bench.close()


def test_a_long_evaluation_among_short_ones_holds_nothing_back(tmp_path: Path) -> None:
    bench = Bench(tmp_path, reuse=True)
    try:
        bench.start()
        bench.steering.publish([bench.work(i, do="square", x=i) for i in range(200)])
        bench.until(lambda: len(bench.all(Result)) == 200)
        bench.send(1000, do="sleeps", seconds=30)
        bench.steering.publish([bench.work(i, do="square", x=i) for i in range(2000, 2050)])
        bench.started(1000)
        bench.until(lambda: bench.steering.waiting() == 50)
        bench.start()
        bench.until(lambda: len(bench.all(Result)) == 250)
    finally:
        bench.close()


def test_cancelled_points_are_dropped(bench: Bench) -> None:
    bench.start()
    bench.send(1, do="sleeps", seconds=1)
    bench.started(1)
    bench.cancel(2)
    bench.send(2, do="square", x=1)
    bench.send(3, do="square", x=1)
    bench.result(3)
    assert 2 not in {r.point for r in bench.all(Result)}


def test_a_first_signal_drains_and_a_second_stops(bench: Bench) -> None:
    worker = bench.start()
    bench.send(1, do="sleeps", seconds=1)
    bench.send(2, do="sleeps", seconds=30)
    bench.started(1)
    worker.send_signal(signal.SIGINT)
    assert bench.result(1).metrics == {"loss": 1.0}
    bench.until(lambda: bench.all(Bye))
    assert worker.wait(10) == 0
    assert bench.steering.waiting() == 1
    second = bench.start()
    bench.started(2)
    time.sleep(0.3)
    second.send_signal(signal.SIGINT)
    time.sleep(0.5)  # two of a kind at once are one
    second.send_signal(signal.SIGINT)
    bench.until(lambda: second.poll() is not None)
    assert second.returncode == 130


def test_heartbeats_name_what_runs(bench: Bench) -> None:
    bench.start()
    bench.until(lambda: bench.all(Heartbeat))
    assert bench.all(Heartbeat)[0].running == []
    bench.send(7, do="sleeps", seconds=1)
    bench.until(lambda: [h for h in bench.all(Heartbeat) if h.running == [(7, 1)]])


def test_a_result_that_nobody_took_is_sent_by_the_next_worker(bench: Bench) -> None:
    worker = bench.start()
    bench.send(1, do="sleeps", seconds=1)
    bench.started(1)
    time.sleep(0.3)  # the start is confirmed, so the result will go by way of the spool
    bench.settles = False
    bench.result(1)
    bench.until(lambda: [h for h in bench.all(Heartbeat) if h.spooled == 1])
    worker.kill()
    assert len(list((bench.folder / "spool").glob("*/*.json"))) == 1
    bench.events.clear()
    bench.settles = True
    bench.start()
    assert bench.result(1).metrics == {"loss": 1.0}
    bench.until(lambda: [h for h in bench.all(Heartbeat) if h.spooled == 0])
    bench.until(lambda: not list((bench.folder / "spool").glob("*/*.json")))


def test_children_end_when_steering_is_gone(bench: Bench) -> None:
    worker = bench.start()
    file = bench.folder / "pids"
    bench.send(1, do="family", pids=str(file))
    bench.started(1)
    family = pids(file)
    bench.steering.close()
    assert all(gone(pid) for pid in family)
    assert worker.wait(15) == 0


def test_a_command_reports_through_the_same_api(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import sys, hpo_steer, json\n"
        "for step in range(3): hpo_steer.report(step, loss=1 / (1 + step))\n"
        "print('noise', file=sys.stderr)\n"
        "json.dump({'loss': float(sys.argv[1]), 'id': hpo_steer.point().id}, open(sys.argv[2], 'w'))\n"
    )
    bench = Bench(tmp_path, command=[sys.executable, "train.py", "{x}", "{output}"])
    try:
        assert bench.run(x=0.5).metrics == {"loss": 0.5, "id": 1.0}
        assert [r.step for r in bench.all(Report)] == [0, 1, 2]
        assert (tmp_path / "logs/1-1.log").read_text() == "noise\n"
    finally:
        bench.close()


def _bare_venv(folder: Path, python: str) -> Path:
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True)
    site = next(folder.glob("lib/python3*/site-packages"))
    (site / "containers").mkdir()
    (site / "containers/__init__.py").write_text("whose = 'installed by the user'\n")
    return folder / "bin/python"


def _pythons() -> list[str]:
    named = [shutil.which(f"python3.{minor}") for minor in range(9, 15)]
    working = [
        p
        for p in named
        if p and subprocess.run([p, "-c", ""], check=False, capture_output=True).returncode == 0
    ]
    return list(dict.fromkeys([sys.executable, *working]))


@pytest.mark.parametrize("python", _pythons())
@pytest.mark.parametrize("reuse", [False, True])
def test_users_modules_of_our_names_are_their_own(tmp_path: Path, python: str, reuse: bool) -> None:
    """The payload has evaluation.py, algorithms/ and steering/, its environment a package `containers`."""
    payload = tmp_path / "payload"
    for package in ("algorithms", "steering"):
        (payload / package).mkdir(parents=True)
        (payload / package / "__init__.py").write_text(f"whose = 'the {package} of the payload'\n")
    (payload / "evaluation.py").write_text("whose = 'the evaluation of the payload'\n")
    (payload / "train.py").write_text(
        "import sys, hpo_steer\n"
        "def train(params):\n"
        "    import algorithms, containers, evaluation, steering\n"
        "    assert evaluation.whose == 'the evaluation of the payload'\n"
        "    assert algorithms.whose == 'the algorithms of the payload'\n"
        "    assert steering.whose == 'the steering of the payload'\n"
        "    assert containers.whose == 'installed by the user'\n"
        "    assert 'pydantic' not in sys.modules\n"
        "    hpo_steer.report(1, loss=2.0)\n"
        "    return params['x']\n"
    )
    interpreter = _bare_venv(tmp_path / "venv", python)
    bench = Bench(tmp_path, function="payload/train.py:train", python=str(interpreter), reuse=reuse)
    try:
        bench.start(PYTHONPATH="")
        bench.send(1, x=1.5)
        result = bench.result(1)
        assert result.failure is None, result.log
        assert result.metrics == {"loss": 1.5}
    finally:
        bench.close()


def test_the_worker_itself_is_not_shadowed_when_started_by_its_path(bench: Bench, tmp_path: Path) -> None:
    shadow = tmp_path / "shadow"
    shadow.mkdir()
    for name in ("evaluation", "hpo_steer", "algorithms"):
        (shadow / f"{name}.py").write_text("raise RuntimeError('a file of the user')\n")
    done = subprocess.run(
        [sys.executable, "-P", str(ROOT / "evaluation/__main__.py"), "--help"],
        cwd=shadow,
        env={**os.environ, "PYTHONPATH": str(shadow)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "hpo-evaluate --config" in done.stdout


@pytest.fixture
def remote(rabbitmq: RabbitNode, tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path, rabbitmq.url)
    yield made
    made.close()


@pytest.mark.rabbitmq
def test_a_worker_over_rabbitmq_learns_the_run_from_its_work(remote: Bench) -> None:
    worker = remote.start()
    remote.until(lambda: remote.all(Hello))
    assert remote.all(Hello)[0].run == "*"
    remote.send(1, do="who")
    result = remote.result(1)
    assert result.run == "run-1"
    assert result.metrics is not None
    remote.until(lambda: [h for h in remote.all(Heartbeat) if h.run == "run-1"])
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    remote.until(lambda: remote.all(Bye))


@pytest.mark.rabbitmq
@pytest.mark.slow
def test_a_training_outlives_its_broker(remote: Bench, rabbitmq: RabbitNode) -> None:
    remote.start()
    remote.send(1, do="sleeps", seconds=4)
    remote.started(1)
    time.sleep(2.5)  # RabbitMQ 3.10 has a new queue on disk only after a while
    rabbitmq.kill()
    time.sleep(2.0)
    rabbitmq.start()
    assert remote.result(1, within_s=60).metrics == {"loss": 1.0}
    remote.send(2, do="square", x=3)
    assert remote.result(2, within_s=30).metrics == {"loss": 9.0}
    assert len(remote.all(Started)) <= 3


@pytest.mark.rabbitmq
def test_short_evaluations_over_rabbitmq(rabbitmq: RabbitNode, tmp_path: Path) -> None:
    bench = Bench(tmp_path, rabbitmq.url, reuse=True, slots=2)
    try:
        bench.start()
        bench.steering.publish([bench.work(i, do="square", x=i) for i in range(500)])
        bench.until(lambda: len({r.point for r in bench.all(Result)}) == 500)
        assert len(bench.all(Result)) == 500
        bench.until(lambda: bench.steering.waiting() == 0)
    finally:
        bench.close()
