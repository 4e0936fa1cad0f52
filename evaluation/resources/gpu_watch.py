"""Looks at a worker's GPUs now and then, in a thread: the driver of a sick one may take long to answer."""

from __future__ import annotations

import threading

from hpo_steer.machine import GpuUse, gpu_use


class GpuWatch:
    """How busy some GPUs are, as of late.

    Args:
        uuids: which.
        every_s: how often they are looked at.
    """

    def __init__(self, uuids: list[str], every_s: float) -> None:
        self._uuids, self._every_s = uuids, every_s
        self._latest: list[GpuUse] = []
        self._over = threading.Event()
        if uuids:
            threading.Thread(target=self._run, daemon=True, name="gpu-watch").start()

    @property
    def latest(self) -> list[GpuUse]:
        """What the last look showed; nothing before the first."""
        return self._latest

    def close(self) -> None:
        """Looks no more."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.is_set():
            self._latest = gpu_use(self._uuids)
            self._over.wait(self._every_s)
