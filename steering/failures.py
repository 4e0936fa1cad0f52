"""How an attempt at a point ended, and what is said of the points that fail."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from steering.words import duration, host_of, params, printable

if TYPE_CHECKING:
    from hpo_steer.algorithm import Failure
    from hpo_steer.config import Experiment
    from steering.book import LivePoint
    from steering.ledger import Notify

_SHOWN_WHOLE = 3
"""So many failures of a session, each with another cause, are shown with parameters and log."""
_LOG_LINES = 20
_LINE = 200
_GPU = 8
"""Characters of a GPU's name that tell it from the others of a machine."""
_GPUS = 4
_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True)
class Ending:
    """What is known of the attempt that ended a point; nothing, if none did.

    Attributes:
        worker: whose it was.
        started_at: seconds since the epoch.
        duration_s: how long it ran.
        gpus: those of its slot, by their UUIDs.
        log: the last lines of its log.
    """

    worker: str | None = None
    started_at: float | None = None
    duration_s: float | None = None
    gpus: tuple[str, ...] = ()
    log: str = ""

    @property
    def where(self) -> str:
        """Where it ran and for how long, to follow something else in a sentence.

        >>> Ending("gpu-node7-411-a0b1c2", None, 131.0, ("GPU-5f3c2a10-77de",)).where
        ', gpu-node7, GPU-5f3c…, after 2 min 11 s'
        """
        parts = [] if self.worker is None else [printable(host_of(self.worker))]
        parts += [gpu_names(self.gpus)] if self.gpus else []
        parts += [] if self.duration_s is None else [f"after {duration(self.duration_s)}"]
        return "".join(f", {part}" for part in parts)


def gpu_names(uuids: tuple[str, ...] | list[str]) -> str:
    """GPUs as a notice names them, each by as much of its UUID as tells it from others.

    >>> gpu_names(["GPU-5f3c2a10-77de", "MIG-1", "GPU-a", "GPU-b", "GPU-c", "GPU-d"])
    'GPU-5f3c…, MIG-1, GPU-a, GPU-b and 2 more'
    """
    names = ", ".join(printable(uuid, _GPU + 1) for uuid in uuids[:_GPUS])
    return f"{names} and {len(uuids) - _GPUS} more" if len(uuids) > _GPUS else names


class FailureNotices:
    """Says that points fail: a line each, and of the first few of a kind also what is needed to see why.

    Args:
        experiment: its config.
        notify: hears it.
    """

    def __init__(self, experiment: Experiment, notify: Notify) -> None:
        self._most, self._notify = experiment.evaluation.max_attempts, notify
        self._shown: set[str] = set()

    def again(self, point: LivePoint, failure: Failure, ending: Ending, delay_s: float) -> None:
        """An attempt has failed, and the point goes out once more."""
        wait = f" in {duration(delay_s)}" if delay_s else ""
        self._notify(
            "failed",
            f"point {point.record.id} failed: error{self._which(point)}{ending.where}; it goes out again{wait}: "
            f"{first_line(failure.message)}",
        )
        self._show(point, failure, ending, f"see hpo-steer logs {point.record.id}")

    def final(self, point: LivePoint, failure: Failure, ending: Ending) -> None:
        """A point has ended without values."""
        number, why = point.record.id, first_line(failure.message)
        if failure.kind == "pruned":
            self._notify("pruned", f"point {number} pruned: {why}")
            return
        if failure.kind == "invalid":  # said of the point, wherever it was tried
            self._notify("failed", f"point {number} failed: invalid: {why}")
            return
        which = self._which(point) if failure.kind == "error" else ""
        self._notify("failed", f"point {number} failed: {failure.kind}{which}{ending.where}: {why}")
        self._show(point, failure, ending, f"see hpo-steer logs {number} · again: hpo-steer retry {number}")

    def _show(self, point: LivePoint, failure: Failure, ending: Ending, hint: str) -> None:
        """Parameters and log, the first time that something fails so."""
        cause = f"{failure.kind} {_DIGITS.sub('#', first_line(failure.message))}"
        if ending.worker is None or cause in self._shown or len(self._shown) >= _SHOWN_WHOLE:
            return
        self._shown.add(cause)
        lines = [printable(params(point.record.params), _LINE)]
        lines += [f"| {printable(line, _LINE)}" for line in last_lines(ending.log)]
        for line in (*lines, hint):
            self._notify("failed", f"  {line}")

    def _which(self, point: LivePoint) -> str:
        return f" (attempt {point.tried} of {self._most})" if self._most > 1 else ""


def last_lines(log: str) -> list[str]:
    """The end of a log, as much as goes with a failure."""
    return log.strip().splitlines()[-_LOG_LINES:]


def first_line(text: str) -> str:
    """The first line of a message, for one-line notices."""
    return text.strip().partition("\n")[0]
