"""How many points a second an experiment still makes while a process is killed every few seconds."""

from __future__ import annotations

import random
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import median, rabbitmq
from tests.acceptance.faults.arena import Arena

if TYPE_CHECKING:
    from tests.acceptance.faults.processes import Kind
    from tests.servers.rabbitmq import RabbitNode

KILL_EVERY_S = 5.0
POINTS, TRAINING_S, WORKERS = 150, (0.8, 1.2), 4
_VICTIMS: tuple[Kind, ...] = ("steering", "worker", "child")


class _Killer:
    """Kills one process every few seconds."""

    def __init__(self, arena: Arena, seed: int) -> None:
        self._arena, self._rng = arena, random.Random(seed)  # noqa: S311 - it draws victims
        self.killed: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(KILL_EVERY_S):
            kind = self._rng.choice(_VICTIMS)
            if self._arena.kill(kind, which=self._rng.randrange(1000)) is not None:
                self.killed.append(kind)


def one_run(broker: RabbitNode, name: str, *, seed: int, kills: bool, points: int = POINTS) -> dict[str, Any]:
    """Runs the experiment, and checks its books.

    Returns:
        Points per second from the first training's begin to the last one's end, and who was killed.
    """
    with tempfile.TemporaryDirectory(prefix="hpo-steer-bench-") as folder:
        arena = Arena(
            Path(folder) / "arena",
            broker=broker,
            workers=WORKERS,
            points=points,
            training_s=TRAINING_S,
            name=name,
            settings={
                "seed": seed,
                "steering": {"points_per_iteration": 20, "trigger": {"fraction": 0.5}},
                "evaluation": {"heartbeat_s": 0.5, "lease_s": 3.0},
            },
        )
        with arena:
            killed: list[str] = []
            arena.start()
            if kills:
                with _Killer(arena, seed) as killer:
                    arena.wait_for_end()
                killed = killer.killed
            else:
                arena.wait_for_end()
            audit = arena.close_books()
            if audit.wrong:
                raise RuntimeError(f"{audit.text()}\n{arena.story()}")
            trainings = arena.trainings()
            span_s = max(t.end for t in trainings if t.end) - trainings[0].begin
        arena.remove_queues()
    return {
        "per_s": audit.points / span_s,
        "killed": killed,
        "repeated": audit.repeated,
        "without_a_death": len(audit.unexplained),
    }


def rate(rounds: int, seed: int, points: int = POINTS) -> dict[str, Any]:
    """Undisturbed and disturbed runs in turn.

    Returns:
        The medians and their ratio, ready for JSON.
    """
    runs: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    with rabbitmq() as broker:
        for number in range(rounds):
            for kills in (False, True):
                name = f"rate-{number}-{'kills' if kills else 'calm'}"
                one = one_run(broker, name, seed=seed + number, kills=kills, points=points)
                runs[kills].append(one)
                print(
                    f"{name}: {one['per_s']:.2f} points/s, killed {one['killed']}",
                    file=sys.stderr,
                    flush=True,
                )
    calm, harsh = (median([one["per_s"] for one in runs[kills]]) for kills in (False, True))
    return {
        "benchmark": "kill rate",
        "rounds": rounds,
        "seed": seed,
        "points": points,
        "workers": WORKERS,
        "training_s": list(TRAINING_S),
        "kill_every_s": KILL_EVERY_S,
        "undisturbed_per_s": calm,
        "disturbed_per_s": harsh,
        "ratio": harsh / calm,
        "kills": sum(len(one["killed"]) for one in runs[True]),
        "repeated_trainings": sum(one["repeated"] for one in runs[True]),
        "runs": {"undisturbed": runs[False], "disturbed": runs[True]},
    }
