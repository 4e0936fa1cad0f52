"""Points that continue an earlier one: what workers, algorithms, stores and users hear of it."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer import Observation, Point, SearchAlgorithm
from hpo_steer.algorithm import Asked, Told
from hpo_steer.errors import AlgorithmError, MalformedMessage
from hpo_steer.guests import Guest
from hpo_steer.jsonlines import history_from_json, history_to_json, read_reply
from hpo_steer.objectives import parse_objectives
from hpo_steer.space import SearchSpace
from steering.book import steps
from steering.outside.host import outside_search
from steering.replay import replay_run
from steering.run_view import RunView, point_json
from steering.store.opening import open_store
from tests.unit.steering.simulation import Bench, experiment

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from hpo_steer.algorithm import Step
    from hpo_steer.space import Params
    from steering.loop import SteeringLoop

HERE = "tests/unit/steering/test_continued.py"
GOALS = parse_objectives({"loss": "minimize"})
SPACE = SearchSpace.from_dict({"x": {"type": "float", "low": 0, "high": 1}})


class Legs(SearchAlgorithm):
    """Every point continues the one before, with the same parameters; the first two are equal."""

    def ask(self, n: int) -> Sequence[Point]:
        first = self.__dict__.setdefault("asked", 0)
        self.__dict__["asked"] += n
        return [Point(0, {"x": 0.5}, i - 2 if i > 1 else None) for i in range(first, first + n)]

    def tell(self, observations: Sequence[Observation]) -> None:
        pass


@dataclass
class Scripted(SearchAlgorithm):
    """Proposes what it is given."""

    proposals: list[Any] = field(default_factory=list)

    def ask(self, n: int) -> Sequence[Point] | Sequence[Params]:
        found, self.proposals = self.proposals[:n], self.proposals[n:]
        return found

    def tell(self, observations: Sequence[Observation]) -> None:
        pass


@pytest.fixture
def benches() -> Iterator[list[Bench]]:
    made: list[Bench] = []
    yield made
    for bench in made:
        bench.transport.close()
        bench.store.close()


def begin(benches: list[Bench], **changes: Any) -> tuple[Bench, SteeringLoop]:
    store = open_store("memory", "sim", create=True)
    store.lock("test")
    bench = Bench(experiment(**changes), store)
    benches.append(bench)
    bench.create()
    return bench, bench.loop()


def legs(duplicates: str, points: int = 6) -> dict[str, Any]:
    return {
        "algorithm": {"class": f"{HERE}:Legs"},
        "steering": {
            "points_per_iteration": 2,
            "trigger": {"fraction": 1.0},
            "max_points": points,
            "duplicates": duplicates,
        },
    }


def finish(bench: Bench, loop: SteeringLoop) -> list[tuple[int, int | None]]:
    """Ends all that waits; returns (point, parent) of it."""
    works, bench.transport.work[:] = list(bench.transport.work), []
    for work in works:
        bench.finish(work, loss=0.1 * work.point)
    loop.step(0)
    return [(work.point, work.parent) for work in works]


def test_equal_parameters_after_another_parent_are_another_point(benches: list[Bench]) -> None:
    bench, loop = begin(benches, **legs("replicate"))
    assert finish(bench, loop) == [(1, None), (2, None)]
    assert finish(bench, loop) == [(3, 1), (4, 2)]
    assert finish(bench, loop) == [(5, 3), (6, 4)]
    points = bench.store.points()
    assert [p.parent for p in points] == [None, None, 1, 2, 3, 4]
    assert [point_json(p, ())["parent"] for p in points] == [None, None, 1, 2, 3, 4]
    assert len({p.hash for p in points}) == 5  # the first two are one, and nothing else is


def test_a_parent_that_took_values_over_has_the_checkpoint_of_the_other(benches: list[Bench]) -> None:
    """The second point is a duplicate of the first: what continues it begins with the first one's checkpoint."""
    bench, loop = begin(benches, **legs("reuse", 4))
    assert finish(bench, loop) == [(1, None)]
    assert [(w.point, w.parent) for w in bench.transport.work] == [(3, 1), (4, 1)]
    assert [p.parent for p in bench.store.points()] == [None, None, 1, 2]
    loop.close()
    bench.transport.work.clear()
    loop = bench.loop(workers_gone=True)
    loop.step(0)
    assert [(w.point, w.parent) for w in bench.transport.work] == [(3, 1), (4, 1)]


def test_what_is_forbidden_is_the_same_point_after_the_same_parent() -> None:
    algorithm = Scripted(
        [Point(0, {"x": 0.5}), Point(0, {"x": 0.5}, 0), Point(0, {"x": 0.5}, 0), {"x": 0.5}, {"x": 0.25}]
    )
    guest = Guest({"class": f"{HERE}:Legs"}, SPACE, GOALS, 1, Path(), forbid=True)
    guest._algorithm = algorithm
    assert guest.ask(3) == [Point(0, {"x": 0.5}), Point(1, {"x": 0.5}, 0), Point(2, {"x": 0.25})]


@pytest.mark.parametrize(
    ("parent", "says"),
    [
        (1, "proposed point 1 as its own parent; a parent is the id of an earlier point"),
        (
            7,
            "proposed point 1 with the parent 7, which does not exist; a parent is the id of an earlier point",
        ),
        (-1, "proposed point 1 with the parent -1, which does not exist"),
        (True, "proposed point 1 with the parent True; a parent is the id of an earlier point"),
        ("0", "proposed point 1 with the parent '0'; a parent is the id of an earlier point"),
    ],
)
def test_a_parent_is_an_earlier_point(parent: Any, says: str) -> None:
    guest = Guest({"class": f"{HERE}:Legs"}, SPACE, GOALS, 1, Path())
    guest._algorithm = Scripted([Point(5, {"x": 0.5}), Point(3, {"x": 0.1}, parent)])
    with pytest.raises(AlgorithmError) as caught:
        guest.ask(2)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_resumed_run_continues_as_the_whole_one_would_have(benches: list[Bench]) -> None:
    changes: dict[str, Any] = {
        "algorithm": {"name": "pbt", "population": 4},
        "steering": {"points_per_iteration": 4, "trigger": "top_up", "max_points": 24},
    }
    found = []
    for killed in (False, True):
        bench, loop = begin(benches, **changes)
        while not loop.over:
            work = bench.take()
            bench.finish(work, loss=work.params["x"])
            loop.step(0)
            if killed and work.point % 5 == 0:
                loop.close()
                bench.transport.work.clear()
                loop = bench.loop(workers_gone=True)
        loop.close()
        found.append([(p.id, p.params, p.parent) for p in bench.store.points()])
        bench.store.close()  # the next one has the same name
    assert found[0] == found[1]
    assert sum(parent is not None for *_, parent in found[0]) == 20


def test_the_history_of_a_run_names_parents_by_the_algorithms_ids(benches: list[Bench]) -> None:
    bench, loop = begin(benches, **legs("replicate"))
    while not loop.over:
        finish(bench, loop)
    loop.close()
    history = [step for step, _ in steps(bench.store.iterations(), bench.store.points(), {})]
    parents = [p.parent for step in history if isinstance(step, Asked) for p in step.points]
    assert parents == [None, None, 0, 1, 2, 3]
    assert history_from_json(history_to_json(history))[::2] == history[::2]


def test_replay_looks_at_parents_too(benches: list[Bench], tmp_path: Path) -> None:
    bench, loop = begin(
        benches, algorithm={"name": "successive_halving", "budget": "n"}, search_space=BUDGETED
    )
    while not loop.over:
        work = bench.take()
        bench.finish(work, loss=work.params["x"])
        loop.step(0)
    loop.close()
    view = RunView(bench.store, tmp_path)
    view.__dict__["experiment"] = bench.experiment
    answer = replay_run(view)
    assert answer["reproduced"], answer
    assert answer["points"] == 12


BUDGETED = {"x": {"type": "float", "low": 0, "high": 1}, "n": {"type": "int", "low": 1, "high": 9}}


def test_the_best_was_trained_longest(benches: list[Bench], tmp_path: Path) -> None:
    """A short training may look better than a whole one; it is named only as long as there is no longer one."""
    bench, loop = begin(
        benches,
        algorithm={"name": "successive_halving", "budget": "n"},
        search_space=BUDGETED,
        objectives={"loss": {"direction": "minimize", "target": -1.0}},
        steering={"points_per_iteration": 3, "trigger": {"fraction": 1.0}, "max_points": 40, "patience": 100},
    )
    seen: list[tuple[int, int]] = []
    while not loop.over:
        work = bench.take()
        bench.finish(work, loss=work.params["x"] - 10.0 / work.params["n"])
        loop.step(0)
        view = RunView(bench.store, tmp_path)
        view.__dict__["experiment"] = bench.experiment
        best = view.best(n=2)
        longest = max(p.params["n"] for p in bench.store.points(states=["done"]))
        assert best[0].params["n"] == longest
        ours = next(iter(loop.models.values())).search.best
        assert ours == best[0].values
        seen.append((work.params["n"], len(bench.store.points())))
        if longest == 9:
            break
    else:
        raise AssertionError("no whole training")
    assert all(n < 9 for n, _ in seen[:-1]), "the target was reached by every short one, and none counted"
    loop.step(0)
    assert loop.models["main"].search.stopped is not None
    assert "target reached" in loop.models["main"].search.stopped
    loop.close()


def test_a_service_names_parents_and_hears_of_them(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(
        "import json, sys\n"
        "told = 0\n"
        "def say(**reply): print(json.dumps(reply), flush=True)\n"
        "for line in sys.stdin:\n"
        "    r = json.loads(line)\n"
        "    if r['op'] == 'open': say(op='opened', model='main', restore=True)\n"
        "    if r['op'] == 'tell': told += len(r['observations'])\n"
        "    if r['op'] == 'restore':\n"
        "        listed = [p for step in r['history'] for p in step.get('points', ())]\n"
        "        told = [p['parent'] for p in listed if 'parent' in p]\n"
        "    if r['op'] == 'ask':\n"
        "        parents = [p.get('parent') for p in r['pending']]\n"
        "        new = [{'params': {'x': 0.5}}, {'params': {'x': 0.5}, 'parent': 0}]\n"
        "        if told == [0]:\n"
        "            new = [{'params': {'x': 0.25}, 'parent': 1}, {'params': {'x': 0.75}, 'parent': 'one'}]\n"
        "        if parents == [0]: new = [{'params': {'x': 0.125}, 'parent': 9}]\n"
        "        say(op='points', model='main', points=new[:r['n']], ended=None)\n"
    )
    spec = {"service": [sys.executable, "serve.py"], "retries": 0}

    def guest() -> Guest:
        return Guest(spec, SPACE, GOALS, 7, tmp_path, outside=outside_search)

    search = guest()
    first = search.ask(2)
    assert first == [Point(0, {"x": 0.5}), Point(1, {"x": 0.5}, 0)]
    search.tell([Observation(0, {"loss": 1.0})])
    with pytest.raises(AlgorithmError, match="with the parent 9, which does not exist"):
        search.ask(1)
    again = guest()
    history: list[Step] = [Asked(2, first), Told([Observation(i, {"loss": 1.0}) for i in range(2)])]
    again.restore(history)
    assert again.ask(1) == [Point(2, {"x": 0.25}, 1)]
    again = guest()
    again.restore(history)
    with pytest.raises(AlgorithmError, match='a parent is the id of an earlier point or null, got "one"'):
        again.ask(2)


def test_lines_of_a_host_with_a_wrong_parent_are_no_answer() -> None:
    line = b'{"op":"points","model":"m","points":[{"id":1,"params":{},"parent":%s}],"ended":null}'
    assert read_reply(line % b"0")["points"][0]["parent"] == 0
    for parent in (b"-1", b"true", b'"0"', b"0.5"):
        with pytest.raises(MalformedMessage, match="a parent is the id of an earlier point"):
            read_reply(line % parent)
