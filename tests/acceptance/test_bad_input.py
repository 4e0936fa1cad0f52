"""Every mistake ends in one clear sentence and exit code 2, with nothing started and nothing lost."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.program import Project
from tests.servers.ports import free_port

if TYPE_CHECKING:
    from pathlib import Path

X = {"type": "float", "low": 0.0, "high": 1.0}

MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("misspelt key", {"steering": {"points_per_iterations": 5}}, 'did you mean "points_per_iteration"?'),
    ("misspelt section", {"sterring": {}}, 'sterring: unknown key; did you mean "steering"?'),
    (
        "low above high",
        {"search_space": {"x": {**X, "low": 2.0}}},
        "search_space.x: low (2.0) must be below high (1.0)",
    ),
    (
        "low equals high",
        {"search_space": {"x": {**X, "low": 1.0}}},
        "search_space.x: low (1.0) must be below high (1.0)",
    ),
    (
        "log of zero",
        {"search_space": {"x": {**X, "log": True}}},
        "search_space.x: a log scale needs low above 0",
    ),
    (
        "no choices",
        {"search_space": {"x": {"type": "categorical", "choices": []}}},
        "search_space.x.choices: is empty",
    ),
    ("algorithm", {"algorithm": "bayesain"}, 'unknown algorithm "bayesain"; did you mean "bayesian"?'),
    (
        "algorithm option",
        {"algorithm": {"name": "bayesian", "initial_point": 3}},
        'did you mean "initial_points"?',
    ),
    ("sampler", {"algorithm": {"name": "optuna", "sampler": "tpee"}}, 'did you mean "tpe"?'),
    ("no such file", {"evaluation": {"function": "trian.py:train"}}, 'did you mean "train.py"?'),
    (
        "no such function",
        {"evaluation": {"function": "train.py:trian"}},
        'train.py has no function "trian"; it has: train',
    ),
    (
        "no such command",
        {"evaluation": {"function": None, "command": ["./no-such-program", "{x}"]}},
        "no-such-program",
    ),
    (
        "fraction 0",
        {"steering": {"trigger": {"fraction": 0.0}}},
        "steering.trigger.fraction: must lie above 0 and at most at 1",
    ),
    (
        "fraction 2",
        {"steering": {"trigger": {"fraction": 2.0}}},
        "steering.trigger.fraction: must lie above 0 and at most at 1",
    ),
    ("contradiction", {"constraints": ["x > 2"]}, "constraints"),
    ("unknown in constraint", {"constraints": ["x + z > 0"]}, 'unknown parameter "z"'),
    ("no objective", {"objectives": {}}, "objectives"),
    ("direction", {"objectives": {"loss": "minimise"}}, 'did you mean "minimize"?'),
    ("zero points", {"steering": {"max_points": 0}}, "steering.max_points"),
    ("text for a number", {"evaluation": {"workers": "two"}}, "evaluation.workers"),
]


@pytest.mark.parametrize(("changes", "sentence"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_mistake(tmp_path: Path, changes: dict[str, Any], sentence: str) -> None:
    project = Project(tmp_path)
    if "search_space" in changes:
        changes = {"search_space": {"k": {"type": "int", "low": 1, "high": 9}, **changes["search_space"]}}
    project.configure(**changes)
    out, err = project.steer(code=2)
    assert not out
    assert err.startswith("error: ")
    assert sentence in err
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert not (tmp_path / "runs" / "demo" / "run.json").exists()


def test_a_mistake_leaves_nothing_behind_that_hinders(tmp_path: Path) -> None:
    project = Project(tmp_path, algorithm={"name": "bayesian", "initial_point": 3})
    project.steer(code=2)
    project.configure()
    project.steer()


def test_the_file_and_the_line_are_named(tmp_path: Path) -> None:
    project = Project(tmp_path)
    text = (tmp_path / "config.yaml").read_text().replace("high: 9", "high: 0")
    (tmp_path / "config.yaml").write_text(text)
    line = text.splitlines().index("  k:") + 1
    _, err = project.steer(code=2)
    assert err.startswith(f"error: config.yaml:{line}: search_space.k: low (1) must be below high (0)")


def test_no_config_file(tmp_path: Path) -> None:
    project = Project(tmp_path)
    _, err = project.run("--config", "confg.yaml", code=2)
    assert err == 'error: confg.yaml: there is no such file; did you mean "config.yaml"?\n'


def test_a_function_without_arguments(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "train.py").write_text("def train():\n    return 1.0\n")
    _, err = project.steer(code=2)
    assert "train() takes no argument; it gets the parameters as a dict" in err


def test_an_unreachable_broker(tmp_path: Path) -> None:
    port = free_port()
    broker = {"url": f"amqp://guest@127.0.0.1:{port}/", "connect_timeout_s": 2.0}
    project = Project(tmp_path, broker=broker)
    out, err = project.steer(code=2)
    assert f"no RabbitMQ at 127.0.0.1:{port}: connection refused" in err
    assert "--broker local" in err
    assert out.count("refused") >= 1  # the retries are visible
    assert not (tmp_path / "runs" / "demo" / "run.json").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_unwritable_run_folder(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "runs").mkdir(mode=0o500)
    _, err = project.steer(code=2)
    assert "cannot be written" in err


def test_a_run_folder_that_is_a_file(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "runs").write_text("")
    _, err = project.steer(code=2)
    assert "the run folder runs/demo cannot be written" in err
    assert "store: FOLDER" in err
