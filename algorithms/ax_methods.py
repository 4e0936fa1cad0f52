"""How Ax generates points, by name."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from algorithms.ax_library import (
    CenterGenerationNode,
    GenerationNode,
    GenerationStrategy,
    GenerationStrategyDispatchStruct,
    Generators,
    GeneratorSpec,
    ModelConfig,
    choose_generation_strategy,
)
from algorithms.options import keywords, text, whole
from hpo_steer.errors import ConfigError, MissingExtra, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

METHODS: dict[str, str] = {
    "auto": "what Ax chooses by itself, which is `fast` in Ax 1.3",
    "fast": "a Gaussian process, to which each unordered choice is a number of its own",
    "quality": "a fully Bayesian Gaussian process with warped inputs and a sparse axis-aligned prior; slow",
    "saasbo": "the same without warping, for many parameters of which few matter; slow",
    "botorch": "a model of BoTorch by name",
    "bo_mixed": "a Gaussian process with a kernel for unordered choices",
    "sobol": "a scrambled Sobol sequence",
    "random_search": "the same, by Ax's own name for it",
    "uniform": "independent uniform points",
}
"""Name to what it is."""

MODELS: dict[str, str] = {
    "AdditiveMapSaasSingleTaskGP": "botorch.models.map_saas",
    "EnsembleMapSaasSingleTaskGP": "botorch.models.map_saas",
    "FullyBayesianSingleTaskGP": "botorch.models.fully_bayesian",
    "RobustRelevancePursuitSingleTaskGP": "botorch.models.robust_relevance_pursuit_model",
    "SaasFullyBayesianSingleTaskGP": "botorch.models.fully_bayesian",
    "SingleTaskGP": "botorch.models",
}
"""Models that `botorch` takes, and where BoTorch keeps them."""

_FOR_ONE = {
    "qExpectedImprovement": "botorch.acquisition.monte_carlo",
    "qKnowledgeGradient": "botorch.acquisition.knowledge_gradient",
    "qLogExpectedImprovement": "botorch.acquisition.logei",
    "qLogNoisyExpectedImprovement": "botorch.acquisition.logei",
    "qNoisyExpectedImprovement": "botorch.acquisition.monte_carlo",
    "qProbabilityOfImprovement": "botorch.acquisition.monte_carlo",
    "qUpperConfidenceBound": "botorch.acquisition.monte_carlo",
}
_FOR_SEVERAL = {
    "qExpectedHypervolumeImprovement": "botorch.acquisition.multi_objective.monte_carlo",
    "qLogExpectedHypervolumeImprovement": "botorch.acquisition.multi_objective.logei",
    "qLogNParEGO": "botorch.acquisition.multi_objective.parego",
    "qLogNoisyExpectedHypervolumeImprovement": "botorch.acquisition.multi_objective.logei",
    "qNoisyExpectedHypervolumeImprovement": "botorch.acquisition.multi_objective.monte_carlo",
}
ACQUISITIONS: dict[str, str] = _FOR_ONE | _FOR_SEVERAL
"""Acquisition functions by class, and where BoTorch keeps them."""

_PLAIN = {"sobol": Generators.SOBOL, "random_search": Generators.SOBOL, "uniform": Generators.UNIFORM}
_SAMPLED = {"FullyBayesianSingleTaskGP", "SaasFullyBayesianSingleTaskGP"}
_MCMC = ("warmup_steps", "num_samples", "thinning", "max_tree_depth")
_OPTIMIZER = ("num_restarts", "raw_samples")
_SOBOL_NODE = "Sobol"
CENTER_NODE = "CenterOfSearchSpace"
"""Ax's name for the node that proposes the middle of the space."""
MODEL_NODE = "MBM"
"""Its name for the one with a model."""


class Method:
    """One way to generate points, checked once.

    Args:
        name: a key of `METHODS`.
        objectives: how many there are.
        acquisition: a key of `ACQUISITIONS`, or None for Ax's choice.
        model: a key of `MODELS`, for ``botorch``.
        mcmc: options of the sampler of a fully Bayesian model.
        optimizer: options of the search for the acquisition function's maximum.

    Attributes:
        modelled: whether results are of any account to it.
        one_shot: whether Ax can search its acquisition function over floats only, a whole batch at a time.

    Raises:
        ConfigError: an unknown name, or an option that is not for this method.
        MissingExtra: it needs packages that are not installed.
    """

    def __init__(
        self,
        name: str,
        objectives: int,
        *,
        acquisition: str | None = None,
        model: str | None = None,
        mcmc: Mapping[str, Any] | None = None,
        optimizer: Mapping[str, Any] | None = None,
    ) -> None:
        if text("method", name) not in METHODS:
            raise ConfigError("algorithm.method", f'Ax has no method "{name}" here; {nearest(name, METHODS)}')
        self.name = name
        self.modelled = name not in _PLAIN
        self._acquisition = _acquisition(acquisition, objectives)
        self.one_shot = acquisition == "qKnowledgeGradient"
        self._model = self._model_name(model)
        self._mcmc = _numbers("mcmc", mcmc, _MCMC)
        self._optimizer = _numbers("optimizer", optimizer, _OPTIMIZER)
        for option, given in (("acquisition", acquisition), ("optimizer", optimizer)):
            if given is not None and not self.modelled:
                raise ConfigError(
                    f"algorithm.{option}", f'is not for the method "{name}", which has no model'
                )
        if self._mcmc and self._model not in _SAMPLED:
            raise ConfigError(
                "algorithm.mcmc",
                f'is for quality, saasbo and fully Bayesian models; "{name}" samples nothing',
            )
        if self._model in _SAMPLED and not all(map(importlib.util.find_spec, ("jax", "numpyro"))):
            raise MissingExtra(f"Ax's fully Bayesian {self._model}", "ax-saas")

    def _model_name(self, given: str | None) -> str | None:
        """The class of the model, or None for Ax's choice."""
        if given is None:
            return "SaasFullyBayesianSingleTaskGP" if self.name in ("quality", "saasbo") else None
        if self.name != "botorch":
            raise ConfigError("algorithm.model", f'is for the method botorch, not for "{self.name}"')
        if text("model", given) not in MODELS:
            raise ConfigError("algorithm.model", f'no model "{given}"; {nearest(given, MODELS)}')
        return given

    def initial(self, seed: int, place: int) -> GenerationStrategy:
        """Points before there is a model: the middle of the space, then a Sobol sequence from `place` on."""
        nodes = [_plain_node(Generators.SOBOL, seed, place)]
        if place == 0:
            nodes.insert(0, CenterGenerationNode(next_node_name=_SOBOL_NODE))
        return GenerationStrategy(name="initial", nodes=nodes)

    def strategy(self, seed: int, place: int, *, listed: bool) -> GenerationStrategy:
        """Points of the method itself; without a model, from `place` in its sequence on.

        Where Ax goes through all points (`listed`), it takes no options for a search.
        """
        if not self.modelled:
            return GenerationStrategy(name=self.name, nodes=[_plain_node(_PLAIN[self.name], seed, place)])
        strategy = self._mixed() if self.name == "bo_mixed" else self._dispatched()
        node = strategy.nodes_by_name[MODEL_NODE]
        node.should_deduplicate = (
            False  # whole batches would be drawn again; what is not new is left out later
        )
        options: dict[str, Any] = {} if listed else dict(self._optimizer)
        if self.one_shot:
            options["sequential"] = False
        if options:
            node.generator_specs[0].generator_gen_kwargs = {
                "model_gen_options": {"optimizer_kwargs": options}
            }
        return strategy

    def _mixed(self) -> GenerationStrategy:
        options = {} if self._acquisition is None else {"botorch_acqf_class": self._acquisition}
        spec = GeneratorSpec(generator_enum=Generators.BO_MIXED, generator_kwargs=options)
        return GenerationStrategy(
            name=self.name, nodes=[GenerationNode(name=MODEL_NODE, generator_specs=[spec])]
        )

    def _dispatched(self) -> GenerationStrategy:
        """Ax's own choice, without its initial points."""
        dispatch = GenerationStrategyDispatchStruct(
            method="fast" if self._model is None else "custom",
            initialization_budget=0,
            initialization_random_seed=None,
            initialize_with_center=False,
            use_existing_trials_for_initialization=True,
            min_observed_initialization_trials=None,
            allow_exceeding_initialization_budget=True,
            torch_device=None,
            simplify_parameter_changes=False,
        )
        return choose_generation_strategy(
            dispatch, model_config=self._config(), botorch_acqf_class=self._acquisition
        )

    def _config(self) -> ModelConfig | None:
        if self._model is None:
            return None
        return ModelConfig(
            botorch_model_class=_loaded(MODELS, self._model),
            model_options={"use_input_warping": True} if self.name == "quality" else {},
            mll_options={"disable_progbar": True, **self._mcmc} if self._model in _SAMPLED else {},
            name=self._model,
        )


def _plain_node(generator: Any, seed: int, place: int) -> GenerationNode:
    kwargs = {"seed": seed, "init_position": place} if generator is Generators.SOBOL else {}
    spec = GeneratorSpec(generator_enum=generator, generator_kwargs=kwargs)
    return GenerationNode(name=_SOBOL_NODE, generator_specs=[spec], should_deduplicate=False)


def _acquisition(name: str | None, objectives: int) -> type[Any] | None:
    if name is None:
        return None
    if text("acquisition", name) not in ACQUISITIONS:
        raise ConfigError("algorithm.acquisition", f'no acquisition "{name}"; {nearest(name, ACQUISITIONS)}')
    valid = _FOR_ONE if objectives == 1 else _FOR_SEVERAL
    if name not in valid:
        count = "several objectives" if objectives == 1 else "one objective"
        raise ConfigError(
            "algorithm.acquisition",
            f'"{name}" is for {count}, and there are {objectives}; {nearest("", valid)}',
        )
    return _loaded(ACQUISITIONS, name)


def _loaded(table: Mapping[str, str], name: str) -> type[Any]:
    loaded: type[Any] = getattr(importlib.import_module(table[name]), name)
    return loaded


def _numbers(option: str, given: Mapping[str, Any] | None, valid: tuple[str, ...]) -> dict[str, int]:
    numbers = keywords(option, given)
    for key, value in numbers.items():
        if key not in valid:
            raise ConfigError(f"algorithm.{option}.{key}", f"unknown key; {nearest(key, valid)}")
        whole(f"{option}.{key}", value, 1)
    return numbers
