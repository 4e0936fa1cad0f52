"""What was written for PanDA's phpo runs as it is, through the installed programs."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.program import STEER

if TYPE_CHECKING:
    from pathlib import Path

TRAIN = """
import json, sys
point = json.load(open("input.json"))
files, segment = sys.argv[1].split(","), sys.argv[2]
assert files == json.load(open("input_ds.json")) == {"A": ["a.root", "b.root"], "B": ["c.root"]}[segment]
loss = (point["x"] - 0.3) ** 2
json.dump({"status": 0, "loss": loss, "message": "fine"}, open("output.json", "w"))
"""
SEGMENTS = [{"name": "A", "files": ["a.root", "b.root"]}, {"name": "B", "files": ["c.root"]}]
SPACE = {"x": {"method": "uniform", "dimension": {"low": 0.0, "high": 1.0}}}
OPTIONS = {
    "outDS": "user.me.test/",
    "steeringContainer": "steering:1",
    "steeringExec": "python3 steer.py %IN %OUT %NUM_POINTS",
    "evaluationExec": "python3 train.py %IN_DATA %SEGMENT_NAME",
    "searchSpaceFile": "space.json",
    "segmentSpecFile": "segments.json",
    "maxPoints": 4,
    "site": "ANY",
    "maxPoint": 5,
}
STEER_PY = """
import json, random, sys
asked = json.load(open(sys.argv[1]))
known = asked["points"]
segment = asked["opt_space"][0]["model_id"]
rng = random.Random(10 * segment + len(known))
json.dump([[segment, {"x": rng.random()}] for _ in range(int(sys.argv[3]))], open(sys.argv[2], "w"))
"""
PLAIN = ("--set", "algorithm.container.runtime=none")
"""Nothing that these tests check needs an image."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "steer.py").write_text(STEER_PY)
    for name, data in (("phpo", OPTIONS), ("space", SPACE), ("segments", SEGMENTS)):
        (tmp_path / f"{name}.json").write_text(json.dumps(data))
    return tmp_path


def run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [STEER, *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done


def points(folder: Path, name: str) -> list[tuple[Any, ...]]:
    rows = json.loads(run(folder, "points", name, "--json").stdout)
    return sorted((row["model"], row["params"]["x"], row["values"]["loss"]) for row in rows)


def test_a_json_of_phpo_runs_directly_and_says_what_it_is(folder: Path) -> None:
    done = run(folder, "--config", "phpo.json", *PLAIN)
    assert "warning: phpo.json is phpo's and is translated, its loss minimised" in done.stderr
    assert 'warning: maxPoint: ignored: phpo has no such option; did you mean "maxPoints"?' in done.stderr
    found = points(folder, "user.me.test")
    assert [row[0] for row in found] == ["A"] * 4 + ["B"] * 4
    assert all(loss == pytest.approx((x - 0.3) ** 2) for _, x, loss in found)


def test_the_imported_config_does_the_same(folder: Path) -> None:
    run(folder, "--config", "phpo.json", *PLAIN, "--set", "name=direct")
    made = run(folder, "import-phpo", "phpo.json", "-o", "my.yaml")
    assert "wrote my.yaml" in made.stdout
    run(folder, "--config", "my.yaml", *PLAIN)
    assert points(folder, "user.me.test") == points(folder, "direct")


def test_a_json_that_makes_no_sense_starts_nothing(folder: Path) -> None:
    (folder / "phpo.json").write_text(json.dumps({**OPTIONS, "segmentSpecFile": "gone.json"}))
    for command in (("--config", "phpo.json"), ("import-phpo", "phpo.json")):
        done = run(folder, *command, code=2)
        assert done.stdout == ""
        assert done.stderr.startswith("error: ")
        assert "--segmentSpecFile: there is no file" in done.stderr
        assert "Traceback" not in done.stderr
    assert not (folder / "runs").exists()
