"""Population-based training beside random search with as many epochs, on real trainings.

    python -m benchmarks.population --json
    python -m benchmarks.population --population 6 --legs 3 --epochs 2 --seeds 1

Multilayer perceptrons of scikit-learn are trained on its digits as in `benchmarks.early_stopping`. `pbt` trains a group
in legs, each of which continues the weights and the optimiser of its parent; ``random`` trains as many points from
beginning to end. Both ask for a point whenever one of 4 slots is free, on a simulated clock where epochs take
log-normal times (sigma 0.3 between legs), and spend the same number of epochs. What a network is made of (`units`,
`activation`) stays along a training. Both are looked at after every leg, and the best loss ever counts.
"""

from __future__ import annotations

import argparse
import copy
import heapq
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.early_stopping import SPACE, digits
from benchmarks.measuring import median, show, versions
from hpo_steer import Observation, Point, create_algorithm

if TYPE_CHECKING:
    from collections.abc import Mapping

_SLOTS = 4
_KEPT = ["units", "activation"]


def network(params: Mapping[str, Any], seed: int) -> Any:
    """A network that has not been trained."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((params["units"],), activation=params["activation"], random_state=seed)


def train(model: Any, params: Mapping[str, Any], epochs: int) -> float:
    """Trains a network for some epochs more, with these parameters; returns its validation loss."""
    from sklearn.metrics import log_loss

    x, x_valid, y, y_valid = digits()
    model.set_params(
        alpha=params["alpha"], batch_size=params["batch"], learning_rate_init=params["learning_rate"]
    )
    if hasattr(model, "_optimizer"):
        model._optimizer.learning_rate_init = params["learning_rate"]  # noqa: SLF001 - it keeps its own
    for _ in range(epochs):
        model.partial_fit(x, y, classes=np.arange(10))
    chances = np.nan_to_num(model.predict_proba(x_valid), nan=0.1)
    return float(log_loss(y_valid, chances, labels=np.arange(10)))


def search(
    name: str, options: Mapping[str, Any], seed: int, points: int, legs: int, epochs: int
) -> tuple[float, int]:
    """Evaluates so many points of so many legs each; the loss of a point is the best at the end of a leg.

    Returns:
        The best validation loss, and how many points continued another.
    """
    algorithm = create_algorithm(name, SPACE, {"loss": "minimize"}, seed=seed, **options)
    rng = np.random.default_rng(seed)
    models: dict[int, Any] = {}
    running: list[tuple[float, int, float]] = []
    losses: list[float] = []
    now, asked, continued = 0.0, 0, 0
    while len(losses) < points:
        for point in algorithm.ask(min(_SLOTS - len(running), points - asked)):
            assert isinstance(point, Point)
            asked += 1
            continued += point.parent is not None
            model = (
                network(point.params, seed) if point.parent is None else copy.deepcopy(models[point.parent])
            )
            loss = min(train(model, point.params, epochs) for _ in range(legs))
            models[point.id] = model
            heapq.heappush(running, (now + float(rng.lognormal(0.0, 0.3)), point.id, loss))
        now, ended, loss = heapq.heappop(running)
        algorithm.tell([Observation(ended, {"loss": loss})])
        losses.append(loss)
    return min(losses), continued


def main() -> None:
    """Measures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--population", type=int, default=10, help="trainings")
    parser.add_argument("--legs", type=int, default=8, help="of each")
    parser.add_argument("--epochs", type=int, default=4, help="of a leg")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    legs = options.population * options.legs
    found: dict[str, list[float]] = {"pbt": [], "random": []}
    continued = 0
    for seed in range(options.seeds):
        pbt = {"population": options.population, "keep": _KEPT}
        best, continued = search("pbt", pbt, seed, legs, 1, options.epochs)
        found["pbt"].append(best)
        best, _ = search("random", {}, seed, options.population, options.legs, options.epochs)
        found["random"].append(best)
    wins = sum(a < b for a, b in zip(found["pbt"], found["random"], strict=True))
    result = {
        "benchmark": "population",
        "population": options.population,
        "legs": options.legs,
        "epochs_of_a_leg": options.epochs,
        "epochs": legs * options.epochs,
        "continued": continued,
        "versions": versions(["scikit-learn", "numpy"]),
        "losses": {name: [round(loss, 5) for loss in losses] for name, losses in found.items()},
        "median_loss": {name: round(median(losses), 5) for name, losses in found.items()},
        "pbt_better": wins,
        "runs": options.seeds,
    }
    lines = [f"{name:<7} median of the best losses {median(losses):.4f}" for name, losses in found.items()]
    lines.append(f"pbt is better in {wins} of {options.seeds} searches of {legs * options.epochs} epochs")
    show(result, lines, as_json=options.json)


if __name__ == "__main__":
    main()
