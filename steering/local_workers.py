"""Starts worker processes on this machine and replaces those that end."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hpo_steer
from hpo_steer.config.secrets import BROKER_PASSWORD, without_secrets
from hpo_steer.errors import HpoSteerError
from hpo_steer.transport.settings import without_passwords

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_QUICK_S = 10.0
_QUICK_DEATHS = 5
_LAST_BYTES = 4_096


class WorkersFail(HpoSteerError):
    """Workers on this machine keep ending right after their start; the experiment stops and can be resumed."""


@dataclass(frozen=True)
class Exit:
    """A worker process has ended.

    Attributes:
        host: this machine's name.
        pid: its process id.
        how: ``signal 9`` or ``exit code 1``.
        orderly: by itself, as after `max_points`, and not for a fault.
    """

    host: str
    pid: int
    how: str
    orderly: bool = False


@dataclass
class _Seat:
    process: subprocess.Popen[bytes]
    started: float
    log_start: int = 0
    quick_deaths: int = 0
    left: bool = False


class LocalWorkers:
    """Keeps a number of ``hpo-evaluate`` processes running.

    One that has ended is replaced, whether it died or had evaluated its `max_points`. Those are the only ways in which
    a local worker ends by itself: without points, without time, or in quarantine it stays and takes none.

    Args:
        slots: how many slots each of them has.
        config: the experiment's config file.
        overrides: its ``--set`` texts.
        environment: what they need to find steering.
        folder: the run's folder; a worker's own words go to ``logs/worker-N.log`` in it.

    Attributes:
        slots: as given.
    """

    def __init__(
        self,
        slots: Sequence[int],
        config: Path,
        overrides: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
    ) -> None:
        program = Path(hpo_steer.__file__).parent.parent / "evaluation" / "__main__.py"
        self._command = [sys.executable, "-P", str(program), "--config", str(config.resolve())]
        for text in overrides:
            self._command += ["--set", without_passwords(text)]  # anybody sees a command line
        self._environment = {**environment, "HPO_STEER_SINCE": repr(time.time())}
        self._folder = folder
        self.slots = tuple(slots)
        self._seats: dict[int, _Seat] = {}

    def start(self) -> None:
        """Starts them all."""
        for index in range(len(self.slots)):
            self._seats[index] = self._spawn(index)

    def _log(self, index: int) -> Path:
        return self._folder / "logs" / f"worker-{index}.log"

    def _spawn(self, index: int) -> _Seat:
        environment = {
            **without_secrets(os.environ, keep=(BROKER_PASSWORD,)),
            **self._environment,
            "HPO_STEER_RUN_FOLDER": str(self._folder.resolve()),
            "HPO_STEER_PARENT": str(os.getpid()),
            "HPO_STEER_SLOTS": f"{self.slots[index]}/{sum(self.slots)}",
        }
        with self._log(index).open("ab") as log:
            log_start = log.tell()
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        return _Seat(process, time.monotonic(), log_start)

    def tend(self, gone: Callable[[Exit], bool]) -> None:
        """Replaces workers that have ended.

        Args:
            gone: told of each that has ended since the last call; answers whether it had begun to work.

        Raises:
            WorkersFail: one ended five times in a row within ten seconds of its start, before it had begun.
        """
        for index, seat in self._seats.items():
            code = seat.process.poll()
            if code is None:
                continue
            if code == 0 and not seat.left:
                seat.left = True  # its last words are read before the next look
                continue
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            begun = gone(Exit(socket.gethostname(), seat.process.pid, how, orderly=code == 0))
            quick = not begun and time.monotonic() - seat.started < _QUICK_S
            deaths = seat.quick_deaths + 1 if quick else 0
            if deaths >= _QUICK_DEATHS:
                raise WorkersFail(
                    f"the workers on this machine end as soon as they start ({how}): {self._last_line(index)} "
                    f"(see {self._log(index)})"
                )
            self._seats[index] = self._spawn(index)
            self._seats[index].quick_deaths = deaths

    def last_words(self) -> str | None:
        """What the first of them that has said something said last; None: none has."""
        return next((line for index in self._seats if (line := self._line(index))), None)

    def _last_line(self, index: int) -> str:
        return self._line(index) or "it said nothing"

    def _line(self, index: int) -> str:
        with self._log(index).open("rb") as log:
            log.seek(max(self._seats[index].log_start, log.seek(0, os.SEEK_END) - _LAST_BYTES))
            lines = log.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else ""

    @property
    def alive(self) -> bool:
        """Whether any of them runs."""
        return any(seat.process.poll() is None for seat in self._seats.values())

    def dismiss(self) -> None:
        """Has them save what they train, and end; `tend` would replace them."""
        for seat in self._seats.values():
            seat.process.terminate()

    def stop(self, grace_s: float) -> None:
        """Asks them to end, and ends those that don't within the grace time."""
        for seat in self._seats.values():
            seat.process.terminate()
        deadline = time.monotonic() + grace_s
        for seat in self._seats.values():
            try:
                seat.process.wait(timeout=max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                seat.process.kill()
                seat.process.wait()
        self._seats.clear()
