"""Somebody who looks after the broker: types the command that the programs print, and nothing else."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.acceptance.faults.arena import Arena

_COMMAND = re.compile(r"rabbitmqctl eval '([^']+)'")
_LOOK_S = 1.0
_AGAIN_S = 20.0


class Operator:
    """Watches what steering and workers say, in a thread.

    A quorum queue whose node is killed right after the queue was made may come back without a leader, by a
    defect of RabbitMQ that no client can mend; the programs say so, with the command that does.

    Args:
        arena: started, with a broker.

    Attributes:
        typed: how many commands were typed.
    """

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self.typed = 0
        self._end = threading.Event()
        self._last: dict[str, float] = {}
        self._read: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(_LOOK_S):
            for keeper in self._arena.keepers:
                self._heed(self._news(str(keeper.log)))

    def _news(self, log: str) -> str:
        try:
            with open(log, "rb") as file:  # noqa: PTH123 - a place in a growing file
                file.seek(self._read.get(log, 0))
                data = file.read()
        except OSError:
            return ""
        self._read[log] = self._read.get(log, 0) + len(data)
        return data.decode(errors="replace")

    def _heed(self, text: str) -> None:
        broker = self._arena.broker
        for command in dict.fromkeys(_COMMAND.findall(text)):
            if time.monotonic() - self._last.get(command, 0.0) < _AGAIN_S or broker is None:
                continue
            self._last[command] = time.monotonic()
            try:
                broker.ctl("eval", command)
            except (
                RuntimeError,
                subprocess.TimeoutExpired,
            ):  # it is just being killed; they will say it again
                continue
            self.typed += 1
