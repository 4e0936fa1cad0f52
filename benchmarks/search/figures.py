"""Compares what came of the tasks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import rankdata

from benchmarks.measuring import median
from benchmarks.search.contenders import contender
from benchmarks.search.problems import KINDS, problem

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.search.problem import Problem
    from benchmarks.search.race import Record

Figures = dict[str, Any]


def compare(records: Sequence[Record], synchronous: Sequence[Record] = ()) -> Figures:
    """Figures of a race.

    Args:
        records: of all its tasks.
        synchronous: of the same tasks without overlap, where they were run; their ratio is added.
    """
    problems = {
        name: _on_problem(
            problem(name),
            [r for r in records if r.task.problem == name],
            [r for r in synchronous if r.task.problem == name],
        )
        for name in _in_order(r.task.problem for r in records)
    }
    contenders = _in_order(r.task.contender for r in records)
    return {
        "problems": problems,
        "contenders": {name: _over_problems(name, problems) for name in contenders},
    }


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


# ---------------------------------------------------------------- one problem


def _on_problem(on: Problem, records: Sequence[Record], synchronous: Sequence[Record]) -> Figures:
    known = _best_known(on, [*records, *synchronous])
    names = _in_order(r.task.contender for r in records)
    rows = {name: _row(on, known, [r for r in records if r.task.contender == name]) for name in names}
    medians = [rows[name]["median_regret"] for name in names]
    for name, rank in zip(names, rankdata(medians).tolist(), strict=True):
        rows[name]["rank"] = rank
    peers = [name for name in names if not contender(name).ours]
    best_peer = min(peers, key=lambda name: rows[name]["median_regret"], default=None)
    for name in names:
        row = rows[name]
        row["ratio_to_best_peer"] = (
            None if best_peer is None else row["median_regret"] / rows[best_peer]["median_regret"]
        )
        alone = [on.regret(r.best, known) for r in synchronous if r.task.contender == name]
        row["ratio_to_synchronous"] = row["median_regret"] / median(alone) if alone else None
    return {
        "objectives": on.objectives,
        "held_out": on.held_out,
        "best_known": known,
        "proven": on.proven,
        "scale": on.scale,
        "floor": on.floor,
        "best_peer": best_peer,
        "contenders": rows,
    }


def _best_known(on: Problem, records: Sequence[Record]) -> float:
    """The optimum; where it is not proven, the better of what is stored and what was found."""
    found = [r.best for r in records if r.best is not None]
    if on.best is not None:
        found = [on.best] if on.proven else [*found, on.best]
    if not found:
        return 0.0
    return max(found) if on.objectives > 1 else min(found)


def _row(on: Problem, known: float, records: Sequence[Record]) -> Figures:
    regrets = [on.regret(r.best, known) for r in records]
    low, middle, high = np.quantile(regrets, [0.25, 0.5, 0.75]).tolist()
    errors = [(r.task.seed, r.failed_at, r.error) for r in records if r.error is not None]
    return {
        "seeds": [r.task.seed for r in records],
        "regrets": regrets,
        "median_regret": middle,
        "quartiles": [low, high],
        "log10_median_regret": math.log10(middle),
        "median_ask_s": median([r.ask_s for r in records]),
        "median_ask_cpu_s": median([r.ask_cpu_s for r in records]),
        "median_last_ask_s": median([r.last_ask_s for r in records]),
        "median_tell_s": median([r.tell_s for r in records]),
        "short_by": sum(r.short_by for r in records),
        "failed": [{"seed": s, "after": after, "error": error} for s, after, error in errors],
    }


# ---------------------------------------------------------------- over problems


def _over_problems(name: str, problems: Mapping[str, Figures]) -> Figures:
    """Ratios and ranks of a contender, over all problems and over each kind of them."""
    raced = {
        p: figures["contenders"][name] for p, figures in problems.items() if name in figures["contenders"]
    }
    split = {
        kind.replace("-", "_"): {p: raced[p] for p in raced if p in members}
        for kind, members in KINDS.items()
    }
    return {
        "ours": contender(name).ours,
        **_summary(raced),
        "by_kind": {kind: _summary(rows) for kind, rows in split.items() if rows},
        "failed": sum(len(row["failed"]) for row in raced.values()),
    }


def _summary(rows: Mapping[str, Figures]) -> Figures:
    ratios = {
        p: row["ratio_to_best_peer"] for p, row in rows.items() if row["ratio_to_best_peer"] is not None
    }
    beside = [row["ratio_to_synchronous"] for row in rows.values() if row["ratio_to_synchronous"] is not None]
    worst = max(ratios, key=ratios.__getitem__, default=None)
    return {
        "problems": len(rows),
        "geometric_mean_ratio": _geometric_mean(list(ratios.values())),
        "worst_ratio": None if worst is None else ratios[worst],
        "worst_on": worst,
        "mean_rank": float(np.mean([row["rank"] for row in rows.values()])),
        "ratio_to_synchronous": _geometric_mean(beside),
    }


def _geometric_mean(ratios: Sequence[float]) -> float | None:
    return float(np.exp(np.mean(np.log(ratios)))) if ratios else None
