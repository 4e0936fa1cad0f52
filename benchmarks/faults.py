"""Random faults against whole experiments over RabbitMQ: what is lost, doubled, repeated, and what stalls.

    python -m benchmarks.faults --rounds 200 --seed 1 --json
    python -m benchmarks.faults --rounds 1 --seed 1 --first 17     # one round again
    python -m benchmarks.faults --rate                             # the rate under one kill every five seconds

Each round has a seed of its own and runs an experiment of some 40 short trainings, while steering, workers,
trainings, RabbitMQ and PostgreSQL are killed or paused, connections are cut and the work queue is purged, about
once a second. Then the store is compared with what the trainings themselves wrote down. Exit code 1 if anything
was lost or doubled, or stalled.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from benchmarks.kill_rate import rate
from benchmarks.measuring import median, postgresql, show
from tests.acceptance.faults.arena import Stuck
from tests.acceptance.faults.books import Audit
from tests.acceptance.faults.chaos import Chaos, Schedule
from tests.acceptance.faults.operator import Operator
from tests.servers.rabbitmq import RabbitNode

if TYPE_CHECKING:
    from tests.servers.postgresql import PostgresqlServer
    from tests.servers.rabbitmq import Version

STALL_S, ROUND_S = 120.0, 400.0
"""Longer than a purged queue is noticed after, and than programs wait between two tries to reach a broker."""
_SEEDS_APART = 10_000


@dataclass(frozen=True)
class Round:
    """What came of one round.

    Attributes:
        number: from `--first` on.
        seed: of its schedule.
        schedule: in a line.
        kills: faults done, by kind.
        seconds: how long it took.
        audit: the books; None if it stalled.
        story: of a failure.
        short: whether work was settled with its result.
        typed: how often the command was typed that the programs print for a queue without a leader.
    """

    number: int
    seed: int
    schedule: str
    kills: Counter[str]
    seconds: float
    audit: Audit | None
    story: str = ""
    short: bool = False
    typed: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return self.audit is not None and not self.audit.wrong


@dataclass
class Results:
    """Rounds as they come in, from several lanes."""

    rounds: list[Round] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, one: Round) -> None:
        """Takes a round and says on stderr how it went."""
        with self._lock:
            self.rounds.append(one)
        verdict = "ok" if one.ok else "STALLED" if one.audit is None else "WRONG"
        repeated = f", {one.audit.repeated} repeated" if one.audit else ""
        if one.audit and one.audit.unexplained:
            repeated += f" ({len(one.audit.unexplained)} without need)"
        kills = ", ".join(f"{n} x {kind}" for kind, n in sorted(one.kills.items()))
        print(
            f"round {one.number} (seed {one.seed}): {verdict} in {one.seconds:.0f} s{repeated}; {kills}",
            file=sys.stderr,
            flush=True,
        )
        if not one.ok:
            print(f"    {one.schedule}", file=sys.stderr, flush=True)
            for sentence in (one.audit.wrong if one.audit else one.story.splitlines()[:1])[:5]:
                print(f"    {sentence}", file=sys.stderr, flush=True)


def run_round(
    number: int, seed: int, folder: Path, broker: RabbitNode, database: PostgresqlServer, *, points: int
) -> Round:
    """Runs one schedule and checks the books."""
    schedule = Schedule.draw(seed)
    begin = time.monotonic()
    arena = schedule.arena(folder, broker, database, points=points)
    chaos, operator = Chaos(arena, schedule, database), Operator(arena)
    found, story = None, ""
    with arena:
        try:
            arena.start()
            chaos.start()
            operator.start()
            try:
                arena.wait_for_end(stall_s=STALL_S, timeout_s=ROUND_S)
            finally:
                chaos.stop()
                operator.stop()
            found = arena.close_books()
            if found.wrong or found.unexplained:
                story = f"{found.text()}\n{arena.story()}"
        except Stuck as exc:
            story = str(exc)
        kills = Counter(chaos.done)
        kills.update(f"armed {fault.partition(':')[0]}" for fault in arena.fired())
        seconds = time.monotonic() - begin
    arena.remove_queues()
    return Round(
        number, seed, schedule.describe(), kills, seconds, found, story, schedule.short, operator.typed
    )


def lane(
    numbers: SimpleQueue[int], seed: int, version: Version, points: int, results: Results, keep: Path | None
) -> None:
    """One broker and one database, for one round after the other."""
    with tempfile.TemporaryDirectory(prefix="hpo-steer-bench-") as name, postgresql() as database:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "node").mkdir(mode=0o755)
        broker = RabbitNode(folder / "node", version=version)
        broker.start()
        try:
            while True:
                try:
                    number = numbers.get_nowait()
                except Empty:
                    return
                place = folder / f"round-{number}"
                one = run_round(number, seed * _SEEDS_APART + number, place, broker, database, points=points)
                results.add(one)
                if keep is not None and one.story:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"round-{number}.txt").write_text(f"{one.schedule}\n{one.story}\n")
                    shutil.copytree(place, keep / f"round-{number}", dirs_exist_ok=True, symlinks=True)
                shutil.rmtree(place, ignore_errors=True)
        finally:
            broker.kill()


def run_rounds(
    rounds: int,
    seed: int,
    *,
    first: int = 0,
    parallel: int = 1,
    version: Version = "3.10",
    points: int = 40,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Runs them all.

    Returns:
        The figures, ready for JSON.
    """
    numbers: SimpleQueue[int] = SimpleQueue()
    for number in range(first, first + rounds):
        numbers.put(number)
    results = Results()
    arguments = (numbers, seed, version, points, results, keep)
    lanes = [threading.Thread(target=lane, args=arguments) for _ in range(min(parallel, rounds))]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    return figures(sorted(results.rounds, key=lambda one: one.number), seed, version, missing=rounds)


def figures(rounds: list[Round], seed: int, version: str, *, missing: int) -> dict[str, Any]:
    """The rounds as figures; rounds that never came to an end count as stalls."""
    audits = [one.audit for one in rounds if one.audit is not None]
    kills: Counter[str] = Counter()
    for one in rounds:
        kills.update(one.kills)
    bad = [one for one in rounds if not one.ok]
    without_need = {
        name: sum(len(r.audit.unexplained) for r in rounds if r.audit and r.short is short)
        for name, short in (("leased", False), ("short", True))
    }
    return {
        "benchmark": "faults",
        "rounds": len(rounds),
        "seed": seed,
        "rabbitmq": version,
        "kills": sum(kills.values()),
        "kills_by_kind": dict(sorted(kills.items())),
        "points": sum(a.points for a in audits),
        "trainings": sum(a.begun for a in audits),
        "lost_results": sum(a.lost for a in audits),
        "doubled_results": sum(a.doubled for a in audits),
        "repeated_trainings": sum(a.repeated for a in audits),
        "repeated_without_a_death": sum(without_need.values()),
        "repeated_without_a_death_by_mode": without_need,
        "repeated_work_s": round(sum(a.repeated_s for a in audits), 2),
        "mended_by_the_command_that_was_printed": sum(one.typed for one in rounds),
        "stalls": missing - len(audits),
        "otherwise_wrong": sum(not one.ok for one in rounds if one.audit and not one.audit.lost),
        "median_round_s": round(median([one.seconds for one in rounds]), 1) if rounds else None,
        "failures": [
            {
                "round": one.number,
                "seed": one.seed,
                "schedule": one.schedule,
                "wrong": list(one.audit.wrong) if one.audit else ["stalled"],
                "story": one.story[:20_000],
            }
            for one in bad
        ],
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first round, to repeat one")
    parser.add_argument("--parallel", type=int, default=1, help="rounds at once, each with its own servers")
    parser.add_argument("--points", type=int, default=40, help="of each round")
    parser.add_argument("--version", choices=("3.10", "4"), default="3.10", help="of RabbitMQ")
    parser.add_argument("--keep", type=Path, help="folder for what lies about after a round that went wrong")
    parser.add_argument("--rate", action="store_true", help="measure the rate under kills instead")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    if arguments.rate:
        result = rate(arguments.rounds, arguments.seed)
        lines = [
            f"undisturbed        {result['undisturbed_per_s']:.2f} points/s",
            f"a kill every 5 s   {result['disturbed_per_s']:.2f} points/s",
            f"ratio              {result['ratio']:.2f} (goal: at least 0.7)",
        ]
        show(result, lines, as_json=arguments.json)
        return
    result = run_rounds(
        arguments.rounds,
        arguments.seed,
        first=arguments.first,
        parallel=arguments.parallel,
        version=arguments.version,
        points=arguments.points,
        keep=arguments.keep,
    )
    names = ["rounds", "kills", "points", "lost_results", "doubled_results", "stalls", "otherwise_wrong"]
    names += ["repeated_trainings", "repeated_without_a_death", "repeated_work_s", "median_round_s"]
    show(result, [f"{name.replace('_', ' '):26} {result[name]}" for name in names], as_json=arguments.json)
    if any(result[name] for name in ("lost_results", "doubled_results", "stalls", "otherwise_wrong")):
        sys.exit(1)


if __name__ == "__main__":
    main()
