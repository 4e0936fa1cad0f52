"""Slots with the installed programs: each training sees its part of the machine, and more is refused or waited for."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from evaluation.resources.seats import THREADS
from hpo_steer.machine import look
from hpo_steer.machine.gpus import VISIBLE
from steering.words import host_of
from tests.acceptance.program import EVALUATE, Project, wait_for
from tests.servers.rabbitmq import RabbitNode

NVML = Path(__file__).parents[1] / "payloads/nvml"
GPUS = [{"uuid": f"GPU-{letter}", "name": "NVIDIA H200", "mib": 140_000, "busy": 50} for letter in "ab"]
TRAIN = """
import json, os, time

def train(params):
    seen = {name: os.environ.get(name) for name in (
        "HPO_STEER_SLOT", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "XLA_PYTHON_CLIENT_MEM_FRACTION",
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT", "CUDA_MPS_PIPE_DIRECTORY")}
    seen["cores"] = sorted(os.sched_getaffinity(0))
    with open("seen.jsonl", "a") as file:
        file.write(json.dumps(seen) + "\\n")
    if os.environ.get("FAKE_GPU_PROCESSES"):
        taken = os.path.join(os.environ["FAKE_GPU_PROCESSES"], f"GPU-a.{os.getpid()}")
        with open(taken + ".new", "w") as file:
            file.write("99000")
        os.rename(taken + ".new", taken)
        time.sleep(60)
    hold = bytearray(int(params.get("mib", 0)) << 20)
    hold[::4096] = b"x" * len(hold[::4096])
    while os.path.exists("hold"):
        time.sleep(0.05)
    time.sleep(0.3 if len(hold) == 0 else 5)
    return params["x"]
"""


def env(gpus: list[dict[str, Any]] | None = None, **more: str) -> dict[str, str]:
    own = {VISIBLE, *THREADS}
    given = {name: value for name, value in os.environ.items() if name not in own}
    given["PYTHONPATH"] = str(NVML)
    if gpus is not None:
        given["FAKE_GPUS"] = json.dumps(gpus)
    return given | more


@pytest.fixture(autouse=True)
def _own_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests side by side are no rivals for the GPUs that they pretend to have."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


def project(folder: Path, points: int = 6, name: str = "demo", **evaluation: Any) -> Project:
    made = Project(
        folder,
        name=name,
        search_space={"x": {"type": "float", "low": 0.0, "high": 1.0}},
        steering={"max_points": points, "points_per_iteration": points},
        evaluation={"workers": 1, "reuse": False, "max_attempts": 1, **evaluation},
    )
    (folder / "train.py").write_text(TRAIN)
    return made


def test_each_training_sees_one_gpu_and_all_gpus_are_used(tmp_path: Path) -> None:
    made = project(tmp_path, gpus=1)
    made.steer(env=env(GPUS))
    assert {each["CUDA_VISIBLE_DEVICES"] for each in made.seen()} == {"GPU-a", "GPU-b"}
    by_slot = {each["HPO_STEER_SLOT"]: each["CUDA_VISIBLE_DEVICES"] for each in made.seen()}
    assert len(by_slot) == 2
    assert all(by_slot[each["HPO_STEER_SLOT"]] == each["CUDA_VISIBLE_DEVICES"] for each in made.seen())
    assert all(each["XLA_PYTHON_CLIENT_MEM_FRACTION"] is None for each in made.seen())


def test_workers_of_one_machine_share_its_gpus_out(tmp_path: Path) -> None:
    made = project(tmp_path, gpus=0.5, workers=2, points=12)
    out, _ = made.steer(env=env(GPUS))
    uses = {(each["CUDA_VISIBLE_DEVICES"], each["HPO_STEER_SLOT"]) for each in made.seen()}
    assert {gpu for gpu, _ in uses} == {"GPU-a", "GPU-b"}
    assert all(each["XLA_PYTHON_CLIENT_MEM_FRACTION"] == "0.450" for each in made.seen())
    assert "12 points" in out
    assert "2 workers here, 4 slots" in out


def test_several_gpus_a_point(tmp_path: Path) -> None:
    made = project(tmp_path, points=2, gpus=2)
    made.steer(env=env(GPUS))
    assert [each["CUDA_VISIBLE_DEVICES"] for each in made.seen()] == ["GPU-a,GPU-b"] * 2


def test_cores_are_pinned_and_threads_bounded(tmp_path: Path) -> None:
    cores = list(look().cores)
    made = project(tmp_path, cores=1)
    made.steer(env=env())
    assert {tuple(each["cores"]) for each in made.seen()} == {(core,) for core in cores}
    assert {each["OMP_NUM_THREADS"] for each in made.seen()} == {"1"}


def test_trainings_side_by_side_start_a_thread_for_each_core_between_them(tmp_path: Path) -> None:
    cores = len(look().cores)
    made = project(tmp_path, slots=2 * cores)
    made.steer(env=env())
    assert {each["OMP_NUM_THREADS"] for each in made.seen()} == {"1"}
    assert all(len(each["cores"]) == cores for each in made.seen()), "they may run anywhere"


def test_what_the_config_says_of_threads_wins(tmp_path: Path) -> None:
    made = project(tmp_path, points=2, slots=2, env={"OMP_NUM_THREADS": "3"})
    made.steer(env=env())
    assert {each["OMP_NUM_THREADS"] for each in made.seen()} == {"3"}


def test_a_training_beyond_its_memory_is_ended(tmp_path: Path) -> None:
    made = project(tmp_path, points=1, memory_mib=120, slots=1)
    made.configure(
        search_space={"x": {"type": "float", "low": 0.0, "high": 1.0}},
        models=[{"name": "main", "constants": {"mib": 400}}],
        steering={"max_points": 1, "points_per_iteration": 1},
        evaluation={"workers": 1, "reuse": False, "max_attempts": 1, "memory_mib": 120, "slots": 1},
    )
    made.run("--config", "config.yaml", env=env(), code=1)
    (point,) = made.points()
    assert point["failure"]["kind"] == "error"
    assert "MiB of memory, and evaluation.memory_mib is 120" in point["failure"]["message"]


def test_a_training_beyond_its_share_of_a_gpu_is_ended(tmp_path: Path) -> None:
    (tmp_path / "held").mkdir()
    made = project(tmp_path, points=1, gpus=0.5)
    out, _ = made.run(
        "--config", "config.yaml", env=env(GPUS[:1], FAKE_GPU_PROCESSES=str(tmp_path / "held")), code=1
    )
    (point,) = made.points()
    assert f"point 1 failed: error, {host_of(point['worker'])}, GPU-a, after " in out
    assert point["failure"]["message"] == "it uses 99,000 MiB of its GPU's memory; its share is 70,000"


@pytest.mark.parametrize(
    ("evaluation", "gpus", "sentence"),
    [
        ({"gpus": 2}, GPUS[:1], "evaluation.gpus: each point asks for 2 GPUs, and"),
        ({"gpus": 1}, None, "has none. Ask for less, or run hpo-evaluate on a machine that has more"),
        (
            {"gpus": 1.5},
            GPUS,
            "evaluation.gpus: is a whole number of GPUs, or a share of one below 1, got 1.5",
        ),
        ({"gpus": 1, "slots": 3}, GPUS, "evaluation.slots: 3, of 1 GPU each, do not fit on"),
        ({"slots": "3x"}, None, "evaluation.slots: is a number from 1 to 1024, or auto, got '3x'"),
        ({"slots": 0}, None, "evaluation.slots: is a number from 1 to 1024, or auto, got 0"),
        ({"mps": "perhaps"}, None, "evaluation.mps: is true, false or auto, got 'perhaps'"),
        ({"cores": 4000}, None, "evaluation.cores: each point asks for 4000 cores"),
        ({"mps": True}, None, "mps goes with a share of a GPU"),
        ({"mps": True, "gpus": 0.5, "container": "docker.io/x"}, GPUS, "mps goes without a container"),
        ({"mps": True, "gpus": 0.5}, GPUS, "evaluation.mps: nvidia-cuda-mps-control is not installed"),
    ],
)
def test_what_a_machine_has_not_is_said_before_anything_starts(
    tmp_path: Path, evaluation: dict[str, Any], gpus: list[dict[str, Any]] | None, sentence: str
) -> None:
    made = project(tmp_path, **evaluation)
    out, err = made.run("check", "config.yaml", env=env(gpus), code=2)
    assert sentence in out + err
    _, err = made.run("--config", "config.yaml", env=env(gpus), code=2)
    assert sentence in err
    assert not (tmp_path / "runs").exists()


def test_check_and_a_worker_say_what_was_found(tmp_path: Path) -> None:
    made = project(tmp_path, gpus=0.25)
    out, _ = made.run("check", "config.yaml", env=env(GPUS))
    assert "2 x H200 (137 GiB)" in out
    assert "8 slots in 1 worker, 0.25 GPU each" in out
    out, _ = made.run("--config", "config.yaml", "--slots", program=EVALUATE, env=env(GPUS))
    assert "→ 8 slots of 0.25 GPU" in out
    assert "GPU-b" in out


def test_a_second_experiment_waits_for_the_gpus_of_the_first(tmp_path: Path) -> None:
    first, second = (project(tmp_path / name, points=2, gpus=1, name=name) for name in ("one", "two"))
    (first.folder / "hold").touch()
    process = first.start("--config", "config.yaml", env=env(GPUS))
    wait_for((first.folder / "seen.jsonl").exists, what="the first training")
    other = second.start("--config", "config.yaml", env=env(GPUS))
    log = second.folder / "runs/two/logs/worker-0.log"
    wait_for(
        lambda: log.exists() and '("one") uses the GPUs of' in log.read_text(), what="the worker that waits"
    )
    assert not (second.folder / "seen.jsonl").exists()

    def why() -> str:
        return json.loads(second.run("status", "--config", "config.yaml", "--json")[0])["waiting"] or ""

    wait_for(lambda: "the one here says: waiting: hpo-evaluate" in why(), what="the reason in status")
    wait_for(
        lambda: "2 GPUs 50 % busy" in first.run("status", "--config", "config.yaml")[0],
        what="how busy the GPUs are",
    )
    (first.folder / "hold").unlink()
    for each in (process, other):
        each.communicate(timeout=60)
        assert each.returncode == 0
    assert len(second.seen()) == 2


@pytest.mark.rabbitmq
def test_steering_says_that_no_worker_has_enough(tmp_path: Path, rabbitmq: RabbitNode) -> None:
    url = f"amqp://guest@127.0.0.1:{rabbitmq.port}/"
    made = project(tmp_path, points=2, name="too-much", gpus=2, workers=0)
    made.configure(
        name="too-much",
        broker=url,
        steering={"max_points": 2, "points_per_iteration": 2},
        evaluation={"gpus": 2, "workers": 0, "heartbeat_s": 0.5, "lease_s": 2.0, "reuse": False},
    )
    secret = {"HPO_STEER_BROKER_PASSWORD": "guest", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    steering = made.start("--config", "config.yaml", env=env(None, **secret))
    wait_for((tmp_path / "runs/too-much").exists, what="the run")
    small = env(GPUS[:1], **secret)
    _, err = made.run("--config", "config.yaml", program=EVALUATE, env=small, code=2)
    assert "evaluation.gpus: each point asks for 2 GPUs, and" in err

    def waiting() -> str:
        process = made.start("status", "--config", "config.yaml", "--json", env=env(None, **secret))
        out, _ = process.communicate(timeout=60)
        return (json.loads(out)["waiting"] or "") if process.returncode == 0 else ""

    wait_for(lambda: "the largest of all workers so far" in waiting(), what="the reason in status")
    assert "waiting: point 1 asks for 2 GPUs, and" in waiting()
    worker = made.start("--config", "config.yaml", program=EVALUATE, env=env(GPUS, **secret))
    steering.communicate(timeout=90)
    assert steering.returncode == 0
    worker.send_signal(signal.SIGINT)
    out, _ = worker.communicate(timeout=60)
    assert "→ 1 slot of 2 GPUs" in out
