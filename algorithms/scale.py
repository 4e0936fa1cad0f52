"""The scale on which a model's values add up to volumes, and the improvement expected on it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import erfcx

if TYPE_CHECKING:
    from algorithms.kernel import Array
    from algorithms.surrogate import Surrogate

_ROOT_2PI = float(np.sqrt(2.0 * np.pi))
_ROOT_HALF_PI = float(np.sqrt(0.5 * np.pi))
_ROOT_HALF = float(np.sqrt(0.5))
_TINY = 1e-300


class Scale(ABC):
    """An increasing function of a model's values that is a linear one of the outcomes as they were."""

    @abstractmethod
    def of(self, values: Array) -> Array:
        """Values of the model on this scale."""

    @abstractmethod
    def back(self, values: Array) -> Array:
        """What `of` makes these of; minus infinity below all of them."""

    @abstractmethod
    def improvement(self, ends: Array, mean: Array, deviation: Array) -> tuple[Array, Array, Array]:
        """How far below `ends` a normal value of the model is expected to be, on this scale.

        Args:
            ends: on this scale.
            mean: of the model's value.
            deviation: its standard deviation.

        Returns:
            The expectations, and their derivatives by the mean and by the deviation. All of one shape, which those of
            the arguments are broadcast to.
        """

    @staticmethod
    def to(model: Surrogate) -> Scale:
        """The scale for a model."""
        warp = model.warp
        if warp.shift is None:
            return Plain()
        return Logarithmic(warp.spread * model.fitted.scale, warp.centre)


class Plain(Scale):
    """For a model whose values are a linear function of the outcomes already."""

    def of(self, values: Array) -> Array:
        """The same."""
        return values

    def back(self, values: Array) -> Array:
        """The same."""
        return values

    def improvement(self, ends: Array, mean: Array, deviation: Array) -> tuple[Array, Array, Array]:
        """The well-known expected improvement."""
        value, cdf, pdf = improvement((ends - mean) / deviation)
        value *= deviation
        return value, np.negative(cdf, out=cdf), pdf


class Logarithmic(Scale):
    """For a model of logarithms: ``exp(slope * value + offset)``.

    Args:
        slope: positive.
        offset: finite.
    """

    def __init__(self, slope: float, offset: float) -> None:
        self._slope, self._offset = slope, offset

    def of(self, values: Array) -> Array:
        """Exponentials."""
        return np.exp(np.minimum(self._slope * values + self._offset, 700.0))

    def back(self, values: Array) -> Array:
        """Logarithms."""
        with np.errstate(divide="ignore"):
            return (np.log(np.maximum(values, 0.0)) - self._offset) / self._slope

    def improvement(self, ends: Array, mean: Array, deviation: Array) -> tuple[Array, Array, Array]:
        """Of a lognormal value; the formula is that of Black and Scholes for a put option."""
        ends = np.maximum(ends, _TINY)
        s = self._slope * deviation
        d = (np.log(ends) - self._slope * mean - self._offset) / s
        density = np.exp(-0.5 * d * d) / _ROOT_2PI * ends
        low, upper = np.minimum(d, 0.0), np.exp(np.minimum(s * (0.5 * s - d), 700.0)) * ends
        near, far = _mills(low), _mills(low - s)
        # Above zero Mills' ratio overflows in the end; below it the two probabilities cancel.
        behind = np.maximum(d, 0.0)
        part = np.where(d > 0.0, upper * improvement(behind - s)[1], density * far)
        value = np.where(d > 0.0, ends * improvement(behind)[1] - part, density * (near - far))
        return np.maximum(value, 0.0), -self._slope * part, self._slope * (density - s * part)


def improvement(u: Array) -> tuple[Array, Array, Array]:
    """``phi(u) + u Phi(u)`` with `Phi` and `phi`, to full relative precision down to what underflows."""
    a = np.abs(u)
    pdf = np.exp(-0.5 * a * a) / _ROOT_2PI
    tail = pdf * (_ROOT_HALF_PI * erfcx(a * _ROOT_HALF))
    value = np.maximum(pdf - a * tail, 0.0) + np.maximum(u, 0.0)
    return value, np.where(u > 0.0, 1.0 - tail, tail), pdf


def _mills(u: Array) -> Array:
    """``Phi(u) / phi(u)``."""
    ratio: Array = _ROOT_HALF_PI * erfcx(-u * _ROOT_HALF)
    return ratio
