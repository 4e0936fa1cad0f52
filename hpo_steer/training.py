"""What a training can say and ask while it runs: report a metric, find its checkpoints, know its point.

Standard library only, Python 3.9 or later. Run by hand, outside any attempt, the functions do no harm:
`report` does nothing, `checkpoint_dir` is a temporary folder, and `point` has the id -1.

A worker and its trainings meet in the attempt's folder, which the environment variable
`HPO_STEER_ATTEMPT_DIR` names (so it works in subprocesses of the training too):

- ``reports.jsonl``: a line for each `report`, ``{"step": 3, "metrics": {"loss": 0.2}}``;
- ``stop``: there once the attempt is to end; its text is the reason;
- ``preempted``: there before ``stop`` is, if the worker has to leave, and a later attempt carries on;
- ``../checkpoint/``: kept from one attempt at the point to the next.
"""

from __future__ import annotations

import json
import math
import operator
import os
import sys
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional

from hpo_steer.errors import Preempted, Stopped

if TYPE_CHECKING:
    from pathlib import Path

ATTEMPT_DIR = "HPO_STEER_ATTEMPT_DIR"
POINT = "HPO_STEER_POINT"
REPORTS = "reports.jsonl"
STOP = "stop"
PREEMPTED = "preempted"
CHECKPOINT = "checkpoint"


class RunningPoint(NamedTuple):
    """The point that is being evaluated.

    Attributes:
        id: its id in the experiment; -1 outside any attempt.
        attempt: which try of a worker at it, from 1.
        model: which model it belongs to.
        iteration: the iteration that proposed it, from 1; 0 outside any attempt.
        parent: the point it continues, whose last checkpoint lay in `checkpoint_dir` when its first attempt began, if
            it could be had; None if it begins anew.
    """

    id: int
    attempt: int
    model: str
    iteration: int
    parent: Optional[int] = None


class _Memory:
    """What this process remembers: that it was stopped, that reports failed, its folder outside any attempt."""

    stopped_in: Optional[str] = None
    unreported = False
    by_hand: Optional[Path] = None


def report(step: int, **metrics: Any) -> None:
    """Tells steering an intermediate metric.

    Args:
        step: epoch, boosting round or the like; counts up.
        metrics: numbers, or what `float` makes one of. Those that are not finite are left out, and steering says so.

    Raises:
        Preempted: the worker has to leave; save, and let it pass or return. A later attempt carries on.
        Stopped: steering has ended this attempt; let it pass, or save and return. (`Preempted` is one, too.)
        TypeError: a step or metric that is no number.

    Example:
        >>> report(step=3, loss=0.2)
    """
    folder = os.environ.get(ATTEMPT_DIR)
    line = _line(step, metrics)
    if not folder:
        return
    try:
        _append(folder, line)
    except OSError as exc:  # a full disk: the training is worth more than what it reports
        if not _Memory.unreported:
            _Memory.unreported = True
            print(f"hpo-steer: reports cannot be written: {exc}", file=sys.stderr)  # noqa: T201
    try:
        with open(os.path.join(folder, STOP), encoding="utf-8") as file:  # noqa: PTH118, PTH123 - called often
            reason = file.read()
    except OSError:
        return
    _Memory.stopped_in = folder
    if os.path.exists(os.path.join(folder, PREEMPTED)):  # noqa: PTH110, PTH118
        raise Preempted(reason or "the worker has to leave")
    raise Stopped(reason or "steering has ended this attempt")


def checkpoint_dir() -> Path:
    """The folder for this point's checkpoints, made if need be.

    A later attempt at the same point finds what earlier ones left: on this machine, on a shared file system, or
    anywhere with `evaluation.checkpoint.url`. Nobody deletes it. Write files under another name that ends in
    ``.tmp`` first and rename them, as an attempt may end, and the folder may be saved, at any moment.
    """
    from pathlib import Path  # here, as a child's start should be quick

    folder = os.environ.get(ATTEMPT_DIR)
    if folder:
        path = Path(folder).parent / CHECKPOINT
        path.mkdir(parents=True, exist_ok=True)
        return path
    if _Memory.by_hand is None:
        import tempfile

        _Memory.by_hand = Path(tempfile.mkdtemp(prefix="hpo-steer-checkpoint-"))
    return _Memory.by_hand


def point() -> RunningPoint:
    """The point that is being evaluated; its id is -1 outside any attempt.

    >>> point().id
    -1
    """
    text = os.environ.get(POINT)
    if not text:
        return RunningPoint(-1, 1, "main", 0)
    given = json.loads(text)
    return RunningPoint(
        given["id"], given["attempt"], given["model"], given["iteration"], given.get("parent")
    )


def stopped_in(folder: str) -> bool:
    """Whether `report` has raised `Stopped` in the attempt of this folder, even if nobody let it pass."""
    return _Memory.stopped_in == folder


def _line(step: int, metrics: Dict[str, Any]) -> bytes:
    numbers: Dict[str, float] = {}
    left_out: List[str] = []
    for name, value in metrics.items():
        if isinstance(value, (str, bytes)):
            raise TypeError(f"report() got {name}={value!r}, which is no number")
        number = float(value)
        if math.isfinite(number):
            numbers[name] = number
        else:
            left_out.append(name)
    line: Dict[str, Any] = {"step": operator.index(step), "metrics": numbers}
    if left_out:
        line["left_out"] = left_out
    return json.dumps(line).encode() + b"\n"


def _append(folder: str, line: bytes) -> None:
    """One write, so that lines of several processes do not mix."""
    path = os.path.join(folder, REPORTS)  # noqa: PTH118 - called often
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
    try:
        fd = os.open(path, flags, 0o644)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103 - made only for those that report
        fd = os.open(path, flags, 0o644)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)
