"""Trainings that go on from the checkpoints of others, with the installed programs and local workers."""

from __future__ import annotations

import csv
import io
import json
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.program import Project

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(
    find_spec("evaluation.checkpoints") is None, reason="workers do not carry checkpoints yet"
)
TRAIN = """
import json
import hpo_steer

def train(params):
    file = hpo_steer.checkpoint_dir() / "state.json"
    state = json.loads(file.read_text()) if file.exists() else {"epochs": 0, "weight": 0.0}
    begun = state["epochs"]
    until = params.get("epochs", begun + 3)
    while state["epochs"] < until:
        state["epochs"] += 1
        state["weight"] += 0.1 * params["rate"] * (1.0 - state["weight"])
    new = file.with_name("state.json.tmp")
    new.write_text(json.dumps(state))
    new.replace(file)
    return {
        "loss": 1.0 - state["weight"],
        "trained": state["epochs"] - begun,
        "whole": state["epochs"],
        "parent": hpo_steer.point().parent or 0,
    }
"""
RATE = {"type": "float", "low": 0.01, "high": 1.0, "log": True}


def finished(folder: Path, **changes: Any) -> tuple[Project, list[dict[str, Any]]]:
    project = Project(folder, evaluation={"workers": 1, "slots": 3}, **changes)
    (folder / "train.py").write_text(TRAIN)
    project.steer()
    points = project.points()
    assert all(p["state"] == "done" for p in points), points
    for p in points:
        assert p["metrics"]["parent"] == (p["parent"] or 0)
    return project, points


def test_a_population_goes_on_from_its_checkpoints(tmp_path: Path) -> None:
    project, points = finished(
        tmp_path,
        search_space={"rate": RATE},
        algorithm={"name": "pbt", "population": 4},
        steering={"max_points": 20, "points_per_iteration": 3, "trigger": "top_up"},
    )
    whole = {p["id"]: p["metrics"]["whole"] for p in points}
    assert sum(p["parent"] is not None for p in points) == 16
    for p in points:
        assert whole[p["id"]] == 3 + (whole[p["parent"]] if p["parent"] is not None else 0)
    assert json.loads(project.run("replay", "demo", "--json")[0])["reproduced"]
    out, _ = project.run("export", "demo", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["parent"] for row in rows] == [str(p["parent"] or "") for p in points]


def test_successive_halving_pays_for_each_epoch_once(tmp_path: Path) -> None:
    project, points = finished(
        tmp_path,
        search_space={"rate": RATE, "epochs": {"type": "int", "low": 1, "high": 9}},
        algorithm={"name": "successive_halving", "budget": "epochs"},
        steering={"max_points": 30, "points_per_iteration": 3, "trigger": "top_up"},
    )
    by_id = {p["id"]: p for p in points}
    for p in points:
        begun = 0 if p["parent"] is None else by_id[p["parent"]]["params"]["epochs"]
        assert p["metrics"]["whole"] == p["params"]["epochs"]
        assert p["metrics"]["trained"] == p["params"]["epochs"] - begun
    whole = [p for p in points if p["params"]["epochs"] == 9]
    assert whole
    (best,) = json.loads(project.run("best", "demo", "-n", "1", "--json")[0])
    assert best["id"] == min(whole, key=lambda p: p["values"]["loss"])["id"]
