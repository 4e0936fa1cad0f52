from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.program import Project, children, wait_for


def test_runs_to_the_end_and_says_what_was_found(tmp_path: Path) -> None:
    project = Project(tmp_path, plots=True)
    out, err = project.steer()
    lines = out.splitlines()
    assert lines[0].startswith("demo: 2 parameters, minimize loss · random · 1 worker here · runs/demo")
    assert any(line.startswith("done: 20 points in ") for line in lines)
    assert any(line.startswith("best loss ") for line in lines)
    assert "\x1b" not in out
    assert not err
    points = project.points()
    assert [p["id"] for p in points] == list(range(1, 21))
    assert all(p["state"] == "done" and p["attempts"] == 1 for p in points)
    best = min(points, key=lambda p: p["values"]["loss"])
    answer = json.loads(project.run("best", "demo", "--json")[0])
    assert answer[0]["params"] == best["params"]
    assert oct((tmp_path / "runs/demo").stat().st_mode)[-3:] == "700"
    report = (tmp_path / "runs/demo/report.html").read_text()
    assert all(f"<h2>{title}</h2>\n<figure" in report for title in ("Progress", "Importance", "Parameters"))


def test_without_what_draws_the_report_says_how_to_get_pictures(tmp_path: Path) -> None:
    project = Project(tmp_path, steering={"max_points": 4, "points_per_iteration": 4})
    _, err = project.steer()
    assert not err
    report = (tmp_path / "runs/demo/report.html").read_text()
    assert "<figure" not in report
    assert "pip install &quot;hpo-steer[plot]&quot;" in report


def test_json_summary_and_a_run_that_is_done_stays_done(tmp_path: Path) -> None:
    project = Project(tmp_path)
    first = json.loads(project.steer("--json")[0])
    assert first["points"] == first["done"] == 20
    again = json.loads(project.steer("--json")[0])
    assert (again["points"], again["best"]) == (20, first["best"])


@pytest.mark.parametrize("reuse", [False, True])
def test_slow_imports_are_said_where_each_point_pays_for_them(tmp_path: Path, reuse: bool) -> None:
    steering = {"max_points": 5, "points_per_iteration": 5}
    project = Project(tmp_path, steering=steering, evaluation={"workers": 2, "reuse": reuse})
    file = tmp_path / "train.py"
    file.write_text(f"import time\ntime.sleep(1.2)\n{file.read_text()}")
    out, err = project.steer()
    assert ("s of imports" in out + err) is not reuse


@pytest.mark.parametrize("algorithm", ["random", "bayesian"])
def test_killed_half_way_it_proposes_the_points_of_an_undisturbed_run(tmp_path: Path, algorithm: str) -> None:
    quiet = Project(tmp_path / "quiet", algorithm=algorithm)
    quiet.steer()
    killed = Project(tmp_path / "killed", gated=True, algorithm=algorithm)
    for more, target in ((4, 4), (7, 11)):
        killed.let_through(more)
        process = killed.start("--config", "config.yaml")
        wait_for(lambda wanted=target: killed.ended() >= wanted, what=f"{target} points")  # type: ignore[misc]
        process.kill()
        process.communicate()
        wait_for(
            lambda: not children(["evaluation", "hpo_steer"], killed.folder), what="the end of all workers"
        )
        assert killed.ended() == target
    killed.open_gate()
    out, _ = killed.steer()
    assert "resuming runs/demo: " in out
    wanted = [(p["iteration"], p["params"], p["values"]) for p in quiet.points()]
    assert [(p["iteration"], p["params"], p["values"]) for p in killed.points()] == wanted
    out, _ = killed.run("replay", "demo", "--json")
    assert json.loads(out)["reproduced"] is True


def test_running_points_go_out_again_after_a_kill(tmp_path: Path) -> None:
    project = Project(tmp_path, gated=True, steering={"max_points": 3, "points_per_iteration": 3})
    project.let_through(1)
    process = project.start("--config", "config.yaml")
    wait_for(
        lambda: {"done", "running"} <= {p["state"] for p in _points(project)}, what="a point and one running"
    )
    process.kill()
    process.communicate()
    project.open_gate()
    out, _ = project.steer()
    assert "1 was running and goes out again (attempt 2)" in out
    assert sorted(p["attempts"] for p in project.points()) == [1, 1, 2]


def test_ctrl_c_drains_and_the_same_command_carries_on(tmp_path: Path) -> None:
    steering = {"max_points": 4, "points_per_iteration": 4}
    project = Project(tmp_path, sleep=0.4, gated=True, steering=steering)  # short ones are taken ahead
    project.let_through(1)
    process = project.start("--config", "config.yaml")
    wait_for(
        lambda: {"done", "running"} <= {p["state"] for p in _points(project)}, what="a point and one running"
    )
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    out = ""
    while "draining" not in out:
        out += process.stdout.readline()
    project.let_through(1)
    rest, _ = process.communicate(timeout=30)
    out += rest
    assert process.returncode == 130
    assert "draining: 1 point is running" in out
    assert "the same command carries on" in out
    points = project.points()
    assert [p["state"] for p in points] == ["done", "done", "queued", "queued"]
    project.open_gate()
    project.steer()
    assert all(p["state"] == "done" and p["attempts"] == 1 for p in project.points())


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    project = Project(tmp_path, sleep=60.0)
    process = project.start("--config", "config.yaml")
    wait_for(lambda: any(p["state"] == "running" for p in _points(project)), what="a running point")
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    while "draining" not in process.stdout.readline():
        pass
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    wait_for(lambda: not children(["evaluation", "hpo_steer"], tmp_path), 10, "the end of all workers")


def _points(project: Project) -> list[dict[str, str]]:
    process = project.start("points", "--config", "config.yaml", "--json")
    out, _ = process.communicate(timeout=60)
    found: list[dict[str, str]] = json.loads(out) if process.returncode == 0 else []
    return found


def test_one_steering_at_a_time(tmp_path: Path) -> None:
    project = Project(tmp_path, gated=True)
    project.let_through(5)
    process = project.start("--config", "config.yaml")
    wait_for(lambda: project.ended() == 5, what="five points")
    _, err = project.steer(code=2)
    assert err.startswith("error: demo is already being run by ")
    assert f"process {process.pid}" in err
    _, err = project.steer("--fresh", "--yes", code=2)
    assert "already being run" in err
    project.open_gate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert len(project.points()) == 20


def test_another_config_is_refused_with_what_differs(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.steer()
    _, err = project.steer("--set", "search_space.x.high=0.8", "--set", "steering.max_points=30", code=2)
    first, second = err.splitlines()
    assert first == (
        "error: runs/demo was made by another config: search_space.x.high 1.0 → 0.8, steering.max_points 20 → 30"
    )
    assert second.startswith(
        "another search_space makes it another experiment: give it another name, or start anew"
    )
    _, err = project.steer("--set", "steering.max_points=30", code=2)
    assert "run with --extend" in err
    assert len(project.points()) == 20
    project.steer("--set", "steering.max_points=30", "--extend")
    assert len(project.points()) == 30


def test_fresh_moves_the_old_run_aside(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.steer()
    _, err = project.steer("--fresh", code=2)
    assert "--yes" in err
    project.steer("--fresh", "--yes", "--set", "seed=9")
    old = [p for p in (tmp_path / "runs").iterdir() if p.name.startswith("demo.old-")]
    assert len(old) == 1
    assert (old[0] / "store.db").exists()


def test_all_points_failing_is_a_failure_that_says_where_to_look(tmp_path: Path) -> None:
    project = Project(tmp_path, steering={"max_points": 4, "points_per_iteration": 4})
    (tmp_path / "train.py").write_text("def train(params):\n    raise RuntimeError('no data')\n")
    out, _ = project.steer(code=1)
    assert "RuntimeError: no data" in out
    assert "no point has a value" in out
    assert all(p["failure"]["kind"] == "error" and p["attempts"] == 3 for p in project.points())


def test_a_finite_space_ends_when_every_cell_was_tried(tmp_path: Path) -> None:
    space = {
        "x": {"type": "float", "low": 0, "high": 1, "step": 0.5},
        "k": {"type": "int", "low": 1, "high": 3},
    }
    project = Project(tmp_path, search_space=space, algorithm="grid", steering={"max_points": 1000})
    out, _ = project.steer()
    assert "exhausted" in out
    cells = {(p["params"]["x"], p["params"]["k"]) for p in project.points()}
    assert len(cells) == len(project.points()) == 9


def test_a_class_in_a_file_is_an_algorithm(tmp_path: Path) -> None:
    project = Project(tmp_path, algorithm={"class": "mine.py:Walk", "step": 0.05})
    (tmp_path / "mine.py").write_text(
        "import hpo_steer\n"
        "class Walk(hpo_steer.SearchAlgorithm):\n"
        "    def __init__(self, space, objectives, seed=0, *, step):\n"
        "        super().__init__(space, objectives, seed)\n"
        "        self.x, self.step = 0.0, step\n"
        "    def ask(self, n):\n"
        "        print('noise on standard output')\n"
        "        points = []\n"
        "        for _ in range(n):\n"
        "            points.append({'x': self.x, 'k': 4}); self.x += self.step\n"
        "        return points\n"
        "    def tell(self, observations):\n"
        "        assert all(o.values for o in observations)\n"
    )
    project.steer()
    assert [round(p["params"]["x"], 6) for p in project.points()] == [round(0.05 * i, 6) for i in range(20)]


@pytest.mark.parametrize(
    ("target", "options", "steering"),
    [
        (
            "xopt.generators.sequential.neldermead:NelderMeadGenerator",
            {"adaptive": False},
            {"points_per_iteration": 1, "max_points": 12},
        ),
        (
            "xopt.generators.bayesian.expected_improvement:ExpectedImprovementGenerator",
            {"n_monte_carlo_samples": 16, "numerical_optimizer": {"name": "LBFGS", "max_time": None}},
            {"points_per_iteration": 4, "max_points": 12},
        ),
    ],
)
def test_a_generator_of_xopt_is_an_algorithm_that_goes_on_where_it_was(
    tmp_path: Path, target: str, options: dict[str, Any], steering: dict[str, Any]
) -> None:
    pytest.importorskip("xopt", reason='pip install -e ".[dev]"')
    project = Project(tmp_path, plots=True, algorithm={"generator": target, **options}, steering=steering)
    project.steer("--set", "steering.max_points=8")
    project.steer("--extend")
    assert [p["id"] for p in project.points()] == list(range(1, 13))
    assert all(p["state"] == "done" for p in project.points())
    out, _ = project.run("replay", "demo", "--json")
    assert json.loads(out)["reproduced"]


def test_two_workers_evaluate_side_by_side_and_a_killed_one_is_replaced(tmp_path: Path) -> None:
    project = Project(tmp_path, gated=True, evaluation={"workers": 2}, steering={"max_points": 14})
    process = project.start("--config", "config.yaml")

    def busy() -> set[str]:
        return {p["worker"] for p in _points(project) if p["state"] == "running"}

    wait_for(lambda: len(busy()) == 2, what="two workers")
    killed = min(busy())
    os.kill(int(killed.split("-")[-2]), signal.SIGKILL)
    wait_for(lambda: len(busy() - {killed}) == 2, what="another worker")
    project.open_gate()
    process.communicate(timeout=60)
    assert process.returncode == 0
    points = project.points()
    assert all(p["state"] == "done" for p in points)
    assert killed not in {p["worker"] for p in points}
    assert max(p["attempts"] for p in points) == 2


def test_folders_named_like_our_packages_make_no_difference(tmp_path: Path) -> None:
    project = Project(tmp_path)
    for name in ("steering", "evaluation", "algorithms", "containers"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("OURS = False\n")
        (tmp_path / name / "cli.py").write_text("raise RuntimeError('the wrong package')\n")
    train = (tmp_path / "train.py").read_text()
    (tmp_path / "train.py").write_text("import steering, algorithms\nassert not steering.OURS\n" + train)
    project.steer(env={"PYTHONPATH": str(tmp_path)})
    assert len(project.points()) == 20


def test_quick_points_keep_their_own_results_whatever_their_neighbours_do(tmp_path: Path) -> None:
    """Children are handed quick points beforehand: no answer may end up at another point, none may be lost."""
    project = Project(
        tmp_path,
        evaluation={"max_attempts": 1},
        steering={"max_points": 600, "points_per_iteration": 200},
    )
    (tmp_path / "train.py").write_text(
        "import os, time\n"
        "def train(params):\n"
        "    digit = int(params['x'] * 1e6) % 40\n"
        "    if digit == 1:\n"
        "        raise ValueError(params['x'])\n"
        "    if digit == 2:\n"
        "        os._exit(3)\n"
        "    if digit == 3 and params['k'] == 5:\n"
        "        time.sleep(1.5)\n"
        "    with open('calls', 'a') as calls:\n"
        "        calls.write(f'{params[\"x\"]!r}\\n')\n"
        "    return params['x']\n"
    )
    project.steer()
    points = project.points()
    assert len(points) == 600
    for point in points:
        digit = int(point["params"]["x"] * 1e6) % 40
        if digit == 1:
            assert point["failure"]["message"] == f"ValueError: {point['params']['x']}"
        elif digit == 2:
            assert "exit code 3" in point["failure"]["message"]
        else:
            assert point["values"] == {"loss": point["params"]["x"]}
    assert {p["state"] for p in points} == {"done", "failed"}
    calls = (tmp_path / "calls").read_text().split()
    assert len(calls) < 900  # few were evaluated twice: those handed to a child that was replaced
