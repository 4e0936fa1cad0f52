from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from containers.phpo.importing import Imported, imported
from containers.phpo.options import BY_NAME, OPTIONS, RESULTS, from_json, from_words, words_of
from hpo_steer.config import load_config, validate
from hpo_steer.errors import ConfigError, HpoSteerError, UserError

PAYLOADS = Path(__file__).parents[2] / "payloads" / "phpo"
NEEDED = {"steeringExec": "run img steer %IN", "evaluationExec": "bash train.sh"}


def recorded(name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((PAYLOADS / f"{name}.json").read_text())
    return data


def made(folder: Path = PAYLOADS, **options: Any) -> Imported:
    return imported(from_json({**NEEDED, **options}), folder)


def fate(result: Imported, option: str) -> str:
    return next(each.text for each in result.fates if each.option == option)


# ---------------------------------------------------------------- what the real phpo has written


def test_our_options_and_their_defaults_are_those_of_phpo() -> None:
    dump = recorded("plain")
    assert set(dump) - set(RESULTS) - {"help", "helpGroup"} == set(BY_NAME)
    given = {"outDS", "steeringExec", "evaluationContainer", "evaluationExec", "searchSpaceFile", "dumpJson"}
    for option in OPTIONS:
        if option.name not in {*given, "maxEvaluationJobs"}:
            assert dump[option.name] == option.default, option.name
    assert dump["maxEvaluationJobs"] == 2 * dump["maxPoints"]


@pytest.mark.parametrize("name", ["plain", "full", "segmented"])
def test_a_dump_and_its_command_line_give_the_same_config(name: str) -> None:
    dumped = imported(from_json(recorded(name)), PAYLOADS)
    words = words_of((PAYLOADS / f"{name}.sh").read_text())
    assert imported(from_words(words, PAYLOADS), PAYLOADS).config == dumped.config
    assert validate(dumped.config).name.startswith("user.me")


@pytest.mark.parametrize("name", ["plain", "full", "segmented"])
def test_every_option_with_a_value_has_a_row(name: str) -> None:
    dump = recorded(name)
    rows = {each.option for each in imported(from_json(dump), PAYLOADS).fates}
    set_ones = {option for option, value in dump.items() if value not in (None, False, "")}
    assert rows >= set_ones


@pytest.mark.parametrize("name", ["plain", "full", "segmented", "documented"])
def test_a_json_of_phpo_is_loaded_as_a_config(name: str) -> None:
    config = load_config(PAYLOADS / f"{name}.json", ["steering.max_points=3", "algorithm=random"])
    assert config.experiment.steering.max_points == 3
    assert config.experiment.algorithm == "random"
    assert config.remarks[0].startswith(f"{name}.json is phpo's and is translated")
    assert config.folder == PAYLOADS


def test_a_config_of_ours_has_no_remarks(tmp_path: Path) -> None:
    file = tmp_path / "ours.json"
    ours = {
        "name": "x",
        "search_space": {"x": {"type": "int", "low": 0, "high": 1}},
        "objectives": {"y": "minimize"},
    }
    file.write_text(json.dumps({**ours, "evaluation": {"command": "true"}}))
    assert load_config(file).remarks == ()


def test_the_plain_dump() -> None:
    config = imported(from_json(recorded("plain")), PAYLOADS).config
    assert config["name"] == "user.me.plain"
    assert config["search_space"]["lr"] == {"type": "float", "low": 1e-05, "high": 0.1, "log": True}
    assert config["objectives"] == {"loss": "minimize"}
    assert config["algorithm"] == {
        "command": [
            "/bin/bash",
            "-c",
            "python /opt/steer.py --n %NUM_POINTS --max %MAX_POINTS --in /HPOiDDS/%IN --out /HPOiDDS/%OUT",
        ],
        "container": {"image": "gitlab.example/steering:1", "workdir": "/HPOiDDS"},
        "opt_space": "space.json",
    }
    assert config["steering"] == {"points_per_iteration": 2, "trigger": {"fraction": 1.0}, "max_points": 10}
    assert config["evaluation"]["command"] == ["/bin/sh", "-c", "bash train.sh"]
    assert config["evaluation"]["workers"] == 1
    assert config["evaluation"]["max_retries"] == 10


def test_the_full_dump() -> None:
    result = imported(from_json(recorded("full")), PAYLOADS)
    config = validate(result.config)
    assert config.steering.points_per_iteration == 8
    assert config.steering.trigger.unevaluated_below == 3
    assert config.evaluation.workers == 4
    assert config.evaluation.max_retries == 60
    assert result.config["algorithm"]["container"] == "gitlab.example/steering:1"
    container, files = config.evaluation.container, config.evaluation.files
    assert container is not None
    assert files is not None
    assert (container.image, container.workdir, container.gpus) == (
        "gitlab.example/train:1",
        "/srv/workDir",
        True,
    )
    assert (files.input, files.output, files.training_data) == ("point.json", "loss.json", "files.json")
    assert (files.meta, files.metrics) == ("meta.json", "metrics.tgz")
    assert (files.checkpoint, files.checkpoint_interval_s) == (["model.pt", "epochs"], 420.0)
    needing = {text.split(":")[0] for text in result.caveats}
    assert needing == {"evaluationExec", "checkPointToLoad", "alrbArgs", "architecture", "trainingDS"}


def test_the_segmented_dump() -> None:
    config = validate(imported(from_json(recorded("segmented")), PAYLOADS).config)
    assert [model.name for model in config.models] == ["photon_200_205", "pion_200_205"]
    assert config.models[0].data == ["photon_200.root", "photon_201.root"]
    assert config.space(config.models[0])["lr"].check(1e-5) == 1e-5
    assert config.space(config.models[1])["lr"].check(0.1) == 0.1
    assert isinstance(config.algorithm, dict)
    assert config.algorithm["segmented"] is True
    assert config.steering.max_points == 6
    assert config.evaluation.max_retries == 12


def test_the_example_of_pandas_documentation() -> None:
    result = imported(from_json(recorded("documented")), PAYLOADS, name="documented")
    config = validate(result.config)
    assert config.name == "documented"
    assert config.search_space["cnn_block_depths_1"] == {"type": "categorical", "choices": [1, 2]}
    assert "listed twice" in fate(result, "searchSpaceFile")
    assert result.config["algorithm"]["command"][:2] == ["/bin/sh", "-c"]
    assert result.config["algorithm"]["command"][2].endswith('--outfile=$PWD/%OUT -l=nevergrad"')
    assert "takes no -l=VALUE" in fate(result, "steeringExec")


# ---------------------------------------------------------------- single options


@pytest.mark.parametrize(
    ("options", "trigger", "text"),
    [
        ({}, {"fraction": 1.0}, "phpo's default"),
        ({"minUnevaluatedPoints": 0}, {"fraction": 1.0}, "when all have ended"),
        ({"minUnevaluatedPoints": 1}, {"unevaluated_below": 1}, "unevaluated_below: 1"),
        ({"minUnevaluatedPoints": 5}, {"unevaluated_below": 1}, "phpo would ask for no points, 2 less 5"),
        ({"minUnevaluatedPoints": 1, "nPointsPerIteration": 1}, {"fraction": 1.0}, "would ask for no points"),
    ],
)
def test_triggers(options: dict[str, Any], trigger: dict[str, Any], text: str) -> None:
    result = made(**options)
    assert result.config["steering"]["trigger"] == trigger
    assert text in fate(result, "minUnevaluatedPoints")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("user.me.test/", "user.me.test"),
        ("user.me:a b/", "user.me-a-b"),
        ("__", "phpo"),
        ("é" * 3 + "x" * 300, "x" * 97),
    ],
)
def test_names(text: str, name: str) -> None:
    assert made(outDS=text).config["name"] in (name, "x" * 100)
    assert made().config["name"] == "phpo"


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("#x86_64&nvidia", True),
        ("#&nvidia:vram>=40960", True),
        ('{"gpu_spec": {"vendor": "nvidia"}}', True),
        ("nvidia-gpu", True),  # what hpogrid writes
        ("#x86_64-*-avx2", False),
        ("x86_64-centos7-gcc8-opt", False),
    ],
)
def test_a_gpu_in_the_architecture_is_handed_in(text: str, gpus: bool) -> None:
    container = made(architecture=text, evaluationContainer="img").config["evaluation"]["container"]
    assert container.get("gpus", False) is gpus


def test_without_an_evaluation_container_it_is_a_plain_process() -> None:
    assert "container" not in made().config["evaluation"]


def test_a_variable_that_is_a_placeholder_of_ours_is_named() -> None:
    result = made(searchSpaceFile="space.json", evaluationExec="echo ${lr} ${input} ${other}")
    assert "{input} is filled in by hpo-steer" in fate(result, "evaluationExec")
    assert "{lr} is filled in" in fate(result, "evaluationExec")
    assert "{other}" not in fate(result, "evaluationExec")


def test_a_space_that_has_no_translation_is_left_to_the_command(tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text('{"x": {"type": "Array", "params": {"shape": [2]}}}')
    result = made(tmp_path, searchSpaceFile="space.json")
    assert result.config["search_space"] == {}
    assert result.config["algorithm"]["opt_space"] == "space.json"
    assert "since searchSpaceFile.x its value is a list of numbers" in fate(result, "searchSpaceFile")
    assert result.caveats


def test_without_a_space_the_command_knows_its_own() -> None:
    config = made().config
    assert config["search_space"] == {}
    assert "opt_space" not in config["algorithm"]


def test_segments_with_data_sets_are_told_apart_from_those_with_files(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text('[{"name": "A", "files": ["a"]}, {"name": "B", "datasets": ["d"]}]')
    result = made(tmp_path, segmentSpecFile="s.json")
    assert result.config["models"] == [{"name": "A", "data": ["a"]}, {"name": "B"}]
    assert "the datasets of B cannot be looked up here" in fate(result, "segmentSpecFile")


def test_files_are_named_as_seen_from_where_the_config_lies(tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text('{"x": [0, 1]}')
    given = from_json({**NEEDED, "steeringExec": "run -v ./d:/d i c", "searchSpaceFile": "space.json"})
    algorithm = imported(given, tmp_path, target=tmp_path / "configs").config["algorithm"]
    assert algorithm["opt_space"] == "../space.json"
    assert algorithm["container"]["mounts"] == ["../d:/d"]


def test_what_phpo_does_not_know_is_named() -> None:
    result = made(maxPoint=5, zzz=1)
    assert fate(result, "maxPoint") == 'ignored: phpo has no such option; did you mean "maxPoints"?'
    assert fate(result, "zzz") == "ignored: phpo has no such option"
    words = ["phpo", "--steeringExec", "run i c", "--evaluationExec=x", "--foo", "7", "--bar=8", "stray"]
    given = from_words(words, PAYLOADS)
    assert given.unknown == {"--foo": "7", "--bar": "8", "stray": None}


def test_a_command_line_is_read_as_phpo_reads_it(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text(json.dumps({**NEEDED, "maxPoints": "30", "zzz": 1}))
    given = from_words(["--loadJson", "o.json", "--maxPoints", "5", "--nPar=3", "-v", "-3"], tmp_path)
    assert given.values["maxPoints"] == 30  # what is loaded goes before the command line
    assert given.values["nParallelEvaluation"] == 3
    assert given.values["python3"] is given.values["verbose"] is True
    assert given.unknown == {"zzz": 1}
    assert words_of("phpo --site A \\\n  --outDS 'x y' # mine\n") == ["phpo", "--site", "A", "--outDS", "x y"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steeringExec": None}, "phpo needs --steeringExec, and it is not given"),
        ({"evaluationExec": ""}, "phpo needs --evaluationExec"),
        ({"maxPoints": "many"}, "maxPoints is a whole number, got 'many'"),
        ({"maxPoints": 1.5}, "maxPoints is a whole number"),
        ({"maxPoints": 0}, "maxPoints: must be at least 1, got 0"),
        ({"nParallelEvaluation": 0}, "nParallelEvaluation: must be at least 1"),
        ({"checkPointInterval": 0}, "checkPointInterval: must be at least 1 (minute), got 0"),
        ({"noEmail": "yes"}, "noEmail is true or false, got 'yes'"),
        ({"site": ["A"]}, "site is a text, got ['A']"),
        ({"searchSpaceFile": "none.json"}, "--searchSpaceFile: there is no file"),
        ({"searchSpaceFile": "plain.sh"}, "is no JSON"),
        ({"searchSpaceFile": "spaces.json"}, "lists several search spaces, and there is no segmentSpecFile"),
        ({"segmentSpecFile": "space.json"}, "segmentSpecFile: expected a list like"),
        ({"steeringExec": "python x.py"}, 'begin with "run"'),
    ],
)
def test_what_makes_no_sense_is_one_sentence(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        made(**options)
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--maxPoints"], "phpo would not take this: argument --maxPoints: expected one argument"),
        (["--evaluation", "x"], "ambiguous option: --evaluation"),
        (["--loadJson", "none.json"], "--loadJson none.json: there is no such file"),
        (["--loadJson", "segments.json"], "expected an object of options"),
        (["--nPar", "x"], "nParallelEvaluation is a whole number"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_one_sentence(words: list[str], sentence: str) -> None:
    with pytest.raises(UserError) as caught:
        from_words(words, PAYLOADS)
    assert sentence in str(caught.value)


def test_a_dump_that_makes_no_sense_is_an_error_of_its_config(tmp_path: Path) -> None:
    file = tmp_path / "phpo.json"
    for options, sentence in (
        ({"maxPoints": 0}, "maxPoints: must be"),
        ({"maxPoints": "x"}, "maxPoints is a whole"),
    ):
        file.write_text(json.dumps({**NEEDED, **options}))
        with pytest.raises(ConfigError) as caught:
            load_config(file)
        assert str(caught.value).startswith(f"{file}: {sentence}")


@pytest.mark.parametrize("text", ["hpogrid generate -s x -n 3", "python steer.py"])
def test_a_good_command_has_no_remarks_about_hpogrid(text: str) -> None:
    assert "hpogrid" not in fate(made(steeringExec=f"run i sh -c '{text}'"), "steeringExec")


def test_what_hpogrid_would_refuse_is_told() -> None:
    said = fate(made(steeringExec="run i sh -c 'hpogrid generate -n=3 -l=nevergrad'"), "steeringExec")
    assert "wants -s FILE" in said
    assert "takes no -n=VALUE" in said


def test_errors_are_ours() -> None:
    with pytest.raises(HpoSteerError):
        words_of("phpo 'never closed")
