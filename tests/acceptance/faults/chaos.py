"""Random faults, drawn from a seed, done to an arena while its experiment runs."""

from __future__ import annotations

import contextlib
import random
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pika
import pika.exceptions

from hpo_steer.faults import POINTS
from tests.acceptance.faults.arena import Arena

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.servers.postgresql import PostgresqlServer
    from tests.servers.rabbitmq import RabbitNode

Fault = Literal[
    "kill steering", "kill worker", "kill child", "kill broker", "kill postgresql",
    "pause steering", "pause worker", "pause broker", "cut connections", "purge work queue",
]  # fmt: skip
_WEIGHTS: Mapping[Fault, int] = {
    "kill steering": 5, "kill worker": 5, "kill child": 4, "kill broker": 2, "kill postgresql": 2,
    "pause steering": 2, "pause worker": 3, "pause broker": 1, "cut connections": 3, "purge work queue": 2,
}  # fmt: skip
HEARTBEAT_S, LEASE_S = 0.5, 3.0
NEW_QUEUE_S = 5.0
"""RabbitMQ may lose a queue's leader for good if it is killed right after the queue was made; see
docs/how-to/rabbitmq.md. So it is killed only so long after the first training has begun."""
_BROKER_PAUSE_S = 1.0
"""Well below a lease: to steering a paused broker and silent workers look alike."""


@dataclass(frozen=True)
class Schedule:
    """One round: an experiment, and the faults that are done to it.

    Attributes:
        seed: what all of it was drawn from.
        postgresql: the store's place; else SQLite.
        top_up: the trigger; else a fraction.
        short: trainings that are settled with their results; else each takes a lease.
        reuse: one child takes many points.
        armed: fault points that fire by themselves, ``NAME:COUNT:kill``.
        faults: the others, each with the seconds to wait before it.
    """

    seed: int
    postgresql: bool
    top_up: bool
    short: bool
    reuse: bool
    armed: tuple[str, ...]
    faults: tuple[tuple[float, Fault], ...]

    @classmethod
    def draw(cls, seed: int, *, count: int = 12) -> Schedule:
        """The schedule of a seed, with so many faults besides the armed ones."""
        rng = random.Random(seed)  # noqa: S311 - it draws faults
        postgresql, top_up, short, reuse = (rng.random() < share for share in (0.4, 0.5, 0.4, 0.6))
        names = [name for name in POINTS if not name.startswith("host.")]
        armed = tuple(f"{name}:{rng.randint(1, 8)}:kill" for name in rng.sample(names, rng.randint(0, 3)))
        kinds = [kind for kind in _WEIGHTS if postgresql or kind != "kill postgresql"]
        weights = [_WEIGHTS[kind] for kind in kinds]
        faults = tuple(
            (rng.uniform(0.5, 2.0), kind)
            for kind in rng.choices(kinds, weights, k=rng.randint(min(4, count), count))
        )
        return cls(seed, postgresql, top_up, short, reuse, armed, faults)

    def describe(self) -> str:
        """The schedule in a line."""
        kind = "short" if self.short else "leased"
        store, trigger = (
            "PostgreSQL" if self.postgresql else "SQLite",
            "top-up" if self.top_up else "fraction",
        )
        faults = ", ".join(f"+{wait_s:.1f} s {fault}" for wait_s, fault in self.faults)
        return f"{store}, {trigger}, {kind}, reuse {self.reuse}; armed {list(self.armed)}; {faults}"

    def arena(
        self, folder: Path, broker: RabbitNode, database: PostgresqlServer, *, points: int = 40
    ) -> Arena:
        """The experiment of the round."""
        settings: dict[str, Any] = {
            "seed": self.seed,
            "steering": {
                "points_per_iteration": 8,
                "trigger": "top_up" if self.top_up else {"fraction": 0.5},
            },
            "evaluation": {"heartbeat_s": HEARTBEAT_S, "lease_s": LEASE_S, "reuse": self.reuse},
        }
        return Arena(
            folder,
            broker=broker,
            database=database if self.postgresql else None,
            points=points,
            training_s=(0.1, 0.25) if self.short else (0.32, 0.5),
            faults=self.armed,
            name=f"round-{self.seed}",
            settings=settings,
        )


class Chaos:
    """Does a schedule's faults, in a thread of its own, until they are spent or `stop` is called.

    Args:
        arena: started.
        schedule: the faults.
        database: the server that may be killed.

    Attributes:
        done: how many of each kind were done.
        error: what went wrong with the servers, if anything did.
    """

    def __init__(self, arena: Arena, schedule: Schedule, database: PostgresqlServer) -> None:
        self._arena, self._schedule, self._database = arena, schedule, database
        self._rng = random.Random(schedule.seed + 1)  # noqa: S311
        self.done: Counter[str] = Counter()
        self.error: BaseException | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends, with every server running again; raises what went wrong."""
        self._end.set()
        self._thread.join()
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            for wait_s, fault in self._schedule.faults:
                if self._end.wait(wait_s):
                    return
                if self._do(fault):
                    self.done[fault] += 1
        except BaseException as exc:  # noqa: BLE001 - raised again in the thread that waits
            self.error = exc

    def _do(self, fault: Fault) -> bool:
        """Does one fault; whether it hit anything."""
        which = self._rng.randrange(1000)
        kind = fault.rpartition(" ")[2]
        broker, arena = self._arena.broker, self._arena
        assert broker is not None
        match fault:
            case "kill steering" | "kill worker" | "kill child":
                return arena.kill(kind, which=which) is not None  # type: ignore[arg-type]
            case "pause steering" | "pause worker":
                return self._pause(kind, which)
            case "kill broker":
                trained = arena.trainings()
                if not trained or time.monotonic() - trained[0].begin < NEW_QUEUE_S:
                    return False
                broker.kill()
                broker.start()
            case "kill postgresql":
                self._database.kill()
                self._end.wait(self._rng.uniform(0.0, 1.0))
                self._database.start()
            case "pause broker":
                broker.pause()
                time.sleep(self._rng.uniform(0.2, _BROKER_PAUSE_S))
                broker.resume()
            case "cut connections":
                try:
                    broker.ctl("close_all_connections", "cut by a test")
                except (RuntimeError, subprocess.TimeoutExpired):  # it is busy with something else
                    return False
            case "purge work queue":
                return purge(broker, f"hpo.{arena.name}.work")
        return True

    def _pause(self, kind: Any, which: int) -> bool:
        pid = self._arena.pause(kind, which=which)
        if pid is None:
            return False
        self._end.wait(self._rng.uniform(0.3, 1.5 * LEASE_S))
        self._arena.wake(pid)
        return True


def purge(broker: RabbitNode, queue: str) -> bool:
    """Empties a queue behind everybody's back; whether there was such a queue."""
    try:
        connection = pika.BlockingConnection(pika.URLParameters(broker.url))
    except pika.exceptions.AMQPError:
        return False
    try:
        connection.channel().queue_purge(queue)
    except pika.exceptions.AMQPError:
        return False
    finally:
        with contextlib.suppress(pika.exceptions.AMQPError):
            connection.close()
    return True
