from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpo_steer.config import load_config, validate
from hpo_steer.config.complaints import SYNONYMS
from hpo_steer.config.secrets import broker_settings
from hpo_steer.errors import ConfigError
from steering.changes import changes, check_resumable, recorded

BASE: dict[str, Any] = {
    "name": "demo",
    "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
    "objectives": {"loss": "minimize"},
    "algorithm": "random",
    "evaluation": {"function": "train.py:train"},
}


def test_the_three_formats_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps(BASE))
    (tmp_path / "c.yaml").write_text(
        "name: demo\n"
        "search_space:\n  x: {type: float, low: 0.0, high: 1.0}\n"
        "objectives: {loss: minimize}\nalgorithm: random\nevaluation: {function: train.py:train}\n"
    )
    (tmp_path / "c.toml").write_text(
        'name = "demo"\nalgorithm = "random"\n[search_space.x]\ntype = "float"\nlow = 0.0\nhigh = 1.0\n'
        '[objectives]\nloss = "minimize"\n[evaluation]\nfunction = "train.py:train"\n'
    )
    loaded = [load_config(tmp_path / f"c.{suffix}").experiment for suffix in ("json", "yaml", "toml")]
    assert loaded[0] == loaded[1] == loaded[2]
    assert loaded[0].steering.point_limit == 100


@pytest.mark.parametrize("suffix", ["json", "yaml", "toml"])
def test_mistakes_name_file_and_line(tmp_path: Path, suffix: str) -> None:
    texts = {
        "json": json.dumps(BASE, indent=1).replace('"low": 0.0', '"low": 3'),
        "yaml": "name: demo\nsearch_space:\n  x: {type: float, low: 3, high: 1}\nobjectives: {loss: minimize}\n"
        "evaluation: {function: train.py:train}\n",
        "toml": 'name = "demo"\n[search_space.x]\ntype = "float"\nlow = 3\nhigh = 1\n'
        '[objectives]\nloss = "minimize"\n[evaluation]\nfunction = "t.py:t"\n',
    }
    path = tmp_path / f"c.{suffix}"
    path.write_text(texts[suffix])
    line = {"json": 4, "yaml": 3, "toml": 2}[suffix]
    with pytest.raises(
        ConfigError, match=rf"c\.{suffix}:{line}: search_space\.x: low \(3\) must be below high"
    ):
        load_config(path)


def test_yaml_numbers_and_words_are_what_they_look_like(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "name: demo\n"
        "search_space:\n  lr: {type: float, low: 1e-5, high: 1e-1, log: true}\n"
        "  mode: {type: categorical, choices: [on, off, no, 1_000, 12e3, null, true]}\n"
        "objectives: {loss: minimize}\nalgorithm: random\nevaluation: {function: train.py:train}\n"
    )
    space = load_config(path).experiment.space()
    assert space["lr"].decode(0.0) == pytest.approx(1e-5)
    assert space["mode"].values() == ["on", "off", "no", 1000, 12000.0, None, True]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a: 1\na: 2\n", "c.yaml:2: a: stands twice, first on line 1"),
        ("a: [1\nb: 2\n", "is no YAML"),
        ("", "is empty"),
        ("- 1\n", "expected keys and values"),
    ],
)
def test_broken_files(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert sentence in str(caught.value)


def test_overrides_reach_into_sections(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(BASE))
    overrides = ["steering.max_points=7", "steering.trigger=top_up", "search_space.x.high=2.5"]
    experiment = load_config(path, overrides).experiment
    assert experiment.steering.max_points == 7
    assert experiment.steering.trigger.top_up
    assert experiment.search_space["x"]["high"] == 2.5
    with pytest.raises(ConfigError, match="--set takes KEY=VALUE"):
        load_config(path, ["steering.max_points"])
    with pytest.raises(ConfigError, match="cannot reach into it"):
        load_config(path, ["name.first=x"])


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"steering": {"trigger": {"fraction": 0.5, "top_up": True}}}, "is one of"),
        ({"steering": {"trigger": "sometimes"}}, "is one of"),
        ({"steering": {"points_per_iteration": 4, "trigger": {"unevaluated_below": 4}}}, "must be below"),
        (
            {"steering": {"target": 0.1}, "objectives": {"a": "minimize", "b": "minimize"}},
            "goes with one objective",
        ),
        ({"evaluation": {"function": "t.py:t", "command": ["a"]}}, "needs exactly one of"),
        ({"evaluation": {"function": "t.py:t", "lease_s": 5.0}}, "must be at least twice heartbeat_s"),
        ({"models": [{"name": "a"}, {"name": "a"}]}, 'two models are called "a"'),
        ({"models": [{"name": "a", "constants": {"x": 1}}]}, 'constant "x" of model "a" is also a parameter'),
        ({"broker": "http://example"}, "is local, amqp://"),
        ({"store": "mysql://x/y"}, "is a folder or postgresql://"),
        ({"models": []}, "models"),
        ({"seed": -1}, "seed"),
        ({"seed": True}, "seed"),
    ],
)
def test_sections_that_contradict_themselves(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(BASE | changed)
    assert sentence in str(caught.value)


def test_passwords_come_from_a_file_or_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "secret").write_text("s3cret\n")
    broker = validate(BASE | {"broker": {"url": "amqp://ann@host/v", "password_file": "secret"}}).broker
    settings = broker_settings(broker, tmp_path)
    assert settings.password == "s3cret"
    assert "s3cret" not in repr(settings)
    monkeypatch.setenv("HPO_STEER_BROKER_PASSWORD", "from-env")
    assert (
        broker_settings(validate(BASE | {"broker": "amqp://ann@host/v"}).broker, tmp_path).password
        == "from-env"
    )
    missing = validate(BASE | {"broker": {"url": "amqp://ann@host/v", "password_file": "nowhere"}}).broker
    with pytest.raises(ConfigError, match=r"the password cannot be read from .*nowhere: no such file"):
        broker_settings(missing, tmp_path)


def test_what_is_recorded_holds_no_password() -> None:
    data = recorded(validate(BASE | {"broker": "amqp://ann:s3cret@host/v"}))
    assert "s3cret" not in json.dumps(data)


def test_changes_that_matter_come_first() -> None:
    before = recorded(validate(BASE))
    now = recorded(
        validate(
            BASE
            | {
                "evaluation": {"function": "train.py:train", "workers": 7},
                "search_space": {"x": {"type": "float", "low": 0.0, "high": 2.0}},
                "steering": {"max_points": 5},
            }
        )
    )
    assert [str(c) for c in changes(before, now)] == [
        "search_space.x.high 1.0 → 2.0",
        "steering.max_points (none) → 5",
        "evaluation.workers 2 → 7",
    ]


def test_where_points_are_evaluated_may_change() -> None:
    before = recorded(validate(BASE))
    moved = BASE | {"evaluation": {"function": "train.py:train", "timeout_s": 9.0}, "broker": "amqp://h/v"}
    assert check_resumable("runs/demo", before, recorded(validate(moved)), extend=False) == []


def test_short_and_long_forms_are_the_same_config() -> None:
    long = BASE | {
        "algorithm": {"name": "random"},
        "objectives": {"loss": {"direction": "minimize"}},
        "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
    }
    assert changes(recorded(validate(BASE)), recorded(validate(long))) == []
    aimed = BASE | {"objectives": {"loss": {"direction": "minimize", "target": 0.1}}}
    (change,) = changes(recorded(validate(BASE)), recorded(validate(aimed)))
    assert change.growing


def test_an_override_takes_the_blame_for_its_mistake(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps(BASE))
    with pytest.raises(
        ConfigError, match=r"^--set steering=\[\]: steering: expected keys and values, got \[\]"
    ):
        load_config(path, ["steering=[]"])


def test_a_file_that_contains_itself(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: &x [*x]\n")
    with pytest.raises(ConfigError, match="contains itself"):
        load_config(path)


def test_powers_are_bounded() -> None:
    space = validate(BASE | {"constraints": ["9**9**9**9 > x", "x ** 2 <= 0.25"]}).space()
    assert not space.constraints[0].holds({"x": 0.5})
    assert space.constraints[1].holds({"x": 0.5})
    assert not space.constraints[1].holds({"x": 0.6})


@pytest.mark.parametrize("algorithm", ["pbt", {"name": "successive_halving", "budget": "x"}])
def test_checkpoints_that_an_algorithm_needs_are_not_deleted(algorithm: Any, tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    text = {
        "name": "c",
        "search_space": {"x": {"type": "int", "low": 1, "high": 9}},
        "objectives": {"loss": "minimize"},
        "algorithm": algorithm,
        "evaluation": {"function": "t.py:f", "checkpoint": {"keep": "unfinished"}},
    }
    file.write_text(json.dumps(text))
    with pytest.raises(ConfigError, match=r"evaluation\.checkpoint\.keep: is unfinished, and (pbt|success)"):
        load_config(file)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"max_time_s": 5},
            'max_time_s: unknown key; did you mean "steering.max_time_s" or "evaluation.worker',
        ),
        ({"lease_s": 5}, 'lease_s: unknown key; did you mean "evaluation.lease_s"?'),
        ({"n_trials": 5}, 'n_trials: unknown key; did you mean "steering.max_points"?'),
        ({"space": {}}, 'space: unknown key; did you mean "search_space"?'),
        ({"steering": {"lease_s": 5}}, 'steering.lease_s: unknown key; did you mean "evaluation.lease_s"?'),
        ({"steering": {"max_pionts": 5}}, 'steering.max_pionts: unknown key; did you mean "max_points"?'),
        (
            {"models": [{"name": "a", "wrkers": 1}]},
            "models[0].wrkers: unknown key; it can be: algorithm, constants",
        ),
        ({"url": "x"}, "url: unknown key; it can be: algorithm, broker"),
    ],
)
def test_an_unknown_key_is_answered_with_where_it_belongs(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(BASE | change)
    assert said in str(caught.value)


@pytest.mark.parametrize("name", SYNONYMS)
def test_what_other_tools_call_a_key_leads_to_it(name: str) -> None:
    with pytest.raises(ConfigError, match=f'{name}: unknown key; did you mean "{SYNONYMS[name]}'):
        validate(BASE | {name: 1})
