"""Real generators of Xopt against the contract of a search method."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from hpo_steer.generators import generator_algorithm
from hpo_steer.registry import build
from hpo_steer.testing.algorithm import AlgorithmContract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.algorithm import SearchAlgorithm
    from hpo_steer.objectives import Objective
    from hpo_steer.space import SearchSpace

pytest.importorskip("xopt", reason='pip install -e ".[dev]"')
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")


class Generator(AlgorithmContract):
    """With ``duplicates: forbid``, since the suite wants no point twice."""

    target: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    order_independent = True
    finite = False  # generators know no conditions
    spaces: ClassVar[Sequence[str]] = ("floats", "constrained")

    def create(self, space: SearchSpace, objectives: Sequence[Objective], seed: int) -> SearchAlgorithm:
        module, _, name = self.target.partition(":")
        cls = generator_algorithm(getattr(importlib.import_module(module), name), self.target, forbid=True)
        return build(cls, self.target, space, objectives, seed, self.options)


class TestRandom(Generator):
    target = "xopt.generators.random:RandomGenerator"
    spaces = ("floats", "mixed", "constrained")


class TestCnsga(Generator):
    target = "xopt.generators.ga.cnsga:CNSGAGenerator"
    options: ClassVar[dict[str, Any]] = {"population_size": 6}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}


class TestNsga2(Generator):
    target = "xopt.generators.ga.nsga2:NSGA2Generator"
    options: ClassVar[dict[str, Any]] = {"population_size": 6}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore"
)  # botorch warns of constant and of wild values, of which the suite has both
class TestExpectedImprovement(Generator):
    target = "xopt.generators.bayesian.expected_improvement:ExpectedImprovementGenerator"
    options: ClassVar[dict[str, Any]] = {
        "n_monte_carlo_samples": 16,
        "numerical_optimizer": {"name": "LBFGS", "n_restarts": 2, "max_iter": 20, "max_time": None},
    }
    spaces = ("floats",)
    rounds = 2
    batch = 3
