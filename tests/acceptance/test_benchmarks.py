"""The benchmarks run and count right; how fast anything is, is not tested here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.noop import ends_of_a_run

ROOT = Path(__file__).parents[2]


def answer(name: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=240)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_startup_says_that_importing_hpo_steer_pulls_in_nothing_heavy() -> None:
    found = answer("startup", "--rounds", "1")
    assert found["import_hpo_steer_pulls_in"] == []
    assert found["ratio"] > 0


def test_flat_compares_two_moments_of_one_run() -> None:
    found = answer("flat", "--rounds", "1", "--points", "1600", "--window", "400")
    assert found["benchmark"] == "flat"
    assert found["ratio"] > 0


def test_a_run_of_no_op_points_evaluates_each_once() -> None:
    assert len(ends_of_a_run(400)) == 400
