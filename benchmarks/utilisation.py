"""How busy slots are kept, and what that is worth: triggers, spread of training times, slow algorithms.

    python -m benchmarks.utilisation --json
    python -m benchmarks.utilisation --slots 8 --sigmas 0.6 --seeds 1 --asks 0,10
    python -m benchmarks.utilisation --rules top-up --asks 0,3,10,30
    python -m benchmarks.utilisation --search bayesian --slots 8 --sigmas 0.6 --seeds 2
    python -m benchmarks.utilisation --search evolution:population=128 --slots 256 --sigmas 0.6 --seeds 3

The real steering loop and a real search, on a clock that is turned by hand. Trainings take log-normal times with a mean
of 6 minutes, whatever their spread (sigma, of the logarithm). Iterations have as many points as there are slots, if a
rule says nothing else. With `--asks` the algorithm takes so many seconds for an ask, in a process beside the loop.

*Busy* is the share of all slots' time in which they trained, from the first moment to the last hour's end: a search
that ends has a tail besides, in which the last trainings run alone. *Regret* is how far the best value is from the
optimum of a bowl with ripples (10 floats); what counts is what was known at the hour.
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import json
import math
import sys
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from benchmarks.long_history import space, values
from benchmarks.measuring import median, show
from benchmarks.simulated import started_loop
from hpo_steer.config import validate
from hpo_steer.messages import Hello, Result, Started, Work
from steering.hosts import InProcessHost
from steering.store.opening import open_store
from tests.unit.steering.simulation import RUN, Bench
from tests.unit.steering.slow_host import SlowHost

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MEAN_S = 360.0
HOUR_S = 3600.0


@dataclass(frozen=True)
class Rule:
    """When an iteration starts, and how many points it has.

    Attributes:
        name: in the results.
        trigger: as in a config.
        share: points of an iteration for each slot.
        spare: and so many more.
    """

    name: str
    trigger: Any
    share: float = 1.0
    spare: int = 0

    def points(self, slots: int) -> int:
        """Of an iteration."""
        return math.ceil(self.share * slots) + self.spare


RULES = {
    "1.0": Rule("1.0", {"fraction": 1.0}),
    "0.75": Rule("0.75", {"fraction": 0.75}),
    "0.5": Rule("0.5", {"fraction": 0.5}),
    "0.5-twice": Rule("0.5, twice the slots", {"fraction": 0.5}, share=2.0),
    "top-up": Rule("top-up", "top_up"),
    "top-up-spare": Rule("top-up, an eighth to spare", "top_up", share=1.125),
}


# ---------------------------------------------------------------- the loop, on a clock of its own


@dataclass
class Spent:
    """What some hours have brought.

    Attributes:
        busy: the share of the slots' time in which they trained.
        by_steering: the same as steering itself makes it out, for its summary.
        points: how many have ended.
        best: the best value known at the end of each hour.
    """

    busy: float = 0.0
    by_steering: float = 0.0
    points: int = 0
    best: list[float] = field(default_factory=list)


class Fleet:
    """Slots, a worker each, that train for log-normal times.

    Args:
        bench: the experiment, its transport and its clock.
        slots: how many.
        sigma: the spread of the times' logarithms.
        seed: of the times.
    """

    def __init__(self, bench: Bench, slots: int, sigma: float, seed: int) -> None:
        self._bench, self._sigma, self._seed = bench, sigma, seed
        self._free = list(range(slots))
        self._running: list[tuple[float, int, float, Work]] = []
        self.busy_s = 0.0
        self.ended: list[tuple[float, float]] = []
        for slot in range(slots):
            hello = Hello(
                experiment=bench.experiment.name,
                run=RUN,
                worker=f"host-{slot}-a",
                at=0.0,
                host="host",
                slots=1,
            )
            bench.transport.events.append(hello)

    @property
    def due(self) -> float:
        """When the next training ends."""
        return self._running[0][0] if self._running else math.inf

    def take(self) -> None:
        """Free slots take what lies in the queue."""
        now = self._bench.clock.now
        while self._free and self._bench.transport.work:
            work, slot = self._bench.take(), self._free.pop()
            takes_s = self._time_of(work.point)
            heapq.heappush(self._running, (now + takes_s, slot, now, work))
            self._bench.transport.events.append(Started(**self._stamp(work, slot), slot=0))

    def _time_of(self, point: int) -> float:
        pace = np.random.default_rng([self._seed, point]).standard_normal()
        return MEAN_S * math.exp(self._sigma * float(pace) - self._sigma**2 / 2)

    def end(self) -> None:
        """Those trainings end whose time has come."""
        now = self._bench.clock.now
        while self._running and self._running[0][0] <= now:
            at, slot, began, work = heapq.heappop(self._running)
            self.busy_s += at - began
            loss = values(self._bench.experiment.space(), work.params, several=False)
            self.ended.append((at, loss["loss"]))
            self._free.append(slot)
            stamp = self._stamp(work, slot)
            self._bench.transport.events.append(
                Result(**stamp, metrics=loss, started_at=0.0, duration_s=at - began)
            )

    def busy_until(self, end: float) -> float:
        """Seconds trained before `end`, in all slots together."""
        return self.busy_s + sum(end - began for at, _, began, _ in self._running)

    def _stamp(self, work: Work, slot: int) -> dict[str, Any]:
        return {
            "experiment": work.experiment,
            "run": work.run,
            "worker": f"host-{slot}-a",
            "at": 0.0,
            "point": work.point,
            "attempt": work.attempt,
        }


def simulate(data: Mapping[str, Any], *, slots: int, sigma: float, ask_s: float, hours: int) -> Spent:
    """Some hours of an experiment, through the real loop.

    Args:
        data: its config.
        slots: how many points are trained at once.
        sigma: the spread of training times.
        ask_s: how long the algorithm takes for an ask; 0: it lives in the loop's process.
        hours: how many.
    """
    store = open_store("memory", "busy", create=True)
    store.lock("benchmark")
    bench = Bench(validate(dict(data)), store)
    bench.create()
    clock, transport = bench.clock, bench.transport
    began, end = clock.now, clock.now + hours * HOUR_S
    host = SlowHost(clock, ask_s) if ask_s else InProcessHost()
    loop = started_loop(bench, host)
    fleet = Fleet(bench, slots, sigma, bench.experiment.seed)
    try:
        while clock.now < end:
            loop.step(0)
            fleet.take()
            if not transport.events:  # else there is something to say first
                due = host.due if isinstance(host, SlowHost) else math.inf
                clock.now = max(min(fleet.due, due, end), clock.now)
            fleet.end()
        return Spent(
            fleet.busy_until(end) / (slots * hours * HOUR_S),
            loop.fleet.busy_share or 0.0,
            len(fleet.ended),
            [_best(fleet.ended, began + hour * HOUR_S) for hour in range(1, hours + 1)],
        )
    finally:
        loop.close()
        transport.close()
        store.close()


def _best(ended: Sequence[tuple[float, float]], at: float) -> float:
    return min((loss for when, loss in ended if when <= at), default=math.inf) - optimum()


@cache
def optimum() -> float:
    """The least value of the bowl with ripples: each of its parameters on its own, on a fine grid."""
    u = np.linspace(0.0, 1.0, 1_000_001)
    return 10.0 * float(((u - 0.3) ** 2 + 0.05 * np.cos(12.0 * u)).min())


def method(text: str) -> dict[str, Any]:
    """A search method as it is written on the command line, such as ``evolution:population=128``."""
    name, *pairs = text.split(":")
    return {"name": name, **{key: yaml.safe_load(value) for key, value in (p.split("=", 1) for p in pairs)}}


def config(algorithm: str, rule: Rule, slots: int, seed: int) -> dict[str, Any]:
    """An experiment that goes on and on."""
    return {
        "name": "busy",
        "seed": seed,
        "search_space": space(mixed=False).to_dict(),
        "objectives": {"loss": "minimize"},
        "algorithm": method(algorithm),
        "steering": {
            "points_per_iteration": rule.points(slots),
            "max_points": 10**9,
            "trigger": rule.trigger,
        },
        "evaluation": {"function": "train.py:train", "workers": 0, "lease_s": 1e9},
    }


# ---------------------------------------------------------------- figures


def figures(
    rule: Rule, *, slots: int, sigma: float, ask_s: float, hours: int, algorithm: str, seeds: int
) -> dict[str, Any]:
    """One row: means of shares, medians of regrets."""
    runs = [
        simulate(config(algorithm, rule, slots, seed), slots=slots, sigma=sigma, ask_s=ask_s, hours=hours)
        for seed in range(seeds)
    ]
    return {
        "rule": rule.name,
        "slots": slots,
        "points_per_iteration": rule.points(slots),
        "sigma": sigma,
        "ask_s": ask_s,
        "busy": round(float(np.mean([run.busy for run in runs])), 4),
        "least_busy": round(min(run.busy for run in runs), 4),
        "points_per_hour": round(float(np.mean([run.points for run in runs])) / hours, 1),
        "regret_after_hours": [
            float(f"{median([run.best[hour] for run in runs]):.4g}") for hour in range(hours)
        ],
    }


def line(row: Mapping[str, Any]) -> str:
    """For people."""
    regrets = ", ".join(f"{each:.3g}" for each in row["regret_after_hours"])
    return (
        f"{row['slots']:4} slots, sigma {row['sigma']:g}, ask {row['ask_s']:g} s, {row['rule']:28}"
        f"busy {row['busy']:.3f}  {row['points_per_hour']:7.1f} points/h  regret by the hour: {regrets}"
    )


def rules(text: str) -> list[Rule]:
    """Rules as they are named on the command line.

    Raises:
        argparse.ArgumentTypeError: there is no such rule.
    """
    names = text.split(",")
    if unknown := [name for name in names if name not in RULES]:
        raise argparse.ArgumentTypeError(f"there is no rule {unknown[0]!r}; there are {', '.join(RULES)}")
    return [RULES[name] for name in names]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.utilisation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--slots", default="4,16,64,256", metavar="N,N")
    parser.add_argument("--sigmas", default="0.3,0.6,1.0", metavar="S,S")
    parser.add_argument("--asks", default="0", metavar="S,S", help="seconds that an ask takes (default: 0)")
    parser.add_argument(
        "--rules", type=rules, default=",".join(RULES), metavar="RULE,RULE", help="of these: %(default)s"
    )
    parser.add_argument("--hours", type=int, default=2)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--search", default="evolution", help="the algorithm, with options as a:b=c")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for slots, sigma, ask_s, rule in itertools.product(
        (int(each) for each in options.slots.split(",")),
        [float(each) for each in options.sigmas.split(",")],
        [float(each) for each in options.asks.split(",")],
        options.rules,
    ):
        rows.append(
            figures(
                rule,
                slots=slots,
                sigma=sigma,
                ask_s=ask_s,
                hours=options.hours,
                algorithm=options.search,
                seeds=options.seeds,
            )
        )
        print(line(rows[-1]), file=sys.stderr, flush=True)
    result = {
        "benchmark": "utilisation",
        "search": options.search,
        "mean_training_s": MEAN_S,
        "hours": options.hours,
        "seeds": options.seeds,
        "rows": rows,
    }
    show(result, [json.dumps(row) for row in rows] if not options.json else [], as_json=options.json)


if __name__ == "__main__":
    main()
