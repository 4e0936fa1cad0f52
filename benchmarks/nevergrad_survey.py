"""Which of Nevergrad's optimisers can serve a steering: every one of its registry is put through asks and tells.

    python -m benchmarks.nevergrad_survey --json > survey.json
    python -m benchmarks.nevergrad_survey --only CMA,Cobyla --jobs 1 --limit 10

Each trial is made in a child process of its own with a time-out, and lists the optimiser as fit, or says which step it
failed and how. The steps are those of a steering with eight points at a time:

* `construct` it for eight workers and a budget of 40 points;
* `ask` for eight points and tell them, then for eight more while four are still pending (floats only);
* `failures`: two asks of which no point is ever told, and a fifth of the points thereafter;
* `past the budget`: until 64 points were asked for;
* `foreign`: a point that it did not suggest is told, or refused as Nevergrad documents it;
* `mixed`: the like with integers, a log scale and choices;
* `usual budget`: the same with a budget of 1,000, for which portfolios choose other members;
* `two objectives`: the like with two losses;
* `repeatable`: a second instance, taken through the same, suggests the same points;
* `threads`: no thread waits for results that may never come.

A fit one may still be of little use. `repeats` is the share of suggestions that the optimiser had made before, over the
floats; it is a sign of one that converged early or has no more to offer.

The table of excluded optimisers in `algorithms.nevergrad_registry` is made from the answer.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import versions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_BATCH = 8
_BUDGET = 40
_ASKED = 64
_SPACES: dict[str, dict[str, Any]] = {
    "floats": {name: {"type": "float", "low": -1, "high": 2} for name in "xyz"},
    "mixed": {
        "eta": {"type": "float", "low": 1e-4, "high": 1, "log": True},
        "depth": {"type": "int", "low": 2, "high": 12},
        "width": {"type": "int", "low": 1, "high": 512, "log": True},
        "kind": {"type": "categorical", "choices": ["a", "b", "c"]},
    },
}


class _Session:
    """One optimiser on one space, told a smooth loss."""

    def __init__(self, name: str, space: str, losses: int = 1, budget: int = _BUDGET) -> None:
        import numpy as np

        from algorithms.nevergrad_optimizers import dimension, ng
        from hpo_steer.space import SearchSpace

        np.random.seed(7)  # some draw from the global numbers; the algorithm seeds them likewise
        self.losses = losses
        parametrization = ng.p.Dict(**{p.name: dimension(p) for p in SearchSpace.from_dict(_SPACES[space])})
        parametrization.random_state = np.random.RandomState(7)
        self.optimizer = ng.optimizers.registry[name](parametrization, budget=budget, num_workers=_BATCH)
        self.asked: list[Any] = []

    def ask(self, n: int) -> list[Any]:
        found = [self.optimizer.ask() for _ in range(n)]
        self.asked += found
        return found

    def tell(self, candidates: Sequence[Any]) -> None:
        for candidate in candidates:
            row = [float(value) for value in candidate.value.values()]
            first = sum((value - 0.37) ** 2 for value in row)
            self.optimizer.tell(candidate, first if self.losses == 1 else [first, 1.0 - first * row[0]])

    def rounds(self) -> None:
        """Asks with pending points, failures, and on past the budget."""
        first = self.ask(_BATCH)
        self.tell(first[4:])
        self.ask(_BATCH)
        self.tell(first[:4])
        self.ask(_BATCH)
        while len(self.asked) < _ASKED:
            found = self.ask(_BATCH)
            self.tell([each for i, each in enumerate(found) if i % 5 != 2][::-1])

    @property
    def points(self) -> list[tuple[float, ...]]:
        return [tuple(float(value) for value in candidate.value.values()) for candidate in self.asked]


def _steps(name: str) -> Iterator[tuple[str, Any]]:
    """Does one step after the other, and yields the name of the one that begins."""
    from algorithms.nevergrad_optimizers import ng

    yield "construct", None
    session = _Session(name, "floats")
    yield "ask", None
    first = session.ask(_BATCH)
    session.tell(first[4:])
    session.ask(_BATCH)
    session.tell(first[:4])
    yield "failures", None
    session.ask(_BATCH)
    for _ in range(2):
        found = session.ask(_BATCH)
        session.tell([each for i, each in enumerate(found) if i % 5 != 2][::-1])
    yield "past the budget", None
    while len(session.asked) < _ASKED:
        session.tell(session.ask(_BATCH))
    yield "repeats", 1.0 - len(set(session.points)) / _ASKED
    yield "foreign", None
    given = session.optimizer.parametrization.spawn_child(new_value={"x": 0.1, "y": 0.2, "z": 0.3})
    try:
        session.tell([given])
    except ng.errors.TellNotAskedNotSupportedError:
        yield "refuses foreign points", True
    session.ask(1)
    yield "mixed", None
    mixed = _Session(name, "mixed")
    mixed.rounds()
    yield "usual budget", None
    _Session(name, "mixed", budget=1_000).rounds()
    yield "two objectives", None
    _Session(name, "floats", 2).rounds()
    yield "repeatable", None
    again = _Session(name, "mixed")
    again.rounds()
    if again.points != mixed.points:
        raise RuntimeError("the same seed and results give other points")
    yield "threads", None
    if threading.active_count() > 1:
        raise RuntimeError(f"it has left {threading.active_count() - 1} threads behind that wait for results")


def _child(pipe: Connection, name: str) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - some optimisers print
    warnings.simplefilter("ignore")
    try:
        for step in _steps(name):
            pipe.send(step)
    except BaseException as exc:  # noqa: BLE001 - whatever a library raises is its failure
        cause = exc.__cause__ or exc
        text = (str(cause).strip() or type(cause).__name__).split("\n")[0]
        pipe.send(("failed", f"{type(cause).__name__}: {text}"[:200]))
    else:
        pipe.send(("done", True))
    os._exit(0)  # threads of solvers may wait for ever


class _Trial:
    """One optimiser in its child process."""

    def __init__(self, name: str, limit_s: float) -> None:
        self.name, self.limit_s = name, limit_s
        self.answer: dict[str, Any] = {"ok": False, "step": "start"}
        self.pipe, theirs = multiprocessing.Pipe(duplex=False)
        context = multiprocessing.get_context("fork")  # the import of Nevergrad takes two seconds
        self.process: BaseProcess = context.Process(target=_child, args=(theirs, name))
        self.begun = time.monotonic()
        self.process.start()
        theirs.close()

    def ended(self) -> bool:
        """Reads what has come; True once there is no more to wait for."""
        try:
            while self.pipe.poll():
                step, value = self.pipe.recv()
                if step == "done":
                    self.answer |= {"ok": True}
                    del self.answer["step"]
                    return True
                if step == "failed":
                    self.answer["why"] = value
                    return True
                self.answer |= {"step": step} if value is None else {step: value}
        except EOFError:
            self.answer["why"] = "the process died"
            return True
        if time.monotonic() - self.begun > self.limit_s:
            self.answer["why"] = f"no end after {self.limit_s:g} s"
            return True
        return False

    def stop(self) -> None:
        self.answer["seconds"] = round(time.monotonic() - self.begun, 2)
        self.process.kill()
        self.process.join()
        self.pipe.close()


def survey(names: Sequence[str], limit_s: float, jobs: int) -> dict[str, dict[str, Any]]:
    """Every name's answer: ``ok``, else the ``step`` it failed in and ``why``."""
    found: dict[str, dict[str, Any]] = {}
    waiting, running = list(names), list[_Trial]()
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(_Trial(waiting.pop(0), limit_s))
        multiprocessing.connection.wait([trial.pipe for trial in running], timeout=0.2)
        for trial in [trial for trial in running if trial.ended()]:
            running.remove(trial)
            trial.stop()
            found[trial.name] = trial.answer
            print(f"{len(found)}/{len(names)} {trial.name}: {trial.answer}", file=sys.stderr)
    return {name: found[name] for name in names}


def main() -> None:
    """Prints the answers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--only", help="names, separated by commas; all of the registry if left out")
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for one optimiser (20)")
    parser.add_argument("--jobs", type=int, default=2, help="how many at a time (2)")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(variable, "1")

    from algorithms.nevergrad_optimizers import ng

    names = given.only.split(",") if given.only else sorted(ng.optimizers.registry)
    found = survey(names, given.limit, given.jobs)
    if given.json:
        print(json.dumps({"versions": versions(["nevergrad", "numpy"]), "optimizers": found}, indent=1))
        return
    for name, answer in found.items():
        print(f"{name:40}", "ok" if answer["ok"] else f"{answer['step']}: {answer['why']}")
    print(f"{sum(answer['ok'] for answer in found.values())} of {len(found)} are fit")


if __name__ == "__main__":
    main()
