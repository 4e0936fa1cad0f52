"""What the multi-objective Bayesian method promises beyond the common contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from algorithms.ensemble import Ensemble
from algorithms.feasibility import Limit
from algorithms.gaussian_process import Assumptions, Posterior, fit
from algorithms.hypervolume import nondominated
from algorithms.mobo import Mobo
from algorithms.random_search import Random
from hpo_steer.algorithm import Asked, Failure, Observation, Point
from hpo_steer.errors import ConfigError
from hpo_steer.objectives import parse_objectives
from hpo_steer.space import SearchSpace
from hpo_steer.testing.algorithm import as_points

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hpo_steer.algorithm import SearchAlgorithm
    from hpo_steer.space import Params

CUBE = SearchSpace.from_dict({n: {"type": "float", "low": 0, "high": 1} for n in "xyz"})
SQUARE = SearchSpace.from_dict({n: {"type": "float", "low": 0, "high": 1} for n in "xy"})
TWO = {"cost": "minimize", "gain": "maximize"}


def goals(spec: Mapping[str, Any], **references: float) -> Any:
    found = {
        name: {"direction": way} | ({"reference": references[name]} if name in references else {})
        for name, way in spec.items()
    }
    return parse_objectives(found)


def trade(params: Params) -> dict[str, float]:
    """Cost is best at 0.2, gain at 0.8 of every parameter: the front is the diagonal between."""
    at = np.array(list(params.values()))
    return {"cost": float(((at - 0.2) ** 2).sum()), "gain": -float(((at - 0.8) ** 2).sum())}


def searched(
    search: SearchAlgorithm, rounds: int, batch: int, outcome: Callable[[Params], Any] = trade
) -> list[tuple[Params, Any]]:
    """Points and what came of them; an outcome is values, or a kind of failure."""
    done: list[tuple[Params, Any]] = []
    for _ in range(rounds):
        for point in as_points(search.ask(batch), len(done)):
            found = outcome(point.params)
            failed = isinstance(found, str)
            told = Observation(point.id, None if failed else found, Failure(found) if failed else None)
            search.tell([told])
            done.append((point.params, found))
    return done


def area(done: list[tuple[Params, Any]], cost: float = 1.0, gain: float = -1.0) -> float:
    """The hypervolume of costs and gains up to a reference point."""
    rows = sorted((v["cost"], -v["gain"]) for _, v in done if v["cost"] < cost and v["gain"] > gain)
    total, height = 0.0, -gain
    for x, y in rows:
        total += (cost - x) * max(height - y, 0.0)
        height = min(height, y)
    return total


@pytest.mark.parametrize(
    ("objectives", "options", "key", "says"),
    [
        ({"loss": "minimize"}, {}, "algorithm.name", "use bayesian"),
        ({f"f{i}": "minimize" for i in range(7)}, {}, "algorithm.name", "use evolution"),
        (TWO, {"acquisition": "pareggo"}, "algorithm.acquisition", 'did you mean "parego"'),
        (
            {f"f{i}": "minimize" for i in range(5)},
            {"acquisition": "hypervolume"},
            "algorithm.acquisition",
            "parego",
        ),
        (TWO, {"candidates": 3}, "algorithm.candidates", "whole number"),
        (TWO, {"outcome_constraints": ["cost < 3"]}, "outcome_constraints", "expected a metric"),
    ],
)
def test_what_it_cannot_serve_is_said_at_once(objectives: Any, options: Any, key: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Mobo(CUBE, parse_objectives(objectives), **options)
    assert caught.value.key == key
    assert says in caught.value.message


@pytest.mark.parametrize(("acquisition", "share"), [("hypervolume", 0.3), ("parego", 0.6)])
def test_it_finds_a_front_and_beats_random_by_far(acquisition: str, share: float) -> None:
    objectives = goals(TWO, cost=1.0, gain=-1.0)
    ours = area(searched(Mobo(CUBE, objectives, 0, acquisition=acquisition), 4, 8))
    by_chance = area(searched(Random(CUBE, objectives, 0), 4, 8))
    best = area([(p, trade(p)) for t in np.linspace(0.2, 0.8, 200) for p in [dict.fromkeys("xyz", float(t))]])
    assert best - ours < share * (best - by_chance)


def test_without_references_the_whole_front_is_found() -> None:
    done = searched(Mobo(SQUARE, goals(TWO), 2), 4, 6)
    values = np.array([[v["cost"], -v["gain"]] for _, v in done])
    front = values[nondominated(values)]
    assert front[:, 0].min() < 0.03
    assert front[:, 1].min() < 0.03
    assert len(front) >= 10


def test_a_reference_that_no_point_reaches_yet_is_approached() -> None:
    done = searched(Mobo(CUBE, goals(TWO, cost=0.15, gain=-0.5), 0), 4, 6)
    excess = [max(v["cost"] - 0.15, -v["gain"] - 0.5) for _, v in done]
    assert min(excess[:8]) > 0.0
    assert min(excess) < 0.0


def test_bounds_on_metrics_are_kept() -> None:
    def outcome(params: Params) -> dict[str, float]:
        return trade(params) | {"size": params["x"] + params["y"]}

    search = Mobo(SQUARE, goals(TWO), 3, outcome_constraints=["size <= 0.8"])
    done = searched(search, 4, 6, outcome)
    later = [v["size"] for _, v in done[6:]]
    assert sum(size <= 0.8 for size in later) >= 12
    allowed = [(p, v) for p, v in done if v["size"] <= 0.8]
    assert max(v["gain"] for _, v in allowed) > -0.35  # the best is -0.32


def test_as_long_as_no_point_keeps_the_bounds_such_a_point_is_searched() -> None:
    def outcome(params: Params) -> dict[str, float]:
        return trade(params) | {"far": sum((u - 0.9) ** 2 for u in params.values())}

    search = Mobo(CUBE, goals(TWO), 0, outcome_constraints=["far <= 0.03"])
    done = searched(search, 1, 8, outcome)
    assert search.note is None
    done += searched(search, 1, 6, outcome)
    assert search.note is not None
    assert "none of 8 results keeps all outcome constraints (far <= 0.03)" in search.note
    done += searched(search, 2, 6, outcome)
    assert search.note is None
    assert all(v["far"] > 0.03 for _, v in done[:6])
    assert any(v["far"] <= 0.03 for _, v in done)


def test_a_constrained_metric_that_is_missing_breaks_its_bound_and_does_no_harm() -> None:
    searched(Mobo(SQUARE, goals(TWO), 0, outcome_constraints=["size <= 1"]), 3, 6)


def test_it_learns_where_points_are_invalid() -> None:
    def outcome(params: Params) -> Any:
        return "invalid" if params["x"] + params["y"] > 1.0 else trade(params)

    done = searched(Mobo(SQUARE, goals(TWO), 0), 5, 6, outcome)
    failed = [found == "invalid" for _, found in done]
    assert sum(failed[:6]) >= 2
    assert sum(failed[-12:]) <= 5


def test_if_all_points_fail_it_still_proposes() -> None:
    assert len(searched(Mobo(SQUARE, goals(TWO), 0), 4, 6, lambda _: "error")) == 24


@pytest.mark.parametrize(("scale", "offset"), [(1e-12, 0.0), (1e12, 0.0), (0.0, 3.0), (1.0, 1e6)])
def test_scale_and_offset_of_an_objective_are_of_no_account(scale: float, offset: float) -> None:
    def outcome(params: Params) -> dict[str, float]:
        values = trade(params)
        return values | {"gain": scale * values["gain"] + offset}

    done = searched(Mobo(SQUARE, goals(TWO), 2), 4, 6, outcome)
    assert min(v["cost"] for _, v in done) < 0.01
    if scale:
        assert max(v["gain"] for _, v in done) > offset - 0.02 * scale


def test_wild_values_of_one_objective_do_no_harm() -> None:
    def outcome(params: Params) -> dict[str, float]:
        values = trade(params)
        return values if params["x"] < 0.7 else values | {"cost": 1e30}

    done = searched(Mobo(SQUARE, goals(TWO), 2), 4, 6, outcome)
    assert min(v["cost"] for _, v in done) < 0.02


def test_known_noise_is_used() -> None:
    rng = np.random.default_rng(0)
    search = Mobo(SQUARE, goals(TWO), 1)
    done = []
    for _ in range(4):
        for point in search.ask(6):
            values = trade(point.params)
            noisy = {name: value + 0.1 * rng.normal() for name, value in values.items()}
            search.tell([Observation(point.id, noisy, sem={"cost": 0.1, "gain": 0.1})])
            done.append((point.params, values))
    assert min(v["cost"] for _, v in done) < 0.05


def test_noise_does_not_tie_the_search_to_points_that_come_near_the_reference() -> None:
    """One half of the square is known to miss what counts, by little at one place; nothing is known of the other."""
    known = [Point(i, {"x": 0.55 + 0.45 * (i % 6) / 5, "y": (i // 6) / 3}) for i in range(24)]
    elsewhere = 0
    for seed in range(3):
        rng = np.random.default_rng(seed)
        search = Mobo(SQUARE, goals({"a": "minimize", "b": "minimize"}, a=0.0, b=0.0), seed)
        search.restore([Asked(24, known)])
        for point in known:
            x, y = point.params["x"], point.params["y"]
            value = 0.5 - 0.4 * np.exp(-((x - 1.0) ** 2 + (y - 0.5) ** 2) / 0.05)
            noisy = {name: value + 0.1 * rng.normal() for name in "ab"}
            search.tell([Observation(point.id, noisy, sem={"a": 0.1, "b": 0.1})])
        elsewhere += sum(point.params["x"] < 0.5 for point in search.ask(4))
    assert elsewhere >= 6


def test_many_objectives_are_scalarised() -> None:
    names = [f"f{i}" for i in range(5)]

    def outcome(params: Params) -> dict[str, float]:
        at = np.array(list(params.values()))
        return {name: float(((at - 0.2 * i) ** 2).sum()) for i, name in enumerate(names)}

    done = searched(Mobo(SQUARE, goals(dict.fromkeys(names, "minimize")), 2), 4, 6, outcome)
    assert [min(v[name] for _, v in done) for name in names] == pytest.approx([0.0] * 5, abs=0.1)


@pytest.mark.parametrize("constrained", [False, True])
def test_the_slope_of_what_is_climbed_is_right(constrained: bool) -> None:
    rng = np.random.default_rng(5)
    x = rng.random((6, 2))
    outcomes = [((x - centre) ** 2).sum(1) for centre in (0.2, 0.8, 0.5)]
    posteriors = []
    for raw in outcomes:
        y = (raw - raw.mean()) / raw.std()
        posteriors.append(Posterior(fit(x, y, assumptions=Assumptions(smooth=True)), x, y))
    bounds = posteriors[2:] if constrained else []
    places, at = x[:4], np.array([[0.3, 0.9], [0.25, 0.3], [0.6, 0.7]])
    normals = [rng.normal(size=(4, 8)) for _ in range(2 + len(bounds))]
    limits = [Limit(each, 0.1) for each in bounds]
    ensemble = Ensemble(posteriors[:2], limits, places, normals, np.ones(2), at, None)
    for wanted in (ensemble.hypervolume(), ensemble.scalarized(np.array([0.3, 0.7]))):
        value, gradient = ensemble.slope(wanted, at)
        assert value == pytest.approx(ensemble.score(wanted, at))
        for j in range(2):
            step = np.eye(2)[j] * 1e-6
            up, down = ensemble.score(wanted, at + step), ensemble.score(wanted, at - step)
            assert gradient[:, j] == pytest.approx((up - down) / 2e-6, rel=2e-3, abs=1e-4)


def test_points_taken_change_the_pool_as_they_change_the_model() -> None:
    rng = np.random.default_rng(6)
    x, pool = rng.random((12, 2)), rng.random((20, 2))
    posteriors = []
    for centre in (0.2, 0.8):
        y = ((x - centre) ** 2).sum(1)
        y = (y - y.mean()) / y.std()
        posteriors.append(Posterior(fit(x, y), x, y))
    normals = [rng.normal(size=(5, 8)) for _ in range(2)]
    ensemble = Ensemble(posteriors, [], x[:3], [z[:3] for z in normals], np.full(2, 3.0), pool, None)
    ensemble.hypervolume()
    for i in (3, 4):
        ensemble.take(rng.random((1, 2)), [z[i] for z in normals])
    wanted = ensemble.hypervolume()
    scores = ensemble.score(wanted, pool)
    assert ensemble.leaders(wanted, 20) == np.argsort(-scores, kind="stable").tolist()
    assert ensemble.values.shape == (5, 8, 2)
