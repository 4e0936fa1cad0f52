from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

import hpo_steer
from hpo_steer import training
from hpo_steer.child import check_metrics

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def attempt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An attempt's folder that is not made yet."""
    folder = tmp_path / "7" / "attempt-2"
    monkeypatch.setenv("HPO_STEER_ATTEMPT_DIR", str(folder))
    about = {"id": 7, "attempt": 2, "model": "m", "iteration": 4}
    monkeypatch.setenv("HPO_STEER_POINT", json.dumps(about))
    return folder


def test_outside_an_attempt_nothing_happens(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("HPO_STEER_ATTEMPT_DIR", raising=False)
    monkeypatch.delenv("HPO_STEER_POINT", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    hpo_steer.report(1, loss=0.5)
    assert hpo_steer.point() == training.RunningPoint(-1, 1, "main", 0)
    assert hpo_steer.checkpoint_dir() == hpo_steer.checkpoint_dir()
    assert hpo_steer.checkpoint_dir().is_dir()


def test_report_writes_a_line(attempt: Path) -> None:
    hpo_steer.report(step=1, loss=0.5, gap=float("nan"))
    hpo_steer.report(2, loss=0.25)
    lines = (attempt / "reports.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 1, "metrics": {"loss": 0.5}, "left_out": ["gap"]},
        {"step": 2, "metrics": {"loss": 0.25}},
    ]


@pytest.mark.parametrize(("step", "value"), [("3", 1.0), (1.5, 1.0), (1, "0.5"), (1, None)])
def test_report_refuses_what_is_no_number(attempt: Path, step: Any, value: Any) -> None:
    with pytest.raises(TypeError):
        hpo_steer.report(step, loss=value)


def test_report_raises_stopped_with_the_reason(attempt: Path) -> None:
    hpo_steer.report(1, loss=1.0)
    (attempt / "stop").write_text("worse than the median")
    assert not training.stopped_in(str(attempt))
    with pytest.raises(hpo_steer.Stopped, match="worse than the median"):
        hpo_steer.report(2, loss=1.0)
    assert training.stopped_in(str(attempt))
    assert len((attempt / "reports.jsonl").read_text().splitlines()) == 2


def test_point_and_checkpoints(attempt: Path) -> None:
    at = hpo_steer.point()
    assert (at.id, at.attempt, at.model, at.iteration) == (7, 2, "m", 4)
    assert hpo_steer.checkpoint_dir() == attempt.parent / "checkpoint"
    assert hpo_steer.checkpoint_dir().is_dir()


def test_a_training_imports_the_standard_library_only() -> None:
    code = (
        "import sys, hpo_steer.child; from hpo_steer import report, point, checkpoint_dir, Stopped;"
        "others = {'numpy', 'pydantic', 'typer', 'yaml', 'pika'};"
        "print([m for m in sys.modules if m.partition('.')[0] in others])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class Loud:
    def __float__(self) -> float:
        raise RuntimeError("not today")

    def __repr__(self) -> str:
        raise RuntimeError("nor tomorrow")


@pytest.mark.parametrize(
    ("value", "objectives", "answer"),
    [
        (0.5, ["loss"], {"loss": 0.5}),
        (3, ["loss"], {"loss": 3.0}),
        ({"loss": 1, "acc": 0.5}, ["loss"], {"loss": 1.0, "acc": 0.5}),
        ({"a": 1, "b": 2}, ["a", "b"], {"a": 1.0, "b": 2.0}),
        ({"anything": 1}, [], {"anything": 1.0}),
        ({"loss": 1, "loss_sem": 0}, ["loss"], {"loss": 1.0, "loss_sem": 0.0}),
        ({"loss": 1, "loss_sem": -2}, ["loss", "loss_sem"], {"loss": 1.0, "loss_sem": -2.0}),
        ({"loss": 1, "acc_sem": -2}, ["loss"], {"loss": 1.0, "acc_sem": -2.0}),
        ({"loss": 1, "note": "good", "gap": float("nan"), "bad": Loud()}, ["loss"], {"loss": 1.0}),
    ],
)
def test_metrics_that_count(value: Any, objectives: list[str], answer: dict[str, float]) -> None:
    assert check_metrics(value, objectives, "train()") == {"metrics": answer}


@pytest.mark.parametrize(
    ("value", "objectives", "kind", "text"),
    [
        (None, ["loss"], "error", 'train() returned None; expected a dict with "loss" or a number'),
        ("0.5", ["loss"], "error", "train() returned '0.5' (str); expected a dict with \"loss\" or a number"),
        (True, ["loss"], "error", 'train() returned True (bool); expected a dict with "loss" or a number'),
        (0.5, ["a", "b"], "error", 'train() returned a number; expected a dict with "a" and "b"'),
        ({"acc": 1}, ["loss"], "error", 'train() returned no metric "loss"; it returned: acc'),
        ({}, ["loss"], "error", 'train() returned no metric "loss"; it returned: nothing'),
        ({"loss": "low"}, ["loss"], "error", "metric \"loss\" is no number: 'low' (str)"),
        ({"loss": float("nan")}, ["loss"], "invalid", 'metric "loss" is nan'),
        ({"loss": -float("inf")}, ["loss"], "invalid", 'metric "loss" is -inf'),
        (10**400, ["loss"], "invalid", 'metric "loss" is inf'),
        (
            0.5,
            ["loss", "latency"],
            "error",
            'train() returned a number; expected a dict with "loss" and "latency"',
        ),
        (
            {"loss": 1.0},
            ["loss", "latency"],
            "error",
            'train() returned no metric "latency"; it returned: loss',
        ),
        ({"loss": 1.0, "latency": math.inf}, ["loss", "latency"], "invalid", 'metric "latency" is inf'),
        (
            {"loss": 1.0, "loss_sem": math.nan},
            ["loss"],
            "error",
            'metric "loss_sem" is nan (float); a standard',
        ),
        (
            {"loss": 1.0, "loss_sem": -1},
            ["loss"],
            "error",
            'metric "loss_sem" is -1 (int); a standard error is',
        ),
        (
            {"loss": 1.0, "loss_sem": None},
            ["loss"],
            "error",
            'metric "loss_sem" is None; a standard error is',
        ),
        ({"note": "x"}, [], "error", "train() returned no metrics; expected a dict of metrics"),
        (Loud(), ["loss"], "error", "train() returned something (Loud)"),
    ],
)
def test_metrics_that_do_not_count(value: Any, objectives: list[str], kind: str, text: str) -> None:
    failure = check_metrics(value, objectives, "train()")["failure"]
    assert failure["kind"] == kind
    assert failure["message"].startswith(text)


def test_names_that_no_message_can_hold_are_mended() -> None:
    metrics = check_metrics({"loss": 1.0, "a\ud800\0": 2.0}, ["loss"], "train()")["metrics"]
    assert json.dumps(metrics, ensure_ascii=False).encode()
