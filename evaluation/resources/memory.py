"""Bounds on the memory of trainings: a training that goes beyond its own is ended, before it takes the machine down."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_steer.machine.gpus import gpu_memory_of_processes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from containers.process import Seat

EVERY_S = 1.0
_MIB = 2**20
_PAGE = os.sysconf("SC_PAGE_SIZE")
_Sessions = dict[int, list[tuple[int, int]]]


class MemoryWatch:
    """Compares what trainings use with what their slots have.

    Processes count by their session, which a training's children and grandchildren share. Pages that several of
    them share count once, as far as the system tells.

    Args:
        seats: of the slots.
    """

    def __init__(self, seats: Sequence[Seat]) -> None:
        self._seats = seats
        self._gpus = sorted({uuid for seat in seats if seat.gpu_memory_mib is not None for uuid in seat.gpus})
        self.bounded = bool(self._gpus) or any(seat.memory_mib is not None for seat in seats)

    def look(self, running: Mapping[int, int]) -> dict[int, str]:
        """Looks once.

        Args:
            running: the session of the training in each busy slot.

        Returns:
            For slots whose training is beyond its bound, a sentence.
        """
        sessions = _sessions()
        on_gpu = gpu_memory_of_processes(self._gpus) if self._gpus else {}
        found = {}
        for slot, session in running.items():
            seat, processes = self._seats[slot], sessions.get(session, [])
            if seat.memory_mib is not None:
                used = _used_mib(processes, seat.memory_mib)
                if used > seat.memory_mib:
                    found[slot] = (
                        f"it uses {used:,} MiB of memory, and evaluation.memory_mib is {seat.memory_mib:,}"
                    )
            if seat.gpu_memory_mib is not None:
                used = sum(on_gpu.get(pid, 0) for pid, _ in processes)
                if used > seat.gpu_memory_mib:
                    found[slot] = (
                        f"it uses {used:,} MiB of its GPU's memory; its share is {seat.gpu_memory_mib:,}"
                    )
        return found


def held_mib(session: int, bound_mib: int) -> int:
    """What a process and all that it has started use, in MiB.

    Args:
        session: the session that they share.
        bound_mib: below it, pages that several of them share may count for each.
    """
    return _used_mib(_sessions().get(session, ()), bound_mib)


def _used_mib(processes: Sequence[tuple[int, int]], bound_mib: int) -> int:
    """What processes use together; the exact figure, which costs more, only where the quick one is over the bound."""
    used = sum(resident for _, resident in processes) // _MIB
    if used <= bound_mib or len(processes) == 1:
        return used
    return sum(_proportional(pid, resident) for pid, resident in processes) // _MIB


def _sessions() -> _Sessions:
    """Processes of this machine by session, each with its resident bytes."""
    found: _Sessions = {}
    for entry in os.scandir("/proc") if Path("/proc/self/stat").exists() else ():
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(f"/proc/{entry.name}/stat").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        fields = stat.rpartition(b")")[2].split()
        found.setdefault(int(fields[3]), []).append((int(entry.name), int(fields[21]) * _PAGE))
    return found


def _proportional(pid: int, resident: int) -> int:
    """The bytes of a process, where shared pages count in parts; else its resident ones."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except (OSError, ValueError):
        return resident
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), resident)
