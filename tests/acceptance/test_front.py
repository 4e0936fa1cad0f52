"""Two objectives and an outcome constraint, through the installed program."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.acceptance.program import Project

if TYPE_CHECKING:
    from pathlib import Path

TRAIN = """
def train(params):
    x, k = params["x"], params["k"]
    return {"loss": (1 - x) ** 2 + 0.01, "size": x + k / 10, "latency_ms": 10 * k, "loss_sem": 0.01}
"""


def test_a_front_of_feasible_points(tmp_path: Path) -> None:
    project = Project(
        tmp_path,
        objectives={"loss": {"direction": "minimize", "reference": 1.5}, "size": "minimize"},
        outcome_constraints=["latency_ms <= 50"],
        algorithm="evolution",
    )
    (tmp_path / "train.py").write_text(TRAIN)
    out, _ = project.steer()
    assert "minimize loss, minimize size, latency_ms <= 50" in out
    assert " infeasible" in out
    assert "on the Pareto front, hypervolume " in out
    assert "reference loss 1.5, size " in out
    points = project.points()
    assert all(p["feasible"] == (p["params"]["k"] <= 5) for p in points)
    assert {p["feasible"] for p in points} == {True, False}
    assert set(points[0]["values"]) == {"loss", "size", "latency_ms"}
    best = json.loads(project.run("best", "demo", "--json")[0])
    assert best
    assert all(p["feasible"] for p in best)
    status = json.loads(project.run("status", "demo", "--json")[0])
    assert status["front_size"] == len(best)
    assert status["hypervolume"] > 0
    assert status["reference_inferred"] == ["size"]
    assert json.loads(project.run("replay", "demo", "--json")[0])["reproduced"] is True
    again = json.loads(project.steer("--json")[0])
    assert again["hypervolumes"]["main"]["value"] == status["hypervolume"]


def test_contradictory_constraints_start_nothing(tmp_path: Path) -> None:
    project = Project(tmp_path, constraints=["x <= 0.2", "x >= 0.4"])
    _, err = project.steer(code=2)
    assert '"x <= 0.2" and "x >= 0.4" cannot both hold within the search space; change or drop one' in err
    project.configure(outcome_constraints=["a <= 1", "a >= 2"])
    _, err = project.steer(code=2)
    assert '"a >= 2" and "a <= 1" cannot both hold' in err
    assert not (tmp_path / "runs/demo/store.db").exists()
