"""Ax, imported and used without a word on the user's terminal, and with the same numbers everywhere."""

from __future__ import annotations

import contextlib
import logging
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its import warns of its own dependencies' deprecations
    _DISABLED = logging.root.manager.disable
    logging.disable(logging.INFO)  # and says which SQLAlchemy it has found
    import torch
    from ax.adapter.registry import Generators
    from ax.api.utils.generation_strategy_dispatch import choose_generation_strategy
    from ax.api.utils.instantiation.from_string import optimization_config_from_string
    from ax.api.utils.structs import GenerationStrategyDispatchStruct
    from ax.core.arm import Arm
    from ax.core.data import Data
    from ax.core.experiment import Experiment
    from ax.core.metric import Metric
    from ax.core.observation import ObservationFeatures
    from ax.core.parameter import ChoiceParameter as AxChoice
    from ax.core.parameter import ParameterType as AxParameterType
    from ax.core.parameter import RangeParameter as AxRange
    from ax.core.parameter_constraint import ParameterConstraint as AxConstraint
    from ax.core.search_space import SearchSpace as AxSearchSpace
    from ax.core.utils import extract_pending_observations
    from ax.exceptions.core import AxError
    from ax.generation_strategy.center_generation_node import CenterGenerationNode
    from ax.generation_strategy.generation_node import GenerationNode
    from ax.generation_strategy.generation_strategy import GenerationStrategy
    from ax.generation_strategy.generator_spec import GeneratorSpec
    from ax.generators.torch.botorch_modular.surrogate import ModelConfig
    from ax.utils.common.logger import ROOT_STREAM_HANDLER
    from ax.utils.common.random import with_rng_seed
    from botorch.acquisition.multi_objective import logei
    from botorch.exceptions.errors import BotorchError, ModelFittingError
    from botorch.optim.optimize_mixed import MAX_CHOICES_ENUMERATE

    logging.disable(_DISABLED)

__all__ = [
    "ERRORS",
    "MAX_CHOICES_ENUMERATE",
    "Arm",
    "AxChoice",
    "AxConstraint",
    "AxParameterType",
    "AxRange",
    "AxSearchSpace",
    "CenterGenerationNode",
    "Data",
    "Experiment",
    "GenerationNode",
    "GenerationStrategy",
    "GenerationStrategyDispatchStruct",
    "GeneratorSpec",
    "Generators",
    "Metric",
    "ModelConfig",
    "ObservationFeatures",
    "choose_generation_strategy",
    "extract_pending_observations",
    "optimization_config_from_string",
    "quiet",
]

ERRORS = (AxError, BotorchError, ModelFittingError, ArithmeticError, RuntimeError, StopIteration, ValueError)
"""What Ax, BoTorch and PyTorch raise when they cannot fit or search; failed Cholesky decompositions among them, and the
`StopIteration` of a model without outcomes."""


@contextlib.contextmanager
def quiet(seed: int) -> Iterator[None]:
    """Runs Ax from a seed, silently, on one core and in Python.

    The random numbers of `random`, NumPy and PyTorch are seeded, and the caller's put back afterwards. BoTorch
    would compile a kernel for the hypervolume on first use, where there is a compiler: numbers would then
    differ from machine to machine, and a process that was killed while it compiled leaves a lock behind at
    which all later ones wait for ever. So it does without.
    """
    level, threads = ROOT_STREAM_HANDLER.level, torch.get_num_threads()
    kernel = _kernel()
    ROOT_STREAM_HANDLER.setLevel(logging.CRITICAL + 1)
    torch.set_num_threads(1)
    _set_kernel({name: value for name, value in (("_C", None), ("_load_attempted", True)) if name in kernel})
    try:
        with warnings.catch_warnings(), with_rng_seed(seed):
            warnings.simplefilter("ignore")
            yield
    finally:
        ROOT_STREAM_HANDLER.setLevel(level)
        torch.set_num_threads(threads)
        _set_kernel(kernel)


def _kernel() -> dict[str, Any]:
    return {name: getattr(logei, name) for name in ("_C", "_load_attempted") if hasattr(logei, name)}


def _set_kernel(state: dict[str, Any]) -> None:
    for name, value in state.items():
        setattr(logei, name, value)
