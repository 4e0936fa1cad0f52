"""Outcome constraints on steering's side: what counts as best, and what algorithms are told."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from hpo_steer import create_algorithm
from hpo_steer.algorithm import Observation
from hpo_steer.config import validate
from hpo_steer.errors import ConfigError
from hpo_steer.guests import Guest
from hpo_steer.jsonlines import observation_from_json, observation_to_json
from hpo_steer.objectives import Objective
from hpo_steer.outcomes import parse_outcome_constraints
from steering.search import ModelSearch
from steering.store.opening import open_store
from tests.unit.steering.simulation import Bench, experiment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from steering.loop import SteeringLoop

CONSTRAINTS = ["latency_ms <= 20"]
ONE_TRY = {"function": "t.py:t", "workers": 0, "max_attempts": 1}


def algorithm(name: str) -> dict[str, str]:
    return {"class": f"tests/unit/steering/noted.py:{name}"}


def told() -> list[Observation]:
    return [*sys.modules["noted"].TOLD]


@pytest.fixture
def closing() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for one in made:
        one.transport.close()
        one.store.close()


def new(closing: list[Bench], **changes: Any) -> tuple[Bench, SteeringLoop]:
    store = open_store("memory", "sim", create=True)
    store.lock("test")
    made = Bench(experiment(**{"outcome_constraints": CONSTRAINTS, "evaluation": ONE_TRY, **changes}), store)
    made.create()
    closing.append(made)
    return made, made.loop()


def finish(b: Bench, loop: SteeringLoop, *metrics: dict[str, Any]) -> None:
    for each in metrics:
        b.finish(b.take(), **each)
        loop.step(0)


def test_a_method_without_them_is_told_a_broken_one_as_invalid(closing: list[Bench]) -> None:
    b, loop = new(closing, algorithm=algorithm("Plain"))
    finish(b, loop, {"loss": 0.1, "latency_ms": 25.5}, {"loss": 0.2, "latency_ms": 20.0})
    broken, kept = told()
    assert broken.failure is not None
    assert broken.failure.kind == "invalid"
    assert broken.failure.message == 'the outcome constraint "latency_ms <= 20" is broken: latency_ms is 25.5'
    assert kept.values == {"loss": 0.2}
    records = b.store.points(states=["done"])
    assert [r.values for r in records] == [
        {"loss": 0.1, "latency_ms": 25.5},
        {"loss": 0.2, "latency_ms": 20.0},
    ]


def test_a_method_with_them_gets_the_metrics_and_their_standard_errors(closing: list[Bench]) -> None:
    b, loop = new(closing, algorithm=algorithm("Constrained"))
    assert sys.modules["noted"].Constrained.given == CONSTRAINTS
    finish(
        b, loop, {"loss": 0.1, "latency_ms": 25.5, "loss_sem": 0.01, "latency_ms_sem": 2.0, "acc_sem": 1.0}
    )
    (seen,) = told()
    assert seen.values == {"loss": 0.1, "latency_ms": 25.5}
    assert seen.sem == {"loss": 0.01, "latency_ms": 2.0}
    assert observation_from_json(json.loads(json.dumps(observation_to_json(seen)))) == seen


@pytest.mark.parametrize("name", ["Plain", "Constrained"])
def test_a_resumed_run_tells_the_same(closing: list[Bench], name: str) -> None:
    b, loop = new(closing, algorithm=algorithm(name))
    finish(b, loop, *({"loss": 0.1 * i, "latency_ms": 18.0 + i, "loss_sem": 0.5} for i in range(4)))
    before = told()
    assert len(before) == 4
    loop.close()
    b.loop()
    assert told() == before


def test_a_duplicate_takes_over_the_metrics(closing: list[Bench]) -> None:
    b, loop = new(
        closing,
        search_space={
            "x": {"type": "categorical", "choices": [1.0]},
            "y": {"type": "categorical", "choices": ["a"]},
        },
        algorithm={"class": "tests/unit/steering/constant.py:Constant"},
        steering={"points_per_iteration": 3, "max_points": 6},
    )
    finish(b, loop, {"loss": 0.5, "latency_ms": 30.0})
    assert [p.values for p in b.store.points()] == [{"loss": 0.5, "latency_ms": 30.0}] * 6
    assert next(iter(loop.models.values())).search.best is None


def test_a_retried_point_tells_the_metrics(closing: list[Bench]) -> None:
    b, loop = new(closing, algorithm=algorithm("Constrained"))
    finish(b, loop, {"loss": 0.5})
    (failed,) = b.store.points(states=["failed"])
    assert failed.failure is not None
    assert failed.failure.kind == "error"
    assert failed.failure.message == 'the result has no metric "latency_ms"; it has: loss'
    assert loop.retry([failed.id]) == 1
    loop.step(0)
    work = next(w for w in b.transport.work if w.point == failed.id)
    b.finish(work, loss=0.5, latency_ms=3.0)
    loop.step(0)
    assert [o.values for o in told()] == [{"loss": 0.5, "latency_ms": 3.0}]


def test_a_standard_error_below_zero_is_an_error_that_says_so(closing: list[Bench]) -> None:
    b, loop = new(closing)
    finish(b, loop, {"loss": 0.5, "latency_ms": 3.0, "latency_ms_sem": -0.1})
    (failed,) = b.store.points(states=["failed"])
    assert failed.failure is not None
    assert failed.failure.message == 'metric "latency_ms_sem" is -0.1; a standard error is at least 0'


class TestStopRules:
    def search(self, *, goals: int = 1, **rules: Any) -> ModelSearch:
        steering = validate(
            {
                "name": "a",
                "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
                "objectives": {"loss": "minimize"},
                "evaluation": {"function": "t.py:t"},
                "steering": {"max_points": 100, **rules},
            }
        ).steering
        objectives = [Objective("loss", target=0.1), Objective("size")][:goals]
        search = ModelSearch(steering, objectives, parse_outcome_constraints(CONSTRAINTS))
        search.begin_iteration(50)
        return search

    def test_an_infeasible_point_reaches_no_target(self) -> None:
        search = self.search()
        assert not search.end_point(1, {"loss": 0.0, "latency_ms": 21.0})
        assert search.stopped is None
        assert search.end_point(1, {"loss": 0.1, "latency_ms": 19.0})
        assert search.stopped == "target reached: loss 0.1"

    def test_patience_waits_for_feasible_points(self) -> None:
        search = self.search(patience=3)
        search.end_point(1, {"loss": 5.0, "latency_ms": 1.0})
        for loss in (3.0, 2.0):
            search.end_point(1, {"loss": loss, "latency_ms": 99.0})
        assert search.stopped is None
        search.end_point(1, {"loss": 1.0, "latency_ms": 99.0})
        assert search.stopped == "patience: no better point in the last 3"
        assert search.best == {"loss": 5.0, "latency_ms": 1.0}

    def test_an_infeasible_point_is_on_no_front(self) -> None:
        search = self.search(goals=2)
        search.end_point(1, {"loss": 0.5, "size": 2.0, "latency_ms": 1.0})
        search.end_point(1, {"loss": 0.4, "size": 1.0, "latency_ms": 99.0})
        search.end_point(1, {"loss": 0.6, "size": 1.0, "latency_ms": 1.0})
        assert search.front == ((0.5, 2.0), (0.6, 1.0))


class TestConfig:
    def test_an_algorithm_has_no_such_option(self, tmp_path: Any) -> None:
        from hpo_steer.config import load_config

        file = tmp_path / "c.yaml"
        file.write_text(
            "name: a\nsearch_space: {x: {type: float, low: 0, high: 1}}\nobjectives: {loss: minimize}\n"
            'algorithm: {name: random, outcome_constraints: ["a <= 1"]}\nevaluation: {function: "t.py:t"}\n'
        )
        with pytest.raises(ConfigError, match="at the top level, beside objectives"):
            load_config(file)

    def test_contradictory_ones_are_refused(self) -> None:
        with pytest.raises(ConfigError, match='"a >= 2" and "a <= 1" cannot both hold; change or drop one'):
            experiment(outcome_constraints=["a <= 1", "a >= 2"])

    def test_they_are_named_among_what_is_measured(self) -> None:
        made = experiment(outcome_constraints=["a <= 1", "loss >= 0", "a >= 0"])
        assert made.measured == ("loss", "a")

    def test_a_run_made_before_there_were_any_can_be_resumed(self) -> None:
        from steering.changes import changes, recorded

        old = {k: v for k, v in recorded(experiment()).items() if k != "outcome_constraints"}
        assert changes(old, recorded(experiment())) == []
        (change,) = changes(old, recorded(experiment(outcome_constraints=["a <= 1"])))
        assert change.key == "outcome_constraints"
        assert not change.free
        assert not change.growing


class TestMaking:
    SPACE: ClassVar[Any] = {"x": {"type": "float", "low": 0.0, "high": 1.0}}

    def test_a_method_that_takes_none_says_so(self) -> None:
        with pytest.raises(ConfigError, match=r'"sobol" takes none: .*Failure\("invalid"'):
            create_algorithm("sobol", self.SPACE, {"loss": "minimize"}, outcome_constraints=["a <= 1"])

    def test_a_history_is_restored_as_it_was_told(self) -> None:
        from hpo_steer.algorithm import Asked, Point, Told
        from hpo_steer.space import SearchSpace

        space = SearchSpace.from_dict(self.SPACE)
        guest = Guest({"name": "sobol"}, space, [Objective("loss")], 1, outcome_constraints=["a <= 1"])
        asked = [Point(p.id, p.params) for p in guest.ask(2)]
        seen = [
            Observation(0, {"loss": 1.0, "a": 0.5}, params=asked[0].params),
            Observation(1, {"loss": 0.5, "a": 1.5}, params=asked[1].params),
        ]
        again = Guest({"name": "sobol"}, space, [Objective("loss")], 1, outcome_constraints=["a <= 1"])
        again.restore([Asked(2, asked), Told(seen)])
        method: Any = again._algorithm
        assert method.told[0].values == {"loss": 1.0}
        assert method.told[1].failure.kind == "invalid"
