"""Real trainings on the data sets of scikit-learn, deterministic and on one thread.

Nobody knows their optimum. Regret is counted from the better of a stored value and the best value of all runs
compared, and told apart down to a thousandth of the loss of a constant guess: another split of the data would
change more.
"""

from __future__ import annotations

import math
import warnings
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import datasets
from sklearn.model_selection import StratifiedKFold
from sklearn.neural_network import MLPClassifier

from benchmarks.search.problem import FLOOR_OF_TRAININGS, Outcome, Problem
from hpo_steer import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from hpo_steer.space import Params

_FOLDS = 3
_EPOCHS = 15
_SMALLEST = 1e-15
_BEST_TREES, _BEST_NETWORK = 0.0728618, 0.0750130
"""The lowest losses that three methods found in 200 evaluations each."""


def of_training(
    name: str,
    summary: str,
    spec: dict[str, Any],
    loss: Callable[[Params], float],
    guess: float,
    best: float | None,
    **more: Any,
) -> Problem:
    """A problem from the loss of a training, which raises `ValueError` where there is none.

    Args:
        name: on the command line.
        summary: one line.
        spec: its search space.
        loss: of a point.
        guess: the loss of a constant guess, the problem's scale.
        best: the lowest loss known; None if nobody knows.
        more: as for `Problem`.
    """
    known: dict[tuple[Any, ...], Outcome] = {}

    def evaluate(params: Params) -> Outcome:
        key = tuple(params.items())
        if key not in known:
            try:
                known[key] = Outcome((loss(params),))
            except ValueError as exc:  # weights that are no longer finite
                known[key] = Outcome(None, failure=str(exc).split("\n", maxsplit=1)[0])
        return known[key]

    return Problem(
        name,
        summary,
        SearchSpace.from_dict(spec),
        evaluate,
        best,
        guess,
        FLOOR_OF_TRAININGS * guess,
        proven=False,
        **more,
    )


def _log_loss(chances: NDArray[Any], labels: NDArray[Any]) -> float:
    """The mean of -log p of the true class; `chances` is ``n x classes``."""
    right = np.asarray(chances, dtype=np.float64)[np.arange(len(labels)), labels]
    return float(-np.log(np.clip(right, _SMALLEST, 1.0)).mean())


@cache
def data_of(name: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Inputs and labels of one of scikit-learn's data sets."""
    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return x, y


def boosted_trees(name: str) -> Problem:
    """XGBoost on the breast cancer data: 7 parameters, the log loss of a threefold cross-validation."""
    from xgboost import XGBClassifier

    def loss(params: Params) -> float:
        x, y = data_of("breast_cancer")
        losses = []
        for train, test in StratifiedKFold(_FOLDS, shuffle=True, random_state=0).split(x, y):
            model = XGBClassifier(n_jobs=1, random_state=0, tree_method="hist", **params)
            model.fit(x[train], y[train])
            losses.append(_log_loss(model.predict_proba(x[test]), y[test]))
        return float(np.mean(losses))

    spec = {
        "n_estimators": {"type": "int", "low": 10, "high": 200, "log": True},
        "learning_rate": {"type": "float", "low": 0.003, "high": 0.5, "log": True},
        "max_depth": {"type": "int", "low": 1, "high": 10},
        "min_child_weight": {"type": "float", "low": 0.1, "high": 20.0, "log": True},
        "subsample": {"type": "float", "low": 0.3, "high": 1.0},
        "colsample_bytree": {"type": "float", "low": 0.2, "high": 1.0},
        "reg_lambda": {"type": "float", "low": 0.001, "high": 100.0, "log": True},
    }
    return of_training(
        name, "XGBoost on breast cancer data: 5 floats, 2 integers", spec, loss, math.log(2), _BEST_TREES
    )


def neural_network(name: str) -> Problem:
    """A multi-layer perceptron on the digits: 8 parameters of all kinds, the log loss on held-back images."""

    def loss(params: Params) -> float:
        x, y = data_of("digits")
        half = len(y) // 2
        train, test = next(StratifiedKFold(2, shuffle=True, random_state=0).split(x, y))
        model = MLPClassifier(
            (params["units"],) * params["layers"],
            activation=params["activation"],
            solver=params["solver"],
            alpha=params["alpha"],
            batch_size=min(params["batch_size"], half),
            learning_rate_init=params["rate"],
            momentum=params["momentum"],
            max_iter=_EPOCHS,
            random_state=0,
        )
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")  # that it has not converged, and that weights overflow
            model.fit(x[train] / 16.0, y[train])
            return _log_loss(model.predict_proba(x[test] / 16.0), y[test])

    spec = {
        "rate": {"type": "float", "low": 1e-4, "high": 0.3, "log": True},
        "alpha": {"type": "float", "low": 1e-6, "high": 1.0, "log": True},
        "momentum": {"type": "float", "low": 0.0, "high": 0.99},
        "units": {"type": "int", "low": 8, "high": 128, "log": True},
        "layers": {"type": "int", "low": 1, "high": 3},
        "batch_size": {"type": "int", "low": 16, "high": 256, "log": True},
        "activation": {"type": "categorical", "choices": ["relu", "tanh", "logistic"]},
        "solver": {"type": "categorical", "choices": ["adam", "sgd"]},
    }
    return of_training(
        name,
        "a perceptron on digits: 3 floats, 3 integers, 2 choices",
        spec,
        loss,
        math.log(10),
        _BEST_NETWORK,
    )
