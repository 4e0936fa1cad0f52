"""The front and its hypervolume, and where a run says them."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.objectives import Objective
from steering.feasibility import feasibility, none_feasible
from steering.front import Reference, measure, reference_of
from steering.run_view import open_view, point_json
from tests.unit.steering.recorded import config, record_run
from tests.unit.steering.test_commands import answer, ask

if TYPE_CHECKING:
    from pathlib import Path

TWO: dict[str, Any] = {"loss": "minimize", "latency_ms": "minimize"}
LOSS, AUC = Objective("loss"), Objective("auc", "maximize")


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_an_area_by_hand() -> None:
    goals = (Objective("loss", reference=3.0), Objective("auc", "maximize", reference=0.0))
    volume = measure(goals, ((1.0, -1.0), (2.0, -2.0)))  # costs: auc is 1 and 2
    assert volume is not None
    assert volume.value == pytest.approx(3.0)
    assert volume.reference == Reference({"loss": 3.0, "auc": 0.0})
    assert str(volume.reference) == "reference loss 3, auc 0"
    beyond = measure(goals, ((4.0, -5.0),))
    assert beyond is not None
    assert beyond.value == 0.0


def test_a_missing_reference_is_a_tenth_of_the_range_beyond_the_front() -> None:
    found = reference_of((LOSS, AUC), [(1.0, -5.0), (2.0, -9.0)])
    assert found.values == pytest.approx({"loss": 2.1, "auc": 4.6})
    assert found.inferred == ("loss", "auc")
    assert str(found) == "reference loss 2.1, auc 4.6, inferred"
    mixed = reference_of((Objective("loss", reference=7.0), AUC), [(1.0, -5.0)])
    assert mixed.values == pytest.approx({"loss": 7.0, "auc": 4.5})
    assert str(mixed) == "reference loss 7, auc 4.5 (inferred)"


def test_one_objective_has_no_hypervolume_and_nor_has_an_empty_front() -> None:
    assert measure((LOSS,), ((1.0,),)) is None
    assert measure((LOSS, AUC), ()) is None


def test_only_feasible_points_are_on_the_front(runs: Path) -> None:
    record_run(runs, config(objectives=TWO, outcome_constraints=["latency_ms <= 15"]))
    with open_view("digits", store=runs) as view:
        best = view.best()
        done = [p for p in view.points if p.state == "done"]
        infeasible = [p for p in done if (p.values or {})["latency_ms"] > 15]
        assert infeasible
        assert all((p.values or {})["latency_ms"] <= 15 for p in best)
        assert point_json(infeasible[0], view.outcomes)["feasible"] is False
        assert feasibility(view.outcomes, view.points[2]) is None
        volume = view.volume()
        assert volume is not None
        assert volume.value > 0


def test_status_best_points_and_export_say_it(runs: Path) -> None:
    record_run(runs, config(objectives=TWO, outcome_constraints=["latency_ms <= 15"]))
    found = answer("status")
    assert found["outcome_constraints"] == ["latency_ms <= 15"]
    assert 0 < found["points"]["feasible"] < found["points"]["done"]
    assert found["hypervolume"] > 0
    assert found["reference_inferred"] == ["loss", "latency_ms"]
    assert " on the Pareto front, hypervolume " in ask("status")
    assert f"{found['points']['done'] - found['points']['feasible']} infeasible" in ask("status")
    assert ask("best").splitlines()[-1].endswith(", inferred")
    assert " infeasible " in ask("points")
    rows = json.loads(ask("export", "--format", "json"))
    assert {row["feasible"] for row in rows} == {True, False, None}


def test_without_a_feasible_point_it_says_which_constraints_are_broken(runs: Path) -> None:
    record_run(runs, config(outcome_constraints=["loss <= -1"]))
    assert ask("best") == 'no point keeps the outcome constraint "loss <= -1" yet, of 38 done\n'
    assert 'best        no point keeps the outcome constraint "loss <= -1" yet' in ask("status")
    assert answer("best") == []
    assert answer("status")["best"] is None
    with open_view("digits", store=runs) as view:
        assert none_feasible((), view.points) is None


def test_several_models_have_a_front_each(runs: Path) -> None:
    record_run(runs, config(objectives=TWO, models=[{"name": "a"}, {"name": "b"}]))
    found = answer("status")
    assert found["hypervolume"] is None
    assert all(model["hypervolume"] > 0 for model in found["models"])
    assert "hypervolume" in ask("status")


def test_the_commands_start_without_the_library(runs: Path) -> None:
    record_run(runs)
    code = (
        "import sys, steering.cli, steering.session, steering.running, steering.commands.status, steering.report;"
        "assert 'moocore' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
