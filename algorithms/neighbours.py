"""Candidates all over the unit cube, around the best points, and between them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from algorithms.scrambled import ScrambledSobol

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algorithms.kernel import Array

_WIDTHS = (0.003, 0.02, 0.08, 0.25)
"""How far candidates lie from a point, in units of the cube."""
_BEYOND = 0.25


def throughout(d: int, count: int, rng: np.random.Generator) -> Array:
    """`count` rows or more, a power of 2 and at least 16, spread evenly over the cube."""
    return ScrambledSobol(d, rng).rows(0, 2 ** max(int(count - 1).bit_length(), 4))


def around(base: Array, count: int, unordered: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """`count` rows, each a row of `base` (``n x d``) with some of its parameters moved."""
    d = base.shape[1]
    near = base[rng.integers(len(base), size=count)]
    moved = rng.random((count, d)) < np.maximum(rng.choice([0.2, 0.5, 1.0], size=(count, 1)), 1.5 / d)
    width = rng.choice(_WIDTHS, size=(count, 1))
    jump = np.where(unordered, rng.random((count, d)), near + width * rng.normal(size=(count, d)))
    rows: Array = np.where(moved, np.clip(jump, 0.0, 1.0), near)
    return rows


def between(base: Array, count: int, unordered: NDArray[np.bool_], rng: np.random.Generator) -> Array:
    """`count` rows on lines through two rows of `base` (``n x d``), and a little beyond; choices are of either.

    The best points of continuous problems often form a connected piece of few dimensions.
    """
    one, other = base[rng.integers(len(base), size=count)], base[rng.integers(len(base), size=count)]
    share = rng.uniform(-_BEYOND, 1.0 + _BEYOND, size=(count, 1))
    mixed = one + share * (other - one) + 0.01 * rng.normal(size=one.shape)
    chosen = np.where(rng.random(one.shape) < 0.5, one, other)
    rows: Array = np.where(unordered, chosen, np.clip(mixed, 0.0, 1.0))
    return rows
