"""What a model learns from points that were ended early."""

from __future__ import annotations

import pytest

from algorithms.bayesian import Bayesian
from algorithms.pruned import guessed
from hpo_steer import Failure, Observation, SearchSpace
from hpo_steer.objectives import Objective

DONE = [({"x": 0.1 * i}, Observation(i, {"loss": value})) for i, value in enumerate([1.0, 2.0, 4.0])]


def pruned(*losses: float, name: str = "loss") -> list[tuple[dict[str, float], Observation]]:
    curve = tuple((step, {name: loss, "size": 3.0}) for step, loss in enumerate(losses, 1))
    return [({"x": 0.9}, Observation(9, failure=Failure("pruned", "no"), curve=curve))]


@pytest.mark.parametrize(("losses", "taken"), [((9.0, 3.0), 3.0), ((9.0, 0.5), 2.0), ((9.0, 8.0), 4.0)])
def test_the_last_report_counts_between_the_median_and_the_worst(
    losses: tuple[float, ...], taken: float
) -> None:
    ((params, guess),) = guessed(pruned(*losses), DONE, Objective("loss"))
    assert params == {"x": 0.9}
    assert guess.values == {"loss": taken, "size": 3.0}


def test_of_a_maximised_objective_the_other_way_round() -> None:
    for last, taken in [(1.5, 1.5), (3.0, 2.0), (0.1, 1.0)]:
        ((_, guess),) = guessed(pruned(last), DONE, Objective("loss", "maximize"))
        assert (guess.values or {})["loss"] == taken


def test_without_reports_or_completed_points_nothing_is_guessed() -> None:
    assert guessed(pruned(1.0), [], Objective("loss")) == []
    assert guessed(pruned(), DONE, Objective("loss")) == []
    assert guessed(pruned(1.0, name="accuracy"), DONE, Objective("loss")) == []


def test_bayesian_keeps_away_from_where_points_were_pruned() -> None:
    space = SearchSpace.from_dict({"x": {"type": "float", "low": 0.0, "high": 1.0}})

    def proposals(*, with_curves: bool) -> list[float]:
        search = Bayesian(space, [Objective("loss")], seed=0, initial_points=12)
        found = []
        for point in search.ask(12):
            x = point.params["x"]
            if x < 0.5:
                found.append(Observation(point.id, {"loss": 1.0 - x}))
            else:
                curve = ((1, {"loss": 3.0}),) if with_curves else None
                found.append(Observation(point.id, failure=Failure("pruned", "no"), curve=curve))
        search.tell(found)
        return [point.params["x"] for point in search.ask(4)]

    assert sum(x > 0.6 for x in proposals(with_curves=True)) < sum(
        x > 0.6 for x in proposals(with_curves=False)
    )
