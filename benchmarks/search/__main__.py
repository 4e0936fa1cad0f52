"""The command: see the docstring of the package."""

from __future__ import annotations

import argparse
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmarks.search
from benchmarks.measuring import show, versions
from benchmarks.search.contenders import PACKAGES, contender, contender_names
from benchmarks.search.figures import compare
from benchmarks.search.pool import Keep, Progress, plan, run_all
from benchmarks.search.problems import SEVERAL, problem, problem_names
from benchmarks.search.race import Record, Task
from benchmarks.search.table import lines_of, listing
from hpo_steer.errors import UserError


def main() -> None:
    """The command; exit code 2 for what the user can mend, 130 when interrupted."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        if arguments.list:
            sys.stdout.write("\n".join(listing()) + "\n")
        else:
            figures = measure(arguments)
            show(figures, lines_of(figures), as_json=arguments.json)
    except UserError as exc:
        print(exc, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        hint = "the same command goes on from there" if arguments.keep else "with --keep FILE it could go on"
        print(f"interrupted; {hint}", file=sys.stderr)
        sys.exit(130)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Runs what was not kept, and compares.

    Raises:
        UserError: an argument names nothing, or makes no sense.
    """
    begin = time.perf_counter()
    problems, contenders = problem_names(arguments.problems), contender_names(arguments.contenders)
    again = set(contender_names(arguments.again)) if arguments.again else set()
    _check(arguments)
    tasks = plan(
        (problems, contenders),
        range(arguments.first, arguments.first + arguments.seeds),
        _serves,
        batch=arguments.batch,
        evaluations=arguments.evaluations,
        overlap=arguments.overlap,
        ask_limit_s=arguments.ask_limit_s,
    )
    if not tasks:
        raise UserError("none of these contenders serves one of these problems; --list lists all")
    keep = Keep(arguments.keep)
    left = [task for task in tasks if task not in keep.records or task.contender in again]
    _check_contenders(left)
    progress = Progress(left, arguments.jobs)

    def done(record: Record) -> None:
        keep.add(record)
        progress(record)

    run_all(left, arguments.jobs, done)
    alone = [replace(task, overlap=1.0) for task in tasks if task.overlap < 1.0]
    figures = compare(
        [keep.records[task] for task in tasks], [keep.records[task] for task in alone if task in keep.records]
    )
    return {
        "benchmark": "search",
        "batch": arguments.batch,
        "evaluations": arguments.evaluations,
        "overlap": arguments.overlap,
        "seeds": arguments.seeds,
        "first_seed": arguments.first,
        "jobs": arguments.jobs,
        "versions": versions(PACKAGES),
        "kept_tasks": len(tasks) - len(left),
        **figures,
        "left_out": [f"{c} on {p}" for p in problems for c in contenders if not _serves(p, c)],
        "took_s": time.perf_counter() - begin,
    }


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _serves(problem_name: str, contender_name: str) -> bool:
    objectives = problem(problem_name).objectives if problem_name in SEVERAL else 1
    return contender(contender_name).serves(objectives)


def _check(arguments: argparse.Namespace) -> None:
    for name in ("seeds", "batch", "evaluations", "jobs"):
        if getattr(arguments, name) < 1:
            raise UserError(f"--{name} is a whole number of 1 or more, got {getattr(arguments, name)}")
    if not 0.0 < arguments.overlap <= 1.0:
        raise UserError(f"--overlap is a share above 0 and up to 1, got {arguments.overlap}")
    if arguments.ask_limit_s <= 0.0:
        raise UserError(f"--ask-limit-s is above 0, got {arguments.ask_limit_s}")


def _check_contenders(tasks: list[Task]) -> None:
    """A missing package or a wrong option is said before anything runs.

    Raises:
        UserError: which, and what to do.
    """
    first = {task.contender: task for task in reversed(tasks)}
    for name, task in first.items():
        entry = contender(name)
        entry.check()
        if ":" in name:
            entry.load()(problem(task.problem).setting(seed=0, batch=task.batch, evaluations=1))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.search",
        description=benchmarks.search.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--problems", default="named", metavar="A,B", help="names or groups of problems (default: named)")
    add("--contenders", default="all", metavar="A,B", help="names, or all, ours, peers (default: all)")
    add("--seeds", type=int, default=10, help="how many (default: 10)")
    add("--first", type=int, default=0, help="the first seed (default: 0)")
    add("--batch", type=int, default=20, help="points of an ask (default: 20)")
    add("--evaluations", type=int, default=100, help="points of a task (default: 100)")
    add(
        "--overlap",
        type=float,
        default=1.0,
        help="the share of a batch told when the next is asked for (default: 1)",
    )
    add("--jobs", type=int, default=1, help="processes at a time (default: 1)")
    add("--ask-limit-s", type=float, default=900.0, help="an ask that takes longer has failed (default: 900)")
    add("--keep", type=Path, metavar="FILE", help="append every finished task to FILE, and reuse those in it")
    add("--again", metavar="A,B", help="contenders to run again although --keep has them")
    add("--json", action="store_true", help="figures for programs")
    add("--list", action="store_true", help="list problems and contenders")
    return parser


if __name__ == "__main__":
    main()
