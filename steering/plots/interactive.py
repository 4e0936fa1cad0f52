"""Plots to zoom and pick in, by Optuna and Plotly, each a page of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from steering.plots.study import make_study, quiet_optuna

if TYPE_CHECKING:
    from steering.run_view import RunView


def page(view: RunView, kind: str, model: str | None) -> str | None:
    """An interactive page, or None where there is no such form of this plot.

    Args:
        view: the run.
        kind: of plot.
        model: of which model; None: the only one.
    """
    if kind == "timeline" or (kind == "progress" and (model is None and len(view.models) > 1)):
        return None
    name = model or view.models[0].name
    goals = view.goals
    with quiet_optuna() as optuna:
        study = make_study(optuna, view.space(name), goals, view.by_model[name], view.outcomes)
        plots: Any = optuna.visualization
        first = {} if len(goals) == 1 else {"target": lambda t: t.values[0]}
        if kind == "progress":
            figure = plots.plot_optimization_history(study, target_name=goals[0].name, **first)
        elif kind == "importance":
            return None
        elif kind == "parallel":
            figure = plots.plot_parallel_coordinate(study, target_name=goals[0].name, **first)
        else:
            figure = plots.plot_pareto_front(study, target_names=[goal.name for goal in goals])
    figure.update_layout(title=f"{view.name} · {kind}", font={"size": 14})
    return str(figure.to_html(include_plotlyjs=True, full_html=True))
