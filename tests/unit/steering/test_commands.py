from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
import typer
from typer.testing import CliRunner

from hpo_steer.algorithm import Failure
from hpo_steer.config import validate
from hpo_steer.errors import HpoSteerError, UserError
from hpo_steer.guests import Guest
from steering.book import observation
from steering.commands.algorithms import algorithms
from steering.commands.best import best
from steering.commands.check import check
from steering.commands.export import export
from steering.commands.init import init
from steering.commands.logs import logs
from steering.commands.plot import plot
from steering.commands.points import points
from steering.commands.replay import replay
from steering.commands.retry import retry
from steering.commands.status import status
from steering.store.base import IterationRecord, ModelRecord, PointRecord, RunRecord
from steering.store.opening import open_store
from tests.unit.steering.recorded import config, measure, record_run

if TYPE_CHECKING:
    from pathlib import Path

COMMANDS = (algorithms, best, check, export, init, logs, plot, points, replay, retry, status)


def ask(*argv: object, code: int = 0) -> str:
    """What a command prints; an error of ours is raised."""
    app = typer.Typer()
    for command in COMMANDS:
        app.command()(command)
    result = CliRunner().invoke(app, [str(word) for word in argv])
    if isinstance(result.exception, HpoSteerError):
        raise result.exception
    assert result.exit_code == code, result.output
    return str(result.stdout)


def answer(*argv: object, code: int = 0) -> Any:
    return json.loads(ask(*argv, "--json", code=code))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a run in ``runs/``."""
    monkeypatch.chdir(tmp_path)
    record_run(tmp_path / "runs")
    return tmp_path


class TestStatus:
    @pytest.mark.usefixtures("place")
    def test_it_counts_and_names_the_best(self) -> None:
        text = ask("status", "digits")
        assert "digits: ended: max_points (40) reached" in text
        assert "40 points · 38 done · 2 failed (1 error, 1 timeout) · 1 duplicate reused" in text
        found = answer("status")
        assert found["points"] == {
            "total": 40,
            "queued": 0,
            "running": 0,
            "known": 0,
            "done": 38,
            "failed": 2,
            "duplicates": 1,
            "feasible": 38,
        }
        assert found["best"]["values"] == answer("best")[0]["values"]

    def test_an_interrupted_run_says_how_to_go_on(self, place: Path) -> None:
        record_run(place / "runs", config("half"), ended=None)
        assert "interrupted; the same command carries on: hpo-steer --config" in ask("status", "half")
        assert answer("status", "half")["state"] == "interrupted"

    def test_many_models_are_paged(self, place: Path) -> None:
        record_run(
            place / "runs", config("many", models=[{"name": f"m{i}"} for i in range(25)]), iterations=1
        )
        text = ask("status", "many")
        assert "m19" in text
        assert "m20" not in text
        assert "and 5 more models" in text
        assert len(answer("status", "many")["models"]) == 25

    def test_a_run_without_points(self, place: Path) -> None:
        record_run(place / "runs", config("none"), iterations=0, ended=None)
        assert "no result yet" in ask("status", "none")


class TestBest:
    @pytest.mark.usefixtures("place")
    def test_in_order_and_as_many_as_wanted(self) -> None:
        assert len(answer("best")) == 5
        values = [p["values"]["loss"] for p in answer("best", "-n", 7)]
        assert len(values) == 7
        assert values == sorted(values)

    @pytest.mark.usefixtures("place")
    def test_plainly(self) -> None:
        lines = ask("best", "digits", "-n", 2).splitlines()
        assert lines[0].split() == ["loss", "point", "iteration", "parameters"]
        assert "eta=" in lines[1]

    def test_each_model_has_its_own(self, place: Path) -> None:
        record_run(place / "runs", config("two", models=[{"name": "a"}, {"name": "b"}]))
        assert [p["model"] for p in answer("best", "two")] == ["a", "b"]
        assert [p["model"] for p in answer("best", "two", "--model", "b", "-n", 3)] == ["b"] * 3
        with pytest.raises(UserError, match='no model "x"'):
            ask("best", "two", "--model", "x")

    def test_several_objectives_give_the_front(self, place: Path) -> None:
        record_run(place / "runs", config("front", objectives={"loss": "minimize", "latency_ms": "minimize"}))
        found = [p["values"] for p in answer("best", "front")]
        assert [v["loss"] for v in found] == sorted(v["loss"] for v in found)
        assert [v["latency_ms"] for v in found] == sorted((v["latency_ms"] for v in found), reverse=True)


class TestPoints:
    @pytest.mark.usefixtures("place")
    def test_all_of_them_as_json(self) -> None:
        found = answer("points")
        assert [p["id"] for p in found] == list(range(1, 41))
        assert {p["state"] for p in found} == {"done", "failed"}
        assert sum(p["duplicate_of"] is not None for p in found) == 1

    @pytest.mark.usefixtures("place")
    def test_some_of_them(self) -> None:
        assert [p["failure"]["kind"] for p in answer("points", "--state", "failed")] == ["timeout", "error"]
        assert [p["id"] for p in answer("points", "--after", 10, "--limit", 3)] == [11, 12, 13]

    @pytest.mark.usefixtures("place")
    def test_plain_columns_hold_no_control_characters(self) -> None:
        text = ask("points", "digits")
        assert text.isprintable() or set(text) - {"\n"} <= {c for c in text if c.isprintable()}
        assert len(text.splitlines()) == 41


class TestExportAndPlot:
    def test_a_file_by_its_name(self, place: Path) -> None:
        assert ask("export", "digits", "--output", "out.json") == "40 points in out.json\n"
        assert len(json.loads((place / "out.json").read_text())) == 40

    @pytest.mark.usefixtures("place")
    def test_standard_output(self) -> None:
        assert ask("export").startswith("id,model,iteration,state,values.loss,params.eta,")

    @pytest.mark.usefixtures("place")
    def test_plots_are_named(self) -> None:
        pytest.importorskip("matplotlib")
        assert ask("plot", "digits", "-k", "progress") == "runs/digits/plots/progress.png\n"


class TestInitAndCheck:
    @pytest.fixture
    def empty(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        return tmp_path

    def test_what_init_writes_is_right_and_can_be_trained(self, empty: Path) -> None:
        ask("init", "toy.yaml", "--algorithm", "sobol", "--objective", "cost")
        assert "FAIL" not in ask("check", "toy.yaml")
        code = (
            "import toy_train; print(toy_train.train({'lr': 0.1, 'layers': 2, 'optimizer': 'adam'})['cost'])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, cwd=empty, check=True
        )
        assert float(done.stdout) >= 0

    def test_init_overwrites_nothing(self, empty: Path) -> None:
        (empty / "toy_train.py").write_text("mine")
        with pytest.raises(UserError, match=r"toy_train\.py exists"):
            ask("init", "toy.yaml")
        assert not (empty / "toy.yaml").exists()

    @pytest.mark.usefixtures("empty")
    def test_init_knows_the_algorithms(self) -> None:
        with pytest.raises(UserError, match='did you mean "sobol"'):
            ask("init", "--algorithm", "soboll")

    def write(self, folder: Path, **changes: Any) -> Path:
        (folder / "train.py").write_text("def train(params):\n    return 0.0\n")
        file = folder / "my.json"
        file.write_text(json.dumps(config(**changes)))
        return file

    @pytest.mark.parametrize(
        ("changes", "subject", "text"),
        [
            ({"evaluation": {"function": "train.py:trian"}}, "evaluation", 'has no function "trian"'),
            (
                {"evaluation": {"function": "train.py:train", "python": "none-such"}},
                "evaluation",
                "no interpreter",
            ),
            ({"evaluation": {"command": ["none-such", "{eta}"]}}, "evaluation", "there is no program"),
            ({"constraints": ["eta > 1"]}, "search space", '"eta > 1" holds nowhere'),
            ({"algorithm": {"name": "sobol", "scrambel": True}}, "algorithm", "no such option"),
            ({"algorithm": "soboll"}, "config", 'did you mean "sobol"'),
            ({"store": "/proc/none"}, "store", "not writable"),
            ({"evaluation": {"function": "train.py:train", "workers": 0}}, "broker", "nobody would evaluate"),
            (
                {"broker": {"url": "amqp://guest@127.0.0.1:9/", "connect_timeout_s": 0.3}},
                "broker",
                "127.0.0.1:9",
            ),
        ],
    )
    def test_what_is_wrong_is_found(
        self, empty: Path, changes: dict[str, Any], subject: str, text: str
    ) -> None:
        found = answer("check", self.write(empty, **changes), code=2)
        assert not found["ok"]
        wrong = [c for c in found["checks"] if not c["ok"]]
        assert [c["subject"] for c in wrong if text in c["text"]] == [subject]

    def test_a_class_of_the_users_is_made_in_another_process(self, empty: Path) -> None:
        (empty / "mine.py").write_text(
            "import sys, hpo_steer\n"
            "class Search(hpo_steer.SearchAlgorithm):\n"
            "    def __init__(self, space, objectives, seed=0, **options):\n"
            "        assert 'steering' not in sys.modules\n"
            "    def ask(self, n): return []\n"
            "    def tell(self, observations): pass\n"
        )
        assert answer("check", self.write(empty, algorithm={"class": "mine.py:Search"}))["ok"]

    def test_a_class_that_is_no_algorithm_is_named(self, empty: Path) -> None:
        (empty / "mine.py").write_text(
            "class Search:\n    def ask(self, n): return []\n    def tell(self, o): pass\n"
        )
        answered = ask("check", self.write(empty, algorithm={"class": "mine.py:Search"}), code=2)
        assert "mine.py:Search is no subclass of hpo_steer.SearchAlgorithm" in answered


def test_algorithms_are_listed() -> None:
    found = {a["name"]: a for a in answer("algorithms")}
    assert {"bayesian", "grid", "optuna", "random", "sobol"} <= set(found)
    assert found["random"]["installed"]
    assert "sobol" in ask("algorithms")


class TestReplay:
    def record(self, folder: Path, *, algorithm: str, spoil: int | None = None) -> None:
        """A run whose points the algorithm has proposed; one parameter of one point may be changed."""
        data = config("mine", algorithm=algorithm)
        experiment = validate(data)
        space = experiment.space()
        guest = Guest({"name": algorithm}, space, experiment.goals, experiment.seed)
        store = open_store(folder / "mine", "mine", create=True)
        store.lock("a test")
        store.create(
            RunRecord("mine", "r", experiment.model_dump(mode="json"), 1.0), [ModelRecord("main", 0)]
        )
        waiting: list[PointRecord] = []
        told = 0
        for number in range(1, 4):
            records = []
            for point in guest.ask(5):
                params = {**point.params}
                if point.id == spoil:
                    params["max_depth"] = 2 if params["max_depth"] != 2 else 3
                records.append(
                    PointRecord(
                        point.id + 1, "main", point.id, number, params, space.hash(params), created_at=1.0
                    )
                )
            with store.transaction() as transaction:
                transaction.add_iteration(IterationRecord("main", number, 5, 5, told, 1.0, 0.1), records)
            waiting += records
            ending, waiting = waiting[1:], waiting[:1]  # one is always late
            ended = []
            with store.transaction() as transaction:
                for record in ending:
                    told += 1
                    ended.append(self.ended(record, told))
                    transaction.end_point(ended[-1])
            guest.tell([observation(r) for r in ended])
        store.close()

    @staticmethod
    def ended(record: PointRecord, told: int) -> PointRecord:
        bad = record.id % 4 == 0
        values = None if bad else measure(record.params, ["loss"], 1.0)
        failure = Failure("error", "no") if bad else None
        return PointRecord(
            **{
                **vars(record),
                "state": "failed" if bad else "done",
                "values": values,
                "failure": failure,
                "told": told,
            }
        )

    @pytest.mark.parametrize("algorithm", ["random", "sobol", "optuna"])
    def test_a_faithful_record_is_reproduced(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: str
    ) -> None:
        if algorithm == "optuna":
            pytest.importorskip("optuna")
        monkeypatch.chdir(tmp_path)
        self.record(tmp_path / "runs", algorithm=algorithm)
        assert ask("replay", "mine") == "ok: 3 iterations, 15 points reproduced\n"

    def test_the_first_difference_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        self.record(tmp_path / "runs", algorithm="sobol", spoil=7)
        found = answer("replay", "mine", code=1)
        assert (found["iterations"], found["points"], found["reproduced"]) == (1, 5, False)
        difference = found["first_difference"]
        assert (difference["iteration"], difference["id"]) == (2, 8)
        assert difference["recorded"]["max_depth"] != difference["proposed"]["max_depth"]


def test_help_shows_an_example_and_imports_nothing_heavy() -> None:
    for command in COMMANDS:
        assert "Example: hpo-steer" in (command.__doc__ or "")
    code = (
        "import sys, steering.cli as c; c._register(); "
        "print([m for m in ('sqlalchemy', 'pydantic', 'matplotlib', 'optuna', 'numpy', 'yaml') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


class TestRetryAndLogs:
    def test_failed_points_go_out_again_when_steering_does(self, place: Path) -> None:
        before = {p["id"]: p for p in answer("points")}
        failed = [number for number, p in before.items() if p["state"] == "failed"]
        assert "2 points go out again when steering" in ask("retry", "--failed", "digits")
        after = {p["id"]: p for p in answer("points")}
        assert [after[n]["state"] for n in failed] == ["queued", "queued"]
        assert all(after[n] == p for n, p in before.items() if n not in failed)
        assert answer("status")["state"] == "interrupted"
        assert "no point has failed that way" in ask("retry", "--failed")
        assert place.exists()

    @pytest.mark.usefixtures("place")
    def test_one_kind_or_one_point(self) -> None:
        kinds = {p["id"]: p["failure"]["kind"] for p in answer("points", "--state", "failed")}
        timeout = next(n for n, kind in kinds.items() if kind == "timeout")
        assert answer("retry", "--failed", "--kind", "timeout")["points"] == [timeout]
        (other,) = set(kinds) - {timeout}
        assert f"point {other} goes out again" in ask("retry", str(other), "digits")

    @pytest.mark.usefixtures("place")
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ([], "say which points: hpo-steer retry 118 120, or hpo-steer retry --failed"),
            (["1", "--failed"], "say which points"),
            (["99"], "digits has no point 99"),
            (["1"], "point 1 has not failed: it is done"),
            (["1", "--kind", "lost"], "--kind goes with --failed"),
            (["1", "a", "b"], "name one run"),
            (["--failed", "digit"], 'no run "digit"'),
        ],
    )
    def test_what_is_refused(self, arguments: list[str], said: str) -> None:
        with pytest.raises(UserError) as caught:
            ask("retry", *arguments)
        assert said in str(caught.value)

    @pytest.mark.usefixtures("place")
    def test_the_log_of_a_point(self) -> None:
        failed = answer("points", "--state", "failed")[0]
        text = ask("logs", str(failed["id"]), "digits")
        assert f"point {failed['id']}: " in text
        assert failed["failure"]["kind"] in text
        assert failed["failure"]["message"].splitlines()[0] in text
        attempts = answer("logs", str(failed["id"]), "digits")
        assert {a["outcome"] for a in attempts} == {failed["failure"]["kind"]}
        assert len(attempts) == failed["attempts"]
        with pytest.raises(UserError, match="digits has no point 99"):
            ask("logs", "99", "digits")
