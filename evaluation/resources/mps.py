"""NVIDIA's Multi-Process Service: processes that share a GPU run on it side by side, not in turns.

A worker whose slots are shares of GPUs starts a control daemon of its own and ends it with itself; where the
machine's administrator runs one, that is used.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from hpo_steer.errors import ConfigError
from hpo_steer.machine.gpus import VISIBLE
from hpo_steer.machine.mps import CONTROL, LOGS, PIPES, mps_program, running_mps

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from containers.warden import Warden

_START_S, _END_S = 5.0, 5.0
_LONGEST = 50
"""Characters: the addresses of sockets below it have 107 at most."""


class Mps:
    """The daemon through which a worker's trainings share GPUs.

    Args:
        mode: ``auto``: where it is there; True: it has to be; False: none.
        uuids: the GPUs that are shared.
        log: where what it says goes.
        warden: ends it and removes what it leaves if the worker is killed.

    Attributes:
        env: what leads trainings to it; empty: there is none.
        note: why there is none, a sentence; None: there is one, or none was wanted.

    Raises:
        ConfigError: it has to be there and is not, or does not start.
    """

    def __init__(
        self,
        mode: bool | Literal["auto"],
        uuids: Sequence[str],
        log: Path,
        warden: Warden,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self.env: dict[str, str] = {}
        self.note: str | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._warden = warden
        if mode is False or not uuids:
            return
        if (running := running_mps(environment)) is not None:
            self.env = {PIPES: str(running)}
            return
        program = mps_program(environment)
        why = (
            f"{CONTROL} is not installed"
            if program is None
            else self._start(program, uuids, log, environment)
        )
        if why is None:
            return
        if mode is True:
            raise ConfigError(
                "evaluation.mps", f"{why}; with mps: auto trainings take turns on a GPU instead"
            )
        self.note = f"trainings that share a GPU take turns on it: {why}"

    def _start(
        self, program: str, uuids: Sequence[str], log: Path, environment: Mapping[str, str]
    ) -> str | None:
        """Starts a daemon; returns why it does not start."""
        self._folder = folder = _local_folder()
        env = {PIPES: str(folder), LOGS: str(folder)}
        with log.open("ab") as said:
            self._process = subprocess.Popen(
                [program, "-f"],
                env={**environment, **env, VISIBLE: ",".join(uuids)},
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
        self._warden.began(self._process.pid, ["rm", "-rf", str(folder)])
        deadline = time.monotonic() + _START_S
        while not (folder / "control").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.close()
                return f"{CONTROL} does not start (see {log})"
            time.sleep(0.05)
        self.env = env
        return None

    def close(self) -> None:
        """Ends the daemon that was started here."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        self._warden.ended(process.pid)
        process.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _local_folder() -> Path:
    """A new folder for pipes and sockets: on a disk of this machine's own, and its name is short enough for them."""
    where = tempfile.gettempdir()
    return Path(tempfile.mkdtemp(prefix="hpo-steer-mps-", dir=where if len(where) <= _LONGEST else "/tmp"))  # noqa: S108 - made for this user alone
