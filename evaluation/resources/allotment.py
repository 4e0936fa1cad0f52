"""All that a worker has of its machine: how many slots, what each of them may use, and how that is going."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.resources.claims import Claims
from evaluation.resources.gpu_watch import GpuWatch
from evaluation.resources.memory import MemoryWatch
from evaluation.resources.mps import Mps
from evaluation.resources.places import take_places
from evaluation.resources.seats import seats
from hpo_steer.limits import MAX_SLOTS
from hpo_steer.machine import Machine, slots_here

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from containers.process import Seat
    from containers.warden import Warden
    from hpo_steer.config.evaluation import Evaluation
    from hpo_steer.machine import GpuUse


@dataclass(frozen=True)
class Portion:
    """What steering leaves to one of the workers it starts on this machine.

    Attributes:
        slots: how many it has.
        of: how many all of them have.
    """

    slots: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Portion:
        """Reads ``2/8``; raises ValueError."""
        slots, _, of = text.partition("/")
        return cls(int(slots), int(of))


class Allotment:
    """What a worker has.

    Args:
        machine: its machine.
        evaluation: what each point asks for, and how many slots are wanted.
        experiment: what it works for.
        folder: where it keeps things.
        warden: ends what it starts, if it is killed.
        say: told what is waited for, or not as wished.
        portion: what steering has left to it; None: it is alone here.
        goes_on: asked now and then, while it waits for GPUs, whether it goes on.

    Raises:
        Unfit: the machine has not what is asked for.
        ConfigError: `evaluation.mps` cannot be had.
    """

    def __init__(
        self,
        machine: Machine,
        evaluation: Evaluation,
        *,
        experiment: str,
        folder: Path,
        warden: Warden,
        say: Callable[[str], None],
        portion: Portion | None = None,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self.machine, wants = machine, evaluation.wants
        slots = slots_here(machine, wants, evaluation.slots) if portion is None else portion.slots
        slots = min(slots, MAX_SLOTS)
        self._claims = Claims() if wants.gpus or wants.cores is not None else None
        places = take_places(
            machine,
            wants,
            slots,
            experiment=experiment,
            say=say,
            claims=self._claims,
            packed=portion is not None and portion.of > portion.slots,
            goes_on=goes_on,
        )
        used = list(dict.fromkeys(uuid for place in places for uuid in place.gpus))
        whole = {gpu.uuid for gpu in machine.gpus if not gpu.slice}
        shared = [uuid for uuid in used if wants.share and uuid in whole]
        mps = evaluation.mps if evaluation.container is None else False  # its sockets are out of reach there
        self._mps = Mps(mps, shared, folder / f"mps-{os.getpid()}.log", warden)
        if self._mps.note is not None:
            say(self._mps.note)
        threads = wants.cores or threads_each(len(machine.cores), slots if portion is None else portion.of)
        self.seats: Sequence[Seat] = seats(places, wants, threads, evaluation.env, self._mps.env)
        self.memory = MemoryWatch(self.seats)
        self._watch = GpuWatch(used, evaluation.heartbeat_s)

    @property
    def slots(self) -> int:
        """How many slots it has."""
        return len(self.seats)

    @property
    def gpu_use(self) -> list[GpuUse]:
        """How busy its GPUs were a moment ago."""
        return self._watch.latest

    def close(self) -> None:
        """Gives everything back."""
        self._watch.close()
        self._mps.close()
        if self._claims is not None:
            self._claims.release()


def threads_each(cores: int, slots: int) -> int | None:
    """How many threads the libraries of each training start, so that all together have a core each; None: any.

    >>> threads_each(10, 10), threads_each(64, 3), threads_each(2, 8), threads_each(64, 1)
    (1, 21, 1, None)
    """
    return None if slots <= 1 else max(1, cores // slots)
