"""``hpo-steer status``: how a run stands."""

from typing import TYPE_CHECKING, Any

from steering.commands.options import RUNS, AsJson, Config, Run, StoreFolder, say, say_json, show_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from steering.front import Volume
    from steering.run_view import RunView

_MODELS_SHOWN = 20
_WORKERS_SHOWN = 5


def status(
    run: Run = None, *, config: Config = None, store: StoreFolder = RUNS, as_json: AsJson = False
) -> None:
    """How a run stands: its state, its points, the best so far.

    Example: hpo-steer status digits
    """
    from steering.run_view import open_view

    with open_view(run, config=config, store=store) as view:
        answer = summary(view)
    if as_json:
        say_json(answer)
    else:
        _show(answer)


def summary(view: "RunView") -> dict[str, Any]:
    """How a run stands, as data."""
    from steering.feasibility import none_feasible
    from steering.run_view import timestamp

    counts, run = view.counts, view.run
    asks = [i.ask_s for i in view.iterations if i.origin != "guess"]
    messages = [p.failure.message for p in view.points if p.failure is not None]
    owner = view.store.owner()
    state = "running" if owner else "ended" if run.ended is not None else "interrupted"
    now = run.condition if owner else None
    return {
        "name": view.name,
        "run": run.run,
        "folder": str(view.folder),
        "config": None if view.config_path is None else str(view.config_path),
        "state": state,
        "steered_by": None if owner is None else {"name": owner.name, "since": timestamp(owner.since)},
        "waiting": None if now is None else now.waiting,
        "workers": None if now is None else now.workers,
        "slots": None if now is None else now.slots,
        "fleet": None if now is None else [dict(worker) for worker in now.fleet],
        "as_of": None if now is None else timestamp(now.at),
        "ended": run.ended,
        "created_at": timestamp(run.created_at),
        "ended_at": timestamp(run.ended_at),
        "elapsed_s": run.elapsed_s,
        "objectives": {goal.name: goal.direction for goal in view.goals},
        "outcome_constraints": [str(each) for each in view.outcomes],
        "points": {
            "total": counts.total,
            "queued": counts.queued,
            "running": counts.running,
            "done": counts.done,
            "failed": sum(counts.failed.values()),
            "duplicates": counts.duplicates,
            "known": sum(p.iteration == 0 for p in view.points),
            "feasible": sum(view.feasible(p) for p in view.points),
        },
        "failed": dict(counts.failed),
        "released": _released(view),
        "last_failure": messages[-1] if messages else None,
        "iterations": len(view.iterations),
        "ask_s": {"last": asks[-1], "median": sorted(asks)[len(asks) // 2], "longest": max(asks)}
        if asks
        else None,
        "note": next((i.note for i in reversed(view.iterations) if i.note), None),
        "best": _best(view, view.best(n=1)),
        "no_best": none_feasible(view.outcomes, view.points),
        "front_size": len(view.best()) if len(view.goals) > 1 else None,
        **_volume(view.volume()),
        "models": [_model(view, model.name, model.ended) for model in view.models],
    }


def _released(view: "RunView") -> int:
    """How many attempts their workers have released, as those had to leave."""
    if not any(point.forgiven for point in view.points):
        return 0
    return sum(attempt.outcome == "released" for attempt in view.attempts)


def _volume(volume: "Volume | None") -> dict[str, Any]:
    reference = None if volume is None else volume.reference
    return {
        "hypervolume": None if volume is None else volume.value,
        "reference": None if reference is None else dict(reference.values),
        "reference_inferred": None if reference is None else list(reference.inferred),
    }


def _best(view: "RunView", best: list[Any]) -> dict[str, Any] | None:
    if not best:
        return None
    point = best[0]
    first = view.first_iteration_best(point.model)
    return {
        "id": point.id,
        "model": point.model,
        "iteration": point.iteration,
        "values": dict(point.values),
        "params": dict(point.params),
        "first_iteration_best": None if first is None else dict(first.values or {}),
    }


def _model(view: "RunView", name: str, ended: str | None) -> dict[str, Any]:
    points = view.by_model[name]
    best = view.best(name)
    return {
        "name": name,
        "ended": ended,
        "iterations": max((p.iteration for p in points), default=0),
        "points": len(points),
        "done": sum(p.state == "done" for p in points),
        "failed": sum(p.state == "failed" for p in points),
        "best": dict(best[0].values or {}) if best else None,
        "front_size": len(best) if len(view.goals) > 1 else None,
        **_volume(view.volume(name)),
    }


def _show(answer: dict[str, Any]) -> None:
    from steering.words import duration, plural

    config = f" --config {answer['config']}" if answer["config"] else ""
    states = {
        "ended": f"ended: {answer['ended']}",
        "running": "running",
        "interrupted": f"interrupted; the same command carries on: hpo-steer{config}",
    }
    say(f"{answer['name']}: {states[answer['state']]}")
    if answer["waiting"]:
        say(f"  {answer['waiting']}")
    if owner := answer["steered_by"]:
        since = f"{owner['since'][:16].replace('T', ' ')} UTC"
        workers = (
            ""
            if answer["workers"] is None
            else (f" · {plural(answer['workers'], 'worker')}, {plural(answer['slots'], 'slot')}")
        )
        say(f"  steered by  {owner['name']}, since {since}{workers}")
    for line in _fleet_lines(answer):
        say(line)
    for line in _point_lines(answer):
        say(line)
    if (answer["last_failure"] or "").strip():
        say(f"              last: {answer['last_failure'].strip().splitlines()[0][:160]}")
    asks = answer["ask_s"]
    text = plural(answer["iterations"], "iteration")
    if asks:
        text += f" · an ask takes {duration(asks['median'])}, the longest took {duration(asks['longest'])}"
    say(f"  asked       {text}")
    if answer["note"]:
        say(f"              {answer['note']}")
    since = answer["created_at"][:16].replace("T", " ")
    say(f"  steered for {duration(answer['elapsed_s'])}, since {since} UTC")
    for line in _best_lines(answer):
        say(line)
    if len(answer["models"]) > 1:
        _show_models(answer)
    say(f"  folder      {answer['folder']}")


def _point_lines(answer: dict[str, Any]) -> "Iterator[str]":
    """How many points are where."""
    from steering.words import plural

    counts = answer["points"]
    parts = [plural(counts["total"], "point")]
    parts += [f"{counts[key]} {key}" for key in ("done", "running", "queued") if counts[key]]
    if counts["failed"]:
        from steering.progress import failures

        parts.append(failures(answer["failed"]))
    if counts["duplicates"]:
        parts.append(plural(counts["duplicates"], "duplicate") + " reused")
    if counts["known"]:
        parts.append(f"{counts['known']} known before")
    if counts["feasible"] < counts["done"]:
        parts.append(f"{counts['done'] - counts['feasible']} infeasible")
    yield "  points      " + " · ".join(parts)
    if answer["released"]:
        released = plural(answer["released"], "attempt")
        yield f"  released    {released}, as their workers had to leave; others carry on"


def _fleet_lines(answer: dict[str, Any]) -> "Iterator[str]":
    """How the workers are: in numbers, and by name those that take no points."""
    from steering.words import plural

    fleet = answer["fleet"] or []
    states = [worker["state"] for worker in fleet]
    if not states:
        return
    parts = [f"{states.count(state)} {state}" for state in dict.fromkeys(["ok", *sorted(set(states))])]
    free = [worker["disk_free_mib"] for worker in fleet if "disk_free_mib" in worker]
    busy = [gpu["busy"] for worker in fleet for gpu in worker.get("gpus", ()) if "busy" in gpu]
    parts += [f"{plural(len(busy), 'GPU')} {100 * sum(busy) / len(busy):.0f} % busy"] if busy else []
    parts += [f"least free disk {min(free) / 1024:.1f} GiB"] if free else []
    yield "  workers     " + " · ".join(part for part in parts if not part.startswith("0 "))
    unwell = [worker for worker in fleet if worker["state"] != "ok" or worker.get("reason")]
    for worker in unwell[:_WORKERS_SHOWN]:
        yield f"              {worker['worker']}: {worker['state']}, {worker.get('reason') or 'no reason given'}"
    if len(unwell) > _WORKERS_SHOWN:
        yield f"              and {len(unwell) - _WORKERS_SHOWN} more: --json has them all"


def _best_lines(answer: dict[str, Any]) -> "Iterator[str]":
    """What is best, under the heading ``best``."""
    from steering.front import Reference
    from steering.words import number, params, plural

    best = answer["best"]
    if best is None:
        yield f"  best        {answer['no_best'] or 'no result yet'}"
    elif answer["front_size"] is not None:
        text = f"{plural(answer['front_size'], 'point')} on the Pareto front"
        if answer["hypervolume"] is not None:
            text += f", hypervolume {number(answer['hypervolume'])}"
        yield f"  best        {text}: hpo-steer best {answer['name']}"
        if answer["reference"]:
            yield f"              {Reference(answer['reference'], tuple(answer['reference_inferred']))}"
    else:
        name = next(iter(answer["objectives"]))
        where = f"point {best['id']}, iteration {best['iteration']}"
        where += f", model {best['model']}" if len(answer["models"]) > 1 else ""
        text = f"{name} {number(best['values'][name])} ({where})"
        if best["first_iteration_best"]:
            text += f"; first iteration's best {number(best['first_iteration_best'][name])}"
        yield f"  best        {text}"
        yield f"              {params(best['params'])}"


def _show_models(answer: dict[str, Any]) -> None:
    names = list(answer["objectives"])
    shown = answer["models"][:_MODELS_SHOWN]
    rows = [
        [
            model["name"],
            str(model["iterations"]),
            f"{model['done']}/{model['points']}",
            str(model["failed"]),
            *_best_cells(model, names),
            model["ended"] or "goes on",
        ]
        for model in shown
    ]
    heads = [
        "model",
        "iterations",
        "done",
        "failed",
        *([f"best {names[0]}"] if len(names) == 1 else ["front", "hypervolume"]),
        "state",
    ]
    say("")
    show_table(heads, rows, right=tuple(range(1, len(heads) - 1)))
    if len(answer["models"]) > len(shown):
        say(f"… and {len(answer['models']) - len(shown)} more models: --json has them all")
    say("")


def _best_cells(model: dict[str, Any], names: list[str]) -> list[str]:
    """The best value of a model, or the size and the hypervolume of its front."""
    from steering.words import number

    if not model["best"]:
        return ["-"] if len(names) == 1 else ["-", "-"]
    if len(names) == 1:
        return [number(model["best"][names[0]])]
    return [str(model["front_size"]), number(model["hypervolume"])]
