"""The examples run as their README says, through the installed program."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.acceptance.program import STEER, wait_for

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/config.yaml"))


def run(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [STEER, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_example(name: str, folder: Path) -> dict[str, Any]:
    config = str(EXAMPLES / name / "config.yaml")
    answer: dict[str, Any] = json.loads(run(folder, "--config", config, "--json"))
    assert answer["failed"] == {}
    assert answer["done"] == answer["points"] == answer["expected"]
    assert json.loads(run(folder, "replay", name, "--json"))["reproduced"] is True
    return answer


def test_every_example_is_tested() -> None:
    assert NAMES == ["command", "generator", "many_models", "own_algorithm", "service", "torch_image"]


@pytest.mark.parametrize("name", NAMES)
def test_an_example_checks_and_says_so(name: str, tmp_path: Path) -> None:
    run(tmp_path, "check", str(EXAMPLES / name / "config.yaml"))
    commands = re.findall(r"--config (\S+)", (EXAMPLES / name / "README.md").read_text(encoding="utf-8"))
    assert set(commands) == {f"examples/{name}/config.yaml"}


def test_command(tmp_path: Path) -> None:
    answer = run_example("command", tmp_path)
    assert answer["points"] == 24
    best = answer["best"]
    assert best["values"]["loss"] < answer["first_iteration_best"] + 1e-12
    (point,) = json.loads(run(tmp_path, "best", "command", "-n", "1", "--json"))
    assert point["metrics"]["steps"] == point["params"]["steps"]


def test_own_algorithm(tmp_path: Path) -> None:
    answer = run_example("own_algorithm", tmp_path)
    assert answer["points"] == 100
    assert answer["best"]["values"]["loss"] < answer["first_iteration_best"]


def test_service(tmp_path: Path) -> None:
    config = str(EXAMPLES / "service/config.yaml")
    answer = json.loads(run(tmp_path, "--config", config, "--json"))
    assert answer["done"] + answer["failed"].get("invalid", 0) == 40
    assert answer["best"]["values"]["loss"] < answer["first_iteration_best"]


def test_phpo(tmp_path: Path, podman_image: str) -> None:
    config = json.loads((EXAMPLES / "phpo/phpo.json").read_text(encoding="utf-8"))
    assert config["steeringContainer"] == config["evaluationContainer"] == podman_image
    answer = json.loads(run(tmp_path, "--config", str(EXAMPLES / "phpo/phpo.json"), "--json"))
    assert answer["done"] == answer["points"] == 24
    best = json.loads(run(tmp_path, "best", "user.me.phpo", "-n", "1", "--json"))
    assert [point["model"] for point in best] == ["photons", "pions"]
    assert all(point["values"]["loss"] < 0.1 for point in best)


def test_generator(tmp_path: Path) -> None:
    pytest.importorskip("gest_api", reason='pip install -e ".[gest]"')
    answer = run_example("generator", tmp_path)
    assert answer["points"] == 80
    assert answer["best"]["values"]["loss"] < answer["first_iteration_best"]


def test_many_models(tmp_path: Path) -> None:
    answer = run_example("many_models", tmp_path)
    assert answer["points"] == 240
    best = json.loads(run(tmp_path, "best", "many_models", "--json"))
    assert len({point["model"] for point in best}) == len(best) == 20


def test_torch_image_goes_on_after_a_kill(tmp_path: Path) -> None:
    """A training is killed after its first epoch: the next attempt goes on from its checkpoint."""
    config = str(EXAMPLES / "torch_image" / "config.yaml")
    changes = [
        "--set",
        "steering.max_points=6",
        "--set",
        "evaluation.workers=1",
        "--set",
        "pruning.min_steps=4",
    ]
    command = [STEER, "--config", config, *changes, "--json"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as steering:
        points = tmp_path / "runs/torch_image/points"
        wait_for(lambda: bool(list(points.glob("*/checkpoint/state.pt"))), what="a checkpoint")
        trainings = [
            each
            for each in psutil.Process(steering.pid).children(recursive=True)
            if "hpo_steer.child" in " ".join(each.cmdline())
        ]
        for training in trainings:
            training.kill()
        out, _ = steering.communicate(timeout=240)
        assert steering.returncode == 0
    answer = json.loads(out)
    assert answer["points"] == answer["expected"] == 6
    assert set(answer["failed"]) <= {"pruned"}
    assert answer["best"]["values"]["error"] < 0.2
    tried = [
        point
        for point in json.loads(run(tmp_path, "points", "torch_image", "--json"))
        if point["attempts"] > 1
    ]
    assert tried
    logs = json.loads(run(tmp_path, "logs", str(tried[0]["id"]), "torch_image", "--json"))
    assert "goes on after epoch" in (tmp_path / logs[-1]["file"]).read_text()
