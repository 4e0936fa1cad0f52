"""How many points a machine can evaluate at once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hpo_steer.errors import ConfigError
from hpo_steer.machine.host import Machine, look
from hpo_steer.machine.mps import CONTROL, mps_program, running_mps

if TYPE_CHECKING:
    from hpo_steer.config.evaluation import Evaluation

_ROUNDING = 1e-9
RESOURCES = ("slots", "gpus", "cores", "memory_mib")
"""The keys of `evaluation` that say how a machine is divided."""
Slots = int | Literal["auto"] | None


class Unfit(ConfigError):
    """A machine lacks what each point asks for.

    Args:
        key: of the config.
        lack: what it lacks: ``asks for 2 GPUs, and node7 has 1``.
        remedy: what to do.
    """

    def __init__(self, key: str, lack: str, remedy: str) -> None:
        super().__init__(key, f"each point {lack}. {remedy}")
        self.lack = lack


@dataclass(frozen=True)
class Wants:
    """What each point asks for.

    Attributes:
        gpus: how many GPUs, or the share of one; 0: none may be seen; None: nothing is said.
        cores: how many cores; None: nothing is said.
        memory_mib: how much memory, in MiB.
    """

    gpus: float | None = None
    cores: int | None = None
    memory_mib: int | None = None

    def __bool__(self) -> bool:
        """Whether anything is asked for that a machine has so much of and no more."""
        return bool(self.gpus) or self.cores is not None or self.memory_mib is not None

    @property
    def share(self) -> float | None:
        """The share of a GPU, where it is less than one."""
        return self.gpus if self.gpus is not None and 0 < self.gpus < 1 else None

    @property
    def on_one_gpu(self) -> int:
        """How many points one GPU is enough for; 1 where none shares one."""
        return 1 if self.share is None else int(1 / self.share + _ROUNDING)

    def __str__(self) -> str:
        parts = []
        if self.gpus:
            parts.append(f"{self.gpus:g} GPU{'s' * (self.gpus > 1)}")
        if self.cores is not None:
            parts.append(f"{self.cores} core{'s' * (self.cores != 1)}")
        if self.memory_mib is not None:
            parts.append(f"{self.memory_mib:,} MiB")
        return ", ".join(parts)


def capacity(machine: Machine, wants: Wants) -> int:
    """How many points fit on a machine at once.

    Raises:
        Unfit: not even one does; the sentence says what is lacking.
    """
    fits = []
    for key, (asked, has, number) in _bounds(machine, wants).items():
        if number < 1:
            raise Unfit(
                f"evaluation.{key}",
                f"asks for {asked}, and {machine.name} has {has}",
                "Ask for less, or run hpo-evaluate on a machine that has more",
            )
        fits.append(number)
    return min(fits, default=len(machine.cores))


def slots_here(machine: Machine, wants: Wants, slots: Slots) -> int:
    """How many slots one worker has that is alone on a machine.

    Args:
        machine: the machine.
        wants: what each point asks for.
        slots: as configured: so many; ``auto``: as many as fit; None: as many as fit if anything is asked for, else 1.

    Raises:
        ConfigError: that many do not fit.
    """
    return share_out(machine, wants, slots, 1)[0]


def share_out(machine: Machine, wants: Wants, slots: Slots, workers: int) -> list[int]:
    """The slots of each of several workers on one machine.

    With a number each worker has as many; else what fits is shared out, and there are no more workers than slots. Where
    points share GPUs, those on one GPU are trainings of one worker: they run side by side through its MPS, where
    those of two would take turns.

    Raises:
        ConfigError: they do not all fit.
    """
    if workers < 1:
        return []
    fits = capacity(machine, wants)
    if isinstance(slots, int) or (slots is None and not wants):
        each = slots if isinstance(slots, int) else 1
        if wants and each * workers > fits:
            many = f"{each} in each of {workers} workers" if workers > 1 else str(each)
            raise ConfigError(
                "evaluation.slots",
                f"{many}, of {wants} each, do not fit on {machine.name} ({machine}): {fits} do. Leave slots out, and "
                "there are as many as fit",
            )
        return [each] * workers
    lots = math.ceil(fits / wants.on_one_gpu)
    workers = min(workers, lots)
    shares = [(lots // workers + (number < lots % workers)) * wants.on_one_gpu for number in range(workers)]
    shares[-1] -= sum(shares) - fits
    return shares


def slots_of_workers(evaluation: Evaluation) -> list[int]:
    """The slots of each worker that steering starts on this machine.

    Raises:
        ConfigError: as `share_out`; or MPS has to be there and is not.
    """
    if not evaluation.workers:
        return []
    shared = share_out(look(), evaluation.wants, evaluation.slots, evaluation.workers)
    if evaluation.mps is True and running_mps() is None and mps_program() is None:
        raise ConfigError(
            "evaluation.mps", f"{CONTROL} is not installed; with mps: auto points take turns on a GPU"
        )
    return shared


def _bounds(machine: Machine, wants: Wants) -> dict[str, tuple[str, str, int]]:
    """By key: what a point asks for, what there is, and how many points that is enough for."""
    found = {}
    if wants.gpus:
        there = len(machine.gpus)
        number = there * wants.on_one_gpu if wants.gpus < 1 else there // int(wants.gpus)
        asked = (
            f"{wants.gpus:g} of a GPU" if wants.gpus < 1 else f"{wants.gpus:g} GPU{'s' * (wants.gpus > 1)}"
        )
        has = f"{there} ({machine.gpus[0].name})" if there else "none"
        found["gpus"] = (asked, has, number)
    if wants.cores is not None:
        cores = len(machine.cores)
        found["cores"] = (f"{wants.cores} core{'s' * (wants.cores != 1)}", str(cores), cores // wants.cores)
    if wants.memory_mib is not None and machine.memory_mib is not None:
        memory = machine.memory_mib
        found["memory_mib"] = (f"{wants.memory_mib:,} MiB", f"{memory:,}", memory // wants.memory_mib)
    return found
