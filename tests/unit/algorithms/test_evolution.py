"""What the evolutionary search promises beyond the common contract."""

from __future__ import annotations

import pickle
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from moocore import hypervolume

from algorithms.evolution import METHODS, Evolution
from algorithms.random_search import Random
from hpo_steer.algorithm import Asked, Failure, Observation, Point, SearchAlgorithm, Step, Told
from hpo_steer.errors import ConfigError
from hpo_steer.objectives import parse_objectives
from hpo_steer.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpo_steer.space import Params

    Losses = Callable[[SearchSpace, Params], Sequence[float]]

MIXED = {
    "eta": {"type": "float", "low": 1e-4, "high": 1, "log": True},
    "rate": {"type": "float", "low": 0, "high": 0.7, "step": 0.1},
    "depth": {"type": "int", "low": 1, "high": 12},
    "width": {"type": "int", "low": 1, "high": 512, "log": True},
    "kind": {"type": "categorical", "choices": ["a", "b", "c", "d"]},
    "drop": {"type": "float", "low": 0, "high": 1, "when": {"kind": ["c", "d"]}},
}
OBJECTIVES = {"cmaes": 1, "ga": 1, "nsga2": 2, "nsga3": 3}


def goals(m: int) -> Any:
    return parse_objectives({f"f{i}": "minimize" for i in range(m)})


def floats(d: int) -> SearchSpace:
    return SearchSpace.from_dict({f"x{i:02}": {"type": "float", "low": 0, "high": 1} for i in range(d)})


def observed(space: SearchSpace, point: Point, losses: Losses) -> Observation:
    return Observation(point.id, {f"f{i}": float(v) for i, v in enumerate(losses(space, point.params))})


def run(search: SearchAlgorithm, losses: Losses, batches: int, n: int = 40) -> list[Observation]:
    told: list[Observation] = []
    for _ in range(batches):
        results = [observed(search.space, p, losses) for p in search.ask(n) if isinstance(p, Point)]
        search.tell(results)
        told += results
    return told


def lowest(told: Sequence[Observation]) -> float:
    return min(o.values["f0"] for o in told if o.values is not None)


def zdt1(space: SearchSpace, params: Params) -> list[float]:
    x = np.array(space.encode(params))
    g = 1.0 + 9.0 * x[1:].mean()
    return [x[0], g * (1.0 - np.sqrt(x[0] / g))]


def dtlz2(space: SearchSpace, params: Params) -> list[float]:
    x = np.array(space.encode(params))
    far = 1.0 + ((x[2:] - 0.5) ** 2).sum()
    a, b = x[:2] * np.pi / 2.0
    return [far * np.cos(a) * np.cos(b), far * np.cos(a) * np.sin(b), far * np.sin(a)]


def sphere(space: SearchSpace, params: Params) -> list[float]:
    return [float(((np.array(space.encode(params)) - 0.37) ** 2).sum())]


def rosenbrock(space: SearchSpace, params: Params) -> list[float]:
    x = 4.0 * np.array(space.encode(params)) - 2.0
    return [float((100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum())]


def corner(space: SearchSpace, params: Params) -> list[float]:
    return [float(((np.array(space.encode(params)) - 1.0) ** 2).sum())]


def rewarding(space: SearchSpace, params: Params) -> list[float]:
    """Lowest at eta 0.01, rate 0.2, depth 9, width 30, kind c, drop 0.7, where it is 0."""
    wanted = space.encode({"eta": 0.01, "rate": 0.2, "depth": 9, "width": 30, "kind": "c", "drop": 0.7})
    places = space.encode(params)
    away = [
        0.2 * (params["kind"] != "c") if p.name == "kind" else (a - b) ** 2
        for p, a, b in zip(space, places, wanted, strict=True)
    ]
    return [float(sum(away))]


def flat(space: SearchSpace, params: Params) -> list[float]:
    return [1.0]


def several(m: int) -> Losses:
    """Smooth losses that pull towards different places."""
    return lambda space, params: [
        sum((u - 0.2 - 0.3 * i) ** 2 for u in space.encode(params)) for i in range(m)
    ]


# -------------------------------------------------------------------- how well it searches


@pytest.mark.parametrize(
    ("losses", "m", "d", "worst", "methods"),
    [(zdt1, 2, 10, 6.0, ("nsga2", "nsga3")), (dtlz2, 3, 7, 2.5, ("nsga3", "nsga2"))],
)
def test_its_hypervolume_is_larger_than_that_of_any_random_search(
    losses: Losses, m: int, d: int, worst: float, methods: Sequence[str]
) -> None:
    def volume(told: Sequence[Observation]) -> float:
        values = np.array([list(o.values.values()) for o in told if o.values is not None])
        return float(hypervolume(np.minimum(values, worst), ref=[worst] * m))

    by_chance = [volume(run(Random(floats(d), goals(m), seed), losses, 10)) for seed in range(5)]
    for method in methods:
        ours = [
            volume(run(Evolution(floats(d), goals(m), seed, method=method), losses, 10)) for seed in range(5)
        ]
        assert np.median(ours) > max(by_chance)
        assert np.median(ours) - np.median(by_chance) > 3.0 * np.std(by_chance)


@pytest.mark.parametrize(
    ("losses", "space", "method", "share"),
    [
        (sphere, floats(6), "cmaes", 0.2),
        (sphere, floats(6), "ga", 0.1),
        (corner, floats(6), "cmaes", 0.1),
        (rosenbrock, floats(6), "cmaes", 0.2),
        (rewarding, SearchSpace.from_dict(MIXED), "ga", 0.2),
    ],
)
def test_its_best_loss_is_a_fraction_of_that_of_random_search(
    losses: Losses, space: SearchSpace, method: str, share: float
) -> None:
    by_chance = [lowest(run(Random(space, goals(1), seed), losses, 10)) for seed in range(5)]
    ours = [lowest(run(Evolution(space, goals(1), seed, method=method), losses, 10)) for seed in range(5)]
    assert np.median(ours) < share * np.median(by_chance)


@pytest.mark.parametrize("method", ["cmaes", "ga"])
def test_it_converges_while_half_of_all_points_are_always_pending(method: str) -> None:
    search = Evolution(floats(4), goals(1), 1, method=method)
    rng = np.random.default_rng(0)
    waiting: list[Point] = []
    told: list[Observation] = []
    seen: set[tuple[float, ...]] = set()
    while len(told) < 600:
        n = int(rng.integers(1, 30))
        points = search.ask(n)
        assert len(points) == n
        waiting += points
        seen |= {tuple(p.params.values()) for p in points}
        rng.shuffle(waiting)
        due, waiting = waiting[: len(waiting) // 2], waiting[len(waiting) // 2 :]
        results = [observed(search.space, p, sphere) for p in due]
        search.tell(results)
        told += results
    assert len(seen) == len(told) + len(waiting)
    assert lowest(told) < 1e-4


# -------------------------------------------------------------------- what it makes of results


@pytest.mark.parametrize("method", METHODS)
def test_a_failure_teaches_it_as_little_as_silence(method: str) -> None:
    m = OBJECTIVES[method]
    proposals = []
    for told in (True, False):
        search = Evolution(floats(3), goals(m), 1, method=method)
        for _ in range(6):
            points = search.ask(15)
            search.tell([observed(search.space, p, several(m)) for p in points if p.id % 8])
            if told:
                search.tell([Observation(p.id, failure=Failure("error", "")) for p in points if not p.id % 8])
        proposals.append([p.params for p in search.ask(15)])
    assert proposals[0] == proposals[1]


def test_it_leaves_a_region_where_points_fail() -> None:
    search = Evolution(floats(3), goals(1), 0, method="ga")
    failed = []
    for _ in range(8):
        points = search.ask(20)
        bad = {p.id for p in points if p.params["x00"] < 0.5}
        failed.append(len(bad))
        search.tell(
            [
                Observation(p.id, failure=Failure("invalid", ""))
                if p.id in bad
                else observed(search.space, p, sphere)
                for p in points
            ]
        )
    assert sum(failed[-2:]) < sum(failed[:2]) / 2


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**40])
@pytest.mark.parametrize("method", METHODS)
def test_the_scale_of_the_losses_is_of_no_account(method: str, scale: float) -> None:
    m = OBJECTIVES[method]
    runs = []
    for factor in (1.0, scale):
        search = Evolution(floats(4), goals(m), 2, method=method)
        run(search, lambda s, p, by=factor: [by * v for v in several(m)(s, p)], 6, 20)  # type: ignore[misc]
        runs.append([p.params for p in search.ask(20)])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("method", METHODS)
def test_the_order_of_a_large_set_of_results_is_of_no_account(method: str) -> None:
    m = OBJECTIVES[method]
    runs = []
    for order in range(3):
        search = Evolution(floats(4), goals(m), 2, method=method)
        for _ in range(4):
            results = [observed(search.space, p, several(m)) for p in search.ask(50)]
            np.random.default_rng(order).shuffle(results)
            search.tell(results)
        runs.append([p.params for p in search.ask(20)])
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("method", METHODS)
def test_it_goes_on_from_points_it_did_not_propose(method: str) -> None:
    m = OBJECTIVES[method]
    rng = np.random.default_rng(0)
    space = floats(2)
    points = [Point(i, space.decode((0.9 + 0.05 * rng.random(2)).tolist())) for i in range(60)]
    history: list[Step] = [Asked(60, points), Told([observed(space, p, several(m)) for p in points])]
    searches = [Evolution(space, goals(m), 1, method=method) for _ in range(2)]
    for search in searches:
        search.restore(history)
    asked = [search.ask(20) for search in searches]
    assert asked[0] == asked[1]
    assert np.median([p.params["x00"] for p in asked[0]]) > 0.7


@pytest.mark.parametrize("method", METHODS)
def test_restoring_ten_thousand_points_is_exact_and_an_ask_stays_quick(method: str) -> None:
    m = OBJECTIVES[method]
    search = Evolution(floats(8), goals(m), 1, method=method)
    history: list[Step] = []
    sizes = []
    for _ in range(20):
        points = search.ask(500)
        results = [observed(search.space, p, several(m)) for p in points]
        search.tell(results)
        history += [Asked(500, points), Told(results)]
        sizes.append(len(pickle.dumps(search._strategy)))
    restored = Evolution(floats(8), goals(m), 1, method=method)
    restored.restore(history)
    begin = time.perf_counter()
    ahead = search.ask(200)
    assert time.perf_counter() - begin < 1.0
    assert restored.ask(200) == ahead
    assert max(sizes[10:]) < 1.2 * max(sizes[:10])


# -------------------------------------------------------------------- parameters of all kinds


@pytest.mark.parametrize("losses", [sphere, flat])
def test_a_run_that_converged_or_stood_still_is_followed_by_another(losses: Losses) -> None:
    search = Evolution(floats(2), goals(1), 3, method="cmaes", population=8)
    history: list[Step] = []
    spreads = []
    for _ in range(100):
        points = search.ask(10)
        results = [observed(search.space, p, losses) for p in points]
        search.tell(results)
        history += [Asked(10, points), Told(results)]
        spreads.append(float(np.std([list(p.params.values()) for p in points], axis=0).max()))
    narrowest = int(np.argmin(spreads))
    assert spreads[narrowest] < (1e-5 if losses is sphere else 0.1)
    assert max(spreads[narrowest:]) > 0.15
    restored = Evolution(floats(2), goals(1), 3, method="cmaes", population=8)
    restored.restore(history)
    assert restored.ask(10) == search.ask(10)


@pytest.mark.parametrize("method", ["cmaes", "ga"])
def test_a_grid_of_integers_is_exhausted(method: str) -> None:
    space = SearchSpace.from_dict({n: {"type": "int", "low": 0, "high": 11} for n in "xy"})
    search = Evolution(space, goals(1), 1, method=method)
    told = run(search, sphere, 40, 5)
    assert len(told) == 144
    assert search.ended is not None


@pytest.mark.parametrize(
    ("spec", "m", "method", "population"),
    [
        ({n: {"type": "float", "low": 0, "high": 1} for n in "abc"}, 1, "cmaes", 7),
        ({n: {"type": "int", "low": 1, "high": 900, "log": True} for n in "abc"}, 1, "cmaes", 7),
        ({n: {"type": "int", "low": 1, "high": 4} for n in "abc"}, 1, "ga", 20),
        ({"a": {"type": "float", "low": 0, "high": 1}}, 1, "ga", 20),
        (MIXED, 1, "ga", 20),
        (MIXED, 2, "nsga2", 20),
        (MIXED, 3, "nsga3", 30),
        (MIXED, 6, "nsga3", 60),
        ({f"x{i}": {"type": "float", "low": 0, "high": 1} for i in range(40)}, 2, "nsga2", 50),
    ],
)
def test_the_method_follows_from_space_and_objectives(
    spec: dict[str, Any], m: int, method: str, population: int
) -> None:
    search = Evolution(SearchSpace.from_dict(spec), goals(m))
    assert (search.method, search.population) == (method, population)


@pytest.mark.parametrize(
    ("space", "m", "options", "key", "says"),
    [
        (floats(2), 1, {"method": "cmeas"}, "method", 'did you mean "cmaes"?'),
        (floats(2), 1, {"method": 3}, "method", "expected a name"),
        (floats(2), 2, {"method": "cmaes"}, "method", "use nsga2"),
        (floats(2), 3, {"method": "ga"}, "method", "use nsga3"),
        (floats(2), 1, {"method": "nsga2"}, "method", "use cmaes"),
        (SearchSpace.from_dict(MIXED), 1, {"method": "nsga3"}, "method", "use ga"),
        (SearchSpace.from_dict(MIXED), 1, {"method": "cmaes"}, "method", '"kind" is a categorical'),
        (floats(1), 1, {"method": "cmaes"}, "method", "fewer than two"),
        (floats(2), 1, {"population": 3}, "population", "from 4 to 10000"),
        (floats(2), 5, {"population": 4}, "population", "from 5 to 10000"),
        (floats(2), 2, {"population": 4.5}, "population", "whole number"),
    ],
)
def test_what_it_cannot_serve_is_said_at_once(
    space: SearchSpace, m: int, options: dict[str, Any], key: str, says: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        Evolution(space, goals(m), **options)
    assert caught.value.key == f"algorithm.{key}"
    assert says in caught.value.message
