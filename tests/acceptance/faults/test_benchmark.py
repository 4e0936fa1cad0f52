"""A short part of the fault benchmark, the same one every time; `python -m benchmarks.faults` runs many rounds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.faults.books import Disturbance, Training, find_repeats
from tests.acceptance.faults.chaos import Schedule
from tests.servers.postgresql import require_postgresql
from tests.servers.rabbitmq import require_rabbitmq

ROOT = Path(__file__).parents[3]


@pytest.mark.rabbitmq
@pytest.mark.postgresql
@pytest.mark.timeout(630)
def test_rounds_of_random_faults_lose_nothing() -> None:
    require_rabbitmq("3.10")
    require_postgresql()
    command = [sys.executable, "-m", "benchmarks.faults", "--rounds", "2", "--seed", "7", "--points", "24"]
    done = subprocess.run(
        [*command, "--parallel", "2", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert found["rounds"] == 2
    assert found["points"] == 48
    assert found["kills"] >= 4
    assert found["lost_results"] == found["doubled_results"] == found["stalls"] == 0


def test_a_schedule_is_a_function_of_its_seed() -> None:
    assert Schedule.draw(5) == Schedule.draw(5)
    assert len({Schedule.draw(seed) for seed in range(20)}) == 20


def training(number: int, *, end: float | None, pid: int = 10) -> Training:
    return Training(1, number, pid, "machine-7-abc", float(number), end)


@pytest.mark.parametrize(
    ("disturbance", "explained"),
    [
        (Disturbance(10, "killed", 1.2, float("inf")), True),  # the training itself
        (Disturbance(7, "killed", 1.2, float("inf")), True),  # its worker
        (Disturbance(7, "killed", 60.0, float("inf")), False),  # long after its result was safe
        (Disturbance(8, "killed", 1.2, float("inf")), False),  # another worker
        (Disturbance(7, "paused", 0.1, 0.5), False),  # before it began
        (Disturbance(7, "paused", 0.1, 1.4), True),
    ],
)
def test_only_what_happened_to_a_training_explains_its_repetition(
    disturbance: Disturbance, explained: bool
) -> None:
    trainings = [training(1, end=1.5), training(2, end=2.5)]
    (repeat,) = find_repeats(trainings, [disturbance])
    assert repeat.training.attempt == 1
    assert (repeat.why is not None) is explained
