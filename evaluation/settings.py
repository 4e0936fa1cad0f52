"""What a worker is told at its start, as a value."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from evaluation.life import Terms
from hpo_steer.limits import MAX_GPUS_OF_A_SLOT

if TYPE_CHECKING:
    from pathlib import Path

    from hpo_steer.machine import Machine


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker is told at its start.

    Attributes:
        experiment: name of the experiment.
        run: id of the run, where it is known.
        slots: how many points it evaluates at once.
        heartbeat_s: how often it gives a sign of life.
        points: folders of points, with their checkpoints, are made here.
        logs: logs of attempts are written here.
        host: the machine's name.
        id: the worker's.
        grace_s: what it takes at most to save and leave at SIGTERM.
        machine: what its machine has; None: it does not say.
        parent: the process that has started it and without which it drains; None: it stands on its own.
        terms: when it ends by itself.
        gpus: those of each slot, by their UUIDs; none: no slot has any of its own.
    """

    experiment: str
    run: str | None
    slots: int
    heartbeat_s: float
    points: Path
    logs: Path
    host: str
    id: str
    grace_s: float = 25.0
    machine: Machine | None = None
    parent: int | None = None
    terms: Terms = field(default_factory=Terms)
    gpus: tuple[tuple[str, ...], ...] = ()

    def gpus_of(self, slot: int) -> list[str] | None:
        """The GPUs that a slot has, as many of them as a message may name; None: none of its own."""
        return list(self.gpus[slot][:MAX_GPUS_OF_A_SLOT]) or None if self.gpus else None


def worker_id() -> tuple[str, str]:
    """The machine's name, and a new worker's id: ``host-pid-random``."""
    host = socket.gethostname() or "localhost"
    return host, f"{host[:100]}-{os.getpid()}-{secrets.token_hex(3)}"
