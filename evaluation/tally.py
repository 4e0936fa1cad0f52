"""What a worker has done so far, for people."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

_SAMPLE_S = 10.0
_SAMPLES = 61


@dataclass(frozen=True)
class Snapshot:
    """How a worker stands.

    Attributes:
        busy: slots in use.
        slots: how many there are.
        done: points evaluated.
        failed: points that failed.
        per_hour: points that ended an hour, of late.
        spooled: results on disk that are not confirmed.
        connected: messages can travel.
        blocked: why the broker takes none at present, if so.
        trouble: a sentence on what else keeps messages from travelling, and on how to mend it; None: nothing.
        draining: it takes no more points.
        code: what it is waiting for, where its code is on the way; None: nothing.
        note: why it takes no points in some slots or in all; empty: it does.
    """

    busy: int
    slots: int
    done: int
    failed: int
    per_hour: float
    spooled: int
    connected: bool
    blocked: str | None
    trouble: str | None
    draining: bool
    code: str | None = None
    note: str = ""


@dataclass
class Tally:
    """Counts points.

    Attributes:
        done: those evaluated.
        failed: those that failed.
    """

    done: int = 0
    failed: int = 0
    _samples: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=_SAMPLES))

    def per_hour(self, now: float) -> float:
        """Points an hour over the last ten minutes; call it now and then.

        Args:
            now: monotonic seconds.
        """
        total = self.done + self.failed
        if not self._samples or now - self._samples[-1][0] >= _SAMPLE_S:
            self._samples.append((now, total))
        since, before = self._samples[0]
        return 3600 * (total - before) / (now - since) if now > since else 0.0
