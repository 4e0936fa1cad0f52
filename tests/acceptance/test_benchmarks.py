"""The benchmarks run and count right; how fast anything is, is not tested here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.noop import ends_of_a_run
from benchmarks.search.problems import problem
from benchmarks.search.race import Task, run
from benchmarks.utilisation import RULES, config, simulate

if TYPE_CHECKING:
    from tests.servers.rabbitmq import RabbitNode

ROOT = Path(__file__).parents[2]


def answer(name: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=240)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_startup_says_that_importing_hpo_steer_pulls_in_nothing_heavy() -> None:
    found = answer("startup", "--rounds", "1")
    assert found["import_hpo_steer_pulls_in"] == []
    assert found["ratio"] > 0


def test_flat_compares_two_moments_of_one_run() -> None:
    found = answer("flat", "--rounds", "1", "--points", "1600", "--window", "400")
    assert found["benchmark"] == "flat"
    assert found["ratio"] > 0


def test_early_stopping_spends_fewer_epochs_than_the_full_search() -> None:
    found = answer(
        "early_stopping",
        "--table",
        "30",
        "--points",
        "30",
        "--seeds",
        "1",
        "--slots",
        "2",
        "--methods",
        "full,asha,successive_halving",
    )
    full, asha, halving = found["methods"]
    assert (full["epochs_share"], full["pruned"]) == (1.0, 0)
    assert asha["epochs_share"] < 1.0
    assert asha["pruned"] > 0
    assert (halving["pruned"], halving["epochs_share"] < 1.0) == (0, True)


def test_population_based_training_spends_as_many_epochs_as_random_search() -> None:
    found = answer("population", "--population", "3", "--legs", "2", "--epochs", "1", "--seeds", "1")
    assert (found["epochs"], found["runs"]) == (6, 1)
    assert 1 <= found["continued"] <= 3
    assert len(found["losses"]["pbt"]) == len(found["losses"]["random"]) == 1


def test_utilisation_keeps_slots_busy_and_counts_what_that_brings() -> None:
    found = answer("utilisation", "--slots", "8", "--sigmas", "0.6", "--asks", "0,10", "--seeds", "2")
    rows = {(row["rule"], row["ask_s"]): row for row in found["rows"]}
    busy = {key: row["busy"] for key, row in rows.items()}
    assert busy["top-up", 0.0] > 0.99  # the clock is turned by hand: these are the same on any machine
    assert busy["0.5", 0.0] > 0.9 > busy["0.75", 0.0] > busy["1.0", 0.0]
    assert busy["0.5, twice the slots", 0.0] > 0.99
    assert min(busy["top-up", 10.0], busy["top-up, an eighth to spare", 10.0]) > 0.98
    for row in rows.values():
        assert row["points_per_hour"] <= 1.3 * 8 * 10 * row["busy"]  # ten trainings an hour and slot
        first, second = row["regret_after_hours"]
        assert 0.0 <= second <= first


def test_utilisation_agrees_with_what_steering_says_of_itself() -> None:
    spent = simulate(config("random", RULES["0.5"], 6, seed=1), slots=6, sigma=1.0, ask_s=5.0, hours=1)
    again = simulate(config("random", RULES["0.5"], 6, seed=1), slots=6, sigma=1.0, ask_s=5.0, hours=1)
    assert spent == again
    assert spent.by_steering == pytest.approx(spent.busy, abs=0.01)


@pytest.mark.rabbitmq
def test_preempting_every_worker_trains_no_step_twice(rabbitmq: RabbitNode) -> None:
    sizes = ("--workers", "2", "--steps", "120", "--step-s", "0.02", "--interval-s", "1", "--phase", "0.3")
    found = answer("preemption", *sizes, "--how", "term")["term"]
    assert (found["preempted"], found["done"], found["attempts"]) == (2, 2, [2, 2])
    assert found["steps_twice"] == [0, 0], "they save at SIGTERM, so that nothing is left to chance"


def test_a_run_of_no_op_points_evaluates_each_once() -> None:
    assert len(ends_of_a_run(400)) == 400


def test_search_compares_contenders_with_the_figures_of_their_seeds() -> None:
    arguments = ["--problems", "branin,dtlz2-2", "--contenders", "sobol,random", "--seeds", "2"]
    arguments += ["--batch", "4", "--evaluations", "12", "--jobs", "2"]
    found = answer("search", *arguments)
    assert found["benchmark"] == "search"
    assert found["problems"].keys() == {"branin", "dtlz2-2"}
    for name, on in found["problems"].items():
        assert on["contenders"].keys() == {"sobol", "random"}
        assert on["best_peer"] == "random"
        for contender, row in on["contenders"].items():
            tasks = [Task(name, contender, seed, batch=4, evaluations=12) for seed in range(2)]
            assert row["regrets"] == [
                problem(name).regret(run(task).best, on["best_known"]) for task in tasks
            ]
            low, high = row["quartiles"]
            assert low <= row["median_regret"] <= high
            assert row["median_ask_s"] > 0.0
            assert row["failed"] == []
    over = found["contenders"]
    assert over["random"]["geometric_mean_ratio"] == 1.0
    assert over["sobol"]["ours"]
    assert over["sobol"]["worst_ratio"] >= over["sobol"]["geometric_mean_ratio"] > 0.0
    assert over["sobol"]["mean_rank"] + over["random"]["mean_rank"] == 3.0


def test_search_goes_on_from_what_was_kept(tmp_path: Path) -> None:
    arguments = ["--problems", "branin", "--contenders", "random", "--evaluations", "4", "--keep"]
    first = answer("search", *arguments, str(tmp_path / "kept.jsonl"), "--seeds", "1")
    second = answer("search", *arguments, str(tmp_path / "kept.jsonl"), "--seeds", "2")
    assert (first["kept_tasks"], second["kept_tasks"]) == (0, 1)
    rows = [found["problems"]["branin"]["contenders"]["random"] for found in (first, second)]
    assert rows[1]["regrets"][:1] == rows[0]["regrets"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--problems", "brannin"], 'no problem "brannin"; did you mean "branin"? (--list lists all)'),
        (["--contenders", "baysian"], 'no contender "baysian"; did you mean "bayesian"? (--list lists all)'),
        (["--overlap", "0"], "--overlap is a share above 0 and up to 1, got 0.0"),
    ],
)
def test_search_says_what_is_wrong_in_a_sentence(arguments: list[str], sentence: str) -> None:
    command = [sys.executable, "-m", "benchmarks.search", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence + "\n")


def test_ask_time_says_how_long_and_how_good() -> None:
    found = answer("ask_time", "--told", "8,16", "--contenders", "sobol,random")
    assert found["told"].keys() == {"8", "16"}
    for rows in found["told"].values():
        assert rows.keys() == {"sobol", "random"}
        for row in rows.values():
            assert row["points"] == row["distinct"] == 20
            assert row["ask_s"] > 0.0
            assert 0.0 < row["best_value"] <= row["median_value"] < 22.4


def test_ask_time_has_a_limit() -> None:
    found = answer("ask_time", "--told", "8", "--contenders", "random", "--limit-s", "0.01")
    assert found["told"]["8"]["random"] == {"error": "took more than 0.01 s to take in the history"}
