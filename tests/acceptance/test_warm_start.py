"""Searches that begin with what is known."""

from __future__ import annotations

import json
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.program import Project, wait_for

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = {"x": 0.31, "k": 4, "loss": 0.0001}
GUESSES = [{"x": 0.3, "k": 4}, {"x": 0.25, "k": 5}]


def test_an_earlier_run_a_table_and_points_of_the_config(tmp_path: Path) -> None:
    """Known points count for the best and for nothing else; guesses are evaluated first; a kill changes nothing."""
    project = Project(tmp_path, steering={"max_points": 10})
    project.steer()
    before = project.points()
    project.run("export", "--config", "config.yaml", "--output", "known.csv")
    rules = {"points_per_iteration": 4, "trigger": {"fraction": 1.0}, "max_points": 10}
    sources: list[Any] = ["runs/demo", "known.csv", KNOWN, *GUESSES]
    warm: dict[str, Any] = {"name": "warm", "algorithm": "bayesian", "steering": rules, "warm_start": sources}
    gated = Project(tmp_path, gated=True, **warm)
    process = gated.start("--config", "config.yaml")
    gated.let_through(3)
    wait_for(lambda: gated.ended() >= 14, 60, "three points of the second run")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    gated.open_gate()
    out, _ = gated.steer()
    assert "resuming" in out
    points = gated.points()
    assert [p["iteration"] for p in points] == [0] * 11 + [1, 1] + [2] * 4 + [3] * 4
    assert all(p["state"] == "done" for p in points)
    assert [(p["params"], p["values"]) for p in points[:10]] == [(p["params"], p["values"]) for p in before]
    assert [p["params"] for p in points[11:13]] == GUESSES
    assert all(p["attempts"] == 0 for p in points[:11])
    out, _ = gated.run("best", "--config", "config.yaml", "--json")
    assert json.loads(out)[0]["values"]["loss"] <= 0.0001
    out, _ = gated.run("replay", "--config", "config.yaml", "--json")
    assert json.loads(out)["reproduced"] is True


def test_the_best_points_of_another_space_are_evaluated_first(tmp_path: Path) -> None:
    project = Project(tmp_path, steering={"max_points": 12})
    project.steer()
    before = sorted(project.points(), key=lambda p: p["values"]["loss"])
    space = {
        "x": {"type": "float", "low": 0.0, "high": 1.0},
        "k": {"type": "int", "low": 1, "high": 9},
        "depth": {"type": "int", "low": 1, "high": 3},
    }
    source = {"run": "demo", "best": 2, "set": {"depth": 2}}
    project.configure(
        name="other",
        search_space=space,
        warm_start=[source],
        steering={"max_points": 3, "points_per_iteration": 1, "trigger": {"fraction": 1.0}},
    )
    out, _ = project.steer()
    assert "2 points of demo are evaluated first" in out
    points = project.points()
    assert [p["params"] for p in points[:2]] == [{**p["params"], "depth": 2} for p in before[:2]]
    assert [p["iteration"] for p in points] == [1, 1, 2]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("nowhere", 'warm_start[0]: there is no run "nowhere"'),
        ("nowhere.csv", "nowhere.csv cannot be read: No such file"),
        ("odd.csv", 'odd.csv has no column "loss"; did you mean "los"?'),
        ("words.csv", "line 3 of words.csv: \"loss\" is 'much'; expected a finite number"),
        ("outside.csv", "no point of outside.csv fits the search space (line 2 of outside.csv"),
        ("missing.csv", "set: {name: value} fills in parameters that were fixed there"),
        ({"csv": "odd.csv", "bets": 3}, 'unknown key; did you mean "best"?'),
        ({"csv": "words.csv", "best": 0}, "is a whole number of 1 or more, got 0"),
        ({"csv": "outside.csv", "set": {"y": 0}}, "there is no such parameter"),
        ({"x": 0.5, "k": 12}, "is no point of the search space"),
        ({"x": 0.5, "k": 2, "loss": "low"}, "\"loss\" is 'low'; expected a finite number"),
        (7, "warm_start[0]"),
    ],
)
def test_what_cannot_be_used_is_said_before_anything_is_evaluated(
    tmp_path: Path, source: Any, sentence: str
) -> None:
    (tmp_path / "odd.csv").write_text("x,k,los\n0.5,2,0.1\n")
    (tmp_path / "words.csv").write_text("x,k,loss\n0.5,2,0.1\n0.5,3,much\n")
    (tmp_path / "outside.csv").write_text("x,k,loss\n0.5,12,0.1\n")
    (tmp_path / "missing.csv").write_text("x,loss\n0.5,0.1\n")
    project = Project(tmp_path, warm_start=[source])
    _, err = project.steer(code=2)
    assert sentence in err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 2


def test_each_model_takes_its_namesakes_points_and_a_new_one_all(tmp_path: Path) -> None:
    few = {"max_points": 3, "points_per_iteration": 3}
    project = Project(tmp_path, models=[{"name": "a"}, {"name": "b"}], steering=few)
    project.steer()
    before = project.points()
    project.configure(
        name="more", models=[{"name": "a"}, {"name": "c"}], steering=few, warm_start=["demo"], seed=4
    )
    project.steer()
    known = [p for p in project.points() if p["iteration"] == 0]
    assert [p["params"] for p in known if p["model"] == "a"] == [
        p["params"] for p in before if p["model"] == "a"
    ]
    assert sorted(json.dumps(p["params"]) for p in known if p["model"] == "c") == sorted(
        json.dumps(p["params"]) for p in before
    )


@pytest.mark.parametrize("limits", [[], ["epochs_done <= 8"]], ids=["free", "whole trainings break a bound"])
def test_values_of_short_trainings_are_not_taken_for_those_of_whole_ones(
    tmp_path: Path, limits: list[str]
) -> None:
    """With few epochs the loss happens to look lower."""
    (tmp_path / "short.py").write_text(
        "def train(params):\n"
        "    loss = (params['x'] - 0.3) ** 2 + params['epochs'] / 100\n"
        "    return {'loss': loss, 'epochs_done': params['epochs']}\n"
    )
    project = Project(
        tmp_path,
        search_space={"epochs": {"type": "int", "low": 1, "high": 9}},
        algorithm={"name": "successive_halving", "budget": "epochs"},
        steering={"max_points": 45, "points_per_iteration": 5, "trigger": {"fraction": 1.0}},
        evaluation={"function": "short.py:train"},
        outcome_constraints=limits,
    )
    project.steer()
    before = project.points()
    whole = sorted((p for p in before if p["params"]["epochs"] == 9), key=lambda p: p["values"]["loss"])
    assert 1 < len(whole) < len(before)
    later: dict[str, Any] = {"steering": {"max_points": 2, "points_per_iteration": 2}}
    project.configure(name="known", warm_start=["demo"], **later)
    out, _ = project.steer()
    short = len(before) - len(whole)
    assert f"{len(whole)} points of demo are known; {short} of {len(before)} were trained less" in out
    known = [p for p in project.points() if p["iteration"] == 0]
    assert sorted(p["values"]["loss"] for p in known) == [p["values"]["loss"] for p in whole]
    project.configure(name="guess", warm_start=[{"run": "demo", "best": 2}], **later)
    project.steer()
    assert [p["params"]["x"] for p in project.points()] == [p["params"]["x"] for p in whole[:2]]


def test_a_search_that_knows_the_budget_as_a_parameter_takes_all(tmp_path: Path) -> None:
    halving = {"name": "successive_halving", "budget": "k"}
    few = {"max_points": 12, "points_per_iteration": 4}
    project = Project(tmp_path, algorithm=halving, steering=few)
    project.steer()
    project.configure(name="more", algorithm=halving, steering=few, warm_start=["demo"])
    out, _ = project.steer()
    assert "12 points of demo are known" in out
    assert "trained less" not in out
