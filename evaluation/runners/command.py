"""Runs a command for each point, and reads its metrics from a file or from its last line of output."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from containers.launch import Mount
from containers.process import ProcessGroup, Surroundings
from evaluation.attempt import open_log, remove_if_empty
from evaluation.bounded_log import KEPT_BYTES, BoundedLog
from evaluation.runners.base import Handle, Outcome, Runner, Task, failed, read_answer, terminated
from hpo_steer.child import check_metrics
from hpo_steer.config.surroundings import INPUT, OUTPUT, PLACEHOLDER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


_KEPT_OUTPUT = 262_144
_MAX_OUTPUT_FILE = 8_000_000


class CommandRunner(Runner):
    """Runs a command.

    Args:
        command: the program and its arguments, with ``{name}`` for parameters, ``{input}`` and ``{output}``
            for the JSON files of the point and of its metrics.
        around: the processes' surroundings.
        objectives: metrics that the command must give.
        parameters: names that the search space knows; one that a point lacks (it is switched off) becomes an
            empty text. Other braces are left alone.
        mounts: what its container sees besides the working folder and the point's.
        keep: bytes of an attempt's output that are kept.
    """

    def __init__(
        self,
        command: Sequence[str],
        around: Surroundings,
        objectives: Sequence[str],
        parameters: Sequence[str] = (),
        mounts: Sequence[Mount] = (),
        keep: int = KEPT_BYTES,
    ) -> None:
        self.keep = keep
        self._command, self._around, self._objectives = command, around, objectives
        self._mounts = mounts
        self._absent = dict.fromkeys(parameters, "")
        self._running: set[_Running] = set()

    def start(self, task: Task) -> Handle:
        """Starts an attempt; raises as `Runner.start`."""
        folder = task.folder.make()
        (folder / "input.json").write_text(json.dumps(task.work.params), encoding="utf-8")
        texts = {INPUT: str(folder / "input.json"), OUTPUT: str(folder / "output.json")}
        return self.run(task, [fill(argument, self.texts(task) | texts) for argument in self._command])

    def texts(self, task: Task) -> dict[str, str]:
        """What the placeholders of parameters stand for."""
        return {**self._absent, **{name: _text(value) for name, value in task.work.params.items()}}

    def run(self, task: Task, argv: Sequence[str]) -> Handle:
        """Runs the command of an attempt."""
        handle = _Running(self, task, argv)
        self._running.add(handle)
        return handle

    def close(self) -> None:
        """Kills every process."""
        for handle in list(self._running):
            handle.kill()
            handle.end()

    def group(self, task: Task, argv: Sequence[str], log_fd: int, stdout_fd: int) -> ProcessGroup:
        """The processes of an attempt."""
        point = os.path.dirname(task.folder.path)  # noqa: PTH120 - a string, as the runtimes have it
        return ProcessGroup(
            argv,
            self.surroundings(task),
            seat=self._around.seat(task.slot),
            env=task.folder.environment(task.work),
            log_fd=log_fd,
            stdout_fd=stdout_fd,
            mounts=(*self._mounts, Mount(point, point)),
        )

    def surroundings(self, task: Task) -> Surroundings:  # noqa: ARG002 - others have one for each
        """Where an attempt runs."""
        return self._around

    def read(self, task: Task, stdout: bytes) -> Outcome:
        """The metrics that a command has left."""
        file = Path(task.folder.path) / "output.json"
        if file.exists():
            return self._read_file(file)
        line = next((s for s in reversed(stdout.decode("utf-8", "replace").splitlines()) if s.strip()), "")
        with contextlib.suppress(ValueError, RecursionError):
            return self._check(json.loads(line), "the last line of output")
        with contextlib.suppress(ValueError):  # such as +1.5 or nan, which are no JSON
            return self._check(float(line), "the last line of output")
        came = f"the last line is {line[:200]!r}" if line else "there is no output"
        return failed("error", f"no metrics: {self._expected()}; {came}")

    def look_after(self, task: Task, now: float) -> None:
        """Called now and then while a command runs."""

    def over(self, task: Task, code: int) -> Callable[[], None] | None:  # noqa: ARG002 - others need them
        """Called when a command has ended with an exit code, and all that it has started.

        Returns:
            What is still to be done, off the loop.
        """
        return None

    def ended(self, handle: _Running) -> None:
        """A handle is spent."""
        self._running.discard(handle)

    def _read_file(self, file: Path) -> Outcome:
        try:
            if file.stat().st_size > _MAX_OUTPUT_FILE:
                return failed(
                    "error", f"the output file holds {file.stat().st_size:,} bytes, which is too much"
                )
            value = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError) as exc:
            return failed("error", f"the output file is no JSON: {exc}")
        return self._check(value, "the output file")

    def _check(self, value: Any, where: str) -> Outcome:
        if isinstance(value, dict) and "status" in value and "status" not in self._objectives:
            status = value["status"]
            message = value.get("message")
            value = {name: given for name, given in value.items() if name not in ("status", "message")}
            if status != 0:
                return failed("error", f"status {status!r}" + (f": {message}" if message else ""))
        if not isinstance(value, (dict, int, float)) or isinstance(value, bool):
            return failed("error", f"{where} holds {str(value)[:80]!r}; {self._expected()}")
        return read_answer(check_metrics(value, self._objectives, where))

    def _expected(self) -> str:
        names = self._objectives or ["loss"]
        example = json.dumps(dict.fromkeys(names, 0.1))
        number = ", or a number" if len(names) == 1 else ""
        return f"expected {example} in the file {{output}} or as the last line of output{number}"


class _Running(Handle):
    """A running command."""

    def __init__(self, runner: CommandRunner, task: Task, argv: Sequence[str]) -> None:
        self._runner, self._task = runner, task
        self._stdout = bytearray()
        self._open = True
        self._rest: Callable[[], None] | None = None
        self._log_fd = open_log(task.log)
        self._bounded = BoundedLog(task.log, 0, runner.keep)
        self._pipe, stdout_fd = os.pipe()
        os.set_blocking(self._pipe, False)
        try:
            self._group = runner.group(task, argv, self._log_fd, stdout_fd)
        except BaseException:
            os.close(self._pipe)
            os.close(self._log_fd)
            raise
        finally:
            os.close(stdout_fd)
        self._fds = (self._pipe, *self._group.fds())

    @property
    def pid(self) -> int:
        return self._group.pid

    def fds(self) -> tuple[int, ...]:
        return self._fds

    def poll(self, now: float) -> Outcome | None:
        exited = self._group.exited()
        self._read()
        if not exited:
            self._bounded.look(now)
            self._group.tick(now)
            self._runner.look_after(self._task, now)
            return None
        code = self.end()
        if code != 0:
            outcome = failed("error", f"the command {self._group.died(code)}")
        else:
            outcome = self._runner.read(self._task, bytes(self._stdout))
        return replace(outcome, rest=self._rest, terminated=terminated(code))

    def stop(self) -> None:
        self._group.terminate()

    def preempt(self, grace_s: float) -> None:
        self._group.terminate(grace_s)

    def kill(self) -> None:
        self._group.kill()

    @property
    def log(self) -> tuple[Path, int]:
        return self._task.log, 0

    def end(self) -> int:
        """Reaps the command; what it wrote last is read before."""
        code = self._group.reap()
        if self._open:
            self._open = False
            self._read()
            os.close(self._pipe)
            os.close(self._log_fd)
            self._bounded.finish()
            remove_if_empty(self._task.log)
            self._rest = self._runner.over(self._task, code)
        self._runner.ended(self)
        return code

    def _read(self) -> None:
        """Copies the output to the log and keeps its end; at most some megabytes at once."""
        with contextlib.suppress(BlockingIOError):
            for _ in range(64):
                data = os.read(self._pipe, 65_536)
                if not data:
                    return
                self._stdout += data
                del self._stdout[:-_KEPT_OUTPUT]
                with contextlib.suppress(OSError):  # a full disk must not end the training
                    os.write(self._log_fd, data)


def fill(argument: str, texts: Mapping[str, str]) -> str:
    """Puts texts in place of ``{name}``; names that are not among them stay.

    >>> fill("--lr={lr} {x}", {"lr": "0.1"})
    '--lr=0.1 {x}'
    """
    return PLACEHOLDER.sub(lambda found: texts.get(found[1], found[0]), argument)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
