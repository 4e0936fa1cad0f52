"""Scrambled Sobol points without `scipy.stats`, whose import takes longer than all else a cheap search needs."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from algorithms.kernel import Array

MAX_DIMENSION = 21_201
_BITS = 30
_ONE = np.uint32(1)


def _tables() -> Path:
    scipy = find_spec("scipy")
    return Path(scipy.origin or "" if scipy else "").parent / "stats" / "_sobol_direction_numbers.npz"


_TABLES = _tables()
"""Where SciPy keeps the sequence's numbers. Another version may keep them elsewhere: then SciPy draws the points."""


class ScrambledSobol:
    """The points of `scipy.stats.qmc.Sobol`, to the last bit, at any place of the sequence.

    The sequence of Joe and Kuo, SIAM Journal on Scientific Computing 30 (2008), scrambled by random lower
    triangular matrices and a digital shift (Matousek, Journal of Complexity 14, 1998).

    Args:
        dimension: coordinates of a point, `MAX_DIMENSION` at most.
        rng: fixes the scrambling.
    """

    def __init__(self, dimension: int, rng: np.random.Generator | int) -> None:
        self._engine = None if _TABLES.is_file() else _scipy_engine(dimension, rng)
        if self._engine:
            return
        draws = np.random.default_rng(rng).spawn(1)[0]
        shift = draws.integers(2, size=(dimension, _BITS), dtype=np.uint32)
        lower = np.tril(draws.integers(2, size=(dimension, _BITS, _BITS), dtype=np.uint32), -1)
        lower |= np.eye(_BITS, dtype=np.uint32)
        self._shift = shift @ (_ONE << np.arange(_BITS, dtype=np.uint32))
        self._directions = _scrambled(_directions(dimension), lower)

    def rows(self, first: int, count: int) -> Array:
        """Points `first` to ``first + count - 1`` as a ``count x dimension`` array in the unit cube."""
        if self._engine:
            self._engine.reset()
            if first:
                self._engine.fast_forward(first)
            drawn: Array = self._engine.random(count)
            return drawn
        places = np.arange(first, first + count, dtype=np.uint32)
        gray = places ^ (places >> _ONE)
        whole = np.repeat(self._shift[None, :], count, axis=0)
        for bit in range(int(first + count).bit_length()):
            chosen = (gray >> np.uint32(bit)) & _ONE
            whole ^= chosen[:, None] * self._directions[:, bit]
        rows: Array = whole * 2.0**-_BITS
        return rows


def _scipy_engine(dimension: int, rng: np.random.Generator | int) -> Any:
    from scipy.stats import qmc

    return qmc.Sobol(dimension, rng=rng)


def _directions(dimension: int) -> NDArray[np.uint32]:
    """The sequence's direction numbers, a row of 30 for each coordinate; the first one is the highest."""
    polynomials, initial = _joe_kuo()
    found = np.empty((dimension, _BITS), dtype=np.uint32)
    found[0] = 1
    for row in range(1, dimension):
        polynomial = int(polynomials[row])
        degree = polynomial.bit_length() - 1
        numbers = [int(number) for number in initial[row, :degree]]
        taps = [lag for lag in range(1, degree) if polynomial >> (degree - lag) & 1]
        for place in range(degree, _BITS):
            new = numbers[place - degree] ^ (numbers[place - degree] << degree)
            for lag in taps:
                new ^= numbers[place - lag] << lag
            numbers.append(new)
        found[row] = numbers[:_BITS]
    return found << np.arange(_BITS - 1, -1, -1, dtype=np.uint32)


def _scrambled(directions: NDArray[np.uint32], lower: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Direction numbers as bits, from the highest on, multiplied by a triangular matrix modulo 2."""
    weights = np.arange(_BITS - 1, -1, -1, dtype=np.uint32)
    bits = (directions[:, :, None] >> weights) & _ONE
    mixed = np.einsum("dpk,djk->djp", lower, bits) & _ONE
    scrambled: NDArray[np.uint32] = (mixed << weights).sum(axis=2, dtype=np.uint32)
    return scrambled


@cache
def _joe_kuo() -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Primitive polynomials and initial direction numbers."""
    with np.load(_TABLES, allow_pickle=False) as tables:
        return tables["poly"], tables["vinit"]
