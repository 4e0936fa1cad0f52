from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from hpo_steer.config import validate
from hpo_steer.errors import HpoSteerError, UserError
from steering.commands.import_phpo import import_phpo

PAYLOADS = Path(__file__).parents[2] / "payloads" / "phpo"


def ask(*words: object) -> Any:
    app = typer.Typer()
    app.command()(import_phpo)
    result = CliRunner().invoke(app, [str(word) for word in words])
    if isinstance(result.exception, HpoSteerError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_the_config_goes_to_stdout_and_the_table_to_stderr() -> None:
    result = ask(PAYLOADS / "full.json")
    assert validate(yaml.safe_load(result.stdout)).name == "user.me-search.v1"
    rows = result.stderr.splitlines()
    assert rows[0].split() == ["option", "value", "what", "became", "of", "it"]
    assert "! marks what is lost, or needs a look" in rows
    points = next(row for row in rows if row.startswith("maxPoints "))
    assert points.split("  ")[-1].strip() == "steering.max_points: 40, for each model"
    assert any(
        row.startswith("trainingDS ") and "! a data set cannot be looked up here" in row for row in rows
    )


@pytest.mark.parametrize("name", ["plain", "full", "segmented"])
def test_a_text_file_with_the_command_line_will_do(name: str) -> None:
    assert ask(PAYLOADS / f"{name}.sh").stdout == ask(PAYLOADS / f"{name}.json").stdout


def test_a_command_line_goes_behind_two_dashes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    line = ["phpo", "--outDS", "me.x", "--steeringExec", "run i c %IN", "--evaluationExec", "true", "--foo=1"]
    result = ask("--", *line)
    assert yaml.safe_load(result.stdout)["name"] == "me.x"
    assert any(row.split()[:2] == ["--foo", "1"] and "ignored" in row for row in result.stderr.splitlines())


def test_a_config_is_written_and_none_is_overwritten(tmp_path: Path) -> None:
    output = tmp_path / "configs" / "my.yaml"
    result = ask(PAYLOADS / "plain.json", "--output", output)
    config = yaml.safe_load(output.read_text())
    assert validate(config).name == "user.me.plain"
    assert (output.parent / config["algorithm"]["opt_space"]).resolve() == PAYLOADS / "space.json"
    assert f"hpo-steer check {output}" in result.stdout
    with pytest.raises(UserError, match="exists; nothing was written"):
        ask(PAYLOADS / "plain.json", "--output", output)
    with pytest.raises(UserError, match=r"name it my\.yaml, not my\.toml"):
        ask(PAYLOADS / "plain.json", "--output", tmp_path / "my.toml")


def test_it_answers_in_json() -> None:
    answer = json.loads(ask(PAYLOADS / "full.json", "--json").stdout)
    assert answer["config"]["name"] == "user.me-search.v1"
    row = next(row for row in answer["options"] if row["option"] == "alrbArgs")
    assert row["value"] == "--nocvmfs --nohome"
    assert row["kept"] is False


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"steeringExec": ', "the file bad.json is no JSON: Expecting value at line 1 column 18"),
        ("[]", "is no JSON of phpo: expected an object of options"),
        ("{}", "phpo needs --steeringExec"),
        ("", "is empty"),
    ],
)
def test_a_bad_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError) as caught:
        ask(tmp_path / "bad.json")
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_such_file() -> None:
    with pytest.raises(UserError, match="there is no file nowhere\\.json"):
        ask("nowhere.json")
