"""Early stopping with the installed programs: bad trainings end early, the best is kept, a kill changes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.acceptance.program import Project, children, wait_for

if TYPE_CHECKING:
    from pathlib import Path

EPOCHS = 20
TRAIN = f"""
import time
from hpo_steer import report

def train(params):
    bad = (params["x"] - 0.3) ** 2
    for step in range(1, {EPOCHS + 1}):
        loss = bad + 1.0 / step
        print("epoch", step)
        report(step=step, loss=loss)
        time.sleep(0.02 if bad < 0.03 else 0.4)  # a stop is in time for the bad ones
    return loss
"""


def project(folder: Path) -> Project:
    made = Project(
        folder,
        plots=True,
        search_space={"x": {"type": "float", "low": 0.0, "high": 1.0}},
        steering={"max_points": 16, "points_per_iteration": 8, "trigger": {"fraction": 0.5}},
        evaluation={"workers": 1, "slots": 4},
        pruning={"method": "asha", "max_steps": EPOCHS},
    )
    (folder / "train.py").write_text(TRAIN)
    return made


def pruned(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [p for p in points if (p["failure"] or {}).get("kind") == "pruned"]


def test_bad_trainings_end_early_and_the_best_is_kept_through_a_kill(tmp_path: Path) -> None:
    made = project(tmp_path)
    process = made.start("--config", "config.yaml")
    wait_for(lambda: bool(pruned(_points(made))), what="a pruned point")
    process.kill()
    process.communicate()
    wait_for(lambda: not children(["evaluation", "hpo_steer"], tmp_path), what="the end of all workers")
    before = pruned(made.points())
    out, _ = made.steer()
    assert "pruned" in next(line for line in out.splitlines() if line.startswith("done: 16 points"))
    points = made.points()
    ended = pruned(points)
    assert len(ended) >= 2
    assert [p for p in points if p["id"] in {q["id"] for q in before}] == before, "what was pruned stays so"
    assert all(p["state"] == "done" for p in points if p not in ended)
    best = min(points, key=lambda p: (p["params"]["x"] - 0.3) ** 2)
    assert best["state"] == "done", "the best of all at every rung"
    assert best["values"]["loss"] == min(p["values"]["loss"] for p in points if p["values"])

    (answer,) = json.loads(made.run("logs", str(before[0]["id"]), "demo", "--json")[0])
    assert answer["outcome"] == "pruned"
    assert answer["message"].startswith("step ")
    assert "is not among the best" in answer["message"]
    assert "epoch 2" in answer["log"]
    assert f"epoch {EPOCHS}" not in answer["log"]
    listed, _ = made.run("points", "demo", "--state", "failed")
    assert listed.count("pruned") == len(ended)
    assert json.loads(made.run("status", "demo", "--json")[0])["failed"] == {"pruned": len(ended)}
    assert json.loads(made.run("replay", "demo", "--json")[0])["reproduced"] is True
    out, _ = made.run("plot", "demo", "--kind", "curves")
    assert (tmp_path / out.strip()).stat().st_size > 10_000


def _points(made: Project) -> list[dict[str, Any]]:
    return made.points() if (made.folder / "runs/demo/store.db").exists() else []
