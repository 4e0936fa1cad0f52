"""Plain BoTorch, as its tutorials put it together."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.search.contender import Contender, worst
from hpo_steer.parameters import Categorical

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # GPyTorch's import warns of PyTorch's deprecations
    from botorch.acquisition.logei import qLogNoisyExpectedImprovement
    from botorch.acquisition.multi_objective.logei import qLogNoisyExpectedHypervolumeImprovement
    from botorch.acquisition.multi_objective.objective import IdentityMCMultiOutputObjective
    from botorch.acquisition.multi_objective.utils import get_default_partitioning_alpha
    from botorch.acquisition.objective import GenericMCObjective
    from botorch.fit import fit_gpytorch_mll
    from botorch.models import ModelListGP, SingleTaskGP
    from botorch.optim import optimize_acqf
    from botorch.sampling import SobolQMCNormalSampler
    from botorch.utils.sampling import draw_sobol_samples
    from gpytorch.mlls import ExactMarginalLogLikelihood, SumMarginalLogLikelihood

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from benchmarks.search.problem import Outcome, Setting
    from hpo_steer.space import Params

_RESTARTS, _RAW_SAMPLES = 10, 512
_SAMPLES, _SAMPLES_OF_FRONTS = 256, 128
_OPTIONS = {"batch_limit": _RESTARTS, "maxiter": 200}


class BoTorch(Contender):
    """`SingleTaskGP`, qLogNEI (with several objectives qLogNEHVI), and `optimize_acqf` point by point.

    Numbers of restarts and samples are those of BoTorch's tutorials. Choices are one-hot features, relaxed while
    the acquisition function is climbed and rounded afterwards, as are integers; what a point switches off lies
    in the middle. The first batch is a scrambled Sobol sequence. Invalid points have the worst values so far;
    slacks are modelled, and weigh the improvement. Noise is known to the model where the setting knows it.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self._widths = [p.count if isinstance(p, Categorical) else 1 for p in setting.space]
        self._rounded = setting.space.conditional or any(p.count is not None for p in setting.space)
        self._features: list[list[float]] = []
        self._told: dict[int, Outcome] = {}
        torch.manual_seed(setting.seed)

    def ask(self, n: int) -> list[Params]:
        """Sobol points at first, then the model's."""
        if any(outcome.values for outcome in self._told.values()):
            found = [self._point(row) for row in self._optimized(n).tolist()]
        else:
            seed = self.setting.seed + len(self._features)
            cube = torch.tensor([[0.0], [1.0]], dtype=torch.double).repeat(1, len(self.setting.space))
            rows = draw_sobol_samples(cube, n=n, q=1, seed=seed).squeeze(1).tolist()
            found = [self.setting.space.decode(row) for row in rows]
        self.adopt(found)
        return found

    def tell(self, results: Sequence[tuple[int, Outcome]]) -> None:
        """Keeps the values."""
        self._told |= dict(results)

    def adopt(self, points: Sequence[Params]) -> None:
        """Keeps the points."""
        self._features += [self._row(params) for params in points]

    # ---------------------------------------------------------------- the model

    def _optimized(self, n: int) -> Tensor:
        """The next `n` points, ``n x f``."""
        numbers = sorted(self._told)
        features = torch.tensor(self._features, dtype=torch.double)
        at = features[numbers]
        pending = features[[i for i in range(len(features)) if i not in self._told]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of inputs that are not quite standardized, and of slow fits
            function = self._acquisition(self._model(at, self._values(numbers)), at)
            function.set_X_pending(pending if len(pending) else None)
            bounds = torch.tensor([[0.0], [1.0]], dtype=torch.double).repeat(1, at.shape[1])
            candidates, _ = optimize_acqf(
                function,
                bounds=bounds,
                q=n,
                num_restarts=_RESTARTS,
                raw_samples=_RAW_SAMPLES,
                options=_OPTIONS,
                sequential=n > 1,
                post_processing_func=self._round if self._rounded else None,
            )
        found: Tensor = candidates
        return found

    def _values(self, numbers: list[int]) -> Tensor:
        """Negated objectives, to be maximised, and slacks: ``n x (m + s)``."""
        outcomes = [self._told[number] for number in numbers]
        rows = [(*o.values, *(-s for s in o.slacks)) for o in outcomes if o.values is not None]
        bad = worst(rows, self.setting.objectives + self.setting.slacks)
        full = [bad if o.values is None else (*o.values, *(-s for s in o.slacks)) for o in outcomes]
        return -torch.tensor([list(row) for row in full], dtype=torch.double)

    def _model(self, at: Tensor, values: Tensor) -> Any:
        """A process for each column, fitted by maximum a posteriori; outcomes are standardized inside."""
        models = [SingleTaskGP(at, *self._column(values, i)) for i in range(values.shape[1])]
        if len(models) == 1:
            fit_gpytorch_mll(ExactMarginalLogLikelihood(models[0].likelihood, models[0]))
            return models[0]
        model = ModelListGP(*models)
        fit_gpytorch_mll(SumMarginalLogLikelihood(model.likelihood, model))
        return model

    def _column(self, values: Tensor, i: int) -> tuple[Tensor, Tensor | None]:
        """Values, and their variances if these are known."""
        column = values[:, i : i + 1]
        if i >= len(self.setting.noise):
            return column, None
        return column, torch.full_like(column, self.setting.noise[i] ** 2)

    def _acquisition(self, model: Any, at: Tensor) -> Any:
        goals, slacks = self.setting.objectives, self.setting.slacks
        constraints = [lambda z, i=i: -z[..., i] for i in range(goals, goals + slacks)] or None
        common = {"model": model, "X_baseline": at, "prune_baseline": True, "constraints": constraints}
        if goals == 1:
            objective = GenericMCObjective(lambda z, X=None: z[..., 0]) if slacks else None  # noqa: N803, ARG005
            return qLogNoisyExpectedImprovement(
                **common, objective=objective, sampler=self._sampler(_SAMPLES)
            )
        return qLogNoisyExpectedHypervolumeImprovement(
            **common,
            ref_point=[-reference for reference in self.setting.references],
            objective=IdentityMCMultiOutputObjective(outcomes=list(range(goals))),
            sampler=self._sampler(_SAMPLES_OF_FRONTS),
            alpha=get_default_partitioning_alpha(goals),
        )

    def _sampler(self, samples: int) -> Any:
        return SobolQMCNormalSampler(torch.Size([samples]), seed=self.setting.seed)

    # ---------------------------------------------------------------- features

    def _row(self, params: Params) -> list[float]:
        row: list[float] = []
        for p in self.setting.space:
            if isinstance(p, Categorical):
                row += [float(params.get(p.name) == choice) for choice in p.choices]
            else:
                row.append(p.encode(params[p.name]) if p.name in params else 0.5)
        return row

    def _point(self, row: Sequence[float]) -> Params:
        values: Params = {}
        start = 0
        for p, width in zip(self.setting.space, self._widths, strict=True):
            part = row[start : start + width]
            start += width
            if isinstance(p, Categorical):
                values[p.name] = p.choices[max(range(width), key=part.__getitem__)]
            else:
                values[p.name] = p.decode(part[0])
        return self.setting.space.without_inactive(values)

    def _round(self, rows: Tensor) -> Tensor:
        """The features of the points that ``… x f`` relaxed ones stand for."""
        flat = rows.reshape(-1, rows.shape[-1]).tolist()
        rounded = torch.tensor([self._row(self._point(row)) for row in flat], dtype=torch.double)
        return rounded.reshape(rows.shape)
