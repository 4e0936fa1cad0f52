"""Problems that came when the methods were done: nothing was ever tuned on them."""

from __future__ import annotations

import math
import warnings
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from benchmarks.search.fronts import front_of
from benchmarks.search.functions import on_floats
from benchmarks.search.structured import ackley, of_function
from benchmarks.search.trainings import data_of, of_training

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from botorch import test_functions
    from botorch.test_functions import multi_objective

if TYPE_CHECKING:
    from collections.abc import Callable

    from sklearn.base import BaseEstimator

    from benchmarks.search.problem import Problem
    from hpo_steer.space import Params

_FLIPPED = (1, 0, 0, 1, 1, 0, 1, 0, 1, 1)
"""Where the optimum of the binary problem lies."""
_FOLDS = KFold(3, shuffle=True, random_state=0)
_BALANCED = StratifiedKFold(3, shuffle=True, random_state=0)


def shekel(name: str) -> Problem:
    """Shekel with 10 holes."""
    function = test_functions.Shekel(m=10)
    return on_floats(
        name, "Shekel: 4 floats, ten holes", function, function.optimizers[0].tolist(), held_out=True
    )


def powell(name: str) -> Problem:
    """Powell with 8 floats: flat in some directions, values over many decades."""
    function = test_functions.Powell(dim=8, bounds=[(-2.0, 5.0)] * 8)
    return on_floats(name, "Powell: 8 floats, a flat valley", function, [0.0] * 8, held_out=True)


def rastrigin(name: str) -> Problem:
    """Rastrigin with 6 floats, its optimum off the middle."""
    function = test_functions.Rastrigin(dim=6, bounds=[(-3.6, 6.4)] * 6)
    return on_floats(name, "Rastrigin: 6 floats, a million holes", function, [0.0] * 6, held_out=True)


def dixon_price(name: str) -> Problem:
    """Dixon and Price with 7 floats: values over many decades."""
    function = test_functions.DixonPrice(dim=7, bounds=[(-5.0, 10.0)] * 7)
    solution = [math.pow(2.0, -(1.0 - 2.0 ** (1 - i))) for i in range(1, 8)]
    return on_floats(name, "Dixon-Price: 7 floats, a bent valley", function, solution, held_out=True)


def drop_wave(name: str) -> Problem:
    """Drop wave, its optimum off the middle."""
    function = test_functions.DropWave(bounds=[(-3.0, 5.12)] * 2)
    return on_floats(name, "drop wave: 2 floats, rings", function, [0.0, 0.0], held_out=True)


def egg_holder(name: str) -> Problem:
    """Egg holder: its optimum lies on the edge."""
    function = test_functions.EggHolder()
    return on_floats(
        name, "egg holder: 2 floats, rugged", function, function.optimizers[0].tolist(), held_out=True
    )


def hidden(name: str) -> Problem:
    """Hartmann's six floats among twenty, the others without effect."""
    function = test_functions.Hartmann(dim=6)
    solution = dict.fromkeys([f"x{i}" for i in range(20)], 0.5)
    solution |= {f"x{3 * i + 1}": float(v) for i, v in enumerate(function.optimizers[0].tolist())}

    def value(params: Params) -> float:
        row = [[params[f"x{3 * i + 1}"] for i in range(6)]]
        return float(function.evaluate_true(torch.tensor(row, dtype=torch.double))[0])

    spec = {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(20)}
    return of_function(name, "Hartmann: 20 floats, 6 of them matter", spec, value, solution, held_out=True)


def binary(name: str) -> Problem:
    """Ackley over 10 binary choices and 3 floats."""
    spec: dict[str, Any] = {f"b{i}": {"type": "categorical", "choices": ["off", "on"]} for i in range(10)}
    spec |= {f"x{i}": {"type": "float", "low": -1.0, "high": 1.4} for i in range(3)}

    def value(params: Params) -> float:
        z = [float((params[f"b{i}"] == "on") != bool(flip)) for i, flip in enumerate(_FLIPPED)]
        z += [params[f"x{i}"] for i in range(3)]
        return ackley(z)

    solution = {f"b{i}": "on" if flip else "off" for i, flip in enumerate(_FLIPPED)}
    return of_function(
        name,
        "Ackley: 10 binary choices, 3 floats",
        spec,
        value,
        solution | dict.fromkeys(["x0", "x1", "x2"], 0.0),
        held_out=True,
    )


def choices(name: str) -> Problem:
    """Six choices of four that act in pairs, and the strength of each action."""
    draw = np.random.default_rng(7)
    single = draw.normal(size=(6, 4))
    pairs = {pair: draw.normal(size=(4, 4)) for pair in combinations(range(6), 2)}
    letters = "abcd"
    spec: dict[str, Any] = {f"c{i}": {"type": "categorical", "choices": list(letters)} for i in range(6)}
    spec["x"] = {"type": "float", "low": 0.0, "high": 1.0}

    def at(picked: tuple[int, ...]) -> float:
        total = sum(single[i, p] for i, p in enumerate(picked))
        return float(total + sum(table[picked[i], picked[j]] for (i, j), table in pairs.items()))

    def value(params: Params) -> float:
        picked = tuple(letters.index(params[f"c{i}"]) for i in range(6))
        strength: float = params["x"] - 0.2 - 0.1 * picked[0]
        return at(picked) + 4.0 * strength**2

    best = min(np.ndindex(*[4] * 6), key=at)
    solution: Params = {f"c{i}": letters[p] for i, p in enumerate(best)} | {"x": 0.2 + 0.1 * best[0]}
    return of_function(
        name, "6 choices of four that act in pairs, a float", spec, value, solution, held_out=True
    )


def _error(model: BaseEstimator, name: str) -> float:
    """Share of wrong answers in a threefold cross-validation."""
    x, y = data_of(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return 1.0 - float(np.mean(cross_val_score(model, x, y, cv=_BALANCED)))


def vector_machine(name: str) -> Problem:
    """A support vector machine on the digits: the kernel's parameters depend on the kernel."""
    spec: dict[str, Any] = {
        "C": {"type": "float", "low": 1e-3, "high": 1e3, "log": True},
        "kernel": {"type": "categorical", "choices": ["linear", "poly", "rbf", "sigmoid"]},
        "gamma": {
            "type": "float",
            "low": 1e-5,
            "high": 10.0,
            "log": True,
            "when": {"kernel": ["poly", "rbf", "sigmoid"]},
        },
        "degree": {"type": "int", "low": 2, "high": 6, "when": {"kernel": "poly"}},
        "coef0": {"type": "float", "low": -1.0, "high": 1.0, "when": {"kernel": ["poly", "sigmoid"]}},
    }
    return of_training(
        name,
        "a support vector machine on digits: 5 parameters, 3 of them conditional",
        spec,
        lambda params: _error(make_pipeline(StandardScaler(), SVC(**params)), "digits"),
        0.9,
        None,
        held_out=True,
    )


def forest(name: str) -> Problem:
    """A random forest on the diabetes data: the error beside that of the mean."""

    def loss(params: Params) -> float:
        x, y = data_of("diabetes")
        model = RandomForestRegressor(random_state=0, n_jobs=1, **params)
        errors = cross_val_score(model, x, y, cv=_FOLDS, scoring="neg_mean_squared_error")
        return -float(np.mean(errors)) / float(np.var(y))

    spec: dict[str, Any] = {
        "n_estimators": {"type": "int", "low": 5, "high": 80, "log": True},
        "max_depth": {"type": "int", "low": 1, "high": 20},
        "min_samples_leaf": {"type": "int", "low": 1, "high": 60, "log": True},
        "max_features": {"type": "float", "low": 0.1, "high": 1.0},
        "max_samples": {"type": "float", "low": 0.1, "high": 1.0},
        "criterion": {"type": "categorical", "choices": ["squared_error", "poisson"]},
    }
    return of_training(
        name,
        "a random forest on diabetes: 2 floats, 3 integers, a choice",
        spec,
        loss,
        1.0,
        None,
        held_out=True,
    )


def model_choice(name: str) -> Problem:
    """Which of four models, and its parameters, on the breast cancer data."""

    def loss(params: Params) -> float:
        rest = {key.partition("_")[2]: value for key, value in params.items() if key != "model"}
        makers = {
            "svm": lambda: SVC(**rest),
            "knn": lambda: KNeighborsClassifier(**rest),
            "forest": lambda: RandomForestClassifier(n_estimators=30, random_state=0, **rest),
            "logistic": lambda: LogisticRegression(max_iter=500, **rest),
        }
        return _error(make_pipeline(StandardScaler(), makers[params["model"]]()), "breast_cancer")

    spec: dict[str, Any] = {
        "model": {"type": "categorical", "choices": ["svm", "knn", "forest", "logistic"]},
        "s_C": {"type": "float", "low": 1e-3, "high": 1e3, "log": True, "when": {"model": "svm"}},
        "s_gamma": {"type": "float", "low": 1e-5, "high": 10.0, "log": True, "when": {"model": "svm"}},
        "k_n_neighbors": {"type": "int", "low": 1, "high": 50, "when": {"model": "knn"}},
        "k_p": {"type": "float", "low": 1.0, "high": 3.0, "when": {"model": "knn"}},
        "k_weights": {"type": "categorical", "choices": ["uniform", "distance"], "when": {"model": "knn"}},
        "f_max_depth": {"type": "int", "low": 1, "high": 12, "when": {"model": "forest"}},
        "f_max_features": {"type": "float", "low": 0.05, "high": 1.0, "when": {"model": "forest"}},
        "f_min_samples_leaf": {"type": "int", "low": 1, "high": 20, "when": {"model": "forest"}},
        "l_C": {"type": "float", "low": 1e-4, "high": 1e3, "log": True, "when": {"model": "logistic"}},
    }
    return of_training(
        name,
        "one of four models on breast cancer data: 10 parameters, at most 4 active",
        spec,
        loss,
        0.37,
        None,
        held_out=True,
    )


def zdt3(name: str) -> Problem:
    """ZDT3 with 6 floats: a front in five pieces."""
    function = multi_objective.ZDT3(dim=6, num_objectives=2)
    return front_of(name, "ZDT3: 6 floats, a front in pieces", function, held_out=True)


def car_side_impact(name: str) -> Problem:
    """Car side impact: 7 floats, 4 objectives."""
    return front_of(
        name, "car side impact: 7 floats, 4 objectives", multi_objective.CarSideImpact(), held_out=True
    )


def zdt1(name: str) -> Problem:
    """ZDT1 with 8 floats: one parameter along the front, the others at its edge."""
    function = multi_objective.ZDT1(dim=8, num_objectives=2)
    return front_of(name, "ZDT1: 8 floats, a front at the edge", function, held_out=True)


def branin_currin_in_a_disc(name: str) -> Problem:
    """Branin and Currin with an outcome constraint."""
    function = multi_objective.ConstrainedBraninCurrin()
    return front_of(name, "Branin and Currin with an outcome constraint: 2 floats", function, held_out=True)


def _not_given(name: str, summary: str) -> Problem:
    make, largest = NOT_GIVEN[name]
    return front_of(name, summary, make(), held_out=True, largest=largest)


def dtlz7(name: str) -> Problem:
    """DTLZ7 with 8 floats: a front in pieces."""
    return _not_given(name, "DTLZ7: 8 floats, 2 objectives, a front in pieces")


def mixture(name: str) -> Problem:
    """Two mixtures of Gaussians, with narrow holes."""
    return _not_given(name, "mixtures of Gaussians: 2 floats, 2 objectives, narrow holes")


def disc_brake(name: str) -> Problem:
    """The design of a disc brake: 4 floats, 4 outcome constraints."""
    return _not_given(name, "disc brake: 4 floats, 2 objectives, 4 outcome constraints")


def mw7(name: str) -> Problem:
    """MW7 with 6 floats: two outcome constraints cut the front into pieces."""
    return _not_given(name, "MW7: 6 floats, 2 objectives, 2 outcome constraints")


NOT_GIVEN: dict[str, tuple[Callable[[], Any], float]] = {
    "dtlz7": (lambda: multi_objective.DTLZ7(dim=8, num_objectives=2), 189.42970320622132),
    "mixture": (lambda: multi_objective.GMM(num_objectives=2), 0.1754816555575262),
    "disc-brake": (multi_objective.DiscBrake, 11.211708940614015),
    "mw7": (lambda: multi_objective.MW7(dim=6), 0.5033319435210073),
}
"""Functions of which BoTorch does not know the largest hypervolume, and what `benchmarks.search.largest` finds."""
