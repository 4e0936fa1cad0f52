"""Steering's side of the loggers: a process for each, which can end, hang or fail and stop nothing."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from hpo_steer.config.secrets import BROKER_PASSWORD
from steering.loggers.tools import check

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from hpo_steer.config.section import Section
    from steering.ledger import Notify

_COMMAND = (sys.executable, "-P", "-c", "from hpo_steer.launcher import feed; feed()")
_PIECE = 65536
_LINE_MOST = 500


class Loggers:
    """The loggers of a session.

    Args:
        wanted: the tools by name, with their options.
        folder: of the run; what a logger prints goes to ``logs/logger-NAME.log`` in it.
        notify: hears what they have to say.

    Raises:
        MissingExtra: a tool is not installed.
    """

    def __init__(self, wanted: Mapping[str, Section], folder: Path, notify: Notify) -> None:
        check(wanted)
        self._wanted, self._folder, self._notify = wanted, folder, notify
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._heard: dict[str, bytes] = {}

    def start(self) -> None:
        """Starts them; the run must be in its store."""
        for tool, options in self._wanted.items():
            with (self._folder / "logs" / f"logger-{tool}.log").open("ab") as log:
                process = subprocess.Popen(
                    _COMMAND,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=_environment(),
                    start_new_session=True,
                )
            assert process.stdin is not None  # noqa: S101 - opened as a pipe above
            assert process.stdout is not None  # noqa: S101 - likewise
            request = {
                "folder": str(self._folder.absolute()),
                "tool": tool,
                "options": options.model_dump(mode="json"),
            }
            with contextlib.suppress(BrokenPipeError):  # it has died, and `tend` says so
                process.stdin.write((json.dumps(request) + "\n").encode())
                process.stdin.flush()
            os.set_blocking(process.stdout.fileno(), False)
            self._processes[tool], self._heard[tool] = process, b""

    def tend(self) -> None:
        """Passes on what they say; one that has ended is said once, and not started again."""
        for tool, process in list(self._processes.items()):
            self._hear(tool, process)
            if (code := process.poll()) is None:
                continue
            self._hear(tool, process)
            how = f"signal {-code}" if code < 0 else f"exit code {code}"
            self._notify(
                "warning",
                f"the logger {tool} has ended ({how}): the search goes on, and the next session makes up for what is "
                f"missing (see {self._log(tool)})",
            )
            self._forget(tool)

    def _log(self, tool: str) -> Path:
        return self._folder / "logs" / f"logger-{tool}.log"

    def _hear(self, tool: str, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101 - opened as a pipe in start
        with contextlib.suppress(BlockingIOError):
            self._heard[tool] += os.read(process.stdout.fileno(), _PIECE)
        *lines, rest = self._heard[tool].split(b"\n")
        self._heard[tool] = rest[:_PIECE]
        for line in lines:
            text = line.decode(errors="replace").strip()[:_LINE_MOST]
            if text:
                self._notify("warning", f"logger {tool}: {text}")

    def _forget(self, tool: str) -> None:
        process = self._processes.pop(tool)
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def stop(self, grace_s: float) -> None:
        """Lets them write what is left, and ends those that take longer than the grace time."""
        for process in self._processes.values():
            if process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.close()
        deadline = time.monotonic() + grace_s
        for tool, process in list(self._processes.items()):
            try:
                process.wait(timeout=max(deadline - time.monotonic(), 0.01))
            except subprocess.TimeoutExpired:
                self._notify(
                    "warning",
                    f"the logger {tool} has not written everything within {grace_s:g} s; the same command makes up for "
                    "it",
                )
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._hear(tool, process)
            self._forget(tool)


def _environment() -> dict[str, str]:
    """Theirs is ours, which may hold the tools' keys, but for the broker's password."""
    environment = {name: value for name, value in os.environ.items() if name != BROKER_PASSWORD}
    defaults = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    }  # we try again ourselves
    return {**defaults, **environment}
