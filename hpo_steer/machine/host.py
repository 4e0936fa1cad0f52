"""This machine, as far as trainings may use it."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import socket
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from hpo_steer.machine.gpus import Gpu, find_gpus

_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Machine:
    """What a machine has.

    Attributes:
        name: its name.
        cores: the cores that this process may run on.
        memory_mib: the memory it may use, in MiB; None: not known.
        gpus: its GPUs.
    """

    name: str
    cores: tuple[int, ...]
    memory_mib: int | None = None
    gpus: tuple[Gpu, ...] = ()

    def __str__(self) -> str:
        kinds = Counter((gpu.name, gpu.memory_mib, gpu.slice) for gpu in self.gpus)
        gpus = [
            f"{number} x {'slice of ' if piece else ''}{name.removeprefix('NVIDIA ')} ({_size(memory)})"
            for (name, memory, piece), number in kinds.items()
        ]
        cores = f"{len(self.cores)} core{'s' * (len(self.cores) != 1)}"
        memory = [] if self.memory_mib is None else [_size(self.memory_mib)]
        return ", ".join([*(gpus or ["no GPU"]), cores, *memory])


@functools.cache
def look() -> Machine:
    """Looks at this machine: affinity and control groups (batch jobs, containers) are heeded.

    Cores are those that the process may run on; where a control group allows less time than that, as many as it
    allows.
    """
    cores = sorted(_affinity())
    allowed = _quota()
    if allowed is not None:
        cores = cores[: max(1, math.ceil(allowed - 1e-9))]
    return Machine(socket.gethostname() or "localhost", tuple(cores), _memory(), find_gpus())


def _affinity() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota() -> float | None:
    """The cores' worth of time that the control group allows."""
    quota, _, period = (_read(_CGROUP / "cpu.max") or "").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        return int(quota) / int(period)
    quota, period = (
        _read(_CGROUP / "cpu/cpu.cfs_quota_us") or "",
        _read(_CGROUP / "cpu/cpu.cfs_period_us") or "",
    )
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _memory() -> int | None:
    bounds = []
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(_CGROUP / file) or ""
        if text.isdigit():
            bounds.append(int(text))
    with contextlib.suppress(OSError, ValueError):
        bounds.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(bounds) // 2**20 if bounds else None


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return None


def _size(mib: int) -> str:
    return f"{mib / 1024:.0f} GiB" if mib >= 10 * 1024 else f"{mib / 1024:.1f} GiB"
