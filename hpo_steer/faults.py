"""Points in the code at which a test can have a process die, to see what that loses.

A process passes one by calling `reached`, which does nothing unless the process was started with

    HPO_STEER_FAULTS=NAME:COUNT:ACTION,...      such as worker.spooled:2:kill
    HPO_STEER_FAULTS_FOLDER=FOLDER              where fired faults leave a file, so that each fires once

The action ``kill`` ends the process as ``kill -9`` does, when it passes the point for the COUNT-th time; ``pause``
stops it as ``kill -STOP`` does. The programs call `arm` when they start. Standard library only, Python 3.9 or later.
"""

from __future__ import annotations

import os
import signal
from typing import Callable, Dict, List, Mapping, Tuple

FAULTS, FOLDER = "HPO_STEER_FAULTS", "HPO_STEER_FAULTS_FOLDER"

POINTS: Dict[str, str] = {
    "steering.heard": "messages were read, and nothing of them is written down",
    "steering.proposed": "an algorithm has proposed points, and they are not written down",
    "steering.result": "a result was taken in, and is not committed",
    "steering.writing": "in the middle of a transaction",
    "steering.committed": "committed, and neither acknowledged nor published",
    "steering.settled": "acknowledged, and not published",
    "steering.published": "points were handed to the transport",
    "steering.shipped": "parts of a code bundle were handed to the transport",
    "worker.collected": "a part of a code bundle is in hand, and not all of them",
    "worker.taken": "work is in hand, and nothing was said about it",
    "worker.started": "`started` was sent, and is not confirmed",
    "worker.leased": "`started` is confirmed, and the work is not acknowledged",
    "worker.training": "the training runs",
    "worker.uploading": "a checkpoint is half way to the place where other workers find it",
    "worker.uploaded": "its archive is there, and nobody takes it yet",
    "worker.trained": "the outcome is known, and on no disk",
    "worker.spooling": "the result is half way to the spool",
    "worker.spooled": "the result is in the spool, and not sent",
    "worker.sent": "the result was handed to the transport, and is not confirmed",
    "worker.confirmed": "the result is confirmed, and still in the spool",
    "worker.forgotten": "the spool has forgotten the result",
    "child.began": "the training function is about to be called",
    "child.trained": "the training function has returned, and its worker does not know",
    "host.asked": "an algorithm's process was asked for points",
    "host.answered": "an algorithm's process has answered",
}
"""Every point, and how things stand there."""

_SIGNALS = {"kill": signal.SIGKILL, "pause": signal.SIGSTOP}


def _nothing(_name: str) -> None:
    pass


reached: Callable[[str], None] = _nothing
"""Passes a point."""


class _Armed:
    """What `reached` is in a process with faults.

    Args:
        faults: (name, count, action) triples.
        folder: where fired ones leave a file.
    """

    def __init__(self, faults: List[Tuple[str, int, str]], folder: str) -> None:
        self._faults, self._folder = faults, folder
        self._passed: Dict[str, int] = {}

    def __call__(self, name: str) -> None:
        """Passes a point, perhaps for the last time."""
        self._passed[name] = passed = self._passed.get(name, 0) + 1
        for number, (point, count, action) in enumerate(self._faults):
            if point == name and passed == count and self._first(f"{number}-{name}"):
                os.kill(os.getpid(), _SIGNALS[action])

    def _first(self, token: str) -> bool:
        try:
            fd = os.open(os.path.join(self._folder, token), os.O_CREAT | os.O_EXCL | os.O_WRONLY)  # noqa: PTH118
        except FileExistsError:
            return False
        os.write(fd, str(os.getpid()).encode())
        os.close(fd)
        return True


def arm(environment: Mapping[str, str]) -> None:
    """Switches the faults on that an environment names; without any, `reached` goes on doing nothing.

    Raises:
        ValueError: the variable cannot be read, or names no point.
    """
    global reached  # noqa: PLW0603 - the one switch of the process
    text = environment.get(FAULTS)
    if not text:
        return
    faults = []
    for item in text.split(","):
        name, count, action = item.split(":")
        if name not in POINTS or action not in _SIGNALS:
            raise ValueError(f"{FAULTS}: there is no point {name!r} with the action {action!r}")
        faults.append((name, int(count), action))
    reached = _Armed(faults, environment[FOLDER])
