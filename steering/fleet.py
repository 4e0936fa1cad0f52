"""The workers as steering knows them: who is there, what they run, how busy they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_steer.machine import Gpu, Machine, Unfit, Wants, capacity
from steering.words import host_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.messages import GpuInfo, Health, Hello

_MOST_TOLD = 200
"""Workers of which the store gets more than their number."""
_ORDER = ("quarantined", "waiting", "draining")


@dataclass(slots=True)
class WorkerView:
    """One worker.

    Attributes:
        name: its id.
        host: its machine.
        slots: how many points it evaluates at once.
        heard: when it last said something, by the monotonic clock.
        done: results it has sent in this session.
        spooled: results waiting on its disk.
        gpus: its GPUs, and how busy they were when it last said so.
        health: how it says it is; None: it does not say.
    """

    name: str
    host: str
    slots: int
    heard: float
    done: int = 0
    spooled: int = 0
    gpus: Sequence[GpuInfo] = ()
    health: Health | None = None

    @property
    def state(self) -> str:
        """``ok``, or why it takes no points: ``draining``, ``waiting`` or ``quarantined``."""
        return "ok" if self.health is None else self.health.state

    def about(self) -> dict[str, Any]:
        """What people who look at the run are told."""
        told: dict[str, Any] = {
            "worker": self.name,
            "host": self.host,
            "slots": self.slots,
            "done": self.done,
            "state": self.state,
        }
        if self.health is not None:
            told |= self.health.model_dump(exclude_none=True)
        if self.gpus:
            told["gpus"] = [gpu.model_dump(exclude_none=True) for gpu in self.gpus]
        return told


class Fleet:
    """All workers heard of in this session, and the share of their slots' time that was spent evaluating.

    Args:
        silent_after_s: a worker not heard of for so long counts as gone.

    Attributes:
        largest: the largest machine that a worker had in this session; None: none has said.
    """

    def __init__(self, silent_after_s: float) -> None:
        self._silent_after_s = silent_after_s
        self._workers: dict[str, WorkerView] = {}
        self._capacity_s = self._busy_s = 0.0
        self._measured: float | None = None
        self._running = 0
        self.largest: Machine | None = None

    def hear(self, name: str, now: float, *, host: str | None = None, slots: int | None = None) -> bool:
        """A worker has said something.

        Returns:
            Whether it is a new one.
        """
        known = self._workers.get(name)
        if known is None:
            self._workers[name] = WorkerView(name, host or host_of(name), slots or 1, now)
            return True
        known.heard = now
        known.slots = slots or known.slots
        return False

    def __getitem__(self, name: str) -> WorkerView:
        return self._workers[name]

    def examine(self, name: str, health: Health | None) -> str | None:
        """A worker has said how it is.

        Returns:
            Its new state, if that has changed.
        """
        worker = self._workers[name]
        before, worker.health = worker.state, health
        return worker.state if worker.state != before else None

    def told(self) -> tuple[dict[str, Any], ...]:
        """What is known of the workers, those first that take no points."""
        place = {state: number for number, state in enumerate(_ORDER)}
        workers = sorted(self._workers.values(), key=lambda w: (place.get(w.state, len(place)), w.name))
        return tuple(worker.about() for worker in workers[:_MOST_TOLD])

    def leave(self, name: str) -> WorkerView | None:
        """A worker is gone."""
        return self._workers.pop(name, None)

    def silent(self, now: float) -> list[WorkerView]:
        """Workers not heard of for too long."""
        return [w for w in self._workers.values() if now - w.heard > self._silent_after_s]

    def present(self) -> list[WorkerView]:
        """Workers that count as there."""
        return list(self._workers.values())

    def shows(self, machine: Machine) -> None:
        """A worker has said what its machine has."""
        if self.largest is None or _size(machine) > _size(self.largest):
            self.largest = machine

    def lacks(self, wants: Wants) -> str | None:
        """What even the largest machine of a worker lacks for a point; None: nothing, or no worker has come yet."""
        if self.largest is None:
            return None
        try:
            capacity(self.largest, wants)
        except Unfit as unfit:
            return unfit.lack
        return None

    @property
    def slots(self) -> int:
        """Slots of all of them."""
        return sum(worker.slots for worker in self._workers.values())

    @property
    def open_slots(self) -> int:
        """Slots of those that take points."""
        return sum(worker.slots for worker in self._workers.values() if worker.state == "ok")

    def measure(self, now: float, running: int) -> None:
        """Adds the time since the last call to the account of busy and idle slots.

        Until now as many ran as at the last call: what has begun or ended woke the loop up.

        Args:
            now: by the monotonic clock.
            running: how many points run from now on.
        """
        if self._measured is not None and self.slots:
            passed = now - self._measured
            self._capacity_s += passed * self.slots
            self._busy_s += passed * min(self._running, self.slots)
        self._measured, self._running = now, running

    def add_busy(self, duration_s: float) -> None:
        """Accounts for an evaluation so short that it was never seen running."""
        self._busy_s += duration_s

    @property
    def busy_share(self) -> float | None:
        """Share of the slots' time spent evaluating, from 0 to 1; None before anything was measured."""
        return min(self._busy_s / self._capacity_s, 1.0) if self._capacity_s > 0 else None


def _size(machine: Machine) -> tuple[int, int, int]:
    return len(machine.gpus), len(machine.cores), machine.memory_mib or 0


def machine_of(hello: Hello) -> Machine:
    """The machine that a worker describes."""
    gpus = tuple(Gpu(each.uuid, each.name, each.memory_mib) for each in hello.gpus or ())
    return Machine(hello.host, tuple(range(hello.cores or 1)), hello.memory_mib, gpus)
