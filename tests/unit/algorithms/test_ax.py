"""What Ax's strategies promise beyond the common contract."""

from __future__ import annotations

import importlib.util
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hpo_steer.algorithm import Asked, Failure, Observation, Point
from hpo_steer.errors import ConfigError, MissingExtra
from hpo_steer.objectives import parse_objectives
from hpo_steer.outcomes import parse_outcome_constraints
from hpo_steer.space import SearchSpace
from hpo_steer.testing.algorithm import SPACES

pytest.importorskip("ax")

import torch
from botorch.acquisition.multi_objective import logei

from algorithms.ax_goals import Goals
from algorithms.ax_methods import ACQUISITIONS, MODELS
from algorithms.ax_space import AxSpace
from algorithms.ax_strategies import Ax

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpo_steer.space import Params

ONE = parse_objectives({"loss": "minimize"})
TWO = parse_objectives({"loss": {"direction": "minimize", "reference": 2.0}, "speed": "maximize"})
SQUARE = SearchSpace.from_dict({n: {"type": "float", "low": 0, "high": 1} for n in "xy"})
FAST = {"num_restarts": 1, "raw_samples": 16}
SAMPLED = all(importlib.util.find_spec(name) is not None for name in ("jax", "numpyro"))


def searched(
    search: Ax, f: Callable[[Params], Mapping[str, float] | Failure], asks: Sequence[int]
) -> list[list[Point]]:
    """The points of some asks, each told at once."""
    rounds = []
    for n in asks:
        points = search.ask(n)
        assert len(points) == n
        results = [(p.id, f(p.params)) for p in points]
        search.tell(
            [Observation(i, failure=r) if isinstance(r, Failure) else Observation(i, r) for i, r in results]
        )
        rounds.append(points)
    return rounds


def bowl(params: Params) -> dict[str, float]:
    return {"loss": (params["x"] - 0.3) ** 2 + 2.0 * (params["y"] - 0.8) ** 2}


# ------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "key", "says"),
    [
        ({"method": "sobl"}, "algorithm.method", 'did you mean "sobol"?'),
        ({"method": "thompson"}, "algorithm.method", "it can be"),
        ({"method": 3}, "algorithm.method", "expected a name"),
        ({"initial_points": 1}, "algorithm.initial_points", "2 or more"),
        ({"acquisition": "qLogEI"}, "algorithm.acquisition", "no acquisition"),
        ({"acquisition": "qLogNParEGO"}, "algorithm.acquisition", "several objectives"),
        ({"method": "sobol", "acquisition": "qKnowledgeGradient"}, "algorithm.acquisition", "no model"),
        ({"model": "SingleTaskGP"}, "algorithm.model", "botorch"),
        ({"method": "botorch", "model": "SingelTaskGP"}, "algorithm.model", 'did you mean "SingleTaskGP"?'),
        ({"mcmc": {"num_samples": 8}}, "algorithm.mcmc", "samples nothing"),
        ({"optimizer": {"restarts": 8}}, "algorithm.optimizer.restarts", 'did you mean "num_restarts"?'),
        ({"optimizer": {"num_restarts": 0}}, "algorithm.optimizer.num_restarts", "1 or more"),
        ({"optimizer": 8}, "algorithm.optimizer", "options by name"),
        ({"method": "uniform", "optimizer": FAST}, "algorithm.optimizer", "no model"),
        ({"outcome_constraints": ["size"]}, "outcome_constraints", "expected a metric"),
        ({"outcome_constraints": ["s <= 1", "s >= 2"]}, "outcome_constraints", "cannot both hold"),
        ({"outcome_constraints": ["s <= 1", "s >= 1"]}, "outcome_constraints", "widen them"),
    ],
)
def test_bad_options_are_refused_by_name(options: dict[str, Any], key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Ax(SQUARE, ONE, **options)
    assert caught.value.key == key
    assert says in caught.value.message


def test_an_acquisition_for_one_objective_is_refused_for_two() -> None:
    with pytest.raises(ConfigError, match="is for one objective, and there are 2"):
        Ax(SQUARE, TWO, acquisition="qKnowledgeGradient")


def test_an_acquisition_over_floats_is_refused_for_choices() -> None:
    space = SearchSpace.from_dict(*SPACES["mixed"])
    with pytest.raises(ConfigError, match="over floats only"):
        Ax(space, ONE, acquisition="qKnowledgeGradient")


def test_too_many_choices_are_refused() -> None:
    space = SearchSpace.from_dict({"c": {"type": "categorical", "choices": [f"c{i}" for i in range(1001)]}})
    with pytest.raises(ConfigError, match="1,000 choices at most"):
        Ax(space, ONE)


@pytest.mark.skipif(SAMPLED, reason="they are installed")
@pytest.mark.parametrize("method", ["quality", "saasbo"])
def test_a_fully_bayesian_model_names_the_extra_it_needs(method: str) -> None:
    with pytest.raises(MissingExtra, match=r"hpo-steer\[ax-saas\]"):
        Ax(SQUARE, ONE, method=method)


def test_impossible_constraints_end_the_search() -> None:
    space = SearchSpace.from_dict({n: {"type": "float", "low": 0, "high": 1} for n in "xy"}, ["x + y <= -1"])
    search = Ax(space, ONE)
    assert search.ask(3) == []
    assert search.ended is not None
    assert "satisfies the constraints" in search.ended


# ------------------------------------------------------------------- the space


@pytest.mark.parametrize("name", SPACES)
def test_points_come_back_from_ax_as_they_went(name: str) -> None:
    space = SearchSpace.from_dict(*SPACES[name])
    axes = AxSpace(space)
    for params in space.sample(50, np.random.default_rng(0)):
        back = axes.decode(axes.encode(params))
        assert back.keys() == params.keys()
        assert space.encode(back) == pytest.approx(space.encode(params), abs=1e-12)


def test_linear_constraints_are_given_to_ax_in_its_own_numbers() -> None:
    space = SearchSpace.from_dict(
        {
            "a": {"type": "float", "low": -1, "high": 3},
            "n": {"type": "int", "low": 2, "high": 10, "step": 2},
            "rate": {"type": "float", "low": 0.1, "high": 1, "log": True},
            "only": {"type": "categorical", "choices": [7]},
            "kind": {"type": "categorical", "choices": ["p", "q"]},
            "deep": {"type": "int", "low": 1, "high": 5, "when": {"kind": "q"}},
        },
        ["a + n + only <= 20", "a + rate <= 2", "deep <= n", "a * n <= 4", "a >= 0 and n <= 8"],
    )
    assert AxSpace(space).inequalities() == [
        "4.0 * p0 + 2.0 * p1 <= 12.0",
        "-4.0 * p0 <= -1.0",
        "2.0 * p1 <= 6.0",
    ]


def test_linear_constraints_are_kept_by_the_model_and_others_by_drawing_again() -> None:
    axes = {n: {"type": "float", "low": 0, "high": 1} for n in "xy"}
    for text, noted in (("x + y <= 0.7", False), ("x * y <= 0.1", None)):
        search = Ax(SearchSpace.from_dict(axes, [text]), ONE, 1, initial_points=4, optimizer=FAST)
        found = searched(search, bowl, [4, 3, 3])
        assert all(search.space.broken(p.params) is None for points in found for p in points)
        assert noted is None or (search.note is not None) == noted


@pytest.mark.parametrize("name", ["conditional", "constrained"])
def test_the_model_proposes_in_every_kind_of_space(name: str) -> None:
    space = SearchSpace.from_dict(*SPACES[name])
    search = Ax(space, ONE, 1, initial_points=4, optimizer=FAST)
    rounds = searched(search, lambda p: {"loss": sum(space.encode(p))}, [5, 2])
    assert search.note is None
    assert all(space.validate(p.params) == p.params for p in rounds[1])


def test_a_space_that_ax_lists_takes_options_of_its_search() -> None:
    space = SearchSpace.from_dict({n: {"type": "int", "low": 0, "high": 9} for n in "xy"})
    assert AxSpace(space).listed
    search = Ax(space, ONE, 1, optimizer=FAST)
    searched(search, lambda p: {"loss": (p["x"] - 3) ** 2 + p["y"]}, [5, 3])
    assert search.note is None


def test_names_may_hold_any_character() -> None:
    space = SearchSpace.from_dict(
        {"a b/ü* <= 1": {"type": "float", "low": 0, "high": 1}, "m0": {"type": "int", "low": 0, "high": 9}}
    )
    goals = parse_objectives({"-loss (%)": "minimize", "a+b": "maximize"})
    search = Ax(space, goals, 1, initial_points=4, optimizer=FAST, outcome_constraints=["größe, 0 <= 5"])
    values = {"-loss (%)": 1.0, "a+b": 2.0, "größe, 0": 3.0}
    searched(search, lambda p: {k: v + p["m0"] for k, v in values.items()}, [4, 2])
    assert search.note is None


# ------------------------------------------------------------------- objectives and outcomes


def test_goals_become_objectives_thresholds_and_constraints() -> None:
    texts = ["loss <= 1.5", "speed >= 3", "speed <= 9", "size <= 5", "size <= 4"]
    config = Goals(TWO, parse_outcome_constraints(texts)).config()
    assert config.objective.expression == "-m0, m1"
    bounds = {str(c.expression) for c in config.objective_thresholds}
    assert bounds == {"m0 <= 1.5", "m1 >= 3.0"}
    others = {str(c.expression) for c in config.outcome_constraints if c.metric_names[0].startswith("c")}
    assert others == {"c0 <= 9.0", "c1 <= 4.0"}


def test_a_bound_that_follows_from_one_objective_is_not_told_twice() -> None:
    config = Goals(ONE, parse_outcome_constraints(["loss <= 2", "loss >= 0"])).config()
    assert [str(c.expression) for c in config.outcome_constraints] == ["c0 >= 0.0"]


def test_outcome_constraints_steer_the_search() -> None:
    search = Ax(SQUARE, ONE, 1, optimizer=FAST, outcome_constraints=["size <= 0.5"])
    rounds = searched(search, lambda p: {"loss": -p["x"] - p["y"], "size": p["x"]}, [6, 4, 4])
    assert search.note is None
    chosen = [p.params for points in rounds[1:] for p in points]
    assert sum(p["x"] <= 0.6 for p in chosen) >= 6, "without the constraint they would have x = 1"
    assert max(p["x"] + p["y"] for p in chosen if p["x"] <= 0.5) > 1.35


def test_a_result_without_a_constrained_metric_is_invalid() -> None:
    search = Ax(SQUARE, ONE, outcome_constraints=["size <= 0.5"])
    search.ask(2)
    search.tell([Observation(0, {"loss": 1.0}), Observation(1, {"loss": 1.0, "size": float("nan")})])
    assert [failure.kind for _, failure in search.failed()] == ["invalid", "invalid"]
    assert "no finite size" in search.failed()[0][1].message


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 5])
def test_many_objectives_are_searched(count: int) -> None:
    goals = parse_objectives({f"m{i}": "minimize" for i in range(count)})
    search = Ax(SQUARE, goals, 1, initial_points=4, optimizer=FAST)
    searched(search, lambda p: {f"m{i}": (p["x"] - i / 4) ** 2 + p["y"] for i in range(count)}, [6, 2])
    assert search.note is None


# ------------------------------------------------------------------- the model


def test_the_model_finds_the_minimum() -> None:
    search = Ax(SQUARE, ONE, 0, optimizer=FAST)
    rounds = searched(search, bowl, [6, 4, 4, 4])
    assert search.note is None
    assert min(bowl(p.params)["loss"] for p in rounds[-1]) < 1e-3


def test_the_model_keeps_away_from_points_that_failed() -> None:
    search = Ax(SQUARE, ONE, 0, initial_points=6, optimizer=FAST)
    searched(search, bowl, [6])
    first = search.ask(1)[0]
    search.tell([Observation(first.id, failure=Failure("error", "no"))])
    second = search.ask(1)[0]
    assert search.note is None
    assert max(abs(first.params[n] - second.params[n]) for n in "xy") > 0.01


@pytest.mark.parametrize("every", [1, 2])
def test_standard_errors_of_all_or_some_results_do_no_harm(every: int) -> None:
    search = Ax(SQUARE, ONE, 0, optimizer=FAST)
    for n in (6, 2):
        points = search.ask(n)
        search.tell(
            [Observation(p.id, bowl(p.params), sem=None if p.id % every else {"loss": 0.1}) for p in points]
        )
    assert search.note is None


def test_a_model_that_cannot_be_used_is_noted_and_random_points_stand_in() -> None:
    search = Ax(SQUARE, ONE, 0)
    searched(search, lambda p: {"loss": 1.7e308 * (-1 if p["x"] < 0.5 else 1)}, [6])
    assert len(search.ask(3)) == 3
    assert search.note is not None
    assert search.note.startswith("Ax failed (")


def test_points_that_were_given_take_part() -> None:
    search = Ax(SQUARE, ONE, 0, optimizer=FAST)
    given = [Point(i, {"x": i / 10, "y": 0.5}) for i in range(6)]
    search.restore([Asked(6, given, given=True)])
    search.tell([Observation(p.id, bowl(p.params)) for p in given])
    assert [p.id for p in search.ask(2)] == [6, 7]
    assert search.note is None


@pytest.mark.slow
@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_every_acquisition_function_proposes(acquisition: str) -> None:
    several = "Hypervolume" in acquisition or "ParEGO" in acquisition
    search = Ax(SQUARE, TWO if several else ONE, 1, acquisition=acquisition, optimizer=FAST)
    searched(search, lambda p: bowl(p) | {"speed": p["x"]}, [6, 2])
    assert search.note is None


@pytest.mark.slow
@pytest.mark.parametrize("model", MODELS)
def test_every_model_proposes(model: str) -> None:
    options: dict[str, Any] = {}
    if "FullyBayesian" in model:
        if not SAMPLED:
            pytest.skip("it needs the extra ax-saas")
        options = {"mcmc": {"warmup_steps": 8, "num_samples": 8, "thinning": 4, "max_tree_depth": 2}}
    search = Ax(SQUARE, ONE, 1, method="botorch", model=model, optimizer=FAST, **options)
    searched(search, bowl, [6, 2])
    assert search.note is None


@pytest.mark.slow
@pytest.mark.skipif(not SAMPLED, reason="it needs the extra ax-saas")
@pytest.mark.parametrize("method", ["quality", "saasbo"])
def test_fully_bayesian_methods_propose(method: str) -> None:
    mcmc = {"warmup_steps": 8, "num_samples": 8, "thinning": 4, "max_tree_depth": 2}
    search = Ax(SQUARE, ONE, 1, method=method, mcmc=mcmc, optimizer=FAST)
    searched(search, bowl, [6, 2])
    assert search.note is None


@pytest.mark.parametrize("method", ["bo_mixed", "uniform", "random_search"])
def test_the_other_methods_propose(method: str) -> None:
    spec = {"x": {"type": "float", "low": 0, "high": 1}, "c": {"type": "categorical", "choices": ["p", "q"]}}
    search = Ax(SearchSpace.from_dict(spec), ONE, 1, method=method)
    searched(search, lambda p: {"loss": p["x"] + (p["c"] == "q")}, [6, 2])
    assert search.note is None


# ------------------------------------------------------------------- a good guest


def test_ax_says_nothing_and_leaves_the_process_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = (random.randint(0, 2**60), np.random.random(), torch.rand(1).item())  # noqa: S311
    threads, kernel = torch.get_num_threads(), (logei._C, logei._load_attempted)
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    search = Ax(SQUARE, TWO, 1, initial_points=4, optimizer=FAST)
    searched(search, lambda p: bowl(p) | {"speed": p["x"]}, [4, 2])
    drawn = (random.randint(0, 2**60), np.random.random(), torch.rand(1).item())  # noqa: S311
    assert drawn == expected
    assert (torch.get_num_threads(), (logei._C, logei._load_attempted)) == (threads, kernel)
    assert capfd.readouterr() == ("", "")
