"""How long one ask takes once there is a history, and how good its answer is.

    python -m benchmarks.ask_time --told 100,1000,5000 --contenders bayesian,optuna-tpe,botorch --json

Every contender of `benchmarks.search` is given the same points of Ackley's function in 10 dimensions, those told
and 20 pending ones, and asked for 20 more, in a process of its own with one thread (`--threads`). As a search leaves
them, half of the points are uniform, and half lie around the best of those. Beside the seconds stand the true values
of the 20 points: a quick bad answer wins nothing.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import os
import resource
import statistics
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measuring import median, show, versions
from benchmarks.search.contenders import PACKAGES, contender, contender_names
from benchmarks.search.pool import THREADS
from benchmarks.search.problem import Setting, value_of
from benchmarks.search.problems import problem
from benchmarks.search.race import seed_everything, sentence
from hpo_steer.errors import UserError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from hpo_steer.space import Params

_PROBLEM = "ackley10"
_ASKED = 20
_PENDING = 20
_SPREAD = 0.1
"""Standard deviation around the best point, in units of the cube."""


def history(told: int, seed: int) -> list[Params]:
    """`told` points and the pending ones after them: half of each uniform, the rest around the best of those."""
    on = problem(_PROBLEM)
    rng = np.random.default_rng(seed)
    wide = on.space.sample(max(told // 2, 1), rng)
    best = min(wide, key=lambda params: value_of(on.evaluate, params))
    count = told + _PENDING - len(wide)
    near = np.array(on.space.encode(best)) + _SPREAD * rng.normal(size=(count, len(on.space)))
    return wide + [on.space.decode(row) for row in np.clip(near, 0.0, 1.0).tolist()]


def answer(pipe: Connection, name: str, told: int, seed: int, threads: int) -> None:
    """In a process of its own: sends a word once the history is taken in, and then the figures."""
    import torch

    torch.set_num_threads(threads)
    logging.disable(logging.ERROR)
    warnings.simplefilter("ignore")
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - some libraries print
    on = problem(_PROBLEM)
    points = history(told, seed)
    outcomes = [on.evaluate(params) for params in points[:told]]
    seed_everything(seed)
    try:
        begin = time.perf_counter()
        racer = contender(name).load()(Setting(on.space, seed, _ASKED, told + _PENDING + _ASKED))
        racer.adopt(points)
        racer.tell(list(enumerate(outcomes)))
        history_s = time.perf_counter() - begin
        pipe.send("ready")
        begin, cpu = time.perf_counter(), time.process_time()
        found = racer.ask(_ASKED)
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
        values = [value_of(on.evaluate, on.space.validate(params)) for params in found]
    except Exception as exc:  # noqa: BLE001 - whatever a library raises is its failure
        pipe.send({"error": sentence(exc)})
        return
    pipe.send(
        {
            "ask_s": seconds,
            "ask_cpu_s": cpu_seconds,
            "history_s": history_s,
            "median_value": statistics.median(values) if values else None,
            "best_value": min(values, default=None),
            "points": len(values),
            "distinct": len({on.space.hash(params) for params in found}),
            "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    )


def measured(name: str, told: int, seed: int, *, limit_s: float, threads: int) -> dict[str, Any]:
    """The figures of one process, or `{"error": …}`.

    The limit counts from the start until the history is taken in, and again for the ask.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=answer, args=(there, name, told, seed, threads), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(limit_s):
            return {"error": f"took more than {limit_s:g} s to take in the history"}
        found = here.recv()
        if found == "ready":
            if not here.poll(limit_s):
                return {"error": f"took more than {limit_s:g} s for the ask"}
            found = here.recv()
    except EOFError:
        process.join()
        return {"error": f"its process ended with exit code {process.exitcode}"}
    else:
        done: dict[str, Any] = found
        return done
    finally:
        process.kill()
        process.join()


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All contenders, in turn, at each length of the history.

    Raises:
        UserError: an argument names nothing, or makes no sense.
    """
    names = [name for name in contender_names(arguments.contenders) if contender(name).serves(1)]
    lengths = _lengths(arguments.told)
    for option in ("seeds", "threads", "limit_s"):
        if getattr(arguments, option) <= 0:
            raise UserError(f"--{option.replace('_', '-')} is above 0, got {getattr(arguments, option)}")
    for name in names:
        contender(name).check()
    for variable in THREADS:
        os.environ[variable] = str(arguments.threads)  # the processes inherit it
    figures: dict[str, Any] = {}
    for told in lengths:
        for name in names:
            runs = [
                measured(name, told, seed, limit_s=arguments.limit_s, threads=arguments.threads)
                for seed in range(arguments.seeds)
            ]
            figures.setdefault(str(told), {})[name] = _medians(runs)
            print(f"{told} told, {name}: {_line(figures[str(told)][name])}", file=sys.stderr, flush=True)
    return {
        "benchmark": "ask_time",
        "problem": _PROBLEM,
        "asked": _ASKED,
        "pending": _PENDING,
        "seeds": arguments.seeds,
        "threads": arguments.threads,
        "versions": versions(PACKAGES),
        "limit_s": arguments.limit_s,
        "told": figures,
    }


def _medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of each figure over the seeds; the first error, if there is one."""
    for found in runs:
        if "error" in found:
            return found
    return {key: median([found[key] for found in runs]) for key in runs[0]}


def _line(found: dict[str, Any]) -> str:
    if "error" in found:
        return f"FAILED: {found['error']}"
    return (
        f"{found['ask_s']:.2f} s (cpu {found['ask_cpu_s']:.2f} s), median value {found['median_value']:.3g}, "
        f"best {found['best_value']:.3g}, {found['peak_memory_mib']:.0f} MiB"
    )


def _lengths(text: str) -> list[int]:
    try:
        lengths = [int(part) for part in text.split(",")]
    except ValueError:
        lengths = []
    if not lengths or min(lengths) < 1:
        raise UserError(f"--told is a list of whole numbers of 1 or more, such as 100,1000; got {text!r}")
    return lengths


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ask_time",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--told", default="100,1000,5000", metavar="N,M", help="points in the history")
    parser.add_argument("--contenders", default="all", metavar="A,B", help="as in benchmarks.search")
    parser.add_argument("--seeds", type=int, default=1, help="medians are reported (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="of each process (default: 1)")
    parser.add_argument("--limit-s", type=float, default=300.0, help="of an ask (default: 300)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    try:
        result = measure(arguments)
    except UserError as exc:
        print(exc, file=sys.stderr)
        sys.exit(2)
    lines = [
        f"{told:>6} told  {name:24} {_line(found)}"
        for told, contenders in result["told"].items()
        for name, found in contenders.items()
    ]
    show(result, lines, as_json=arguments.json)


if __name__ == "__main__":
    main()
