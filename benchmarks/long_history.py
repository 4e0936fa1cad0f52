"""Whether search methods take long histories: 10,000 points told, the time of asks, and memory.

    python -m benchmarks.long_history --json
    python -m benchmarks.long_history --methods bayesian,mobo,optuna:sampler=gp --told 2000

Each method lives in a process of its own with one thread. It is given points of a function of 10 floats (mixed ones
with `--mixed`) 100 at a time, as if they had been evaluated elsewhere, and at each tenth of the way it is asked for 20
points itself. Resident memory is read after each of these asks; *flat* is the memory at the end beside that half way.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measuring import median, show
from benchmarks.search.pool import THREADS
from hpo_steer import Observation, SearchSpace, create_algorithm
from hpo_steer.algorithm import Asked, Point, SearchAlgorithm, Told
from hpo_steer.errors import HpoSteerError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from hpo_steer.space import Params

METHODS = (
    "auto",
    "bayesian",
    "mobo",
    "evolution",
    "evolution:method=cmaes",
    "optuna:sampler=tpe",
    "optuna:sampler=gp",
    "optuna:sampler=cmaes",
    "optuna:sampler=nsgaii",
    "nevergrad:optimizer=NGOpt",
    "nevergrad:optimizer=DE",
    "ax",
    "random",
    "sobol",
)
_ASKED = 20
_CHUNK = 100
_MARKS = 10


def space(*, mixed: bool) -> SearchSpace:
    """Ten parameters; with `mixed` two of them are choices, two integers, and one depends on a choice."""
    spec: dict[str, Any] = {f"x{i}": {"type": "float", "low": 0.0, "high": 1.0} for i in range(10)}
    if mixed:
        spec["x0"] = {"type": "categorical", "choices": ["a", "b", "c"]}
        spec["x1"] = {"type": "categorical", "choices": ["on", "off"]}
        spec["x2"] = {"type": "int", "low": 1, "high": 100}
        spec["x3"] = {"type": "int", "low": 1, "high": 4}
        spec["x4"] = {"type": "float", "low": 1e-4, "high": 1.0, "log": True, "when": {"x1": "on"}}
    return SearchSpace.from_dict(spec)


def values(of: SearchSpace, params: dict[str, Any], several: bool) -> dict[str, float]:
    """A bowl with ripples; with several objectives a second bowl elsewhere."""
    unit = np.array(of.encode(params))
    found = {"loss": float(((unit - 0.3) ** 2).sum() + 0.05 * np.cos(12.0 * unit).sum())}
    if several:
        found["size"] = float(((unit - 0.7) ** 2).sum())
    return found


def resident_mib() -> float:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def grow(search: SearchAlgorithm, of: SearchSpace, told: int, *, several: bool) -> dict[str, list[float]]:
    """Tells the points, and asks on the way."""
    rng = np.random.default_rng(1)
    known = 0
    found: dict[str, list[float]] = {"told": [], "ask_s": [], "mib": []}
    for mark in range(1, _MARKS + 1):
        while known < told * mark // _MARKS:
            points = [
                Point(known + i, params)
                for i, params in enumerate(of.sample(min(_CHUNK, told * mark // _MARKS - known), rng))
            ]
            known += len(points)
            search.restore([Asked(len(points), points, given=True)])
            search.restore([Told([Observation(p.id, values(of, p.params, several)) for p in points])])
        begin = time.perf_counter()
        asked: Sequence[Point | Params] = search.ask(_ASKED)
        found["ask_s"].append(time.perf_counter() - begin)
        if len(asked) != _ASKED:
            raise HpoSteerError(f"asked for {_ASKED} points, got {len(asked)}")
        fresh = [p if isinstance(p, Point) else Point(known + i, p) for i, p in enumerate(asked)]
        known += len(fresh)
        search.tell([Observation(p.id, values(of, p.params, several)) for p in fresh])
        found["told"].append(float(known))
        found["mib"].append(resident_mib())
    return found


def measure(pipe: Connection, name: str, told: int, mixed: bool) -> None:
    """In a process of its own."""
    warnings.simplefilter("ignore")
    method, *pairs = name.split(":")
    options = dict(pair.split("=", 1) for pair in pairs)
    several = method == "mobo" or options.get("sampler") == "nsgaii"
    goals = {"loss": "minimize", "size": "minimize"} if several else {"loss": "minimize"}
    of = space(mixed=mixed)
    try:
        search = create_algorithm(method, of, goals, seed=1, **options)
        pipe.send(grow(search, of, told, several=several))
    except Exception as exc:  # noqa: BLE001 - whatever it is, it is the figure
        pipe.send({"error": f"{type(exc).__name__}: {exc}"})


def figures(name: str, told: int, *, mixed: bool, limit_s: float) -> dict[str, Any]:
    """What one method did; a process that took too long is ended."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=measure, args=(theirs, name, told, mixed), daemon=True)
    begin = time.perf_counter()
    process.start()
    theirs.close()
    try:
        found: dict[str, Any] = (
            ours.recv() if ours.poll(limit_s) else {"error": f"not done within {limit_s:g} s"}
        )
    except EOFError:
        found = {"error": "its process died"}
    process.kill()
    process.join()
    figure: dict[str, Any] = {"method": name, "took_s": time.perf_counter() - begin}
    if "error" in found:
        return figure | found
    half = len(found["mib"]) // 2
    return figure | {
        "ask_s": {
            "half_way": found["ask_s"][half - 1],
            "last": found["ask_s"][-1],
            "median": median(found["ask_s"]),
        },
        "mib": {"half_way": found["mib"][half - 1], "last": found["mib"][-1]},
        "flat": found["mib"][-1] / found["mib"][half - 1],
    }


def line(figure: dict[str, Any]) -> str:
    """For people."""
    if "error" in figure:
        return f"{figure['method']:28} FAILED: {figure['error']}"
    ask, mib = figure["ask_s"], figure["mib"]
    return (
        f"{figure['method']:28} ask {ask['half_way']:6.2f} s half way, {ask['last']:6.2f} s last;  "
        f"memory {mib['half_way']:5.0f} to {mib['last']:5.0f} MiB ({figure['flat']:.2f})"
    )


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.long_history",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--methods", default=",".join(METHODS), metavar="A,B", help="names, with options as a:b=c"
    )
    parser.add_argument("--told", type=int, default=10_000)
    parser.add_argument(
        "--mixed", action="store_true", help="choices, integers and a condition among the parameters"
    )
    parser.add_argument("--limit-s", type=float, default=900.0, help="for each method (default: 900)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for name in THREADS:
        os.environ[name] = "1"
    found = []
    for name in arguments.methods.split(","):
        found.append(figures(name, arguments.told, mixed=arguments.mixed, limit_s=arguments.limit_s))
        print(line(found[-1]), file=sys.stderr, flush=True)
    result = {"benchmark": "long_history", "told": arguments.told, "mixed": arguments.mixed, "methods": found}
    show(result, [json.dumps(each) for each in found] if not arguments.json else [], as_json=arguments.json)
    if any("error" in each for each in found):
        sys.exit(1)


if __name__ == "__main__":
    main()
