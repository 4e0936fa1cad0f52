"""The real `hpogrid generate` reads the files that we write, and we read those that it writes."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from containers.phpo.importing import imported
from containers.phpo.options import from_json
from containers.phpo.placeholders import fill_steering
from containers.phpo.spaces import translate
from containers.phpo.steering_files import INPUT, OUTPUT, read_steering_output, write_steering_input
from hpo_steer.algorithm import Failure
from hpo_steer.config import validate
from hpo_steer.errors import AlgorithmError
from hpo_steer.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from containers.phpo.steering_files import Result

SPACE: dict[str, Any] = {
    "lr": {"method": "loguniform", "dimension": {"low": 1e-5, "high": 1e-2, "base": 10}},
    "layers": {"method": "uniformint", "dimension": {"low": 1, "high": 5}},
    "activation": {"method": "categorical", "dimension": {"categories": ["relu", "tanh"], "grid_search": 0}},
    "dropout": {"method": "uniform", "dimension": {"low": 0.0, "high": 0.5}},
}
POINT = {"lr": 1e-3, "layers": 2, "activation": "relu", "dropout": 0.25}
EXEC = "hpogrid generate -s none -n %NUM_POINTS -m %MAX_POINTS -i ./%IN -o ./%OUT"
FAILED = Failure("error", "no memory")

pytestmark = pytest.mark.slow


def generate(program: Path, folder: Path, n: int, command: str = EXEC) -> subprocess.CompletedProcess[str]:
    text = fill_steering(command, infile=INPUT, outfile=OUTPUT, num_points=n, max_points=20)
    return subprocess.run(
        ["/bin/sh", "-c", text],
        cwd=folder,
        env={"PATH": f"{program}:/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def ask(
    program: Path,
    folder: Path,
    points: Sequence[tuple[dict[str, Any], Result]],
    n: int,
    *,
    space: Any = SPACE,
    segment: int | None = None,
    **options: Any,
) -> list[dict[str, Any]]:
    write_steering_input(folder / INPUT, points, space, segment, **options)
    done = generate(program, folder, n)
    assert done.returncode == 0, done.stdout + done.stderr
    return read_steering_output(folder / OUTPUT, segment)


TRANSPOSE = """
import json, sys
from hpogrid.core import defaults
from hpogrid.interface.idds import main
main.kGridSiteMetadataFileName = defaults.kGridSiteMetadataFileName  # its import is missing in 1.3.3
json.dump(main.transpose_config(json.load(sys.stdin))[0], sys.stdout)
"""
PROJECT = {
    "project_name": "demo",
    "search_space": SPACE,
    "hpo_config": {
        "algorithm": "nevergrad",
        "algorithm_param": {"method": "RandomSearch"},
        "num_trials": 20,
        "max_concurrent": 3,
    },
    "grid_config": {"container": "docker://gitlab.example/hpogrid:latest"},
}


def check_inside(points: list[dict[str, Any]]) -> None:
    space = SearchSpace.from_dict(translate(SPACE).search_space)
    assert all(space.validate(point) for point in points)


def test_it_begins_without_points(hpogrid: Path, tmp_path: Path) -> None:
    points = ask(hpogrid, tmp_path, [], 3)
    assert len(points) == 3
    check_inside(points)


def test_results_are_told_a_loss_of_zero_among_them(hpogrid: Path, tmp_path: Path) -> None:
    points = ask(hpogrid, tmp_path, [(POINT, 0.0), ({**POINT, "layers": 3}, 0.5)], 4)
    assert len(points) == 4
    check_inside(points)


def test_a_point_on_its_way_counts_as_one_of_those_wanted(hpogrid: Path, tmp_path: Path) -> None:
    assert len(ask(hpogrid, tmp_path, [(POINT, 0.5), (POINT, None)], 3)) == 2
    assert ask(hpogrid, tmp_path, [(POINT, 0.5), (POINT, None), (POINT, None)], 2) == []


def test_failed_points_hold_it_up_unless_they_are_left_out(hpogrid: Path, tmp_path: Path) -> None:
    points: list[tuple[dict[str, Any], Result]] = [(POINT, 0.5), (POINT, FAILED), (POINT, FAILED)]
    assert ask(hpogrid, tmp_path, points, 2) == []
    assert len(ask(hpogrid, tmp_path, points, 2, failed="omit")) == 2
    assert len(ask(hpogrid, tmp_path, points, 2, failed=1e5)) == 2


def test_the_segmented_form_asks_for_one_segment_alone(hpogrid: Path, tmp_path: Path) -> None:
    spaces = [{"model_id": i, "search_space": SPACE} for i in range(3)]
    points = ask(hpogrid, tmp_path, [(POINT, 0.5)], 2, space=spaces, segment=1)
    assert len(points) == 2
    check_inside(points)


def test_without_a_space_it_fails_and_writes_nothing(hpogrid: Path, tmp_path: Path) -> None:
    write_steering_input(tmp_path / INPUT, [], None)
    assert generate(hpogrid, tmp_path, 2).returncode != 0
    with pytest.raises(AlgorithmError, match="is not there"):
        read_steering_output(tmp_path / OUTPUT)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [(("-s none", ""), "Missing option"), (("-n %NUM_POINTS", "-n=%NUM_POINTS"), "not a valid integer")],
)
def test_what_an_import_warns_of_is_so(
    hpogrid: Path, tmp_path: Path, change: tuple[str, str], complaint: str
) -> None:
    write_steering_input(tmp_path / INPUT, [], SPACE)
    done = generate(hpogrid, tmp_path, 2, EXEC.replace(*change))
    assert done.returncode == 2
    assert complaint in done.stderr


def test_what_hpogrid_hands_to_phpo_becomes_a_config_whose_command_it_runs(
    hpogrid: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [hpogrid / "python", "-c", TRANSPOSE],
        input=json.dumps(PROJECT),
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    (tmp_path / "space.json").write_text(json.dumps(SPACE))
    given = from_json({**json.loads(done.stdout), "searchSpaceFile": "space.json"})
    made = imported(given, tmp_path, name="demo")
    config = validate(made.config)
    assert config.evaluation.workers == 3
    assert config.steering.max_points == 20
    assert any("add -s none" in caveat for caveat in made.caveats)
    algorithm = made.config["algorithm"]
    inside = algorithm["container"]["workdir"]
    shell, flag, text = algorithm["command"]
    assert (shell, flag) == ("/bin/bash", "-c")
    write_steering_input(tmp_path / INPUT, [(POINT, 0.5)], SPACE)
    text = text.replace("generate", "generate -s none").replace(inside, str(tmp_path))
    assert generate(hpogrid, tmp_path, 2, text).returncode == 0
    points = read_steering_output(tmp_path / OUTPUT)
    assert len(points) == 2
    check_inside(points)
