"""Fronts, boxes, and the growth of the hypervolume that is expected of a point."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from algorithms.hypervolume import Boxes, Cells, improvement, layers, nondominated, spread_out
from algorithms.reference import reference_point
from algorithms.scalarization import Chebyshev

RNG = np.random.default_rng(3)
NONE = np.nan


def volume(values: np.ndarray, reference: np.ndarray) -> float:
    """The hypervolume by inclusion and exclusion."""
    values = values[(values < reference).all(1)]
    total = 0.0
    for size in range(1, len(values) + 1):
        for chosen in itertools.combinations(values, size):
            total -= (-1.0) ** size * float(np.prod(reference - np.max(chosen, axis=0)))
    return total


def growth(boxes: Boxes, values: np.ndarray) -> np.ndarray:
    """What each of ``n x m`` values adds to the dominated volume."""
    sides = np.maximum(boxes.high - np.maximum(boxes.low, values[:, None]), 0.0)
    found: np.ndarray = np.prod(sides, axis=2).sum(1)
    return found


def test_a_front_is_what_no_other_row_dominates() -> None:
    values = np.array([[1.0, 3.0], [3.0, 1.0], [2.0, 2.0], [2.0, 2.0], [3.0, 3.0], [1.0, 4.0]])
    assert nondominated(values).tolist() == [True, True, True, True, False, False]
    assert [layer.tolist() for layer in layers(values)] == [[0, 1, 2, 3], [4, 5]]


def test_of_a_crowded_front_the_ends_and_what_is_far_apart_is_taken() -> None:
    at = np.array([0.0, 0.01, 0.02, 0.5, 0.98, 1.0])
    assert sorted(spread_out(np.column_stack([at, 1.0 - at]), 3).tolist()) == [0, 3, 5]
    assert spread_out(np.zeros((4, 2)), 2).tolist() == [0, 1]


@pytest.mark.parametrize("m", [2, 3, 4, 5])
def test_boxes_hold_what_is_not_dominated(m: int) -> None:
    points, reference = RNG.random((8, m)), np.full(m, 0.9)
    boxes = Boxes(reference)
    boxes.add(points[:5])
    boxes.add(points[5:])
    inside = RNG.random((2_000, m)) * 0.9
    held = ((inside[:, None] > boxes.low) & (inside[:, None] < boxes.high)).all(2).sum(1)
    free = ~(points[:, None] <= inside).all(2).any(0)
    assert held.tolist() == free.astype(int).tolist()


@pytest.mark.parametrize("m", [2, 3, 4])
def test_a_sure_point_gains_what_the_volume_grows_by(m: int) -> None:
    points, more, reference = RNG.random((6, m)), RNG.random((7, m)), np.full(m, 1.1)
    boxes = Boxes(reference)
    boxes.add(points)
    exact = [volume(np.vstack([points, row]), reference) - volume(points, reference) for row in more]
    assert growth(boxes, more) == pytest.approx(exact, abs=1e-12)
    means = [more[:, j : j + 1] for j in range(m)]
    gain = Cells([boxes]).gain(means, [np.full(7, 1e-9)] * m)
    assert gain[:, 0] == pytest.approx(exact, abs=1e-7)


@pytest.mark.parametrize("m", [2, 3, 4])
def test_the_expected_growth_is_the_mean_of_draws(m: int) -> None:
    scenarios = []
    for count in (0, 3, 6):
        boxes = Boxes(np.full(m, 1.1))
        boxes.add(RNG.random((count, m)))
        scenarios.append(boxes)
    means, deviations = [RNG.random((2, 3)) for _ in range(m)], [0.1 + 0.2 * RNG.random(2) for _ in range(m)]
    gain = Cells(scenarios).gain(means, deviations)
    z = RNG.normal(size=(40_000, m))
    for i, s in itertools.product(range(2), range(3)):
        drawn = [
            mean[i, s] + wide[i] * z[:, j]
            for j, (mean, wide) in enumerate(zip(means, deviations, strict=True))
        ]
        grown = growth(scenarios[s], np.column_stack(drawn))
        assert abs(gain[i, s] - grown.mean()) < 5.0 * grown.std() / 200.0


def test_a_scenario_without_room_has_no_gain() -> None:
    full, free = Boxes(np.ones(2)), Boxes(np.ones(2))
    full.add(np.full((1, 2), -np.inf))
    gain = Cells([full, free]).gain([np.zeros((1, 2))] * 2, [np.ones(1)] * 2)
    assert gain[0, 0] == 0.0
    assert gain[0, 1] > 0.0


@pytest.mark.parametrize("name", ["volume", "scalarized"])
def test_the_slopes_are_right(name: str) -> None:
    m, s = 3, 4
    boxes = [Boxes(np.full(m, 1.1)) for _ in range(s)]
    values = RNG.random((5, s, m))
    for t, each in enumerate(boxes):
        each.add(values[:, t])
    weights = np.array([0.5, 0.2, 0.3])
    wanted: Cells | Chebyshev = Cells(boxes)
    if name == "scalarized":
        wanted = Chebyshev(weights, np.zeros(m), values, np.ones((5, s), dtype=bool))
    means, deviations = [RNG.random((2, s)) for _ in range(m)], [0.2 + 0.1 * RNG.random(2) for _ in range(m)]
    value, slopes = wanted.gain_and_slopes(means, deviations)
    assert value == pytest.approx(wanted.gain(means, deviations))
    step = 1e-5
    for j in range(m):
        up, down = ([*means[:j], means[j] + sign * step, *means[j + 1 :]] for sign in (1, -1))
        difference = (wanted.gain(up, deviations) - wanted.gain(down, deviations)) / (2.0 * step)
        assert slopes.by_mean[j] == pytest.approx(difference, abs=1e-5)
        up, down = ([*deviations[:j], deviations[j] + sign * step, *deviations[j + 1 :]] for sign in (1, -1))
        difference = (wanted.gain(means, up) - wanted.gain(means, down)) / (2.0 * step)
        assert slopes.by_deviation[j] == pytest.approx(difference, abs=1e-5)


def test_the_expected_improvement_of_a_scalarisation_is_the_mean_of_draws() -> None:
    m = 3
    weights, values = np.array([0.6, 0.3, 0.1]), np.full((1, 1, m), 0.6)
    means, deviations = [np.full((1, 1), mean) for mean in (0.4, 0.5, 0.9)], [np.full(1, 0.2)] * m
    found = Chebyshev(weights, np.zeros(m), values, np.ones((4, 1), dtype=bool)).gain(means, deviations)[0, 0]
    scaled = weights * (np.array([mean[0, 0] for mean in means]) + 0.2 * RNG.normal(size=(100_000, m)))
    known = weights * values[:, 0]
    whole, best = scaled.max(1) + 0.05 * scaled.sum(1), (known.max(1) + 0.05 * known.sum(1)).min()
    assert found == pytest.approx(np.maximum(best - whole, 0.0).mean(), rel=0.05)


def test_improvement_keeps_its_precision_far_out() -> None:
    value, cdf, pdf = improvement(np.array([-30.0, -5.0, 0.0, 40.0]))
    assert value == pytest.approx([1.6287e-199, 5.3463e-8, 0.3989423, 40.0], rel=1e-4)
    assert cdf == pytest.approx([4.9067e-198, 2.8665e-7, 0.5, 1.0], rel=1e-4)
    assert pdf[2] == pytest.approx(0.3989423)


# ---------------------------------------------------------------- the reference point

FRONT = np.array([[0.0, 10.0], [1.0, 4.0], [2.0, 0.0], [9.0, 90.0]])


def test_a_reference_is_inferred_from_the_range_of_the_front() -> None:
    assert reference_point(FRONT, np.array([NONE, NONE])) == pytest.approx([2.2, 11.0])


def test_what_is_given_stands_and_the_rest_follows_from_what_it_leaves_of_the_front() -> None:
    assert reference_point(FRONT, np.array([5.0, 20.0])) == pytest.approx([5.0, 20.0])
    assert reference_point(FRONT, np.array([1.5, NONE])) == pytest.approx([1.5, 10.6])


def test_a_reference_that_nothing_reaches_moves_to_just_beyond_the_nearest_point() -> None:
    found = reference_point(FRONT, np.array([0.9, 3.0]))
    assert found == pytest.approx([1.2, 5.0])
    assert (found > FRONT).all(1).any()


def test_a_reference_in_reach_stays_where_it_is() -> None:
    assert reference_point(FRONT, np.array([0.9, 3.0]), attainable=True) == pytest.approx([0.9, 3.0])
    assert reference_point(FRONT, np.array([-1.0, NONE]), attainable=True) == pytest.approx([-1.0, 11.0])


def test_one_point_or_equal_ones_have_a_reference_beyond_them() -> None:
    for values in (FRONT[:1], np.zeros((5, 2))):
        assert (reference_point(values, np.array([NONE, NONE])) > values.max(0)).all()
