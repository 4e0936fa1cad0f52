"""The built-in algorithms by name. Importing this file imports none of them, nor the libraries they need."""

from __future__ import annotations

from hpo_steer.registry import AlgorithmEntry

BUILTIN: dict[str, AlgorithmEntry] = {
    "auto": AlgorithmEntry(
        "algorithms.auto:Auto", "chooses bayesian, mobo or evolution by the task, and says why", heavy=True
    ),
    "ax": AlgorithmEntry(
        "algorithms.ax_strategies:Ax",
        "Ax's generation strategies: Gaussian processes, SAASBO; several objectives, outcome constraints",
        extra="ax",
        heavy=True,
    ),
    "bayesian": AlgorithmEntry(
        "algorithms.bayesian:Bayesian",
        "Gaussian processes and noisy expected improvement, in batches; for expensive points",
        heavy=True,
    ),
    "evolution": AlgorithmEntry(
        "algorithms.evolution:Evolution",
        "NSGA-II, NSGA-III, CMA-ES and a genetic algorithm; for cheap points in great numbers",
        extra="evolution",
        heavy=True,
    ),
    "grid": AlgorithmEntry("algorithms.grid:Grid", "every cell of a grid once, in order or shuffled"),
    "mobo": AlgorithmEntry(
        "algorithms.mobo:Mobo",
        "several objectives by Gaussian processes and hypervolume improvement, in batches; for expensive points",
        heavy=True,
    ),
    "nevergrad": AlgorithmEntry(
        "algorithms.nevergrad_optimizers:Nevergrad",
        "optimisers of Nevergrad: evolution strategies, swarms, portfolios",
        extra="nevergrad",
        heavy=True,
    ),
    "optuna": AlgorithmEntry(
        "algorithms.optuna_samplers:Optuna",
        "every sampler of Optuna: TPE, GP, CMA-ES, NSGA-II and more; several objectives",
        extra="optuna",
        heavy=True,
    ),
    "pbt": AlgorithmEntry(
        "algorithms.population:PopulationBasedTraining",
        "population-based training: trainings that go on from the checkpoints of better ones, with other parameters",
    ),
    "random": AlgorithmEntry("algorithms.random_search:Random", "independent uniform points"),
    "sobol": AlgorithmEntry("algorithms.sobol:Sobol", "a scrambled Sobol sequence: evenly spread points"),
    "successive_halving": AlgorithmEntry(
        "algorithms.successive_halving:SuccessiveHalving",
        "short trainings first; the best third goes on from its checkpoints, with three times the budget (ASHA)",
    ),
}
