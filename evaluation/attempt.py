"""The folder in which a worker and one of its trainings meet, and the log of that training."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evaluation.checkpoints.folder import OWNER
from hpo_steer.limits import MAX_LEFT_OUT
from hpo_steer.training import ATTEMPT_DIR, CHECKPOINT, POINT, PREEMPTED, REPORTS, STOP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.messages import Work

LOG_LINES = 50
LOG_BYTES = 8192


@dataclass(frozen=True)
class ReportLine:
    """A report as a training wrote it.

    Attributes:
        step: epoch or the like.
        metrics: finite numbers.
        left_out: names of metrics that were none.
    """

    step: int
    metrics: dict[str, float]
    left_out: Sequence[str] = ()


class AttemptFolder:
    """An attempt's folder; it is made on disk only when something is put into it.

    Args:
        path: where it is; its parent is the point's folder, which outlives the attempt.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.bad_reports = 0
        self._offset = 0

    def make(self) -> Path:
        """Makes it."""
        os.makedirs(self.path, exist_ok=True)  # noqa: PTH103 - on the fast way, strings are enough
        return Path(self.path)

    def ask_to_stop(self, reason: str, *, preempted: bool = False) -> None:
        """Lets the next `hpo_steer.report` raise `Stopped`.

        Args:
            reason: why.
            preempted: as the worker has to leave; it raises `Preempted`.
        """
        folder = self.make()
        if preempted:
            (folder / PREEMPTED).touch()
        (folder / f"{STOP}.new").write_text(reason, encoding="utf-8")
        (folder / f"{STOP}.new").replace(folder / STOP)

    def new_reports(self) -> list[ReportLine]:
        """The reports since the last call; a line that is still being written is left for the next one."""
        try:
            with open(f"{self.path}/{REPORTS}", "rb") as file:  # noqa: PTH123 - on the fast way
                file.seek(self._offset)
                data = file.read()
        except OSError:
            return []
        complete = data[: data.rfind(b"\n") + 1]
        self._offset += len(complete)
        reports = [_read_report(line) for line in complete.splitlines()]
        self.bad_reports += reports.count(None)
        return [report for report in reports if report is not None]

    def remove(self) -> None:
        """Removes it, and the point's folder where nothing else is in that; checkpoints stay."""
        point = os.path.dirname(self.path)  # noqa: PTH120
        if not os.path.exists(point):  # noqa: PTH110
            return
        shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(f"{point}/{CHECKPOINT}")  # noqa: PTH106 - only if it is empty
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{point}/{OWNER}")  # noqa: PTH108
            os.rmdir(point)  # noqa: PTH106

    def environment(self, work: Work) -> dict[str, str]:
        """What tells the in-training API where it is."""
        return {ATTEMPT_DIR: self.path, POINT: json.dumps(point_of(work))}


def point_of(work: Work) -> dict[str, Any]:
    """What `hpo_steer.point` returns in a training."""
    told = {"id": work.point, "attempt": work.attempt, "model": work.model, "iteration": work.iteration}
    return told if work.parent is None else told | {"parent": work.parent}


def log_tail(path: Path, start: int = 0) -> str:
    """The last `LOG_LINES` lines and `LOG_BYTES` bytes of a log, of what was written from `start` on."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(min(start, end), end - LOG_BYTES))
            data = file.read(LOG_BYTES)
    except OSError:
        return ""
    lines = data.decode("utf-8", "replace").replace("\0", "").splitlines()
    return "\n".join(lines[-LOG_LINES:])


def open_log(log: Path) -> int:
    """Opens a log for appending; where the disk takes none, what is printed is lost, and the training goes on."""
    try:
        return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def remove_if_empty(log: Path) -> None:
    """Removes a log that nothing was written to."""
    with contextlib.suppress(OSError):
        if log.stat().st_size == 0:
            log.unlink()


def _read_report(line: bytes) -> ReportLine | None:
    try:
        given = json.loads(line)
        numbers = {str(name): float(value) for name, value in given["metrics"].items()}
        metrics = {name: value for name, value in numbers.items() if math.isfinite(value)}
        told = [str(name) for name in given.get("left_out", ())]
        left_out = [*told, *(name for name in numbers if name not in metrics)][:MAX_LEFT_OUT]
        return ReportLine(int(given["step"]), metrics, left_out) if metrics or left_out else None
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
