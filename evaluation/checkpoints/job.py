"""A thread that carries a checkpoint, and can be given up."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from hpo_steer.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE_S = 60.0
"""How long nothing may move before it is given up."""
LONGEST_S = 1_800.0


class Job:
    """What a thread does beside the worker's loop.

    Args:
        work: what to do; it calls `moved` now and then.
        ended: called in the thread, with what went wrong or None.

    Attributes:
        abandoned: given up: what it still does changes nothing any more.
    """

    def __init__(self, work: Callable[[Job], None], ended: Callable[[Job, Exception | None], None]) -> None:
        self._work, self._ended = work, ended
        self._lock = threading.Lock()
        self._began = self._moved = time.monotonic()
        self.abandoned = False
        self._thread = threading.Thread(target=self._run, name="hpo-evaluate checkpoint", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether its thread runs."""
        return self._thread.is_alive()

    def moved(self) -> None:
        """Something has moved; from the thread.

        Raises:
            CheckpointError: it was given up.
        """
        if self.abandoned:
            raise CheckpointError("given up")
        self._moved = time.monotonic()

    def admit(self, step: Callable[[], None]) -> None:
        """Does the step that counts, unless the job was given up; from the thread."""
        with self._lock:
            if self.abandoned:
                raise CheckpointError("given up")
            step()

    def overdue(self, now: float, by: float | None) -> str | None:
        """Why to give it up, if it is time to.

        Args:
            now: by the monotonic clock.
            by: when the worker has to leave, if it has to.
        """
        if by is not None and now >= by:
            return "there was no time left"
        if now - self._moved > IDLE_S:
            return f"nothing moved for {IDLE_S:g} s"
        if now - self._began > LONGEST_S:
            return f"it was not done in {LONGEST_S:g} s"
        return None

    def abandon(self) -> None:
        """Gives it up; the thread ends when it notices."""
        with self._lock:
            self.abandoned = True

    def _run(self) -> None:
        error: Exception | None = None
        try:
            self._work(self)
        except Exception as exc:  # noqa: BLE001 - what it is, the loop sees to
            error = exc
        self._ended(self, error)
