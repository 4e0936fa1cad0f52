from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from containers.phpo.evaluation_files import read_evaluation_output, write_point, write_training_data
from containers.phpo.placeholders import fill_evaluation, fill_steering, left_alone

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def answer(folder: Path, text: str, measured: Sequence[str] = ("loss",), **options: Any) -> Any:
    (folder / "output.json").write_text(text)
    return read_evaluation_output(folder / "output.json", measured, **options)


def test_what_the_command_reads(tmp_path: Path) -> None:
    write_point(tmp_path / "input.json", {"epochs": 10, "batch_size": 32})
    write_training_data(tmp_path / "input_ds.json", ["file_1", "file_2"])
    assert json.loads((tmp_path / "input.json").read_text()) == {"epochs": 10, "batch_size": 32}
    assert json.loads((tmp_path / "input_ds.json").read_text()) == ["file_1", "file_2"]


@pytest.mark.parametrize(
    ("text", "measured", "metrics"),
    [
        ('{"status": 0, "loss": 0.12, "message": "fine"}', ["loss"], {"loss": 0.12}),
        ('{"status": 0, "loss": 0}', ["loss"], {"loss": 0.0}),
        ('{"status": 0, "loss": 1, "auc": 0.9, "note": "x", "ok": true}', ["loss"], {"loss": 1, "auc": 0.9}),
        ('{"status": 0, "loss": 0.5}', ["chi2"], {"chi2": 0.5}),
        ('{"status": 0, "loss": 0.5, "chi2": 2}', ["chi2"], {"loss": 0.5, "chi2": 2}),
        ('{"status": 0, "a": 1, "b": 2}', ["a", "b"], {"a": 1, "b": 2}),
    ],
)
def test_metrics(tmp_path: Path, text: str, measured: list[str], metrics: dict[str, float]) -> None:
    assert answer(tmp_path, text, measured) == {"metrics": metrics}


def test_loss_stands_for_the_only_objective_beside_outcome_constraints(tmp_path: Path) -> None:
    text = '{"status": 0, "loss": 0.5, "memory": 7}'
    given = answer(tmp_path, text, ["chi2", "memory"], objective="chi2")
    assert given == {"metrics": {"chi2": 0.5, "memory": 7.0}}
    assert answer(tmp_path, text, ["chi2", "memory"])["failure"]["message"].startswith(
        'the evaluation output output.json returned no metric "chi2"'
    )


@pytest.mark.parametrize(
    ("text", "kind", "sentence"),
    [
        ('{"loss": 0.1}', "error", "has no status, so nothing says that the evaluation went well"),
        ('{"status": "0", "loss": 0.1}', "error", 'the status "0"'),
        ('{"status": false, "loss": 0.1}', "error", "the status false"),
        ('{"status": null, "loss": 0.1}', "error", "the status null"),
        ('{"status": 3, "loss": 0.1}', "error", "the evaluation gave status 3"),
        ('{"status": -1, "message": "no GPU"}', "error", "status -1: no GPU"),
        ('{"status": 0}', "error", 'no metric "loss"'),
        ('{"status": 0, "loss": null}', "error", '"loss" is no number'),
        ('{"status": 0, "loss": [0.1]}', "error", '"loss" is no number'),
        ('{"status": 0, "loss": "0.1"}', "error", '"loss" is no number'),
        ('{"status": 0, "loss": NaN}', "invalid", '"loss" is nan'),
        ('{"status": 0, "loss": -Infinity}', "invalid", '"loss" is -inf'),
        ('{"status": 0, "loss": 1e999}', "invalid", '"loss" is inf'),
        ('{"status": 0, "loss": 0.1', "error", "line 1 column 26"),
        ("0.1", "error", "holds 0.1; expected"),
        ("", "error", "is empty"),
    ],
)
def test_failures(tmp_path: Path, text: str, kind: str, sentence: str) -> None:
    failure = answer(tmp_path, text)["failure"]
    assert failure["kind"] == kind
    assert sentence in failure["message"]


def test_no_output_is_a_failure(tmp_path: Path) -> None:
    failure = read_evaluation_output(tmp_path / "output.json", ["loss"])["failure"]
    assert failure["message"] == (
        "the evaluation output output.json is not there: the command has not written it"
    )


def test_steering_placeholders() -> None:
    text = "hpogrid generate -n=%NUM_POINTS -m %MAX_POINTS -i=/d/%IN -o=/d/%OUT; echo %IN_DATA %INPUT %OUTER"
    filled = fill_steering(text, infile="i.json", outfile="o.json", num_points=3, max_points=20)
    assert filled == "hpogrid generate -n=3 -m 20 -i=/d/i.json -o=/d/o.json; echo %IN_DATA %INPUT %OUTER"


def test_what_is_filled_in_is_not_looked_at_again() -> None:
    filled = fill_steering("%IN %OUT", infile="%OUT", outfile="%IN", num_points=1, max_points=1)
    assert filled == "%OUT %IN"
    assert fill_evaluation("%IN_DATA", data=["%SEGMENT_NAME"], segment="s", point=0) == "%SEGMENT_NAME"


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("train.sh %IN_DATA", "train.sh a.root,b.root"),
        ("out_%SEGMENT_NAME_v2", "out_photon_v2"),
        ("--seed=%RNDM:100 %RNDM=5 %RNDM:7%", "--seed=104 9 11"),
        ("%IN %OUT %RNDM %MAXEVENTS", "%IN %OUT %RNDM %MAXEVENTS"),
    ],
)
def test_evaluation_placeholders(text: str, filled: str) -> None:
    assert fill_evaluation(text, data=["a.root", "b.root"], segment="photon", point=4) == filled


def test_placeholders_without_a_meaning_are_named() -> None:
    text = "run %MAXEVENTS %SKIPEVENTS %FIRSTEVENT:10 %DB:current %RNDM %RNDM:3 %IN_DATA %MAXEVENTS 100%"
    names = [sentence.split()[0] for sentence in left_alone(text)]
    assert names == ["%MAXEVENTS", "%SKIPEVENTS", "%FIRSTEVENT:10", "%DB:current", "%RNDM"]
    assert left_alone("train.sh %IN_DATA %RNDM:3") == []
