"""The distribution of CMA-ES: its updates beside another implementation's, and points from elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
from cmaes import CMA

from algorithms.covariance import Distribution


def ellipsoid(points: np.ndarray) -> np.ndarray:
    scales: np.ndarray = 100.0 ** np.linspace(0.0, 1.0, points.shape[1])
    losses: np.ndarray = (scales * (points - 0.3) ** 2).sum(axis=1)
    return losses


@pytest.mark.parametrize(("d", "k"), [(2, 6), (5, 8), (5, 50), (12, 11)])
def test_means_and_step_sizes_are_those_of_another_implementation(d: int, k: int) -> None:
    ours = Distribution(np.full(d, 0.5), 0.01)
    peer = CMA(mean=np.full(d, 0.5), sigma=0.01, population_size=k)
    points = 0.5 + 0.7 * (
        ours.draw(k, np.random.default_rng(d + k)) - 0.5
    )  # near enough to count as they are
    losses = ellipsoid(points)
    ours.update(points[np.argsort(losses)])
    peer.tell(list(zip(points, losses, strict=True)))
    assert ours.mean == pytest.approx(peer.mean, abs=1e-12)
    assert ours.sigma == pytest.approx(peer._sigma, rel=1e-12)


@pytest.mark.parametrize("k", [10, 60])
def test_it_takes_on_the_shape_of_the_losses(k: int) -> None:
    distribution = Distribution(np.full(5, 0.5), 0.3)
    rng = np.random.default_rng(1)
    for _ in range(100):
        points = distribution.draw(k, rng)
        distribution.update(points[np.argsort(ellipsoid(points))])
    assert distribution.mean == pytest.approx(np.full(5, 0.3), abs=1e-4)
    assert distribution.spread[0] / distribution.spread[-1] == pytest.approx(10.0, rel=0.5)


def test_a_point_far_off_counts_as_one_that_is_nearer() -> None:
    means = []
    for far in (10.0, 1e6):
        distribution = Distribution(np.zeros(2), 0.1)
        points = distribution.draw(6, np.random.default_rng(1))
        points[0] = [far, 0.0]
        distribution.update(points)
        means.append(distribution.mean)
    assert means[0] == pytest.approx(means[1])
    assert 0.0 < means[0][0] < 0.3


def test_limits_narrow_the_wide_coordinates_alone() -> None:
    distribution = Distribution(np.zeros(3), 0.3)
    rng = np.random.default_rng(1)
    for _ in range(10):
        points = distribution.draw(12, rng)
        distribution.update(points[np.argsort(points[:, 0])])
    before = distribution.spread
    distribution.limit(1.0 / 3.0)
    assert before[0] > 1.0 / 3.0
    assert distribution.spread == pytest.approx(np.minimum(before, 1.0 / 3.0))
