from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from hpo_steer.errors import NoSuchRun, UserError
from steering.front import front
from steering.run_view import find_folder, finite, open_view, point_json
from tests.unit.steering.recorded import config, record_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


class TestFinding:
    def test_a_run_is_found_by_its_name_and_by_its_folder(self, runs: Path) -> None:
        folder = record_run(runs)
        record_run(runs, config("other"))
        assert find_folder("digits", runs) == folder
        assert find_folder(str(folder), runs / "elsewhere") == folder

    def test_the_only_run_needs_no_name(self, runs: Path) -> None:
        folder = record_run(runs)
        folder.with_name("digits.old-20260101-120000").mkdir()
        (folder.with_name("digits.old-20260101-120000") / "run.json").write_text("{}")
        assert find_folder(None, runs) == folder

    def test_several_runs_are_listed(self, runs: Path) -> None:
        record_run(runs)
        record_run(runs, config("other"))
        with pytest.raises(UserError, match="has 2 runs; name one: digits, other"):
            find_folder(None, runs)

    def test_a_misspelt_name_is_mended(self, runs: Path) -> None:
        record_run(runs)
        with pytest.raises(NoSuchRun, match=r'there is no run "digts" in .*runs/; did you mean "digits"\?'):
            find_folder("digts", runs)

    def test_without_any_run_it_says_how_to_start_one(self, runs: Path) -> None:
        with pytest.raises(NoSuchRun, match="hpo-steer --config FILE"):
            find_folder(None, runs)

    def test_a_config_finds_its_run(self, runs: Path) -> None:
        record_run(runs)
        file = runs.parent / "digits.json"
        file.write_text(json.dumps(config(store=str(runs))))
        with open_view(config=file) as view:
            assert view.counts.total == 40

    def test_a_config_without_a_run_says_how_to_start_it(self, tmp_path: Path) -> None:
        file = tmp_path / "digits.json"
        file.write_text(json.dumps(config(store=str(tmp_path / "runs"))))
        with pytest.raises(NoSuchRun, match="hpo-steer --config"), open_view(config=file):
            pass

    def test_opening_changes_nothing(self, runs: Path) -> None:
        folder = record_run(runs)
        before = (folder / "store.db").read_bytes()
        with open_view("digits", store=runs) as view:
            assert len(view.points) == 40
        assert (folder / "store.db").read_bytes() == before


class TestReading:
    def test_points_counts_and_iterations(self, runs: Path) -> None:
        record_run(runs)
        with open_view("digits", store=runs) as view:
            assert [p.id for p in view.points] == list(range(1, 41))
            assert view.counts.failed == {"timeout": 1, "error": 1}
            assert view.counts.duplicates == 1
            assert [i.number for i in view.iterations] == [1, 2, 3, 4]
            assert [a.started_at for a in view.attempts] == sorted(a.started_at or 0 for a in view.attempts)

    def test_the_best_comes_first(self, runs: Path) -> None:
        record_run(runs)
        with open_view("digits", store=runs) as view:
            values = [(p.values or {})["loss"] for p in view.best()]
            first = view.first_iteration_best("main")
            assert values == sorted(values)
            assert len(values) == 37  # one of the 38 took over the values of another
            assert view.best(n=3) == view.best()[:3]
            assert first is not None
            assert first.iteration == 1

    def test_maximised_objectives_turn_the_order_round(self, runs: Path) -> None:
        record_run(runs, config(objectives={"loss": "maximize"}))
        with open_view("digits", store=runs) as view:
            values = [(p.values or {})["loss"] for p in view.best()]
            assert values == sorted(values, reverse=True)

    def test_several_objectives_give_a_front_that_nothing_dominates(self, runs: Path) -> None:
        record_run(runs, config(objectives={"loss": "minimize", "size_mb": "maximize"}))
        with open_view("digits", store=runs) as view:
            chosen = view.best()
            done = [p for p in view.points if p.state == "done"]
            for p in chosen:
                assert not any(
                    (q.values or {})["loss"] < (p.values or {})["loss"]
                    and (q.values or {})["size_mb"] > (p.values or {})["size_mb"]
                    for q in done
                )
            assert 1 < len(chosen) < len(done)

    def test_models_are_kept_apart(self, runs: Path) -> None:
        record_run(runs, config(models=[{"name": "a"}, {"name": "b"}]))
        with open_view("digits", store=runs) as view:
            assert {p.model for p in view.points_of("b")} == {"b"}
            assert view.best("b", 1)[0].model == "b"
            with pytest.raises(UserError, match='has no model "c"'):
                view.points_of("c")


class TestJson:
    def test_a_done_point(self, runs: Path) -> None:
        record_run(runs)
        with open_view("digits", store=runs) as view:
            point = point_json(view.points[0], view.outcomes)
        assert {"id", "model", "iteration", "params", "state", "values", "failure", "attempts"} <= set(point)
        assert point["failure"] is None
        assert point["created_at"].endswith("+00:00")
        assert json.loads(json.dumps(point)) == point

    def test_a_failed_point(self, runs: Path) -> None:
        record_run(runs)
        with open_view("digits", store=runs) as view:
            point = point_json(view.points[2], view.outcomes)
        assert point["state"] == "failed"
        assert point["values"] is None
        assert point["failure"] == {"kind": "timeout", "message": "took longer than 2 s"}

    def test_numbers_that_json_lacks_become_null(self) -> None:
        assert finite({"a": [float("nan"), 1.5], "b": float("inf")}) == {"a": [None, 1.5], "b": None}


def test_of_equal_points_on_the_front_the_first_stays(runs: Path) -> None:
    record_run(runs)
    with open_view("digits", store=runs) as view:
        done = [p for p in view.points if p.state == "done"]
        assert front(done, lambda _: (1.0, 1.0)) == done[:1]
