"""Workers that end, are replaced or shut themselves out, and what a user sees of it, with the installed programs."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.program import EVALUATE, Project, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRAIN = """
import json, os, time
import hpo_steer

def train(params):
    number = hpo_steer.point().id
    print("hello from", number, flush=True)
    while not os.path.exists("gate-is-open"):
        time.sleep(0.02)
    for step, metrics in json.loads(os.environ.get("REPORTS", "[]")):
        hpo_steer.report(step, **{name: float(value) for name, value in metrics.items()})
    if os.path.exists("breaks") and number > 2 and not os.path.exists("mended"):
        raise RuntimeError("CUDA out of memory")
    print("goodbye from", number, flush=True)
    return {"loss": params["x"], "pid": os.getpid(), "worker": os.getppid()}
"""


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Project]:
    project = Project(tmp_path)
    (tmp_path / "train.py").write_text(TRAIN)
    yield project
    project.open_gate()


def answer(made: Project, *arguments: str) -> Any:
    out, _ = made.run(*arguments, "--json")
    return json.loads(out)


def test_a_local_worker_that_has_done_its_points_is_started_anew(made: Project) -> None:
    """However short its life: no point is lost, none is called failed, and steering does not give up."""
    made.open_gate()
    made.configure(evaluation={"worker": {"max_points": 2}, "workers": 2}, steering={"max_points": 15})
    out, err = made.steer()
    assert out.splitlines()[-3].startswith("done: 15 points") or "done: 15 points" in out
    assert "lost its worker" not in out + err
    points = made.points()
    workers = [point["metrics"]["worker"] for point in points]
    assert {point["attempts"] for point in points} == {1}
    assert max(workers.count(worker) for worker in workers) == 2
    assert len(set(workers)) >= 8


def test_a_machine_on_which_all_fails_stalls_the_search_until_it_is_mended(made: Project) -> None:
    """The quarantine is in the waiting sentence and in status; `retry` ends it."""
    (made.folder / "breaks").touch()
    made.open_gate()
    made.configure(
        evaluation={
            "worker": {"quarantine_after": 3, "quarantine_s": 3000},
            "max_attempts": 1,
            "heartbeat_s": 0.5,
        },
        steering={"max_points": 12},
    )
    process = made.start("--config", "config.yaml")
    said: list[dict[str, Any]] = []

    def stalled() -> bool:
        if not (made.folder / "runs/demo/store.db").exists():
            return False
        said.append(answer(made, "status", "demo"))
        return bool(said[-1]["waiting"]) and said[-1]["waiting"].startswith("stalled: ")

    wait_for(stalled, what="a quarantine")
    waiting, (worker,) = said[-1]["waiting"], said[-1]["fleet"]
    assert re.match(
        r'stalled: 3 of the last 3 attempts failed with "RuntimeError: CUDA out of memory" on \S+, now quarantined \(',
        waiting,
    )
    assert worker["state"] == "quarantined"
    assert worker["reason"].startswith("3 failures in a row (error: RuntimeError: CUDA out of memory)")
    assert 0 <= worker["memory"] <= 1
    text, _ = made.run("status", "demo")
    assert "1 quarantined" in text
    (made.folder / "mended").touch()
    made.run("retry", "demo", "--failed")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    assert re.search(r"warning: worker \S+ is quarantined: 3 failures in a row", err)
    assert [point["state"] for point in made.points()] == ["done"] * 12


def test_a_training_that_never_works_is_no_machines_fault(made: Project) -> None:
    """Nobody waits for a quarantine where no point has ever had a value: the search fails at once."""
    (made.folder / "train.py").write_text("def train(params):\n    raise RuntimeError('no data')\n")
    made.configure(
        evaluation={"worker": {"quarantine_after": 2, "quarantine_s": 3000}, "max_attempts": 1, "workers": 2},
        steering={"max_points": 15},
    )
    out, err = made.steer(code=1)
    assert "no point has a value" in out
    assert "all fails everywhere, and no point has a value yet: the quarantines are ended" in err
    assert [point["state"] for point in made.points()] == ["failed"] * 15


def test_logs_are_followed_while_a_point_runs(made: Project) -> None:
    made.configure(evaluation={"workers": 1}, steering={"max_points": 3})
    process = made.start("--config", "config.yaml")
    wait_for(lambda: any(p["state"] == "running" for p in _points(made)), what="a running point")
    follower = made.start("logs", "1", "demo", "--follow")
    assert follower.stdout is not None
    lines: list[str] = []
    while not any(line.startswith("hello from 1") for line in lines):
        line = follower.stdout.readline()
        assert line, lines
        lines.append(line)
    interrupted = made.start("logs", "1", "demo", "-f")
    assert interrupted.stdout is not None
    interrupted.stdout.readline()
    interrupted.send_signal(signal.SIGINT)
    interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert follower.poll() is None
    made.open_gate()
    rest, err = follower.communicate(timeout=60)
    assert follower.returncode == 0, err
    text = "".join(lines) + rest
    assert text.count("hello from 1\n") == 1
    assert text.count("goodbye from 1\n") == 1
    assert "hello from 2" not in text  # the child is warm: its own log has the next points, too
    assert text.splitlines()[-1] == "== point 1 has ended: done"
    process.communicate(timeout=120)
    again, _ = made.run("logs", "1", "demo", "-f")
    assert "== attempt 1: done after" in again
    _, err = made.run("logs", "1", "demo", "-f", "--json", code=2)
    assert "--follow goes with neither --json nor --attempt" in err


@pytest.mark.parametrize(
    ("reports", "sentence"),
    [
        (
            [(1, {"loss": 1}), (2, {"loss": "nan"}), (3, {"loss": "nan"})],
            'point 1 has reported a value of "loss" that is not finite, at step 2; it is left out, the rest counts',
        ),
        (
            [(1, {"los": 1}), (2, {"los": 1})],
            'point 1 has reported "los", and none of the metrics that the config declares (loss): it is kept',
        ),
        (
            [(5, {"loss": 1}), (4, {"loss": 1}), (3, {"loss": 1})],
            "point 1 has reported step 4 after step 5; steps have to increase: ignored",
        ),
    ],
    ids=["nan", "undeclared", "backwards"],
)
def test_odd_reports_are_one_sentence_and_cost_nothing(
    made: Project, reports: list[Any], sentence: str
) -> None:
    made.open_gate()
    made.configure(evaluation={"env": {"REPORTS": json.dumps(reports)}}, steering={"max_points": 1})
    out, err = made.steer()
    assert err.count(sentence) == 1
    assert err.count("has reported") == 1
    assert made.points()[0]["state"] == "done"
    assert "done: 1 point" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--idle-exit", "0"], "--idle-exit: is a number of seconds above 0, got 0"),
        (["--max-time", "-5"], "--max-time: is a number of seconds above 0, got -5"),
        (["--max-time", "20"], "--max-time: max_time_s (20) must be more than grace_s (25)"),
        (["--max-points", "0"], "Invalid value for '--max-points'"),
    ],
)
def test_options_that_make_no_sense(made: Project, arguments: list[str], sentence: str) -> None:
    _, err = made.run("--config", "config.yaml", *arguments, program=EVALUATE, code=2)
    assert sentence in err


@pytest.mark.parametrize(
    ("evaluation", "sentence"),
    [
        ({"worker": {"max_point": 3}}, "max_points"),
        ({"worker": {"quarantine_after": 0}}, "evaluation.worker.quarantine_after"),
        ({"worker": {"max_time_s": 25}}, "max_time_s (25) must be more than grace_s (25)"),
        ({"reuse": {"points": 0}}, "evaluation.reuse.points"),
        ({"reuse": "often"}, "evaluation.reuse"),
        ({"log_mib": 0}, "evaluation.log_mib"),
    ],
)
def test_keys_that_make_no_sense(made: Project, evaluation: dict[str, Any], sentence: str) -> None:
    made.configure(evaluation=evaluation)
    _, err = made.steer(code=2)
    assert sentence in err
    assert "Traceback" not in err


def _points(made: Project) -> list[dict[str, Any]]:
    if not (made.folder / "runs/demo/store.db").exists():
        return []
    process = made.start("points", "--config", "config.yaml", "--json")
    out, _ = process.communicate(timeout=60)
    found: list[dict[str, Any]] = json.loads(out) if process.returncode == 0 else []
    return found
