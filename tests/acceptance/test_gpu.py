"""Trainings on a real GPU: found, pinned, shared, bounded. Without one, all of this is skipped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from hpo_steer.machine import find_gpus
from hpo_steer.machine.gpus import VISIBLE
from hpo_steer.machine.mps import CONTROL
from tests.acceptance.program import EVALUATE, Project, wait_for

GPUS = find_gpus()
EXAMPLE = Path(__file__).parents[2] / "examples/torch_image"
pytestmark = pytest.mark.skipif(not GPUS, reason="no NVIDIA GPU")
needs_mps = pytest.mark.skipif(shutil.which(CONTROL) is None, reason=f"no {CONTROL}")
TRAIN = """
import json, os, time
import torch

def train(params):
    seen = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY")}
    seen |= {"pid": os.getpid(), "devices": torch.cuda.device_count(), "began": time.time()}
    if seen["devices"]:
        about = torch.cuda.get_device_properties(0)
        seen |= {"uuid": "GPU-" + str(about.uuid), "total_mib": about.total_memory >> 20}
        held = torch.empty(int(params.get("mib", 1)) << 20, dtype=torch.uint8, device="cuda")
        block = torch.randn(2048, 2048, device="cuda")
        until = time.monotonic() + 2
        while time.monotonic() < until or os.path.exists("hold"):
            (block @ block).sum().item()
    seen["ended"] = time.time()
    with open("seen.jsonl", "a") as file:
        file.write(json.dumps(seen) + "\\n")
    if params.get("mib"):
        time.sleep(20)
    return params["x"]
"""


@pytest.fixture(autouse=True)
def _own_claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests side by side are no rivals for the GPU."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))


def project(folder: Path, points: int = 4, mib: int = 0, **evaluation: Any) -> Project:
    made = Project(
        folder,
        search_space={"x": {"type": "float", "low": 0.0, "high": 1.0}},
        models=[{"name": "main", "constants": {"mib": mib}}] if mib else [{"name": "main"}],
        steering={"max_points": points, "points_per_iteration": points},
        evaluation={"workers": 1, "reuse": False, "max_attempts": 1, **evaluation},
    )
    (folder / "train.py").write_text(TRAIN)
    return made


def at_once(spans: list[dict[str, Any]]) -> int:
    """How many trainings ran side by side, at most."""
    found: int = max(
        sum(other["began"] <= each["began"] < other["ended"] for other in spans) for each in spans
    )
    return found


def mps_processes() -> list[str]:
    return [each.name() for each in psutil.process_iter() if each.name().startswith("nvidia-cuda-mps")]


def sharing_through_mps(folder: Path) -> tuple[Project, subprocess.Popen[str]]:
    """A run whose trainings share a GPU until there is no file ``hold``; the service is up."""
    made = project(folder, gpus=0.25, mps=True)
    (folder / "hold").touch()
    steering = made.start("--config", "config.yaml")
    wait_for(lambda: "nvidia-cuda-mps-server" in mps_processes(), what="the service", timeout_s=60)
    return made, steering


def test_the_gpus_are_those_of_nvidia_smi() -> None:
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    assert [f"{gpu.uuid}, {gpu.name}, {gpu.memory_mib}" for gpu in GPUS if not gpu.slice] == listed


def test_slots_are_shown(tmp_path: Path) -> None:
    made = project(tmp_path, gpus=0.25)
    out, _ = made.run("--slots", program=EVALUATE)
    assert GPUS[0].uuid in out
    assert GPUS[0].name.removeprefix("NVIDIA ") in out
    out, _ = made.run("--config", "config.yaml", "--slots", program=EVALUATE)
    assert f"→ {4 * len(GPUS)} slots of 0.25 GPU" in out


def test_each_training_has_a_gpu_to_itself(tmp_path: Path) -> None:
    made = project(tmp_path, gpus=1)
    made.steer()
    assert all(each["devices"] == 1 for each in made.seen())
    assert all(each["uuid"] == each[VISIBLE] for each in made.seen())
    assert {each["uuid"] for each in made.seen()} <= {gpu.uuid for gpu in GPUS}
    assert at_once(made.seen()) <= len(GPUS)


def test_a_training_may_see_no_gpu(tmp_path: Path) -> None:
    made = project(tmp_path, points=1, gpus=0)
    made.steer()
    assert [each["devices"] for each in made.seen()] == [0]


def test_shares_without_mps(tmp_path: Path) -> None:
    made = project(tmp_path, gpus=0.25, mps=False)
    made.steer()
    assert [each["devices"] for each in made.seen()] == [1] * 4
    assert at_once(made.seen()) > 1
    assert not mps_processes()


@needs_mps
def test_shares_through_mps_which_ends_with_the_worker(tmp_path: Path) -> None:
    made, steering = sharing_through_mps(tmp_path)
    (tmp_path / "hold").unlink()
    out, err = steering.communicate(timeout=120)
    assert steering.returncode == 0, out + err
    assert all(each["CUDA_MPS_PIPE_DIRECTORY"] and each["devices"] == 1 for each in made.seen())
    assert at_once(made.seen()) > 1
    wait_for(lambda: not mps_processes(), what="the end of the service")


@needs_mps
def test_the_service_of_a_killed_worker_ends(tmp_path: Path) -> None:
    _, steering = sharing_through_mps(tmp_path)
    for child in psutil.Process(steering.pid).children(recursive=True):
        if "evaluation" in " ".join(child.cmdline()):
            os.kill(child.pid, signal.SIGKILL)
            break
    else:
        pytest.fail("no worker")
    os.kill(steering.pid, signal.SIGKILL)
    steering.communicate()
    wait_for(lambda: not mps_processes(), what="the end of the service", timeout_s=30)


def beyond(share: float) -> int:
    """More MiB than a share of the GPU has, but not more than the GPU."""
    return int(1.2 * share * GPUS[0].memory_mib)


def failure(made: Project) -> dict[str, Any]:
    made.run("--config", "config.yaml", code=1)
    (point,) = made.points()
    found: dict[str, Any] = point["failure"]
    return found


def test_a_training_beyond_its_share_is_ended(tmp_path: Path) -> None:
    share = 0.25
    made = project(tmp_path, points=1, mib=beyond(share), gpus=share, mps=False)
    message = failure(made)["message"]
    assert message.startswith("it uses ")
    assert f"MiB of its GPU's memory; its share is {int(share * GPUS[0].memory_mib):,}" in message


@needs_mps
def test_mps_gives_no_more_than_a_share(tmp_path: Path) -> None:
    made = project(tmp_path, points=1, mib=beyond(0.25), gpus=0.25, mps=True)
    assert "out of memory" in failure(made)["message"]


def test_status_says_how_busy_the_gpu_is(tmp_path: Path) -> None:
    made = project(tmp_path, points=1, gpus=1, heartbeat_s=0.5)
    (tmp_path / "hold").touch()
    steering = made.start("--config", "config.yaml")

    def said() -> str:
        process = made.start("status", "--config", "config.yaml")
        return process.communicate(timeout=60)[0]

    wait_for(lambda: "% busy" in (text := said()) and " 0 % busy" not in text, what="the use", timeout_s=90)
    (tmp_path / "hold").unlink()
    steering.communicate(timeout=60)
    assert steering.returncode == 0


def test_the_example_trains_four_points_on_a_gpu(tmp_path: Path) -> None:
    shutil.copytree(EXAMPLE, tmp_path / "example")
    made = project(tmp_path)
    out, _ = made.run("--config", "example/config.yaml", "--set", "evaluation.gpus=0.25")
    assert "24 points" in out
