from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.config import validate
from hpo_steer.errors import ConfigError, MissingExtra
from steering.changes import recorded
from steering.loggers.base import Better, RunCard, RunLogger
from steering.loggers.journal import Journal, Written
from steering.loggers.tensorboard import TensorBoardLogger
from steering.loggers.tools import check
from steering.store.opening import open_store
from tests.event_files import scalars, texts
from tests.unit.steering.simulation import Bench, experiment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from steering.store.base import PointRecord, ReportRecord

SECTIONS: dict[str, Any] = {
    "steering": {"points_per_iteration": 3, "trigger": {"fraction": 1.0}, "max_points": 3},
    "evaluation": {"function": "train.py:train", "workers": 0, "max_attempts": 1},
}
NO_PASSWORD = (
    "loggers.mlflow.uri: holds a password (http://ann@mlflow:5000); give it in MLFLOW_TRACKING_URI, or the server's in "
    "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
)


class Noting(RunLogger):
    """Notes what it is told; fails once when it is told to."""

    def __init__(self, target: str = "here") -> None:
        self._target = target
        self.points: list[tuple[int, str, list[int]]] = []
        self.best: list[tuple[int, dict[str, float]]] = []

    @property
    def target(self) -> str:
        return self._target

    def begin(self) -> None: ...

    def point(self, point: PointRecord, reports: Sequence[ReportRecord]) -> None:
        self.points.append((point.id, point.state, [report.step for report in reports]))

    def better(self, better: Better) -> None:
        self.best.append((better.point.id, dict(better.figures)))

    def end(self, ended: str | None) -> None: ...


@pytest.fixture
def bench() -> Iterator[Bench]:
    store = open_store("memory", "sim", create=True)
    store.lock("test")
    bench = Bench(experiment(**SECTIONS), store)
    bench.create()
    yield bench
    bench.transport.close()
    store.close()


def card(bench: Bench, folder: Path) -> RunCard:
    return RunCard("sim", "run-1", folder, 0.0, {}, ("loss",), {"main": {}})


def follow(bench: Bench, logger: RunLogger, path: Path) -> Journal:
    logger.begin()
    return Journal(bench.store, bench.experiment, logger, Written(path, logger.target))


def test_each_report_and_each_end_is_passed_on_once(bench: Bench, tmp_path: Path) -> None:
    loop = bench.loop()
    logger = Noting()
    journal = follow(bench, logger, tmp_path / "w.jsonl")
    loop.step(0)
    first, second, third = (bench.take() for _ in range(3))
    journal.pass_on()
    assert logger.points == []  # nobody trains them yet
    bench.start(first)
    bench.report(first, 1, loss=0.9)
    loop.step(0)
    journal.pass_on()
    bench.report(first, 2, loss=0.8)
    loop.step(0)
    journal.pass_on()
    journal.pass_on()
    bench.report(first, 3, loss=0.7)
    bench.finish(first, 0.7)
    bench.finish(second, kind="error")
    bench.finish(third, 0.5)
    loop.step(0)
    journal.pass_on()
    journal.pass_on()
    loop.close()
    assert logger.points == [
        (1, "running", [1]),
        (1, "running", [2]),
        (1, "done", [3]),
        (2, "failed", []),
        (3, "done", []),
    ]
    assert logger.best == [(1, {"best/loss": 0.7}), (3, {"best/loss": 0.5})]


def test_a_later_session_passes_on_what_is_missing_and_the_bests_again(bench: Bench, tmp_path: Path) -> None:
    loop = bench.loop()
    loop.step(0)
    first, second, _ = (bench.take() for _ in range(3))
    bench.finish(first, 0.4)
    bench.start(second)
    bench.report(second, 1, loss=0.9)
    loop.step(0)
    before = Noting()
    follow(bench, before, tmp_path / "w.jsonl").pass_on()
    assert before.points == [(1, "done", []), (2, "running", [1])]
    bench.report(second, 2, loss=0.3)
    bench.finish(second, 0.3)
    loop.step(0)
    loop.close()
    with (tmp_path / "w.jsonl").open("a") as stream:
        stream.write('{"point": 2, "to')  # it was killed while it wrote
    after = Noting()
    follow(bench, after, tmp_path / "w.jsonl").pass_on()
    assert after.points == [(2, "done", [1, 2])]
    assert after.best == [(1, {"best/loss": 0.4}), (2, {"best/loss": 0.3})]
    elsewhere = Noting("there")
    follow(bench, elsewhere, tmp_path / "w.jsonl").pass_on()
    assert [number for number, _, _ in elsewhere.points] == [1, 2]


def test_a_failed_point_that_is_tried_again_is_passed_on_again(bench: Bench, tmp_path: Path) -> None:
    loop = bench.loop()
    logger = Noting()
    journal = follow(bench, logger, tmp_path / "w.jsonl")
    loop.step(0)
    first = bench.take()
    bench.finish(first, kind="error")
    loop.step(0)
    journal.pass_on()
    assert loop.retry([1]) == 1
    loop.step(0)
    journal.pass_on()
    again = next(work for work in bench.transport.work if work.point == 1)
    bench.finish(again, 0.2)
    loop.step(0)
    loop.close()
    journal.pass_on()
    assert logger.points == [(1, "failed", []), (1, "done", [])]


def test_event_files_hold_curves_results_and_failures_once(bench: Bench, tmp_path: Path) -> None:
    loop = bench.loop()
    loop.step(0)
    first, second, _ = (bench.take() for _ in range(3))
    bench.start(first)
    bench.report(first, 1, loss=0.9)
    loop.step(0)
    for session in range(2):  # the second one is killed as well: neither ends
        begun = TensorBoardLogger(card(bench, tmp_path), {})
        journal = follow(bench, begun, tmp_path / "w.jsonl")
        journal.pass_on()
        assert scalars(tmp_path / "tensorboard/point-00001") == {"loss": [(1, 0.9)]}, session
        begun.close()
    bench.report(first, 2, loss=0.5)
    bench.finish(first, 0.5, size=3.0)
    bench.finish(second, kind="error")
    loop.step(0)
    loop.close()
    logger = TensorBoardLogger(card(bench, tmp_path), {})
    follow(bench, logger, tmp_path / "w.jsonl").pass_on()
    logger.close()
    curves = {"loss": [(1, 0.9), (2, 0.5)], "result/loss": [(0, 0.5)], "result/size": [(0, 3.0)]}
    assert scalars(tmp_path / "tensorboard/point-00001") == curves
    assert texts(tmp_path / "tensorboard/point-00002") == {"failure": "error: x"}
    assert scalars(tmp_path / "tensorboard/experiment") == {"best/loss": [(1, 0.5)]}


def test_event_files_of_another_run_are_moved_aside(bench: Bench, tmp_path: Path) -> None:
    options = {"folder": str(tmp_path / "shared")}
    for run in ("run-1", "run-2", "run-2"):
        logger = TensorBoardLogger(RunCard("sim", run, tmp_path, 0.0, {}, ("loss",), {"main": {}}), options)
        logger.begin()
        logger.close()
    names = sorted(path.name.partition(".old-")[0] for path in (tmp_path / "shared").iterdir())
    assert names == ["sim", "sim"]


def test_a_logger_whose_tool_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check(["tensorboard", "mlflow"])
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtra) as caught:
        check(["tensorboard", "mlflow"])
    assert str(caught.value) == 'logger mlflow needs an extra: pip install "hpo-steer[mlflow]"'


def config(loggers: Any) -> dict[str, Any]:
    return {
        "name": "sim",
        "search_space": {"x": {"type": "float", "low": 0.0, "high": 1.0}},
        "objectives": {"loss": "minimize"},
        "evaluation": {"function": "train.py:train"},
        "loggers": loggers,
    }


def test_loggers_are_named_with_their_options_or_without() -> None:
    found = validate(config(["tensorboard", {"mlflow": {"uri": "http://mlflow:5000"}}]))
    assert found.loggers is not None
    options = {name: section.model_dump() for name, section in found.loggers.wanted.items()}
    assert options == {
        "tensorboard": {"folder": None},
        "mlflow": {"uri": "http://mlflow:5000", "experiment": None},
    }
    assert validate(recorded(found)).loggers == found.loggers


@pytest.mark.parametrize(
    ("loggers", "sentence"),
    [
        (["tensorbord"], "loggers: unknown tool 'tensorbord'; did you mean \"tensorboard\"?"),
        (["mlflow", {"mlflow": {}}], "loggers: mlflow is named twice; one of each tool is enough"),
        ([{"mlflow": {"url": "x"}}], 'loggers.mlflow.url: unknown key; did you mean "uri"?'),
        (3, "loggers: is a list such as [tensorboard, {mlflow: {uri: …}}], got 3"),
        ([3], "loggers: holds names of tools, or {NAME: {option: …}}, got 3"),
        ([{"mlflow": {"uri": "http://ann:secret@mlflow:5000"}}], NO_PASSWORD),
    ],
)
def test_a_wrong_list_of_loggers_is_one_sentence(loggers: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        validate(config(loggers))
    assert str(caught.value) == sentence
