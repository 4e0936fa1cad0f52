"""Every contender of the search benchmark: batches of valid points, whatever is pending."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.search.contenders import PEERS, contender, contender_names, entries
from benchmarks.search.problem import Outcome, Setting
from hpo_steer import SearchSpace
from hpo_steer.errors import ConfigError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.search.contender import Contender
    from hpo_steer.space import Params

pytestmark = pytest.mark.filterwarnings("ignore")  # of other libraries

SPACE = SearchSpace.from_dict(
    {
        "kind": {"type": "categorical", "choices": ["a", "b", "c"]},
        "x": {"type": "float", "low": 0.01, "high": 10.0, "log": True},
        "n": {"type": "int", "low": 1, "high": 30, "when": {"kind": ["b", "c"]}},
    }
)
SINGLE = [name for name, entry in entries().items() if entry.serves(1)]
SEVERAL = [name for name, entry in entries().items() if entry.serves(2)]


def made(name: str, setting: Setting) -> Contender:
    entry = contender(name)
    if entry.module:
        pytest.importorskip(entry.module)
    return entry.load()(setting)


def test_known_noise_reaches_our_methods_and_botorch() -> None:
    setting = Setting(SPACE, objectives=2, references=(9.0, 9.0), noise=(0.5, 0.1))
    ours: Any = made("mobo", setting)
    (params,) = ours.ask(1)
    ours.tell([(0, Outcome(values_of(params, 2)))])
    assert ours._search.told[0].sem == {"f0": 0.5, "f1": 0.1}
    torch = pytest.importorskip("torch")
    peer: Any = made("botorch", setting)
    found = [peer._column(torch.ones(3, 2), i)[1].unique().item() for i in range(2)]
    assert found == pytest.approx([0.25, 0.01])


def values_of(params: Params, objectives: int) -> tuple[float, ...]:
    first = (params["x"] - 1.0) ** 2 + {"a": 0.5, "b": 0.0, "c": 1.0}[params["kind"]]
    return (first, params.get("n", 20) / 10.0 + 0.1 * params["x"])[:objectives]


def told(points: Sequence[Params], start: int, setting: Setting) -> list[tuple[int, Outcome]]:
    """Outcomes of points numbered from `start`; every fifth one is invalid."""
    slack = (0.25,) * setting.slacks
    return [
        (i, Outcome(None, failure="broken"))
        if i % 5 == 4
        else (i, Outcome(values_of(params, setting.objectives), slack))
        for i, params in enumerate(points, start)
    ]


def raced(name: str, setting: Setting) -> list[Params]:
    """Two asks with the first half told in between, and one more with everything told."""
    racer = made(name, setting)
    points = racer.ask(6)
    results = told(points, 0, setting)
    racer.tell(results[::-1][:3])
    points += racer.ask(2)
    racer.tell(results[::-1][3:] + told(points[6:], 6, setting))
    return points + racer.ask(2)


@pytest.mark.parametrize("name", SINGLE)
def test_batches_are_full_and_valid_with_pending_and_invalid_points(name: str) -> None:
    points = raced(name, Setting(SPACE, seed=3, batch=6, evaluations=10))
    assert len(points) == 10
    for params in points:
        assert SPACE.validate(params) == params


@pytest.mark.parametrize("name", SEVERAL)
def test_several_objectives_and_a_constraint_are_served(name: str) -> None:
    setting = Setting(SPACE, seed=3, batch=6, evaluations=10, objectives=2, references=(50.0, 5.0), slacks=1)
    racer = made(name, setting)
    points = racer.ask(6)
    racer.tell(told(points, 0, setting)[:5])
    points += racer.ask(1)
    assert len(points) == 7
    for params in points:
        assert SPACE.validate(params) == params


@pytest.mark.parametrize("name", SINGLE)
def test_points_of_others_are_taken_in(name: str) -> None:
    setting = Setting(SPACE, seed=3, batch=2, evaluations=10)
    racer = made(name, setting)
    given: list[Params] = [{"kind": "abc"[i % 3], "x": 0.1 + i} for i in range(8)]
    given = [params | ({"n": 3 + i} if params["kind"] != "a" else {}) for i, params in enumerate(given)]
    racer.adopt(given)
    racer.tell(told(given[:6], 0, setting))
    points = racer.ask(2)
    racer.tell(told(points, 8, setting))
    assert [SPACE.validate(params) for params in points] == points
    assert len(points) == 2


def test_the_slacks_go_to_algorithms_that_take_constraints_and_are_failures_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # random search learns nothing, so what it was told is all there is to see
    from algorithms.random_search import Random

    class Constrained(Random):
        def __init__(self, *args: Any, outcome_constraints: list[str], **options: Any) -> None:
            super().__init__(*args, **options)
            assert outcome_constraints == ["slack0 >= 0"]

    from benchmarks.search.ours import Ours

    setting = Setting(SPACE, objectives=2, references=(50.0, 5.0), slacks=1)
    for cls, failed in ((Random, True), (Constrained, False)):
        monkeypatch.setattr("algorithms.random_search.Random", cls)
        racer = Ours(setting, "random", {})
        racer.ask(1)
        racer.tell([(0, Outcome((1.0, 2.0), (-0.1,)))])
        search: Any = racer._search
        assert (search.told[0].failure is not None) is failed
        if not failed:
            assert search.told[0].values == {"f0": 1.0, "f1": 2.0, "slack0": -0.1}


def test_ours_take_options_and_peers_do_not() -> None:
    setting = Setting(SPACE)
    with pytest.raises(ConfigError, match='no such option; did you mean "candidates"'):
        contender("bayesian:candidate=64").load()(setting)
    assert len(contender("bayesian:candidates=64:initial_points=3").load()(setting).ask(2)) == 2
    assert len(contender("optuna:sampler=random").load()(setting).ask(2)) == 2
    with pytest.raises(UserError, match="takes no options"):
        contender("optuna-tpe:n_startup_trials=3")
    with pytest.raises(UserError, match="bayesian:key=value"):
        contender("bayesian:fast")


def test_names_and_groups_are_resolved_in_order_and_once() -> None:
    assert contender_names("random, bayesian,random") == ["random", "bayesian"]
    assert contender_names("peers") == list(PEERS)
    assert set(contender_names("ours")) | set(PEERS) == set(contender_names("all"))
    assert not contender("random").ours
    with pytest.raises(UserError, match='no contender "baysian"; did you mean "bayesian"'):
        contender_names("random,baysian")
    with pytest.raises(UserError, match="needs a step"):
        contender_names("grid")
    with pytest.raises(UserError, match="names none"):
        contender_names("")
