"""How a worker's machine is: what its heartbeats say of processors, memory and disk."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hpo_steer.messages import Health

if TYPE_CHECKING:
    from pathlib import Path

_EVERY_S = 1.0
_MIB = 2**20


class HealthMeter:
    """Reads the machine's figures, at most once a second. What a system does not tell is left out.

    Args:
        folder: whose disk is looked at.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ticks = _cpu_ticks()
        self._read_at = 0.0
        self._figures: dict[str, float | int | None] = {}

    def health(self, state: str, reason: str, now: float) -> Health:
        """The machine's figures beside the worker's own state.

        Args:
            state: as in `Health`.
            reason: why it is not ``ok``.
            now: monotonic seconds.
        """
        if not self._figures or now - self._read_at >= _EVERY_S:
            self._read_at = now
            self._figures = {"cpu": self._cpu(), "memory": _memory(), "disk_free_mib": _free(self._folder)}
        return Health.model_validate({"state": state, "reason": reason, **self._figures})

    def _cpu(self) -> float | None:
        before, self._ticks = self._ticks, _cpu_ticks()
        if before is None or self._ticks is None or self._ticks[1] <= before[1]:
            return None
        idle, whole = self._ticks[0] - before[0], self._ticks[1] - before[1]
        return round(min(max(1.0 - idle / whole, 0.0), 1.0), 3)


def _cpu_ticks() -> tuple[int, int] | None:
    """Ticks that all cores together were idle, and all their ticks, since the machine has started."""
    try:
        with open("/proc/stat", encoding="ascii") as file:  # noqa: PTH123 - as short as it gets
            ticks = [int(text) for text in file.readline().split()[1:9]]
    except (OSError, ValueError):
        return None
    return (ticks[3] + ticks[4], sum(ticks)) if len(ticks) == 8 else None


def _memory() -> float | None:
    """The share that is in use."""
    figures = {}
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 - as short as it gets
            for line in file:
                name, _, rest = line.partition(":")
                figures[name] = int(rest.split()[0])
                if name == "MemAvailable":
                    break
        return round(min(max(1.0 - figures["MemAvailable"] / figures["MemTotal"], 0.0), 1.0), 3)
    except (OSError, ValueError, LookupError, ZeroDivisionError):
        return None


def _free(folder: Path) -> int | None:
    try:
        stat = os.statvfs(folder)
    except OSError:
        return None
    return stat.f_bavail * stat.f_frsize // _MIB
