"""A race of the search benchmark: who is asked and told what, when, and what is made of it."""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks.search.contender import Contender
from benchmarks.search.figures import compare
from benchmarks.search.pool import Keep, plan
from benchmarks.search.problem import Outcome
from benchmarks.search.problems import problem
from benchmarks.search.race import Record, Task, progress, race, run
from hpo_steer.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.search.problem import Setting
    from hpo_steer.space import Params

BRANIN = problem("branin")


class Diary(Contender):
    """Walks along the diagonal, and writes down what happens."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.asked: list[int] = []
        self.told: list[list[int]] = []
        self.seen: dict[int, Outcome] = {}
        self.pending_at_ask: list[int] = []

    def ask(self, n: int) -> list[Params]:
        self.pending_at_ask.append(sum(self.asked) - len(self.seen))
        start = sum(self.asked)
        self.asked.append(n)
        return [self.setting.space.decode([(start + i) / 200] * 2) for i in range(n)]

    def tell(self, results: Sequence[tuple[int, Outcome]]) -> None:
        self.told.append([number for number, _ in results])
        assert not self.seen.keys() & dict(results).keys()
        self.seen |= dict(results)

    def adopt(self, points: Sequence[Params]) -> None:
        raise NotImplementedError


class Broken(Diary):
    """Fails at its second ask."""

    def ask(self, n: int) -> list[Params]:
        if self.asked:
            raise ZeroDivisionError("no more\nand more")
        return super().ask(n)


class Lazy(Diary):
    """Proposes one point less than it is asked for."""

    def ask(self, n: int) -> list[Params]:
        return super().ask(n - 1)


class Slow(Diary):
    """Does not come back from its second ask."""

    def ask(self, n: int) -> list[Params]:
        if self.asked:
            time.sleep(30.0)
        return super().ask(n)


def kept(diaries: list[Diary], kind: type[Diary] = Diary) -> type[Diary]:
    class Found(kind):  # type: ignore[valid-type,misc]
        def __init__(self, setting: Setting) -> None:
            super().__init__(setting)
            diaries.append(self)

    return Found


def task(**more: float) -> Task:
    return replace(Task("branin", "random", 7, batch=10, evaluations=34), **more)  # type: ignore[arg-type]


def test_without_overlap_everything_is_told_before_the_next_ask() -> None:
    diaries: list[Diary] = []
    record = race(task(), BRANIN, kept(diaries))
    assert diaries[0].asked == [10, 10, 10, 4]
    assert diaries[0].pending_at_ask == [0, 0, 0, 0]
    assert [n for numbers in diaries[0].told for n in numbers] == list(range(34))
    assert record.curve_at == list(range(1, 35))
    assert record.error is None
    assert record.ask_s >= record.last_ask_s > 0.0


def test_with_overlap_a_fifth_of_a_batch_is_pending_and_told_later() -> None:
    diaries: list[Diary] = []
    race(task(overlap=0.8), BRANIN, kept(diaries))
    assert diaries[0].pending_at_ask == [0, 2, 2, 2]
    assert [len(numbers) for numbers in diaries[0].told] == [8, 10, 10, 6]
    assert sorted(n for numbers in diaries[0].told for n in numbers) == list(range(34))
    orders = [list(numbers) for numbers in diaries[0].told]
    race(task(overlap=0.8), BRANIN, kept(diaries))
    assert diaries[1].told == orders
    race(task(overlap=0.8, seed=8), BRANIN, kept(diaries))
    assert diaries[2].told != orders


def test_a_contender_that_raises_is_recorded_and_random_points_follow() -> None:
    record = race(task(), BRANIN, Broken)
    assert record.error == "ZeroDivisionError: no more"
    assert record.failed_at == 10
    assert len(record.curve) == 34
    assert race(task(), BRANIN, Broken).curve == record.curve


def test_points_that_a_contender_does_not_propose_are_random_and_nobody_is_told_of_them() -> None:
    diaries: list[Diary] = []
    record = race(task(), BRANIN, kept(diaries, Lazy))
    assert record.short_by == 4
    assert sorted(n for numbers in diaries[0].told for n in numbers) == list(range(30))
    assert len(record.curve) == 34


def test_an_ask_has_a_limit() -> None:
    record = race(replace(task(), ask_limit_s=0.3), BRANIN, Slow)
    assert record.error == "TimeoutError: it took more than 0.3 s"
    assert record.failed_at == 10
    assert record.took_s < 20.0


def test_noise_is_a_matter_of_seed_and_number_and_the_best_is_what_was_observed() -> None:
    on = problem("branin-noisy")
    diaries: list[Diary] = []
    record = race(task(), on, kept(diaries))
    race(task(), on, kept(diaries))
    assert diaries[0].seen == diaries[1].seen
    points = [on.space.decode([i / 200] * 2) for i in range(34)]
    true = [(on.evaluate(params).values or (math.nan,))[0] for params in points]
    seen = [(diaries[0].seen[i].values or (math.nan,))[0] for i in range(34)]
    assert true != pytest.approx(seen, abs=0.1)
    assert record.best == true[seen.index(min(seen))]


def test_invalid_and_infeasible_points_do_not_count() -> None:
    outcomes = [
        Outcome(None, failure="x"),
        Outcome((3.0,)),
        Outcome((1.0,), (-0.1,)),
        Outcome((2.0,), (0.0,)),
    ]
    assert progress(BRANIN, outcomes, outcomes) == ([1, 2, 3, 4], [None, 3.0, 3.0, 2.0])
    at, curve = progress(problem("dtlz2-2"), [Outcome((0.1, 0.1))] * 3, [])
    assert at == [1, 2, 3]
    assert curve == pytest.approx([1.0, 1.0, 1.0])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["random", "sobol", "optuna-tpe", "bayesian"])
def test_a_seed_fixes_what_comes_of_a_task(name: str) -> None:
    pytest.importorskip("optuna")
    one = Task("hartmann6-noisy", name, 2, batch=4, evaluations=16, overlap=0.5)
    assert run(one).curve == run(one).curve
    assert run(one).error is None
    assert run(replace(one, seed=3)).curve != run(one).curve


# ---------------------------------------------------------------- figures


def record(name: str, contender: str, seed: int, best: float | None, **more: object) -> Record:
    what = Task(name, contender, seed, **more)  # type: ignore[arg-type]
    return Record(what, [1, 2], [None, best], ask_s=seed + 1.0, last_ask_s=0.5, tell_s=0.1, took_s=9.0)


def test_ratios_are_those_of_medians_to_the_best_peer_of_each_problem() -> None:
    best = problem("branin").best or 0.0
    records = [
        record("branin", contender, seed, best + regret)
        for contender, regrets in {"sobol": (1, 2, 30), "random": (4, 4, 5), "optuna-tpe": (8, 9, 0)}.items()
        for seed, regret in enumerate(regrets)
    ]
    records += [
        record("levy4", contender, 0, regret) for contender, regret in (("sobol", 8.0), ("random", 1.0))
    ]
    found = compare(records)
    branin = found["problems"]["branin"]
    assert branin["best_peer"] == "random"
    rows = branin["contenders"]
    assert rows["sobol"]["median_regret"] == pytest.approx(2.0)
    assert rows["sobol"]["quartiles"] == pytest.approx([1.5, 16.0])
    assert rows["sobol"]["ratio_to_best_peer"] == pytest.approx(0.5)
    assert rows["optuna-tpe"]["ratio_to_best_peer"] == pytest.approx(2.0)
    assert rows["sobol"]["median_ask_s"] == pytest.approx(2.0)
    assert [rows[name]["rank"] for name in ("sobol", "random", "optuna-tpe")] == [1.0, 2.0, 3.0]
    over = found["contenders"]["sobol"]
    assert over["geometric_mean_ratio"] == pytest.approx(2.0)
    assert (over["worst_ratio"], over["worst_on"]) == (pytest.approx(8.0), "levy4")
    assert over["mean_rank"] == 1.5
    assert over["ours"] is True
    assert over["by_kind"]["held_out"]["geometric_mean_ratio"] == pytest.approx(8.0)
    assert over["by_kind"]["named"]["problems"] == 1
    assert found["contenders"]["random"]["geometric_mean_ratio"] == pytest.approx(1.0)
    assert json.dumps(found)


def test_regrets_below_the_floor_are_one() -> None:
    best, floor = problem("branin").best or 0.0, problem("branin").floor
    found = compare(
        [record("branin", "sobol", 0, best + floor / 9), record("branin", "random", 0, best - floor / 9)]
    )
    rows = found["problems"]["branin"]["contenders"]
    assert rows["sobol"]["median_regret"] == rows["random"]["median_regret"] == floor
    assert rows["sobol"]["rank"] == rows["random"]["rank"] == 1.5
    assert rows["sobol"]["ratio_to_best_peer"] == 1.0


def test_the_best_known_of_a_training_may_be_found_in_the_race() -> None:
    found = compare([record("mlp", "sobol", 0, 1e-9), record("mlp", "random", 0, 0.5)])
    assert found["problems"]["mlp"]["best_known"] == 1e-9
    assert found["problems"]["mlp"]["contenders"]["random"]["median_regret"] == pytest.approx(0.5)


def test_a_run_without_a_valid_point_has_the_regret_of_a_random_one() -> None:
    found = compare([record("rosenbrock5-ball", "sobol", 0, None)])
    row = found["problems"]["rosenbrock5-ball"]["contenders"]["sobol"]
    assert row["median_regret"] == problem("rosenbrock5-ball").scale
    assert row["ratio_to_best_peer"] is None
    assert found["contenders"]["sobol"]["geometric_mean_ratio"] is None


def test_an_overlapping_race_stands_beside_the_synchronous_one() -> None:
    best = problem("branin").best or 0.0
    late = [record("branin", "sobol", seed, best + 3.0, overlap=0.8) for seed in range(3)]
    found = compare(late, [record("branin", "sobol", seed, best + 2.0) for seed in range(3)])
    assert found["contenders"]["sobol"]["ratio_to_synchronous"] == pytest.approx(1.5)


# ---------------------------------------------------------------- what is kept


def test_tasks_come_seed_by_seed() -> None:
    tasks = plan(
        (["branin", "mlp"], ["sobol", "random"]), range(4, 6), lambda p, c: (p, c) != ("mlp", "sobol")
    )
    assert [(t.seed, t.problem, t.contender) for t in tasks[:4]] == [
        (4, "branin", "sobol"),
        (4, "branin", "random"),
        (4, "mlp", "random"),
        (5, "branin", "sobol"),
    ]


def test_records_are_kept_and_a_line_that_was_cut_off_is_done_without(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    first, second = record("branin", "sobol", 0, 1.0), record("branin", "sobol", 1, None)
    Keep(path).add(first)
    whole = path.read_text()
    path.write_text(whole + whole[: len(whole) // 2])
    keep = Keep(path)
    assert keep.records == {first.task: first}
    keep.add(second)
    again = Keep(path).records
    assert again == {first.task: first, second.task: second}
    assert again[replace(first.task, ask_limit_s=1.0)] == first
    newer = replace(first, took_s=1.0)
    Keep(path).add(newer)
    assert Keep(path).records[first.task] == newer


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_text('{"name": "something"}\n')
    with pytest.raises(UserError, match=r"line 1 of .* is no record"):
        Keep(path)
    with pytest.raises(UserError, match="cannot be used"):
        Keep(tmp_path / "missing" / "kept.jsonl")
    assert path.read_text() == '{"name": "something"}\n'
