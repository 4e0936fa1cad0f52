"""Every built-in algorithm against the contract that plug-in authors get."""

from __future__ import annotations

import importlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from algorithms.registry import BUILTIN
from hpo_steer.algorithm import SearchAlgorithm
from hpo_steer.registry import build
from hpo_steer.space import SearchSpace
from hpo_steer.testing.algorithm import AlgorithmContract

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.objectives import Objective


class Builtin(AlgorithmContract):
    name: ClassVar[str]
    options: ClassVar[dict[str, Any]] = {}
    order_independent = True

    def create(self, space: SearchSpace, objectives: Sequence[Objective], seed: int) -> SearchAlgorithm:
        module, _, attribute = BUILTIN[self.name].path.partition(":")
        cls = getattr(importlib.import_module(module), attribute)
        return build(cls, self.name, space, objectives, seed, self.options)


class TestRandom(Builtin):
    name = "random"


class TestSobol(Builtin):
    name = "sobol"


class TestGrid(Builtin):
    name = "grid"
    options: ClassVar[dict[str, Any]] = {"resolution": 7}
    seeded = False


class TestShuffledGrid(Builtin):
    name = "grid"
    options: ClassVar[dict[str, Any]] = {"resolution": 7, "shuffle": True}


class TestBayesian(Builtin):
    name = "bayesian"
    options: ClassVar[dict[str, Any]] = {"initial_points": 4, "candidates": 128}
    rounds = 2


class TestAuto(Builtin):
    name = "auto"
    rounds = 2


class TestAutoOfTwoObjectives(Builtin):
    name = "auto"
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}
    spaces = ("mixed",)
    rounds = 2


class TestMobo(Builtin):
    name = "mobo"
    options: ClassVar[dict[str, Any]] = {"initial_points": 4, "candidates": 64}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}
    rounds = 2


class TestMoboOfManyObjectives(Builtin):
    name = "mobo"
    options: ClassVar[dict[str, Any]] = {
        "initial_points": 4,
        "candidates": 32,
        "outcome_constraints": ["speed >= 0.5"],
    }
    objectives: ClassVar[dict[str, str]] = dict.fromkeys(("loss", "speed", "a", "b", "c"), "minimize")
    spaces = ("mixed", "constrained")
    rounds = 2


class TestEvolution(Builtin):
    """The method follows from the space."""

    name = "evolution"
    options: ClassVar[dict[str, Any]] = {"population": 4}


class TestEvolutionUsual(Builtin):
    """A population that is never full in these tests."""

    name = "evolution"


class TestEvolutionGa(Builtin):
    name = "evolution"
    options: ClassVar[dict[str, Any]] = {"method": "ga", "population": 6}


class TestEvolutionCmaEs(Builtin):
    name = "evolution"
    options: ClassVar[dict[str, Any]] = {"method": "cmaes", "population": 4}
    spaces = ("floats", "constrained")
    finite = False  # its spaces have no conditions


class TestEvolutionNsga2(Builtin):
    name = "evolution"
    options: ClassVar[dict[str, Any]] = {"method": "nsga2", "population": 6}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}


class TestEvolutionNsga3(Builtin):
    name = "evolution"
    options: ClassVar[dict[str, Any]] = {"method": "nsga3", "population": 6}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize", "size": "minimize"}


class TestAx(Builtin):
    """The model takes over with the second ask."""

    name = "ax"
    options: ClassVar[dict[str, Any]] = {
        "initial_points": 4,
        "optimizer": {"num_restarts": 1, "raw_samples": 8},
    }
    spaces = ("floats", "mixed")
    rounds = 2
    batch = 4


class TestAxSeveral(Builtin):
    name = "ax"
    options: ClassVar[dict[str, Any]] = TestAx.options | {"outcome_constraints": ["size <= 2"]}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}
    spaces = ("floats",)
    finite = False
    rounds = 2
    batch = 4

    def values(self, value: float) -> dict[str, float]:
        return super().values(value) | {"size": value + 1.0}


class TestAxSobol(Builtin):
    name = "ax"
    options: ClassVar[dict[str, Any]] = {"method": "sobol"}
    rounds = 2


class TestTpe(Builtin):
    name = "optuna"
    options: ClassVar[dict[str, Any]] = {"sampler": "tpe", "sampler_options": {"n_startup_trials": 4}}


class TestGp(Builtin):
    name = "optuna"
    options: ClassVar[dict[str, Any]] = {"sampler": "gp", "sampler_options": {"n_startup_trials": 4}}
    spaces = ("conditional",)
    rounds = 2
    batch = 4
    finite = False


class TestCmaEs(Builtin):
    name = "optuna"
    options: ClassVar[dict[str, Any]] = {"sampler": "cmaes"}


class TestNsga2(Builtin):
    name = "optuna"
    options: ClassVar[dict[str, Any]] = {"sampler": "nsgaii", "sampler_options": {"population_size": 4}}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}


class TestNsga3(Builtin):
    name = "optuna"
    options: ClassVar[dict[str, Any]] = {"sampler": "nsgaiii", "sampler_options": {"population_size": 4}}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize", "size": "minimize"}


class TestMultiObjectiveTpe(Builtin):
    name = "optuna"
    options: ClassVar[dict[str, Any]] = {"sampler": "tpe", "sampler_options": {"n_startup_trials": 4}}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}


class _Small(Builtin):
    """Studies that are begun anew every few results."""

    @pytest.fixture(autouse=True)
    def _keep_few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("algorithms.optuna_recipe._MOST_RESULTS", {"tpe": 4, "random": 2})


class TestSmallTpe(_Small):
    name = "optuna"
    options: ClassVar[dict[str, Any]] = {
        "sampler": "tpe",
        "sampler_options": {"n_startup_trials": 4},
        "outcome_constraints": ["loss <= 0.2"],
    }


class TestSmallMultiObjectiveTpe(_Small):
    name = "optuna"
    options: ClassVar[dict[str, Any]] = {"sampler": "tpe", "sampler_options": {"n_startup_trials": 4}}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}
    spaces = ("floats", "conditional")


class TestConstrainedNsga2(Builtin):
    name = "optuna"
    options: ClassVar[dict[str, Any]] = {
        "sampler": "nsgaii",
        "sampler_options": {"population_size": 4},
        "outcome_constraints": ["loss <= 0.2"],
    }
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}
    spaces = ("floats", "conditional")


class TestQmc(Builtin):
    name = "optuna"
    rounds = 2
    options: ClassVar[dict[str, Any]] = {"sampler": "qmc"}


class TestOptunaRandom(Builtin):
    name = "optuna"
    rounds = 2
    options: ClassVar[dict[str, Any]] = {"sampler": "random"}


class TestNgOpt(Builtin):
    name = "nevergrad"
    spaces = ("mixed", "conditional")
    rounds = 2


class TestNgCma(Builtin):
    name = "nevergrad"
    options: ClassVar[dict[str, Any]] = {"optimizer": "CMA"}
    spaces = ("floats", "constrained")


class TestNgDe(Builtin):
    name = "nevergrad"
    options: ClassVar[dict[str, Any]] = {"optimizer": "DE"}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}
    spaces = ("floats", "mixed")


class TestNgDiscrete(Builtin):
    name = "nevergrad"
    options: ClassVar[dict[str, Any]] = {"optimizer": "DiscreteOnePlusOne"}
    spaces = ("mixed", "conditional")


class TestConstrainedNg(Builtin):
    """A bound that one result in three breaks."""

    name = "nevergrad"
    options: ClassVar[dict[str, Any]] = {"optimizer": "PSO", "outcome_constraints": ["loss <= 0.2"]}
    spaces = ("floats", "conditional")
    rounds = 2


class TestPbt(Builtin):
    name = "pbt"
    options: ClassVar[dict[str, Any]] = {"population": 6}
    finite = False  # trainings go on without end


class TestPbtUsual(Builtin):
    """A population that is never whole in these tests."""

    name = "pbt"
    finite = False


class TestPbtOfTwoObjectives(Builtin):
    name = "pbt"
    options: ClassVar[dict[str, Any]] = {"population": 4, "exploit": 0.5, "resample": 0.0}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}
    finite = False


class TestSuccessiveHalving(Builtin):
    """Every space has a budget beside its parameters; finite ones have tests of their own."""

    name = "successive_halving"
    options: ClassVar[dict[str, Any]] = {"budget": "epochs"}
    finite = False

    def space(self, name: str) -> SearchSpace:
        inner = super().space(name)
        epochs = {"epochs": {"type": "int", "low": 1, "high": 27}}
        return SearchSpace.from_dict(inner.to_dict() | epochs, [c.text for c in inner.constraints])


class TestSuccessiveHalvingOfTwoObjectives(TestSuccessiveHalving):
    options: ClassVar[dict[str, Any]] = {"budget": "epochs", "eta": 2, "min": 2}
    objectives: ClassVar[dict[str, str]] = {"loss": "minimize", "speed": "maximize"}


OPTIMIZERS = [
    "ASCMADEthird",
    "CSEC",
    "CauchyOnePlusOne",
    "DiscreteLenglerOnePlusOne",
    "ES",
    "EDA",
    "GeneticDE",
    "IsoEMNA",
    "LhsDE",
    "MetaModel",
    "MiniDE",
    "NGO",
    "NGOptRW",
    "NaiveTBPSA",
    "NoisyDE",
    "OnePlusOne",
    "ParametrizationDE",
    "PSO",
    "QODE",
    "RandomSearch",
    "RealSpacePSO",
    "TBPSA",
    "TwoPointsDE",
]


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_sample_of_the_other_optimisers_of_nevergrad(optimizer: str) -> None:
    class Sampled(Builtin):
        name = "nevergrad"
        options: ClassVar[dict[str, Any]] = {"optimizer": optimizer}

    contract = Sampled()
    space = contract.space("mixed")
    history = contract.eventful(contract.new(space), 2)
    restored = contract.new(space)
    restored.restore(history)
    assert contract.eventful(restored, 1, history)[: len(history)] == history


def test_the_registry_imports_no_library() -> None:
    heavy = ["ax", "torch", "optuna", "nevergrad", "pymoo", "scipy", "numpy"]
    code = f"import algorithms.registry, sys; sys.exit(str([m for m in {heavy!r} if m in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("name", BUILTIN)
def test_every_entry_leads_to_an_algorithm(name: str) -> None:
    module, _, attribute = BUILTIN[name].path.partition(":")
    assert issubclass(getattr(importlib.import_module(module), attribute), SearchAlgorithm)
