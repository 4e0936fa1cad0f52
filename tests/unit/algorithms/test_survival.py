"""Survivors and reference directions."""

from __future__ import annotations

import numpy as np
import pytest

from algorithms.survival import Best, Crowding, Directions, Survival, reference_directions
from hpo_steer.objectives import dominates


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def test_the_best_survive_and_equal_ones_draw() -> None:
    chosen = Best().choose(np.array([[3.0], [1.0], [2.0], [1.0], [5.0]]), 4, rng())
    assert chosen.rows.tolist() == [1, 3, 2, 0]
    assert chosen.standing.tolist() == [0, 0, 1, 2]


@pytest.mark.parametrize("survival", [Crowding(), Directions(reference_directions(3, 20))])
def test_no_point_survives_while_one_that_dominates_it_does_not(survival: Survival) -> None:
    losses = rng().random((300, 3)) * [1.0, 1e9, 1e-9]
    chosen = survival.choose(losses, 20, rng())
    alive = set(chosen.rows.tolist())
    assert len(alive) == 20
    assert not any(
        dominates(losses[i].tolist(), losses[j].tolist()) for j in alive for i in range(300) if i not in alive
    )


def test_of_one_front_the_ends_and_the_lonely_survive() -> None:
    x = np.array([0.0, 0.01, 0.02, 0.03, 0.5, 0.98, 0.99, 1.0])
    chosen = Crowding().choose(np.column_stack([x, 1.0 - x]), 3, rng())
    assert sorted(chosen.rows.tolist()) == [0, 4, 7]
    assert chosen.standing[chosen.rows.tolist().index(4)] == 1


def test_along_directions_a_front_is_kept_evenly() -> None:
    x = np.concatenate([np.linspace(0.0, 0.2, 50), np.linspace(0.2, 1.0, 9)])
    chosen = Directions(reference_directions(2, 11)).choose(np.column_stack([x, 1e6 * (1.0 - x)]), 11, rng())
    assert np.diff(np.sort(x[chosen.rows])).max() < 0.21


def test_fewer_points_than_places_all_survive() -> None:
    for survival in (Best(), Crowding(), Directions(reference_directions(2, 10))):
        losses = np.ones((3, 1 if isinstance(survival, Best) else 2))
        assert sorted(survival.choose(losses, 10, rng()).rows.tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("objectives", "at_most", "count"),
    [(2, 20, 20), (3, 30, 28), (3, 3, 3), (4, 40, 35), (8, 100, 72), (10, 100, 65)],
)
def test_directions_are_as_many_as_fit(objectives: int, at_most: int, count: int) -> None:
    directions = reference_directions(objectives, at_most)
    assert directions.shape == (count, objectives)
    assert directions.sum(axis=1) == pytest.approx(np.ones(count))
    assert len(np.unique(directions.round(9), axis=0)) == count
