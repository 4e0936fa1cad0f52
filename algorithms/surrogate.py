"""Which Gaussian process explains the outcomes best: on which scale of theirs, and how smooth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from algorithms.gaussian_process import Array, Hyperparameters, Posterior, fit, some

_OFFSETS = (1.0, 0.1, 0.01)
"""How far above the best outcome the logarithm's zero lies, in units of the median's distance from it."""
_COMPARED_ON = 150
_TAIL = 5.0
_MODELS, _DOUBT = 3, 5.0
"""How many models share the choice of a batch, if their evidence differs by less than this."""


@dataclass(frozen=True)
class Surrogate:
    """A Gaussian process on a scale of the outcomes.

    Attributes:
        features: ``n x f``, in the unit cube.
        outcomes: ``n``, warped and standardized, to be minimised.
        fitted: the process.
        evidence: the logarithm of the density of the outcomes as they were.
    """

    features: Array
    outcomes: Array
    fitted: Hyperparameters
    evidence: float

    def posterior(self) -> Posterior:
        """The process given the outcomes; its values are in units of its own."""
        return Posterior(self.fitted, self.features, self.outcomes / self.fitted.scale)


def surrogates(features: Array, raw: Array, noise: Array | None) -> list[Surrogate]:
    """The models that explain outcomes best, the best first.

    Losses span decades as often as not, and a process on the logarithm of the loss above the best one then sees far
    more (Cowen-Rivers et al., HEBO: Pushing the Limits of Sample-Efficient Hyperparameter Optimisation, JAIR 2022, find
    such warpings to be what matters most). Whether that is so here is asked of the evidence: the density of the outcomes
    under each model, with the derivative of the warping.

    Args:
        features: ``n x f``, in the unit cube.
        raw: ``n`` outcomes, to be minimised.
        noise: ``n`` variances where they are known; then the outcomes are taken as they are.
    """
    y = _trimmed(raw)
    if np.ptp(y) <= 0.0:
        return [_on(features, np.zeros_like(y), None, 0.0, smooth=False)]
    if noise is not None:
        spread = float(y.std())
        return [
            _on(features, (y - y.mean()) / spread, np.maximum(noise / spread**2, 1e-6), 0.0, smooth=smooth)
            for smooth in (False, True)
        ][:_MODELS]
    warped = [(y, 0.0)] + [_logarithm(y, offset) for offset in _OFFSETS]
    chosen = some(y, _COMPARED_ON)
    tried = []
    for values, slope in warped:
        z, scale = _standardized(values)
        part = fit(features[chosen], z[chosen], starts=1)
        evidence = part.evidence + (slope - len(y) * np.log(scale)) * len(chosen) / len(y)
        tried.append((float(evidence), z, slope - len(y) * float(np.log(scale))))
    tried.sort(key=lambda each: -each[0])
    found = []
    for place, (evidence, z, slope) in enumerate(tried[:2]):
        if place and evidence < tried[0][0] - _DOUBT:
            break
        for kind in _KINDS if place == 0 else _KINDS[:1]:
            found.append(_on(features, z, None, slope, **kind))
    found.sort(key=lambda each: -each.evidence)
    return [each for each in found if each.evidence > found[0].evidence - _DOUBT][:_MODELS]


_KINDS: list[dict[str, bool]] = [
    {"smooth": False},
    {"smooth": True},
    {"smooth": False, "even": True},
    {"smooth": False, "short": True},
    {"smooth": True, "short": True},
    {"smooth": False, "additive": True},
]


def _on(features: Array, z: Array, noise: Array | None, slope: float, **kind: bool) -> Surrogate:
    fitted = fit(features, z, noise, **kind)
    share = min(len(z), 300) / len(z)
    return Surrogate(features, z, fitted, fitted.evidence + slope * share)


def _trimmed(raw: Array) -> Array:
    """Outcomes between -1 and 1, those far worse than the bulk pulled in."""
    y: Array = raw / (np.abs(raw).max() or 1.0)
    low, high = np.quantile(y, [0.25, 0.75])
    return np.minimum(y, high + _TAIL * (high - low)) if high > low else y


def _logarithm(y: Array, offset: float) -> tuple[Array, float]:
    """The logarithm of the distance from the best, and the sum of its log derivatives."""
    least = float(y.min())
    shift = offset * float(np.median(y) - least) or offset * float(np.ptp(y))
    distance = y - least + shift
    return np.log(distance), -float(np.log(distance).sum())


def _standardized(values: Array) -> tuple[Array, float]:
    scale = float(values.std()) or 1.0
    return (values - values.mean()) / scale, scale
