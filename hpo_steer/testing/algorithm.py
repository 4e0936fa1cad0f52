"""The contract of a search method as tests, for authors of plug-ins.

    from hpo_steer.testing.algorithm import AlgorithmContract

    class TestMine(AlgorithmContract):
        def create(self, space, objectives, seed):
            return Mine(space, objectives, seed=seed)

Run it with pytest. It draws no network, no files and no clock; each test makes its own instances.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from hpo_steer.algorithm import FAILURE_KINDS, Asked, Failure, Observation, Point, SearchAlgorithm, Step, Told
from hpo_steer.objectives import Objective, parse_objectives
from hpo_steer.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hpo_steer.space import Params

SPACES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "floats": (
        {"x": {"type": "float", "low": -1, "high": 1}, "y": {"type": "float", "low": 0, "high": 5}},
        [],
    ),
    "mixed": (
        {
            "eta": {"type": "float", "low": 1e-4, "high": 1, "log": True},
            "rate": {"type": "float", "low": 0, "high": 0.7, "step": 0.1},
            "depth": {"type": "int", "low": 2, "high": 12, "step": 2},
            "width": {"type": "int", "low": 1, "high": 512, "log": True},
            "kind": {"type": "categorical", "choices": ["a", 1, True, None, [1, 2]]},
        },
        [],
    ),
    "conditional": (
        {
            "booster": {"type": "categorical", "choices": ["tree", "dart", "linear"]},
            "drop": {"type": "float", "low": 0, "high": 0.5, "when": {"booster": "dart"}},
            "depth": {"type": "int", "low": 1, "high": 9, "when": {"booster": ["tree", "dart"]}},
            "leaf": {"type": "float", "low": 0.1, "high": 10, "log": True, "when": {"depth": [7, 8, 9]}},
        },
        [],
    ),
    "constrained": (
        {"a": {"type": "float", "low": 0, "high": 1}, "b": {"type": "int", "low": 1, "high": 40}},
        ["a * b <= 8", "b >= 3"],
    ),
}
"""The spaces that points are asked from: a ``search_space`` and ``constraints`` each."""

FINITE: tuple[dict[str, Any], list[str]] = (
    {
        "n": {"type": "int", "low": 1, "high": 4},
        "c": {"type": "categorical", "choices": ["p", "q"]},
        "z": {"type": "float", "low": 0, "high": 1, "step": 0.5, "when": {"c": "q"}},
    },
    ["n + z <= 4"],
)
"""A space of fourteen points."""


def loss(space: SearchSpace, params: Params) -> float:
    """A smooth function of a point with its minimum inside the space."""
    return sum((u - 0.37) ** 2 for u in space.encode(params))


class AlgorithmContract(ABC):
    """What every search method promises; inherit from it and write `create`.

    Attributes:
        order_independent: whether the order of the results told between two asks is of no account.
        seeded: whether another seed gives other points; false for a method without random choices.
        spaces: names of the `SPACES` it can search.
        finite: whether it can search a finite conditional space, and knows when it is exhausted.
        rounds: of ask and tell in the longer tests; take fewer for a slow method.
        batch: points of an ask in the longer tests.
    """

    order_independent: ClassVar[bool] = False
    seeded: ClassVar[bool] = True
    spaces: ClassVar[Sequence[str]] = tuple(SPACES)
    finite: ClassVar[bool] = True
    rounds: ClassVar[int] = 4
    batch: ClassVar[int] = 6
    objectives: ClassVar[Mapping[str, Any]] = {"loss": "minimize"}

    @abstractmethod
    def create(self, space: SearchSpace, objectives: Sequence[Objective], seed: int) -> SearchAlgorithm:
        """A new instance of the method under test."""

    # ---------------------------------------------------------------- what the tests are made of

    def new(self, space: SearchSpace, seed: int = 1) -> SearchAlgorithm:
        """A new instance for this class's objectives."""
        return self.create(space, parse_objectives(self.objectives), seed)

    def space(self, name: str) -> SearchSpace:
        """One of `SPACES`."""
        if name not in self.spaces:
            pytest.skip(f"this method does not search the space {name!r}")
        spec, constraints = SPACES[name]
        return SearchSpace.from_dict(spec, constraints)

    def values(self, value: float) -> dict[str, float]:
        """A result for this class's objectives; the further ones pull the other way."""
        return {name: value if i == 0 else 1.0 - value * value for i, name in enumerate(self.objectives)}

    def results(
        self, space: SearchSpace, points: Sequence[Point], f: Callable[[SearchSpace, Params], float] = loss
    ) -> list[Observation]:
        """Values of some points."""
        return [Observation(p.id, self.values(f(space, p.params)), params=p.params) for p in points]

    def checked_ask(self, search: SearchAlgorithm, n: int, first_id: int) -> list[Point]:
        """An ask whose answer has exactly `n` valid points, numbered on from `first_id`."""
        points = as_points(search.ask(n), first_id)
        assert len(points) == n, f"ask({n}) returned {len(points)} points; ended: {search.ended}"
        assert [p.id for p in points] == list(range(first_id, first_id + n)), "ids count the points from 0"
        for p in points:
            assert p.parent is None or 0 <= p.parent < p.id, "a parent is an earlier point"
            assert search.space.validate(p.params) == p.params, "points are in their canonical form"
        return points

    def eventful(self, search: SearchAlgorithm, rounds: int, known: Sequence[Step] = ()) -> list[Step]:
        """Rounds of ask and tell with pending points, results out of order, and failures of every kind."""
        history = list(known)
        asked = [p for step in history if isinstance(step, Asked) for p in step.points]
        told = {o.point_id for step in history if isinstance(step, Told) for o in step.observations}
        for _ in range(rounds):
            points = self.checked_ask(search, self.batch, len(asked))
            history.append(Asked(self.batch, points))
            asked += points
            due = [p for p in asked if p.id not in told and p.id <= len(asked) - 3][::-1]
            observations = [
                Observation(p.id, failure=Failure(FAILURE_KINDS[p.id // 5 % len(FAILURE_KINDS)], "told so"))  # type: ignore[arg-type]
                if p.id % 5 == 2
                else self.results(search.space, [p])[0]
                for p in due
            ]
            for part in (observations[::2], observations[1::2]):
                search.tell(part)
                history.append(Told(part))
            told |= {p.id for p in due}
        return history

    # ---------------------------------------------------------------- the contract

    @pytest.mark.parametrize("name", SPACES)
    @pytest.mark.parametrize("n", [1, 5, 20])
    def test_an_ask_returns_exactly_as_many_valid_points_as_wanted(self, name: str, n: int) -> None:
        space = self.space(name)
        search = self.new(space)
        points = self.checked_ask(search, n, 0)
        search.tell(self.results(space, points))
        self.checked_ask(search, n, n)

    @pytest.mark.parametrize("name", SPACES)
    def test_no_point_is_proposed_twice_told_or_pending(self, name: str) -> None:
        space = self.space(name)
        search = self.new(space)
        history = self.eventful(search, self.rounds)
        points = [p for step in history if isinstance(step, Asked) for p in step.points]
        hashes = [space.hash(p.params, p.parent) for p in points]
        assert len(set(hashes)) == len(hashes)

    def test_the_seed_decides(self) -> None:
        space = self.space("mixed" if "mixed" in self.spaces else self.spaces[0])
        runs = [self.eventful(self.new(space, seed), 2) for seed in (1, 1, 2)]
        assert runs[0] == runs[1], "the same seed gives the same points"
        if self.seeded:
            assert runs[0] != runs[2], "another seed gives other points"

    @pytest.mark.parametrize("name", SPACES)
    def test_a_restored_search_goes_on_like_the_uninterrupted_one(self, name: str) -> None:
        space = self.space(name)
        search = self.new(space)
        history = self.eventful(search, 1)
        for _ in range(self.rounds):
            restored = self.new(space)
            restored.restore(history)
            ahead = self.eventful(restored, 1, history)
            history = self.eventful(search, 1, history)
            assert ahead == history

    @pytest.mark.parametrize("failing", [False, True])
    def test_points_of_another_origin_are_learnt_from_and_not_proposed_again(self, failing: bool) -> None:
        """Before the first ask, as points that were known, and between two asks, as those of a stand-in."""
        space = self.space(self.spaces[0])
        other, search, again = self.new(space, 2), self.new(space), self.new(space)
        known = self.checked_ask(other, self.batch, 0)
        values: list[Observation] = self.results(space, known)
        if failing:
            values[0] = Observation(known[0].id, failure=Failure("invalid", "no"))
        history: list[Step] = [Asked(self.batch, known, given=True), Told(values)]
        search.restore(history)
        first = self.checked_ask(search, self.batch, self.batch)
        other.tell(values)
        others = as_points(other.ask(2), self.batch)
        others = [p for p in others if p.params not in [mine.params for mine in first]]
        later = [replace(p, id=2 * self.batch + i) for i, p in enumerate(others)]
        stood_in: list[Step] = [Asked(2, later, given=True), Told(self.results(space, first[:2] + later))]
        search.restore(stood_in)
        total = 2 * self.batch + len(later)
        second = self.checked_ask(search, self.batch, total)
        hashes = [space.hash(p.params, p.parent) for p in [*known, *first, *later, *second]]
        assert len(set(hashes)) == len(hashes)
        again.restore([*history, Asked(self.batch, first), *stood_in])
        assert self.checked_ask(again, self.batch, total) == second

    def test_the_order_of_results_within_a_round_is_of_no_account(self) -> None:
        if not self.order_independent:
            pytest.skip("this method does not claim it")
        space = self.space(self.spaces[0])
        proposals = []
        for order in (1, -1):
            search = self.new(space)
            total = 0
            for _ in range(self.rounds):
                points = self.checked_ask(search, self.batch, total)
                total += self.batch
                for observation in self.results(space, points)[::order]:
                    search.tell([observation])
            proposals.append([p.params for p in as_points(search.ask(self.batch), total)])
        assert proposals[0] == proposals[1]

    @pytest.mark.parametrize("kind", ["invalid", "error"])
    def test_if_all_points_failed_it_still_proposes(self, kind: Any) -> None:
        search = self.new(self.space(self.spaces[0]))
        for done in range(0, self.rounds * self.batch, self.batch):
            points = self.checked_ask(search, self.batch, done)
            search.tell([Observation(p.id, failure=Failure(kind, "no")) for p in points])

    @pytest.mark.parametrize("scale", [0.0, 1e-12, 1.0, 1e12])
    @pytest.mark.parametrize("offset", [0.0, 3.0])
    def test_a_constant_or_oddly_scaled_objective_does_no_harm(self, scale: float, offset: float) -> None:
        space = self.space(self.spaces[0])
        search = self.new(space)
        for done in range(0, self.rounds * self.batch, self.batch):
            points = self.checked_ask(search, self.batch, done)
            search.tell(self.results(space, points, lambda s, p: scale * (loss(s, p) + offset)))

    def test_one_wild_value_does_no_harm(self) -> None:
        space = self.space(self.spaces[0])
        search = self.new(space)
        for done in range(0, self.rounds * self.batch, self.batch):
            points = self.checked_ask(search, self.batch, done)
            search.tell(self.results(space, points, lambda s, p: loss(s, p) if loss(s, p) < 0.4 else 1e30))

    def test_a_finite_space_is_exhausted_without_repeats(self) -> None:
        if not self.finite:
            pytest.skip("this method does not search finite conditional spaces")
        space = SearchSpace.from_dict(*FINITE)
        assert space.size == 14
        search = self.new(space)
        seen: list[str] = []
        for _ in range(4):
            points = as_points(search.ask(5), len(seen))
            seen += [space.hash(p.params) for p in points]
            search.tell(self.results(space, points))
            assert len(points) == 5 or search.ended is not None
        assert len(seen) == len(set(seen)) == 14
        assert search.ended is not None
        assert list(search.ask(1)) == []

    def test_a_space_of_one_point_has_one_point(self) -> None:
        if not self.finite:
            pytest.skip("this method does not search finite conditional spaces")
        search = self.new(SearchSpace.from_dict({"only": {"type": "categorical", "choices": ["this"]}}))
        assert [p.params for p in as_points(search.ask(3), 0)] == [{"only": "this"}]
        assert search.ended is not None
        search.tell([Observation(0, self.values(1.0))])
        assert list(search.ask(3)) == []


def as_points(proposed: Sequence[Any], first_id: int) -> list[Point]:
    """Points as they are; plain parameter dicts numbered on from `first_id`."""
    return [p if isinstance(p, Point) else Point(first_id + i, p) for i, p in enumerate(proposed)]
