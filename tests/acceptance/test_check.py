"""`hpo-steer check --steering` and `--evaluation`, bare, in containers, and with the real hpogrid."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.acceptance.program import Project, children

if TYPE_CHECKING:
    from pathlib import Path

STEER = """
import json, random, sys
asked = json.load(open(sys.argv[1]))
done = [p for p, loss in asked["points"] if loss]
again = [p for p, loss in asked["points"] if loss == 0.0]
new = [
    {"lr": random.uniform(0.001, 0.1), "layers": random.randint(1, 8), "activation": "relu"}
    for _ in range(int(sys.argv[3]))
]
json.dump((again + new)[: len(new)], open(sys.argv[2], "w"))
"""
TRAIN = """
import json
point, data = json.load(open("input.json")), json.load(open("input_ds.json"))
json.dump({"status": 0, "loss": point["lr"] * point["layers"]}, open("output.json", "w"))
"""
SPACE = {"lr": {"type": "float", "low": 0.001, "high": 0.1}, "layers": {"type": "int", "low": 1, "high": 8}}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(tmp_path)
    (tmp_path / "steer.py").write_text(STEER)
    (tmp_path / "payload.py").write_text(TRAIN)
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    return made


def test_a_steering_command_with_defects(project: Project) -> None:
    command = "python3 steer.py %IN %OUT %NUM_POINTS %MAX_POINTS"
    out, err = project.run("check", "--steering", command, code=1)
    lines = out.splitlines()
    assert lines[0].startswith("ok    first call, no history: 5 points of 5, all in the space (")
    bad = [line for line in lines if line.startswith("FAIL")]
    assert len(bad) == 2
    assert bad[0].startswith("FAIL  a loss of 0.0: is treated as not evaluated: point {")
    assert bad[1].startswith("FAIL  fewer left than asked for: asked for 5 with 4 left of 9: returned 5")
    assert lines[-1] == "2 of 8 checks failed"
    assert err == ""


def test_the_two_halves_of_a_config(project: Project) -> None:
    out, _ = project.run("check", "config.yaml", "--steering", "--evaluation", "--json")
    answer = json.loads(out)
    subjects = {each["subject"]: each for each in answer["checks"]}
    assert answer["ok"]
    assert subjects["a loss of 0.0"]["ok"]
    assert subjects["a point"]["text"].startswith("loss ")
    assert subjects["nothing left behind"]["ok"]
    by_its_name, _ = project.run("check", "--steering", "config.yaml")
    assert by_its_name.startswith("note  steering: random")
    assert not (project.folder / "runs").exists()


def test_an_evaluation_command(project: Project) -> None:
    arguments = ("--space", "space.json", "--points", "3")
    out, _ = project.run("check", "--evaluation", "python3 payload.py", *arguments)
    assert "note  evaluation: runs 3 trainings, one after the other, each for at most 60 s" in out
    assert out.splitlines()[-1] == "ok    nothing left behind: no process is"
    out, _ = project.run("check", "--evaluation", "python3 payload.py", "--objective", "auc", *arguments)
    assert "ok    a point: auc" in out  # the file's loss, where it has no number of that name
    (project.folder / "payload.py").write_text(TRAIN.replace('"status": 0, "loss"', '"loss"'))
    out, _ = project.run("check", "--evaluation", "python3 payload.py", *arguments, code=1)
    assert "FAIL  a point: the evaluation output output.json has no status" in out
    assert out.splitlines()[-1] == "1 of 2 checks failed"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "needs a config, or --steering COMMAND or --evaluation COMMAND"),
        (["--steering"], "--steering needs a COMMAND, or a config whose own half is run"),
        (["config.yaml", "--steering", "python3 steer.py"], "--steering COMMAND does not go with a config"),
        (["config.yaml", "--steering", "--space", "space.json"], "--space goes with a COMMAND"),
        (["config.yaml", "--points", "3"], "--points goes with --steering or --evaluation"),
        (["--steering", "a %OUT", "--evaluation", "b"], "are checked one at a time"),
        (["--steering", "a %OUT", "--runtime", "podman"], "--runtime goes with --container"),
        (
            ["--steering", "a %OUT", "--container", "x", "--runtime", "dokcer"],
            "algorithm.container.runtime: ",
        ),
        (["--steering", "a %OUT", "--free", "--space", "space.json"], "contradict each other"),
        (["--steering", ""], "--steering is empty"),
        (["--steering", "a %OUT", "--objective", "x", "--objective", "y"], "checked with one objective"),
        (["--steering", "nosuchprogram %OUT"], 'there is no program "nosuchprogram" on the PATH'),
        (["--evaluation", "true"], "needs --space FILE"),
        (["--evaluation", "true", "--free"], "an evaluation needs points"),
        (["--evaluation", "nosuchprogram", "--space", "space.json"], 'no program "nosuchprogram"'),
        (["--evaluation", "'", "--space", "space.json"], "evaluation.command: No closing quotation"),
        (["--evaluation", "true", "--space", "no.json"], "no.json cannot be read: No such file"),
        (["--evaluation", "true", "--space", "space.json", "--points", "99"], "is 1 to 20 for an evaluation"),
        (["--evaluation", "a.py:f", "--space", "space.json"], "a.py"),
    ],
)
def test_wrong_input(project: Project, arguments: list[str], says: str) -> None:
    _, err = project.run("check", *arguments, code=2)
    assert says in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_a_program_that_hangs_is_gone_when_the_check_is(project: Project) -> None:
    (project.folder / "hang.py").write_text("import subprocess; subprocess.run(['sleep', '777'])")
    out, _ = project.run("check", "--steering", "python3 hang.py %OUT", "--timeout", "1", code=1)
    assert "FAIL  first call, no history: the steering command has not ended within 1 s" in out
    arguments = ("--space", "space.json", "--timeout", "1")
    out, _ = project.run("check", "--evaluation", "python3 hang.py", *arguments, code=1)
    assert "FAIL  a point: has not ended within 1 s (--timeout)" in out
    assert not children(["sleep 777", "hang.py"], project.folder)


# ---------------------------------------------------------------- containers


@pytest.mark.slow
def test_a_steering_and_an_evaluation_in_a_container(project: Project, podman_image: str) -> None:
    inside = ("--container", podman_image, "--runtime", "podman")
    command = "python3 steer.py %IN %OUT %NUM_POINTS %MAX_POINTS"
    out, _ = project.run("check", "--steering", command, *inside, "--points", "2", code=1)
    assert out.splitlines()[-1] == "2 of 8 checks failed"
    (project.folder / "payload.py").write_text(TRAIN + "import time; time.sleep(1)")
    arguments = ("--space", "space.json", "--points", "4")
    out, _ = project.run("check", "--evaluation", "python3 payload.py", *inside, *arguments)
    assert "ok    a point: loss" in out
    assert "ok    asked to end: ended" in out
    assert "ok    nothing left behind" in out


@pytest.mark.slow
def test_an_image_that_does_not_exist(project: Project, podman_image: str) -> None:
    inside = ("--container", "localhost/no-such-image:1", "--runtime", "podman")
    _, err = project.run("check", "--steering", "steer %OUT", *inside, code=2)
    assert "no-such-image" in err


# ---------------------------------------------------------------- hpogrid

HPOGRID_SPACE: dict[str, Any] = {
    "lr": {"method": "loguniform", "dimension": {"low": 1e-5, "high": 1e-2, "base": 10}},
    "layers": {"method": "uniformint", "dimension": {"low": 1, "high": 5}},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, ["pending points are not counted", "a failed point", "fewer left than asked for"]),
        ({"failed": "omit"}, ["pending points are not counted", "fewer left than asked for"]),
    ],
)
def test_the_real_hpogrid(project: Project, hpogrid: Path, options: dict[str, str], found: list[str]) -> None:
    (project.folder / "hpogrid.json").write_text(json.dumps(HPOGRID_SPACE))
    command = f"{hpogrid}/hpogrid generate -s none -n %NUM_POINTS -m %MAX_POINTS -i ./%IN -o ./%OUT"
    config = yaml.safe_load((project.folder / "config.yaml").read_text())
    config["search_space"] = {
        "lr": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
        "layers": {"type": "int", "low": 1, "high": 5},
    }
    config["algorithm"] = {"command": command, "opt_space": "hpogrid.json", **options}
    (project.folder / "config.yaml").write_text(yaml.safe_dump(config))
    out, _ = project.run("check", "config.yaml", "--steering", "--json", code=1)
    checks = {each["subject"]: each for each in json.loads(out)["checks"]}
    assert [subject for subject, each in checks.items() if each["ok"] is False] == found
    assert checks["a loss of 0.0"]["ok"]
    assert checks["history with a pending point"]["ok"]
    assert "asked for 5 with 4 left of 9: returned 5" in checks["fewer left than asked for"]["text"]
