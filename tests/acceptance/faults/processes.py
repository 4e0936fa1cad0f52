"""The processes of one arena: found by a mark in their environment, killed, paused, and kept running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Kind = Literal["steering", "worker", "child", "host", "warden", "other"]
MARK = "HPO_ARENA"
_LOOK_S = 0.02
_RESTARTS = 500


@dataclass(frozen=True)
class Process:
    """A process that runs.

    Attributes:
        pid: its id.
        kind: what it is: ``child`` runs a training, ``host`` an algorithm.
        state: as ``/proc`` has it: ``R``, ``S``, ``T`` (paused).
        line: its command line.
    """

    pid: int
    kind: Kind
    state: str
    line: str


def find_processes(mark: str) -> list[Process]:
    """Every process that carries a mark, the oldest first; zombies do not count."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with contextlib.suppress(OSError, IndexError):
            if f"{MARK}={mark}".encode() not in (entry / "environ").read_bytes().split(b"\0"):
                continue
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            if state not in "ZX":
                found.append(Process(int(entry.name), _kind(words), state, " ".join(words).strip()))
    return sorted(found, key=lambda process: process.pid)


def _kind(words: Sequence[str]) -> Kind:
    if "hpo_steer.host" in words:
        return "host"
    if any(word.endswith("warden.py") for word in words):
        return "warden"
    if any("hpo_steer.child" in word for word in words):
        return "child"
    if any(word.endswith(("evaluation/__main__.py", "bin/hpo-evaluate")) for word in words):
        return "worker"
    if any(word.endswith("bin/hpo-steer") for word in words):
        return "steering"
    return "other"


class Keeper:
    """One program that is started again whenever it ends with an error, as a service manager would.

    Args:
        name: for people, and of its log.
        argv: the command.
        folder: where it runs, and where its log is appended to.
        env: all of its environment.
    """

    def __init__(self, name: str, argv: Sequence[str], folder: Path, env: Mapping[str, str]) -> None:
        self.name, self._argv, self._folder, self._env = name, list(argv), folder, dict(env)
        self.log = folder / f"{name}.log"
        self.process: subprocess.Popen[bytes] | None = None
        self.exits: list[int] = []
        self.ended = threading.Event()
        self._stopping = False
        self._lock = threading.Lock()

    def start(self) -> None:
        """Starts it."""
        with self._lock:
            self._spawn()

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._argv, cwd=self._folder, env=self._env, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int | None:
        """Its process, while it runs."""
        process = self.process
        return process.pid if process is not None and process.poll() is None else None

    def tend(self) -> None:
        """Starts it again if it has ended with an error."""
        with self._lock:
            if self.process is None or self.ended.is_set() or (code := self.process.poll()) is None:
                return
            self.exits.append(code)
            if code == 0 or self._stopping or len(self.exits) > _RESTARTS:
                self.ended.set()
            else:
                self._spawn()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Asks it to end, and does not start it again."""
        with self._lock:
            self._stopping = True
            if self.process is not None and self.process.poll() is None:
                self.process.send_signal(number)

    def wait(self, timeout_s: float) -> bool:
        """Waits until it has ended for good."""
        return self.ended.wait(timeout_s)


class Supervisor:
    """Tends keepers in a thread of its own."""

    def __init__(self) -> None:
        self.keepers: list[Keeper] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def add(self, keeper: Keeper) -> Keeper:
        """Starts a program and keeps it running."""
        keeper.start()
        self.keepers.append(keeper)
        return keeper

    def _run(self) -> None:
        while not self._end.wait(_LOOK_S):
            for keeper in list(self.keepers):
                keeper.tend()

    def close(self) -> None:
        """Leaves all programs alone."""
        self._end.set()
        self._thread.join()


def send(pid: int, number: signal.Signals) -> bool:
    """Sends a signal; whether the process was still there."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int, timeout_s: float = 10.0) -> None:
    """Waits until a killed process is dead, whether or not its parent has noticed."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return
        except OSError:
            return
        time.sleep(0.005)
