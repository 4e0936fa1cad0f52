"""Real workers that share nothing but a URL: what one has saved, the next one carries on."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from hpo_steer.messages import Bye, Result
from tests.acceptance.faults.disks import small_disk
from tests.integration.test_worker import PAYLOADS, Bench, gone, pids

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator

    from tests.servers.objects import S3Server

MAKERS = [pytest.param(False, id="local"), pytest.param(True, id="rabbitmq", marks=pytest.mark.rabbitmq)]
Make = "Callable[..., Bench]"


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Bench]]:
    benches = []

    def made(broker: str | None = None, **evaluation: Any) -> Bench:
        evaluation.setdefault("checkpoint", {"url": f"file://{tmp_path}/shared"})
        folder = tmp_path / "config"
        folder.mkdir(exist_ok=True)
        benches.append(Bench(folder, broker, **{"worker": {"grace_s": 8}, **evaluation}))
        return benches[-1]

    yield made
    for bench in benches:
        bench.close()


def said(worker: subprocess.Popen[str]) -> str:
    """What a worker that has ended has said."""
    assert worker.stderr is not None
    return worker.stderr.read()


def archives(shared: Path) -> list[Path]:
    return sorted(shared.glob("*/run-1/*/*.tar"))


def entries(shared: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted(shared.glob("*/run-1/*/*.json"))]


def at_step(bench: Bench, step: int) -> Callable[[], bool]:
    return lambda: any(getattr(event, "step", 0) >= step for event in bench.events)


def preempt(bench: Bench, worker: subprocess.Popen[str], point: int = 1, attempt: int = 1) -> Result:
    """Sends SIGTERM; returns the result that it answers with."""
    before = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    result = bench.result(point, attempt)
    bench.until(lambda: worker.poll() is not None)
    assert worker.returncode == 0
    assert time.monotonic() - before < 8, "it took longer than its grace time"
    assert bench.all(Bye)[-1].reason == "preempted"
    return result


@pytest.mark.parametrize("remote", MAKERS)
@pytest.mark.parametrize("reuse", [False, True], ids=["once", "reuse"])
def test_a_preempted_training_goes_on_elsewhere(
    make: Callable[..., Bench], request: pytest.FixtureRequest, tmp_path: Path, *, remote: bool, reuse: bool
) -> None:
    broker = request.getfixturevalue("rabbitmq").url if remote else None
    bench = make(broker, reuse=reuse)
    worker = bench.start(tmp_path / "one")
    bench.send(1, do="counts", steps=100_000)
    bench.until(at_step(bench, 20))
    result = preempt(bench, worker)
    assert result.failure is not None
    assert (result.failure.kind, result.metrics) == ("released", None)
    reached = int(next((tmp_path / "one").glob("**/checkpoint/step")).read_text())
    bench.start(tmp_path / "two")
    bench.send(1, attempt=2, do="counts", steps=reached + 5)
    assert bench.result(1, attempt=2).metrics == {"loss": 0.0, "begin": float(reached)}


def test_checkpoints_travel_through_s3(
    make: Callable[..., Bench], tmp_path: Path, s3_server: S3Server
) -> None:
    bench = make(checkpoint=f"s3://{s3_server.bucket}/checkpoints")
    env = dict(s3_server.environment)
    worker = bench.start(tmp_path / "one", **env)
    bench.send(1, do="counts", steps=100_000, ballast=3_000_000)
    bench.until(at_step(bench, 10))
    preempt(bench, worker)
    reached = int(next((tmp_path / "one").glob("**/checkpoint/step")).read_text())
    bench.start(tmp_path / "two", **env)
    bench.send(1, attempt=2, do="counts", steps=reached + 1)
    assert bench.result(1, attempt=2).metrics == {"loss": 0.0, "begin": float(reached)}


def test_an_interval_saves_what_a_killed_worker_had(make: Callable[..., Bench], tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    bench = make(checkpoint={"url": f"file://{shared}", "interval_s": 0.2})
    worker = bench.start(tmp_path / "one")
    bench.send(1, do="counts", steps=100_000)
    bench.until(lambda: len(entries(shared)) == 2 and at_step(bench, 30)())
    worker.kill()
    assert len(archives(shared)) <= 3, "older ones are removed"
    bench.start(tmp_path / "two")
    bench.send(1, attempt=2, do="counts", steps=1)
    metrics = bench.result(1, attempt=2).metrics
    assert metrics is not None
    assert metrics["begin"] >= 1


def test_a_checkpoint_half_written_is_not_taken(make: Callable[..., Bench], tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    bench = make(checkpoint={"url": f"file://{shared}", "interval_s": 0.3})
    faults = {"HPO_STEER_FAULTS": "worker.uploading:6:kill", "HPO_STEER_FAULTS_FOLDER": str(tmp_path)}
    worker = bench.start(tmp_path / "one", **faults)
    bench.send(1, do="counts", steps=100_000, ballast=3_500_000)  # a block is a MiB: 4 of one, 2 of the next
    bench.until(lambda: worker.poll() is not None)
    assert worker.returncode == -signal.SIGKILL
    (entry,) = entries(shared)
    half = next(path for path in archives(shared) if path.stem != entry["name"])
    assert half.stat().st_size < entry["size"]
    bench.start(tmp_path / "two")
    bench.send(1, attempt=2, do="counts", steps=1_000, pause=0.0)
    metrics = bench.result(1, attempt=2).metrics
    assert metrics is not None
    assert 1 <= metrics["begin"] < 1_000
    assert not half.exists(), "it is removed with the next one that is saved"


@pytest.mark.parametrize("damage", ["one", "both"])
def test_a_damaged_checkpoint_is_said_and_the_one_before_taken(
    make: Callable[..., Bench], tmp_path: Path, damage: str
) -> None:
    shared = tmp_path / "shared"
    bench = make(checkpoint={"url": f"file://{shared}", "interval_s": 0.2})
    worker = bench.start(tmp_path / "one")
    bench.send(1, do="counts", steps=100_000)
    bench.until(lambda: len(entries(shared)) == 2)
    preempt(bench, worker)
    for path in archives(shared)[-1 if damage == "one" else 0 :]:
        data = bytearray(path.read_bytes())
        data[600] ^= 1
        path.write_bytes(data)
    second = bench.start(tmp_path / "two")
    bench.send(1, attempt=2, do="counts", steps=1)
    metrics = bench.result(1, attempt=2).metrics
    assert metrics is not None
    assert (metrics["begin"] > 0) == (damage == "one")
    second.send_signal(signal.SIGTERM)
    bench.until(lambda: second.poll() is not None)
    text = said(second)
    assert "cannot be used: it is damaged: its SHA-256 is another than when it was saved" in text
    assert ("it begins from scratch" in text) == (damage == "both")


def test_a_checkpoint_beyond_its_bound_stays_and_the_training_goes_on(
    make: Callable[..., Bench], tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    bench = make(checkpoint={"url": f"file://{shared}", "interval_s": 0.1, "max_mib": 1})
    worker = bench.start(tmp_path / "one")
    bench.send(1, do="counts", steps=40, ballast=2_000_000)
    assert bench.result(1).metrics == {"loss": 0.0, "begin": 0.0}
    worker.send_signal(signal.SIGTERM)
    bench.until(lambda: worker.poll() is not None)
    told = [line for line in said(worker).splitlines() if "not saved" in line]
    assert told == [
        (
            f"warning: point 1: its checkpoint is not saved to file://{shared}: it holds more than 1.0 MiB "
            "(evaluation.checkpoint.max_mib); the training goes on"
        )
    ]
    assert archives(shared) == []


def test_a_place_that_cannot_be_reached_is_said_once(make: Callable[..., Bench], tmp_path: Path) -> None:
    (tmp_path / "wall").write_text("no folder")
    bench = make(checkpoint={"url": f"file://{tmp_path}/wall/below", "interval_s": 0.1})
    worker = bench.start(tmp_path / "one")
    bench.send(1, do="counts", steps=40)
    assert bench.result(1).metrics == {"loss": 0.0, "begin": 0.0}
    bench.send(2, attempt=2, do="counts", steps=2)
    assert bench.result(2, attempt=2).metrics == {"loss": 0.0, "begin": 0.0}
    worker.send_signal(signal.SIGTERM)
    bench.until(lambda: worker.poll() is not None)
    text = said(worker)
    assert text.count("warning: checkpoints are not saved: ") == 1
    assert "trainings go on, and it is tried again" in text
    assert "warning: point 2: no checkpoint was fetched: " in text


def test_those_of_a_point_with_a_value_are_deleted_if_they_are_not_kept(
    make: Callable[..., Bench], tmp_path: Path
) -> None:
    shared, home = tmp_path / "shared", tmp_path / "one"
    bench = make(checkpoint={"url": f"file://{shared}", "interval_s": 0.2, "keep": "unfinished"})
    worker = bench.start(home)
    bench.send(1, do="counts", steps=100_000)
    bench.until(lambda: bool(archives(shared)))
    preempt(bench, worker)
    assert archives(shared), "it is not finished"
    bench.start(tmp_path / "two")
    bench.send(1, attempt=2, do="counts", steps=1)
    assert bench.result(1, attempt=2).metrics is not None
    bench.until(lambda: not archives(shared) and not list((tmp_path / "two").glob("**/checkpoint")))


def test_a_full_disk_where_checkpoints_are_kept(make: Callable[..., Bench], tmp_path: Path) -> None:
    with small_disk(tmp_path / "shared", 2_000) as disk:
        bench = make(checkpoint={"url": f"file://{disk.path}", "interval_s": 0.2})
        worker = bench.start(tmp_path / "one")
        bench.send(1, do="counts", steps=3)  # this one fits
        bench.result(1)
        bench.send(2, do="counts", steps=50, ballast=3_000_000)
        assert bench.result(2).metrics == {"loss": 0.0, "begin": 0.0}
        worker.send_signal(signal.SIGTERM)
        bench.until(lambda: worker.poll() is not None)
        told = f"file://{disk.path} cannot be written to: No space left on device"
        assert said(worker).count(told) == 1
        assert {path.parent.name for path in archives(disk.path)} == {"1"}, "of the other nothing is left"


def test_a_full_disk_where_a_checkpoint_is_needed(make: Callable[..., Bench], tmp_path: Path) -> None:
    bench = make()
    first = bench.start(tmp_path / "one")
    bench.send(1, do="counts", steps=5, ballast=3_000_000)
    bench.result(1)
    preempt_idle(bench, first)
    with small_disk(tmp_path / "two", 2_000):
        second = bench.start(tmp_path / "two")
        bench.send(1, attempt=2, do="counts", steps=7)
        assert bench.result(1, attempt=2).metrics == {"loss": 0.0, "begin": 0.0}
        preempt_idle(bench, second)
        text = said(second)
    assert "warning: point 1: " in text
    assert f"cannot be used: it cannot be unpacked in {tmp_path}/two/" in text
    assert "points/1: No space left on device" in text
    assert "it begins from scratch" in text


def test_a_worker_leaves_in_time_though_its_training_does_not(
    make: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = make(worker={"grace_s": 3})
    worker = bench.start(tmp_path / "one")
    file = tmp_path / "pids"
    bench.send(1, do="family", pids=str(file))
    bench.started(1)
    processes = pids(file)
    began = time.monotonic()
    result = preempt(bench, worker)
    assert time.monotonic() - began < 3
    assert result.failure is not None
    assert result.failure.kind == "released"
    assert all(gone(pid) for pid in processes)


def test_a_worker_without_work_leaves_at_once(make: Callable[..., Bench], tmp_path: Path) -> None:
    bench = make()
    worker = bench.start(tmp_path / "one")
    bench.send(1, do="square", x=1)
    bench.result(1)
    began = time.monotonic()
    worker.send_signal(signal.SIGTERM)
    bench.until(lambda: worker.poll() is not None)
    assert worker.returncode == 0
    assert time.monotonic() - began < 2


COMMAND = """
import os, pathlib, signal, sys, time
kept = pathlib.Path(os.environ["HPO_STEER_ATTEMPT_DIR"]).parent / "checkpoint"
kept.mkdir(parents=True, exist_ok=True)
begin = int((kept / "step").read_text()) if (kept / "step").exists() else 0
step = begin
def leave(*_):
    (kept / "step").write_text(str(step))
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
while step < int(sys.argv[1]):
    step += 1
    pathlib.Path(sys.argv[2]).touch()
    time.sleep(0.02)
print('{"loss": 0.0, "begin": %d}' % begin)
"""


def test_a_command_saves_at_sigterm(make: Callable[..., Bench], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    bench = make(command=["python3", "-c", COMMAND, "{steps}", str(begun)])
    worker = bench.start(tmp_path / "one")
    bench.send(1, steps=100_000)
    bench.until(begun.exists)
    time.sleep(0.1)
    result = preempt(bench, worker)
    assert result.failure is not None
    assert result.failure.kind == "released"
    bench.start(tmp_path / "two")
    bench.send(1, attempt=2, steps=1)
    metrics = bench.result(1, attempt=2).metrics
    assert metrics is not None
    assert metrics["begin"] >= 1


FILES = """
import json, os, signal, sys, time
begin = step = json.load(open("state/step")) if os.path.isdir("state") else 0
steps = json.load(open("input.json"))["steps"]
def leave(*_):
    os.makedirs("state", exist_ok=True)
    json.dump(step, open("state/step", "w"))
    sys.exit(1)
signal.signal(signal.SIGTERM, leave)
open(sys.argv[1], "w").close()
while step < steps:
    step += 1
    time.sleep(0.02)
json.dump({"status": 0, "loss": 0.0, "begin": begin}, open("output.json", "w"))
"""


def test_the_files_of_a_command_travel(make: Callable[..., Bench], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    bench = make(command=["python3", "-c", FILES, str(begun)], files={"checkpoint": ["state"]})
    worker = bench.start(tmp_path / "one")
    bench.send(1, steps=100_000)
    bench.until(begun.exists)
    time.sleep(0.1)
    preempt(bench, worker)
    bench.start(tmp_path / "two")
    bench.send(1, attempt=2, steps=1)
    metrics = bench.result(1, attempt=2).metrics
    assert metrics is not None
    assert metrics["begin"] >= 1


SERVICE = """
import json, os, pathlib, signal, sys, time
step = 0
def leave(*_):
    kept.mkdir(parents=True, exist_ok=True)
    (kept / "step").write_text(str(step))
    sys.exit(0)
for line in sys.stdin:
    request = json.loads(line)
    kept = pathlib.Path(request["dir"]).parent / "checkpoint"
    begin = step = int((kept / "step").read_text()) if (kept / "step").exists() else 0
    signal.signal(signal.SIGTERM, leave)
    pathlib.Path(sys.argv[1]).touch()
    while step < request["params"]["steps"]:
        step += 1
        time.sleep(0.02)
    print(json.dumps({"key": request["key"], "metrics": {"loss": 0.0, "begin": begin}}), flush=True)
"""


def test_a_service_saves_at_sigterm(make: Callable[..., Bench], tmp_path: Path) -> None:
    begun = tmp_path / "begun"
    bench = make(service=["python3", "-c", SERVICE, str(begun)])
    worker = bench.start(tmp_path / "one")
    bench.send(1, steps=100_000)
    bench.until(begun.exists)
    time.sleep(0.1)
    preempt(bench, worker)
    bench.start(tmp_path / "two")
    bench.send(1, attempt=2, steps=1)
    metrics = bench.result(1, attempt=2).metrics
    assert metrics is not None
    assert metrics["begin"] >= 1


@pytest.mark.parametrize("form", ["function", "command"])
def test_what_runs_in_a_container_saves_too(
    make: Callable[..., Bench], tmp_path: Path, podman_image: str, form: str
) -> None:
    inside = {"image": podman_image, "runtime": "podman", "mounts": [f"{tmp_path}:{tmp_path}"]}
    begun = tmp_path / "begun"
    if form == "command":
        bench = make(container=inside, command=["python3", "-c", COMMAND, "{steps}", str(begun)])
    else:
        bench = make(container=inside, function="trainings.py:counts")
        (bench.folder / "trainings.py").write_bytes((PAYLOADS / "trainings.py").read_bytes())
    worker = bench.start(tmp_path / "one")
    bench.send(1, steps=100_000)
    bench.until(begun.exists if form == "command" else at_step(bench, 3))
    time.sleep(0.1)
    result = preempt(bench, worker)
    assert result.failure is not None
    assert result.failure.kind == "released"
    bench.start(tmp_path / "two")
    bench.send(1, attempt=2, steps=1)
    metrics = bench.result(1, attempt=2).metrics
    assert metrics is not None
    assert metrics["begin"] >= 1


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_point_begins_with_its_parents_checkpoint(
    make: Callable[..., Bench], tmp_path: Path, *, elsewhere: bool
) -> None:
    bench = make(**({} if elsewhere else {"checkpoint": None}))
    first = bench.start(tmp_path / "one")
    bench.send(1, do="counts", steps=7)
    assert bench.result(1).metrics == {"loss": 0.0, "begin": 0.0}
    if elsewhere:
        preempt_idle(bench, first)
        bench.start(tmp_path / "two")
    bench.steering.publish([bench.work(2, do="counts", steps=9).model_copy(update={"parent": 1})])
    assert bench.result(2).metrics == {"loss": 0.0, "begin": 7.0}
    bench.steering.publish([bench.work(3, do="counts", steps=11).model_copy(update={"parent": 2})])
    assert bench.result(3).metrics == {"loss": 0.0, "begin": 9.0}
    bench.steering.publish([bench.work(4, do="counts", steps=11).model_copy(update={"parent": 99})])
    assert bench.result(4).metrics == {"loss": 0.0, "begin": 0.0}
    worker = bench.workers[-1]
    preempt_idle(bench, worker)
    assert "point 4: point 99 has left no checkpoint; it begins from scratch" in said(worker)


def preempt_idle(bench: Bench, worker: subprocess.Popen[str]) -> None:
    worker.send_signal(signal.SIGTERM)
    bench.until(lambda: worker.poll() is not None)


def test_the_checkpoint_of_another_run_is_not_taken(make: Callable[..., Bench], tmp_path: Path) -> None:
    bench = make(checkpoint=None)
    bench.start(tmp_path / "one")
    bench.send(1, do="counts", steps=7)
    bench.result(1)
    again = bench.work(1, do="counts", steps=8)
    owner = tmp_path / "one/points/1/checkpoint.json"
    owner.write_text(owner.read_text().replace("run-1", "run-0"))
    bench.steering.publish([again.model_copy(update={"attempt": 2})])
    assert bench.result(1, attempt=2).metrics == {"loss": 0.0, "begin": 0.0}


def test_a_batch_system_ends_trainings_before_their_worker(
    make: Callable[..., Bench], tmp_path: Path
) -> None:
    bench = make(checkpoint={"url": f"file://{tmp_path}/shared", "interval_s": 0.1})
    worker = bench.start(tmp_path / "one")
    file = tmp_path / "pids"
    bench.send(1, do="family", pids=str(file))
    bench.started(1)
    psutil.Process(pids(file)[0]).terminate()
    time.sleep(0.3)
    result = preempt(bench, worker)
    assert result.failure is not None
    assert result.failure.kind == "released"


def test_a_training_that_gets_sigterm_alone_has_failed(make: Callable[..., Bench], tmp_path: Path) -> None:
    bench = make()
    bench.start(tmp_path / "one")
    file = tmp_path / "pids"
    bench.send(1, do="family", pids=str(file))
    bench.started(1)
    psutil.Process(pids(file)[0]).terminate()
    result = bench.result(1)
    assert result.failure is not None
    assert (result.failure.kind, result.failure.message) == (
        "error",
        "the training was killed by SIGTERM before it returned",
    )
