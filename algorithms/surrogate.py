"""Which Gaussian processes explain the outcomes best: on which scale of theirs, and under which assumptions."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from algorithms.gaussian_process import Assumptions, Hyperparameters, Posterior, fit, some
from algorithms.kernel import Array

KINDS = (
    Assumptions(),
    Assumptions(smooth=True),
    Assumptions(additive=True),
    Assumptions(even=True),
    Assumptions(smooth=True, noisy=True),
    Assumptions(smooth=True, noisy=True, even=True),
)
MOST = 3
"""How many models may share the choice of a batch."""
_OFFSETS = (1.0, 0.1, 0.01)
"""How far above the best outcome the logarithm's zero lies, in units of the median's distance from it."""
_COMPARED_ON = 150
_DOUBT = 5.0
"""Models whose evidence differs by less than this are equally good."""
_TAIL = 5.0
_WILDEST = 1e60
"""Constrained outcomes are at most so many of their median's distances from the bound: logarithms need no more."""
_APART = math.log(1.5)
"""Units that differ by less make much the same scale."""


@dataclass(frozen=True)
class Warp:
    """How outcomes come to the scale of a model; it is increasing.

    Attributes:
        low: what becomes 0, and ``low + span`` becomes 1.
        span: positive.
        shift: of these the logarithm is taken, once this has been added; None: they are left as they are.
        centre: what is subtracted at last, before `spread` divides.
        spread: positive.
    """

    low: float = 0.0
    span: float = 1.0
    shift: float | None = None
    centre: float = 0.0
    spread: float = 1.0

    def __call__(self, raw: Array) -> Array:
        """Outcomes on the scale of the model; minus infinity where its logarithm does not reach."""
        unit = (raw - self.low) / self.span
        if self.shift is not None:
            with np.errstate(divide="ignore"):
                unit = np.log(np.maximum(unit + self.shift, 0.0))
        return (unit - self.centre) / self.spread


@dataclass(frozen=True)
class Surrogate:
    """A Gaussian process on a scale of the outcomes.

    Attributes:
        features: ``n x f``, in the unit cube.
        outcomes: ``n``, warped and standardized, to be minimised.
        fitted: the process.
        evidence: the logarithm of the density of the outcomes as they were, each given all others, less the number of
            length scales that were fitted to them.
        warp: the scale.
    """

    features: Array
    outcomes: Array
    fitted: Hyperparameters
    evidence: float
    warp: Warp = field(default_factory=Warp)

    def posterior(self) -> Posterior:
        """The process given the outcomes; its values are in units of its own."""
        return Posterior(self.fitted, self.features, self.outcomes)


@dataclass(frozen=True)
class _Scale:
    """Outcomes on another scale.

    Attributes:
        values: ``n``, standardized.
        slope: the mean logarithm of the derivative by the outcomes as they were.
        warp: what was done to outcomes from 0 to 1.
        bound: where an outcome of 0 lies.
    """

    values: Array
    slope: float
    warp: Warp
    bound: float

    @classmethod
    def of(cls, values: Array, slope: float = 0.0, shift: float | None = None, bound: float = 0.0) -> _Scale:
        """Standardizes values that are some function of the outcomes; of 0 it makes `bound`."""
        spread, centre = float(values.std()) or 1.0, float(values.mean())
        warp = Warp(shift=shift, centre=centre, spread=spread)
        return cls((values - centre) / spread, slope - math.log(spread), warp, (bound - centre) / spread)

    def turned(self) -> _Scale:
        """The scale of outcomes whose negatives these are."""
        return replace(self, values=-self.values, bound=-self.bound)


def surrogates(
    features: Array,
    raw: Array,
    noise: Array | None = None,
    *,
    warped: bool = True,
    kept: float = -math.inf,
    scaled: bool = False,
) -> list[Surrogate]:
    """The models that explain outcomes best, the best first.

    Losses span decades as often as not, and a process on the logarithm of the loss above the best one then sees far
    more (Cowen-Rivers et al., HEBO: Pushing the Limits of Sample-Efficient Hyperparameter Optimisation, JAIR 2022, find
    such warpings to matter most). Nor is it known beforehand whether the parameters act each for itself, or how much
    of the outcomes is noise. So some scales and some kinds of models are fitted, and those are kept that foresee
    each outcome best from all others.

    Args:
        features: ``n x f``, in the unit cube.
        raw: ``n`` outcomes, to be minimised, finite.
        noise: ``n`` variances where they are known; then the outcomes are taken as they are.
        warped: whether logarithms of the outcomes are tried.
        kept: outcomes up to this one are not pulled in, however few are that high.
        scaled: whether the processes' scale is learnt where noise is known, too.
    """
    low, span = float(raw.min()), float(np.ptp(raw))
    if span <= 0.0 or not math.isfinite(span):
        unit = Warp(low, abs(low) or 1.0)
        return [_placed(_model(features, _Scale.of(np.zeros_like(raw)), None, KINDS[0]), unit)]
    y = _trimmed((raw - low) / span, (kept - low) / span)
    if noise is not None:
        scale = _Scale.of(y)
        known = np.maximum(noise / (span * float(y.std())) ** 2, 1e-6)
        found = [_model(features, scale, known, kind, scaled=scaled) for kind in KINDS if not kind.noisy]
    else:
        scales = _scales(features, y) if warped else [_Scale.of(y)]
        found = [_model(features, scales[0], None, kind) for kind in KINDS]
        found += [_model(features, scale, None, KINDS[0]) for scale in scales[1:]]
    return [_placed(each, Warp(low, span)) for each in _best(found)]


def _placed(model: Surrogate, unit: Warp) -> Surrogate:
    """A model of outcomes from 0 to 1, told where these come from."""
    return replace(model, warp=replace(model.warp, low=unit.low, span=unit.span))


def bounded(features: Array, raw: Array, noise: Array | None = None) -> tuple[Surrogate, float]:
    """The model that explains a constrained outcome best, and where its bound, 0, lies on the model's scale.

    Beside the outcomes as they are, scales are tried that are finest around the bound, their bilogarithms (Eriksson and
    Poloczek, Scalable Constrained Bayesian Optimization, AISTATS 2021), and the logarithms of the distances from the
    best and from the worst: many a constraint is flat over most of the space, and says there in its digits only how
    far the bound is.

    Args:
        features: ``n x f``, in the unit cube.
        raw: ``n`` outcomes, which are to be 0 or less, finite.
        noise: ``n`` variances where they are known; then the outcomes are taken as they are.
    """
    unit = float(np.median(np.abs(raw))) or float(np.abs(raw).max()) or 1.0
    low, high = np.quantile(raw, [0.25, 0.75])
    reach = _TAIL * (high - low) or unit
    y = np.clip(raw, min(low - reach, -unit), max(high + reach, unit)) / unit
    if np.ptp(y) <= 0.0:
        return _model(features, _Scale.of(np.zeros_like(y)), None, KINDS[0]), -float(np.sign(y[0]))
    scales, known = [_Scale.of(y)], None
    if noise is None:
        scales = _likeliest(
            features, [*scales, *_bent(np.clip(raw, -_WILDEST * unit, _WILDEST * unit) / unit)]
        )
    else:
        known = np.maximum(noise / (unit * float(y.std())) ** 2, 1e-6)
    models = [(_model(features, scale, known, KINDS[0]), scale) for scale in scales]
    best, scale = max(models, key=lambda each: each[0].evidence)
    others = [_model(features, scale, known, kind) for kind in KINDS[1:] if known is None or not kind.noisy]
    return max([best, *others], key=lambda each: each.evidence), scale.bound


def _best(models: list[Surrogate]) -> list[Surrogate]:
    ranked = sorted(models, key=lambda each: -each.evidence)
    return [each for each in ranked if each.evidence > ranked[0].evidence - _DOUBT][:MOST]


def _scales(features: Array, y: Array) -> list[_Scale]:
    """The scales on which processes explain the outcomes best."""
    return _likeliest(features, [_Scale.of(y), *(_logarithm(y, offset) for offset in _OFFSETS)])


def _likeliest(features: Array, scales: list[_Scale]) -> list[_Scale]:
    """The scale of the highest evidence, and the second one if it is nearly as good."""
    chosen = some(scales[0].values, _COMPARED_ON)
    tried = []
    for scale in scales:
        part = fit(features[chosen], scale.values[chosen], starts=1)
        tried.append((len(features) * (part.evidence + scale.slope), scale))
    tried.sort(key=lambda each: -each[0])
    return [scale for evidence, scale in tried[:2] if evidence > tried[0][0] - _DOUBT]


def _bent(y: Array) -> list[_Scale]:
    """Scales on which constrained outcomes, to be 0 or less, are not evenly spaced.

    The logarithm of the distance from the best needs outcomes that keep the bound, or else the bound itself may be
    beyond its reach; that from the worst needs some that do not.
    """
    units = [1.0]
    for side in (y[y > 0.0], -y[y < 0.0]):
        unit = float(np.median(side)) if len(side) else 1.0
        if all(abs(math.log(unit / other)) > _APART for other in units):
            units.append(unit)
    found = [
        _Scale.of(np.sign(y) * np.log1p(np.abs(y) / unit), -float(np.log(unit + np.abs(y)).mean()))
        for unit in units
    ]
    for offset in _OFFSETS:
        found += [_logarithm(y, offset), _logarithm(-y, offset).turned()]
    return [scale for scale in found if math.isfinite(scale.bound)]


def _model(
    features: Array, scale: _Scale, noise: Array | None, kind: Assumptions, *, scaled: bool = False
) -> Surrogate:
    fitted = fit(features, scale.values, noise, kind, scaled=scaled)
    free = 1 if kind.even else features.shape[1]
    return Surrogate(
        features, scale.values, fitted, len(features) * (fitted.evidence + scale.slope) - free, scale.warp
    )


def _trimmed(y: Array, kept: float) -> Array:
    """Outcomes from 0 to 1, those far worse than the bulk pulled in: a diverged training must not flatten the rest."""
    low, high = np.quantile(y, [0.25, 0.75])
    return np.minimum(y, max(high + _TAIL * (high - low), kept)) if high > low else y


def _logarithm(y: Array, offset: float) -> _Scale:
    """The logarithm of the distance from the best outcome."""
    least = float(y.min())
    shift = offset * float(np.median(y) - least) or offset * float(np.ptp(y))
    distances = np.log(y - least + shift)
    bound = math.log(shift - least) if shift > least else -math.inf
    return _Scale.of(distances, -float(distances.mean()), shift - least, bound)
