from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.errors import MissingExtra, UserError
from steering.report import page, write_report
from steering.run_view import open_view
from steering.store.base import AttemptRecord
from tests.unit.steering.recorded import config, record_run

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("matplotlib")
pytest.importorskip("optuna")
pytest.importorskip("plotly")

from steering.plots import KINDS, need_plots, write_plots
from steering.plots.importance import importances
from steering.plots.timeline import idle_share, lane_names, make_lanes

TWO = {"loss": "minimize", "size_mb": "maximize"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def plots(runs: Path, kinds: Any = KINDS, suffix: str = "png", model: str | None = None) -> list[str]:
    with open_view("digits", store=runs) as view:
        return list(write_plots(view, kinds, view.folder / "plots", suffix, model))


class TestFiles:
    def test_all_that_can_be_drawn_is_and_the_rest_says_why(self, runs: Path) -> None:
        folder = record_run(runs)
        lines = plots(runs)
        drawn = ("progress", "importance", "parallel", "timeline")
        assert [line for line in lines if not line.startswith("skipped")] == [
            str(folder / "plots" / f"{kind}.png") for kind in drawn
        ]
        assert [line for line in lines if line.startswith("skipped")] == [
            "skipped pareto: it takes two objectives, and there is one",
            "skipped curves: no training has reported loss",
        ]
        for kind in drawn:
            assert (folder / "plots" / f"{kind}.png").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(("suffix", "begins"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("html", b"<")])
    def test_other_formats(self, runs: Path, suffix: str, begins: bytes) -> None:
        folder = record_run(runs, config(objectives=TWO))
        plots(runs, ["progress", "pareto"], suffix)
        assert (folder / "plots" / f"pareto.{suffix}").read_bytes().startswith(begins)

    def test_the_same_run_gives_the_same_picture(self, runs: Path) -> None:
        folder = record_run(runs)
        plots(runs, ["progress"], "svg")
        first = (folder / "plots" / "progress.svg").read_bytes()
        plots(runs, ["progress"], "svg")
        assert (folder / "plots" / "progress.svg").read_bytes() == first

    def test_a_few_models_get_a_picture_each(self, runs: Path) -> None:
        folder = record_run(runs, config(models=[{"name": "a/b $x$"}, {"name": "<c>"}]))
        lines = plots(runs, ["progress", "parallel"], "svg")
        assert [line.rpartition("/")[2] for line in lines] == [
            "progress.svg",
            "parallel-a_b_x_.svg",
            "parallel-_c_.svg",
        ]
        assert len(list((folder / "plots").iterdir())) == 3

    def test_of_many_models_one_has_to_be_chosen(self, runs: Path) -> None:
        record_run(runs, config(models=[{"name": f"m{i}"} for i in range(9)]), iterations=1)
        assert plots(runs, ["importance"]) == ["skipped importance: 9 models; choose one with --model NAME"]
        assert plots(runs, ["progress", "parallel"], "svg", "m3")[1].endswith("parallel-m3.svg")
        with pytest.raises(UserError, match='no model "m99"'):
            plots(runs, ["parallel"], "svg", "m99")

    def test_without_a_result_nothing_is_drawn(self, runs: Path) -> None:
        record_run(runs, iterations=0, ended=None)
        assert all(line.startswith("skipped") for line in plots(runs))

    def test_no_global_state_of_matplotlib_is_used(self, runs: Path) -> None:
        import matplotlib as mpl

        before = dict(mpl.rcParams)
        record_run(runs)
        plots(runs, ["progress"])
        assert dict(mpl.rcParams) == before
        assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()

    def test_without_matplotlib_the_extra_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("steering.plots.find_spec", lambda _: None)
        with pytest.raises(MissingExtra, match=r"hpo-steer\[plot\]"):
            need_plots()


@pytest.mark.parametrize("bound", [15, 1], ids=["some infeasible", "none feasible"])
@pytest.mark.parametrize("goals", [1, 2, 3, 4])
def test_infeasible_points_are_drawn_apart(runs: Path, goals: int, bound: int) -> None:
    names = ["loss", "size_mb", "latency_ms", "train_loss"][:goals]
    folder = record_run(
        runs,
        config(objectives=dict.fromkeys(names, "minimize"), outcome_constraints=[f"latency_ms <= {bound}"]),
    )
    with open_view("digits", store=runs) as view:
        assert any(p.state == "done" and not view.feasible(p) for p in view.points)
    lines = plots(runs, ["progress", "parallel", "pareto"], "svg")
    assert lines[:2] == [str(folder / "plots" / f"{kind}.svg") for kind in ("progress", "parallel")]
    assert lines[2].startswith("skipped") == (goals == 1)
    assert write_report_of(runs).count("<svg") >= 3


def write_report_of(runs: Path) -> str:
    with open_view("digits", store=runs) as view:
        return page(view)


def test_the_hypervolume_only_grows_and_ends_at_that_of_the_front(runs: Path) -> None:
    from steering.plots.progress import _volumes

    record_run(runs, config(objectives=TWO, outcome_constraints=["latency_ms <= 15"]))
    with open_view("digits", store=runs) as view:
        found = [value for _, value in _volumes(view, "main")]
        volume = view.volume()
    assert volume is not None
    assert len(found) > 2
    assert found == sorted(found)
    assert found[-1] == pytest.approx(volume.value)


def test_importance_finds_what_matters_and_says_by_which_method(runs: Path) -> None:
    space = {
        "eta": {"type": "float", "low": 0.001, "high": 0.5, "log": True},
        "max_depth": {"type": "int", "low": 2, "high": 12},
        "idle": {"type": "float", "low": 0, "high": 1},
    }
    record_run(runs, config(search_space=space))
    with open_view("digits", store=runs) as view:
        found = importances(view, "main")
    assert not isinstance(found, str)
    method, shares = found
    assert method.startswith("fANOVA")
    assert max(shares["loss"], key=lambda name: shares["loss"][name]) == "eta"
    assert sum(shares["loss"].values()) == pytest.approx(1.0)


class TestTimeline:
    @staticmethod
    def attempt(worker: str, begin: float, end: float | None, slot: int = 0) -> AttemptRecord:
        outcome = None if end is None else "done"
        return AttemptRecord(1, 1, worker, slot, begin, end, None if end is None else end - begin, outcome)

    def test_a_worker_takes_over_the_lane_of_one_that_is_gone(self) -> None:
        tried = [self.attempt("n-1-a", 0, 5), self.attempt("n-2-b", 1, 6), self.attempt("n-3-c", 7, 9)]
        lanes = make_lanes(tried, 9)
        assert [len(lane.bars) for lane in lanes] == [2, 1]
        assert lane_names(lanes) == ["n · 1", "n · 2"]

    def test_idle_is_what_was_offered_and_not_used(self) -> None:
        tried = [self.attempt("n-1-a", 0, 10), self.attempt("n-2-b", 0, 5)]
        assert idle_share(make_lanes(tried, 10)) == pytest.approx(0.25)

    def test_a_pause_between_sessions_is_not_idle(self) -> None:
        tried = [self.attempt("n-1-a", 0, 10), self.attempt("n-2-b", 100_000, 100_010)]
        assert idle_share(make_lanes(tried, 100_010)) == 0

    def test_what_runs_reaches_to_now(self) -> None:
        lanes = make_lanes([self.attempt("n-1-a", 0, None)], 7.0)
        assert lanes[0].bars == [(0, 7.0, "running")]


class TestReport:
    def test_it_needs_nothing_else_and_holds_everything(self, runs: Path) -> None:
        folder = record_run(runs)
        with open_view("digits", store=runs) as view:
            path = write_report(view, folder)
        text = path.read_text()
        assert "<script" not in text
        assert "src=" not in text
        assert 'href="http' not in text
        assert text.count("<svg") == 4
        for word in (
            "Best parameters",
            "The 37 best points",
            "Failures",
            "How to reproduce",
            "max_points (40)",
        ):
            assert word in text

    def test_what_users_wrote_is_escaped(self, runs: Path) -> None:
        record_run(runs, config(models=[{"name": "<img src=x onerror=alert(1)>"}, {"name": "b&c"}]))
        with open_view("digits", store=runs) as view:
            text = page(view)
        assert "<img" not in text
        assert "&lt;img src=x" in text
        assert "<b>no</b>" not in text
        assert "&lt;b&gt;no&lt;/b&gt;" in text

    def test_without_matplotlib_it_says_what_brings_the_pictures(
        self, runs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record_run(runs)
        monkeypatch.setattr("steering.report.find_spec", lambda _: None)
        with open_view("digits", store=runs) as view:
            text = page(view)
        assert "hpo-steer[plot]" in text
        assert "<svg" not in text
        assert "The 37 best points" in text

    def test_an_unfinished_run_without_results_has_a_page_too(self, runs: Path) -> None:
        record_run(runs, iterations=0, ended=None)
        with open_view("digits", store=runs) as view:
            assert "none yet" in page(view)
