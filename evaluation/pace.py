"""How long evaluations take of late, and what follows for the traffic with the broker."""

from __future__ import annotations

SHORT_S = 0.3
"""Evaluations below this cost two messages: work in, result out."""
OVERRUN_S = 1.0
"""One that was thought short and runs longer than this takes its lease after all."""
AHEAD_S = 0.2
"""Work that waits in a worker's hands is at most this much."""
MAX_AHEAD = 128
DEPTH_S = 0.02
MAX_DEPTH = 16
_WEIGHT = 0.3


class Pace:
    """A moving average of durations.

    Args:
        slots: how many evaluations run at once.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._mean_s: float | None = None

    @property
    def short(self) -> bool:
        """Whether the next evaluation will probably be short. The first of a worker counts as long."""
        return self._mean_s is not None and self._mean_s < SHORT_S

    @property
    def ahead(self) -> int:
        """How many points beyond its slots a worker may hold: a power of two; 0 if not short."""
        if self._mean_s is None or self._mean_s >= SHORT_S:
            return 0
        wanted = int(min(MAX_AHEAD, AHEAD_S * self._slots / max(self._mean_s, 1e-6)))
        return 1 << max(0, wanted.bit_length() - 1)

    @property
    def depth(self) -> int:
        """How many points a training child may be handed beforehand: at most 20 ms of work."""
        return 0 if self._mean_s is None else int(min(MAX_DEPTH, DEPTH_S / max(self._mean_s, 1e-6)))

    def ended(self, duration_s: float) -> None:
        """An evaluation took this long."""
        if self._mean_s is None:
            self._mean_s = duration_s
        else:
            self._mean_s += _WEIGHT * (duration_s - self._mean_s)

    def overran(self) -> None:
        """One that was thought short runs longer."""
        self._mean_s = max(self._mean_s or 0.0, OVERRUN_S)
