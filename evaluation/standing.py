"""Whether a worker takes points, and what it says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from evaluation.health import HealthMeter
    from evaluation.life import Life
    from evaluation.signals import Signals
    from evaluation.trainings import Trainings
    from hpo_steer.messages import Health


class Standing:
    """What signals, the worker's terms and its quarantines make of it together.

    Args:
        life: its terms.
        signals: what it was told.
        trainings: what it runs.
        meter: measures its machine.
        slots: how many it has.

    Attributes:
        closing: why it takes no more points, as `closed` found last, as part of a sentence; None: it does.
    """

    def __init__(
        self, life: Life, signals: Signals, trainings: Trainings, meter: HealthMeter, slots: int
    ) -> None:
        self._life, self._signals, self._trainings, self._meter = life, signals, trainings, meter
        self._slots = range(slots)
        self.closing: str | None = None
        self._said = "ok"

    def closed(self, now: float) -> bool:
        """Whether it takes no more points.

        Args:
            now: monotonic seconds.
        """
        told = "it was told to end" if self._signals.number else None
        self.closing = told or self._life.closing(now, len(self._trainings))
        return self.closing is not None

    def stays(self, now: float) -> bool:
        """Whether it stays nevertheless."""
        return not self._signals.number and self._life.stays(now, len(self._trainings))

    @property
    def goodbye(self) -> str:
        """What it says at its end, if that is an orderly one."""
        return "drained" if self._signals.number else self.closing or "drained"

    def news(self, now: float) -> bool:
        """Whether its state is another one than `health` told last."""
        return self._state(now)[0] != self._said

    def health(self, now: float) -> Health:
        """What its next heartbeat says."""
        self._said, reason = self._state(now)
        return self._meter.health(self._said, reason, now)

    def note(self, now: float) -> str:
        """Why it takes no points in some slots or in all, for its own terminal; empty: it does."""
        _, reason = self._state(now)
        if self._signals.number or not reason:
            return ""
        return f"takes no more points: {reason}" if self.closing else f"in quarantine: {reason}"

    def _state(self, now: float) -> tuple[str, str]:
        if self.closing is not None:
            return "waiting" if self.stays(now) else "draining", self.closing
        quarantine = self._trainings.quarantine
        return "quarantined" if quarantine.shut(self._slots, now) else "ok", quarantine.reason(now)
