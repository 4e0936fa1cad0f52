"""Runs whose loggers are the real tools, read back with the tools' own readers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.program import Project, children, wait_for
from tests.event_files import hyperparameters, scalars, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

TRAIN = """
import os
import time
import hpo_steer

def train(params):
    loss = (params["x"] - 0.3) ** 2
    for step in (1, 2, 3):
        hpo_steer.report(step=step, loss=loss + 1 / step)
        while step == 2 and hpo_steer.point().id > 4 and not os.path.exists("gate-is-open"):
            time.sleep(0.02)
    if params["k"] > 7:
        raise ValueError("too many")
    return {"loss": loss, "size": params["k"]}
"""

MLFLOW_READER = """
import json
import sys
from mlflow import MlflowClient

client = MlflowClient(tracking_uri=sys.argv[1])
experiment = client.get_experiment_by_name("demo")
found = []
for run in client.search_runs([experiment.experiment_id], max_results=1000):
    metrics = {
        name: [(each.step, each.value) for each in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }
    found.append({"id": run.info.run_id, "status": run.info.status, "metrics": metrics,
                  "params": run.data.params, "tags": run.data.tags})
print(json.dumps(found))
"""
"""In a process of its own, as MLflow's database code warns of SQLAlchemy's deprecations."""

NOTHING: dict[str, Any] = {"metrics": {}}


def mlflow_runs(uri: str) -> dict[str, dict[str, Any]]:
    """MLflow's runs by the id of the point, as its client finds them; ``all`` is the experiment's."""
    command = [sys.executable, "-c", MLFLOW_READER, uri]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    found = json.loads(done.stdout.splitlines()[-1])
    by_point = {run["tags"]["hpo_steer.point"]: run for run in found}
    assert len(by_point) == len(found)  # one run a point
    return by_point


def started(folder: Path, loggers: list[Any], **changes: Any) -> Project:
    project = Project(folder, plots=True, loggers=loggers, evaluation={"max_attempts": 1}, **changes)
    (folder / "train.py").write_text(TRAIN)
    return project


def curve(point: Mapping[str, Any]) -> dict[int, float]:
    loss = (point["params"]["x"] - 0.3) ** 2
    return {step: loss + 1 / step for step in (1, 2, 3)}


def bests(points: list[dict[str, Any]]) -> list[float]:
    """The values that were better than all before them; with one worker points end in their order."""
    found: list[float] = []
    for point in points:
        if point["values"] and (not found or point["values"]["loss"] < found[-1]):
            found.append(point["values"]["loss"])
    return found


@pytest.mark.slow
def test_a_run_that_was_killed_is_in_tensorboard_and_mlflow_once(tmp_path: Path) -> None:
    project = started(tmp_path, ["tensorboard", "mlflow"])
    process = project.start("--config", "config.yaml")
    folder = tmp_path / "runs/demo"
    fifth = folder / "tensorboard/point-00005"
    wait_for(
        lambda: len(scalars(fifth).get("loss", [])) > 1, what="the second report of a point that still runs"
    )
    written, uri = folder / "loggers/mlflow.jsonl", f"sqlite:///{folder}/mlflow.db"
    wait_for(lambda: written.exists() and written.read_text().count("point") == 4, what="MLflow's points")
    wait_for(
        lambda: len(mlflow_runs(uri).get("5", NOTHING)["metrics"].get("loss", [])) == 2,
        what="the same reports in MLflow",
    )
    process.kill()
    process.communicate()
    wait_for(lambda: not children(["steering", "evaluation", "hpo_steer"], tmp_path), what="the end of all")
    project.open_gate()
    project.steer()

    points = project.points()
    assert len(points) == 20
    assert {point["state"] for point in points} == {"done", "failed"}
    runs = mlflow_runs(uri)
    assert runs.keys() == {"all", *(str(point["id"]) for point in points)}
    for point in points:
        events, run = folder / f"tensorboard/point-{point['id']:05d}", runs[str(point["id"])]
        found = scalars(events)
        last = dict(found.pop("loss"))
        assert last == pytest.approx(curve(point), abs=1e-5)
        assert hyperparameters(events) == pytest.approx(point["params"])
        assert {name: float(text) for name, text in run["params"].items()} == point["params"]
        history = run["metrics"].pop("loss")
        assert dict(history) == pytest.approx(curve(point))
        assert len(history) <= 3 + 2 * (
            point["attempts"] - 1
        )  # what a lost attempt had reported is there as well
        if point["values"] is None:
            assert found == run["metrics"] == {}
            assert texts(events)["failure"].startswith("error: ValueError: too many")
            assert run["tags"]["failure.message"].startswith("ValueError: too many")
            assert (run["status"], run["tags"]["failure.kind"]) == ("FAILED", "error")
        else:
            wanted = {f"result/{name}": [(0, value)] for name, value in point["metrics"].items()}
            assert run["metrics"] == {name: [[0, value]] for name, [(_, value)] in wanted.items()}
            assert found.keys() == wanted.keys()
            assert found["result/loss"][0][1] == pytest.approx(point["values"]["loss"], abs=1e-5)
            assert run["status"] == "FINISHED"
    best = [value for _, value in runs["all"]["metrics"]["best/loss"]]
    assert best == bests(points)
    assert [value for _, value in scalars(folder / "tensorboard/experiment")["best/loss"]] == pytest.approx(
        best, abs=1e-5
    )
    assert runs["all"]["status"] == "FINISHED"
    assert runs["all"]["tags"]["best.point"] == str(
        min((p for p in points if p["values"]), key=lambda p: p["values"]["loss"])["id"]
    )

    before = {file: file.read_bytes() for file in folder.glob("tensorboard/point-*/*")}
    project.steer()  # a run that is done: nothing is written twice
    assert {file: file.read_bytes() for file in folder.glob("tensorboard/point-*/*")} == before
    again = mlflow_runs(uri)
    assert again["all"]["metrics"] == runs["all"]["metrics"]
    assert again.keys() == runs.keys()


@pytest.mark.slow
def test_a_server_that_is_away_stops_nothing_and_later_gets_all(tmp_path: Path) -> None:
    project = started(tmp_path, [{"mlflow": {"uri": "http://127.0.0.1:9"}}], steering={"max_points": 4})
    project.open_gate()
    out, err = project.steer(env={"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    assert "done: 4 points" in out
    assert "warning: logger mlflow: API request to http://127.0.0.1:9/" in err
    assert "the same command makes up for it" in err
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    project.configure(
        loggers=[{"mlflow": {"uri": uri}}], steering={"max_points": 4}, evaluation={"max_attempts": 1}
    )
    project.steer()
    assert mlflow_runs(uri).keys() == {"all", "1", "2", "3", "4"}


@pytest.mark.slow
def test_wandb_offline_gets_a_run_for_each_point_and_the_best(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    project = started(tmp_path, [{"wandb": {"mode": "offline"}}], steering={"max_points": 2})
    project.open_gate()
    project.steer()
    project.steer()
    found = [
        path.name.partition("-point")[2] for path in tmp_path.glob("runs/demo/wandb/offline-run-*-point-*")
    ]
    assert sorted(found) == ["-1", "-2"]


def test_a_logger_that_is_not_installed_is_one_sentence(tmp_path: Path) -> None:
    project = started(tmp_path, ["wandb"])
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden/sitecustomize.py").write_text("import sys\nsys.modules['wandb'] = None\n")
    paths = [str(tmp_path / "hidden"), *filter(None, [os.environ.get("PYTHONPATH")])]
    _, err = project.steer(code=2, env={"PYTHONPATH": os.pathsep.join(paths)})
    assert err.strip().endswith('logger wandb needs an extra: pip install "hpo-steer[wandb]"')
    assert not (tmp_path / "runs").exists()
