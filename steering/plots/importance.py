"""Which parameters matter."""

from __future__ import annotations

import math
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from steering.plots.study import make_study, quiet_optuna
from steering.plots.style import SERIES, head, new_figure, shortened, spans_decades
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

    from steering.run_view import RunView

_FEWEST = 10
_BEST = 8
_FANOVA_MOST = 800
_SHOWN = 20


def draw(view: RunView, model: str | None) -> Figure | str:
    """A bar a parameter and objective.

    fANOVA (Hutter et al. 2014) where all parameters are always active and there are not too many points,
    else PED-ANOVA (Watanabe et al. 2023).

    Returns:
        The figure, or why there is none.
    """
    name = model or view.models[0].name
    found = importances(view, name)
    if isinstance(found, str):
        return found
    method, shares = found
    names = sorted(next(iter(shares.values())), key=lambda p: max(s.get(p, 0.0) for s in shares.values()))[
        -_SHOWN:
    ]
    figure = new_figure(9.0, 1.9 + 0.42 * len(names) * (1 + 0.35 * (len(shares) - 1)))
    axes = figure.subplots()
    thick = 0.66 / len(shares)
    for k, (goal, share) in enumerate(shares.items()):
        places = [i + (len(shares) - 1) * thick / 2 - k * thick for i in range(len(names))]
        bars = axes.barh(
            places, [share.get(p, 0.0) for p in names], thick * 0.94, color=SERIES[k], label=shortened(goal)
        )
        axes.bar_label(bars, [f"{100 * share.get(p, 0.0):.0f} %" for p in names], padding=5, fontsize=10.5)
    axes.set_yticks(range(len(names)), [shortened(p) for p in names])
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1.12 * max(max(s.values()) for s in shares.values()))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    axes.set_xlabel("share of the importance")
    axes.grid(visible=False, axis="y")
    if len(shares) > 1:
        axes.legend(loc="lower right")
    done = sum(p.state == "done" for p in view.by_model[name])
    of = f" · {name}" if len(view.models) > 1 else ""
    head(figure, f"{view.name}{of} · importance of parameters", f"{method}, from {plural(done, 'point')}")
    return figure


def importances(view: RunView, model: str) -> tuple[str, dict[str, dict[str, float]]] | str:
    """What each objective owes to each parameter.

    Returns:
        The method, and objective to parameter to share; or why there is none.
    """
    space, points = view.space(model), [p for p in view.by_model[model] if p.state == "done"]
    if len(points) < _FEWEST:
        return f"{plural(len(points), 'point')} done; it takes {_FEWEST}"
    varying = [p.name for p in space if len({str(q.params.get(p.name)) for q in points}) > 1]
    if len(varying) < 2:
        return "it takes two parameters that vary"
    shares: dict[str, dict[str, float]] = {}
    best_share = min(0.5, max(0.1, _BEST / len(points)))
    logs = []
    fanova = not space.conditional and len(points) <= _FANOVA_MOST and find_spec("sklearn") is not None
    with quiet_optuna() as optuna:
        study = make_study(optuna, space, view.goals, points)
        tool = optuna.importance
        evaluator = (
            tool.FanovaImportanceEvaluator(seed=0)
            if fanova
            else tool.PedAnovaImportanceEvaluator(target_quantile=best_share)
        )
        for k, goal in enumerate(view.goals):
            values = [(p.values or {})[goal.name] for p in points]
            if max(values) == min(values):
                continue
            logged = spans_decades(values)
            logs += [goal.name] if logged else []
            target = _target(k, goal.sign, logged=logged)
            shares[goal.name] = tool.get_param_importances(
                study, evaluator=evaluator, params=varying, target=target, normalize=True
            )
    if not shares:
        return "all points have the same value"
    method = (
        "fANOVA" if fanova else f"PED-ANOVA: what sets the best {100 * best_share:.0f} % of the points apart"
    )
    return method + (f" of log {', log '.join(logs)}" if logs and fanova else ""), shares


def _target(place: int, sign: float, *, logged: bool) -> Callable[[Any], float]:
    def cost(trial: Any) -> float:
        value = float(trial.values[place])
        return sign * (math.log10(value) if logged else value)

    return cost
