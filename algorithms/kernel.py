"""Covariances of a Gaussian process, with the derivatives that fits and searches need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Kernel:
    """A Matern-5/2 or squared exponential kernel of unit variance with a length scale for each feature.

    Attributes:
        lengthscales: ``f`` numbers.
        smooth: squared exponential if true, else Matern-5/2.
        additive: the mean of a kernel for each feature alone rather than one of all together: for functions that
            are sums of functions of one parameter (Duvenaud, Nickisch and Rasmussen, Additive Gaussian Processes,
            NIPS 2011).
    """

    lengthscales: Array
    smooth: bool = False
    additive: bool = False

    def __call__(self, a: Array, b: Array) -> Array:
        """Covariances of the rows of `a` (``n x f``) with those of `b` (``m x f``): ``n x m``."""
        if not self.additive:
            return self._of(_squares(a / self.lengthscales, b / self.lengthscales))[0]
        k = np.zeros((len(a), len(b)))
        for j, scale in enumerate(self.lengthscales):
            k += self._of(((a[:, j, None] - b[:, j]) / scale) ** 2)[0]
        return k / len(self.lengthscales)

    def pull(self, a: Array, b: Array, weights: Array) -> Array:
        """The gradient by `a` of the sum of ``weights * k(a, b)`` (``n x m`` each): ``n x f``."""
        squares = self.lengthscales**2
        if not self.additive:
            pull = 2.0 * weights * self._of(_squares(a / self.lengthscales, b / self.lengthscales))[1]
            gradient: Array = (a * pull.sum(1, keepdims=True) - pull @ b) / squares
            return gradient
        gradient = np.empty_like(a)
        for j, scale in enumerate(self.lengthscales):
            apart = (a[:, j, None] - b[:, j]) / scale
            gradient[:, j] = 2.0 * (weights * self._of(apart**2)[1] * apart).sum(1) / scale
        return gradient / len(squares)

    def stretch(self, x: Array, weights: Array) -> Array:
        """The derivative by each log length scale of the sum of ``weights * k(x, x)``: ``f`` numbers."""
        if not self.additive:
            z = x / self.lengthscales
            by_square = weights * self._of(_squares(z, z))[1]
            moved: Array = 2.0 * (by_square.sum(1) @ (z * z)) - 2.0 * (z * (by_square @ z)).sum(0)
            return -2.0 * moved
        found = np.empty(len(self.lengthscales))
        for j, scale in enumerate(self.lengthscales):
            square = ((x[:, j, None] - x[:, j]) / scale) ** 2
            found[j] = -2.0 * (weights * self._of(square)[1] * square).sum()
        return found / len(found)

    def _of(self, square: Array) -> tuple[Array, Array]:
        """Covariances for squared scaled distances, and their derivatives by them."""
        if self.smooth:
            k = np.exp(-0.5 * square)
            return k, -0.5 * k
        root = np.sqrt(5.0 * square)
        decay = np.exp(-root)
        return (1.0 + root + root * root / 3.0) * decay, (-5.0 / 6.0) * (1.0 + root) * decay


def _squares(a: Array, b: Array) -> Array:
    """Squared distances of the rows of two arrays."""
    found: Array = np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2.0 * (a @ b.T), 0.0)
    return found
