"""One call of a steering command: every point so far in ``%IN``, new ones in ``%OUT``."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from containers.launch import Mount
from containers.phpo.placeholders import fill_steering, left_alone
from containers.phpo.steering_files import INPUT, OUTPUT, Result, read_steering_output, write_steering_input
from containers.work_folder import WorkFolder
from hpo_steer.errors import AlgorithmError, ConfigError
from steering.outside.call import call
from steering.outside.place import LOG_FD, check_program, surroundings, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.space import Params, SearchSpace

_NO_END = 2**31 - 1


class FileCommand:
    """A command that meets us through PanDA's files. It keeps no state between calls, and neither does this.

    Args:
        space: what the file's ``opt_space`` says, if `opt_space` is left out.
        folder: the config's folder.
        command: program and arguments with ``%IN``, ``%OUT``, ``%NUM_POINTS`` and ``%MAX_POINTS``.
        container: what it runs in.
        env: environment variables for it.
        opt_space: what the file's ``opt_space`` says: data, or the name of a JSON file.
        segment: the model's id, where the files have the form with segments.
        timeout_s: how long a call may take.
        failed: how failed points are told: ``null`` as not evaluated, ``omit`` not at all, or by this loss.
        log_fd: where what it prints goes.

    Attributes:
        cautions: what there is to say about placeholders that are not filled in.
        bounded: whether the command is told how many points there may be in all.

    Raises:
        ConfigError: a wrong option.
        ContainerError: a container that cannot be had.
    """

    def __init__(
        self,
        space: SearchSpace,
        folder: Path,
        *,
        command: str | list[str],
        container: str | dict[str, Any] | None = None,
        env: dict[str, str] | None = None,
        opt_space: Any = None,
        segment: int | None = None,
        timeout_s: float | None = None,
        failed: Literal["null", "omit"] | float = "null",
        log_fd: int = LOG_FD,
    ) -> None:
        check_number("timeout_s", timeout_s, above=0.0)
        if not (failed in ("null", "omit") or _is_number(failed)):
            raise ConfigError(
                "algorithm.failed", f"is null, omit, or a number that stands for the loss, got {failed!r}"
            )
        self._argv = words(command, "algorithm.command")
        text = " ".join(self._argv)
        if "%OUT" not in text:
            raise ConfigError(
                "algorithm.command", "lacks %OUT, the file that it is to write the new points to"
            )
        self._around = surroundings({"command": command, "container": container, "env": env}, folder)
        check_program(self._argv, self._around, "algorithm.command")
        self._source = WorkFolder(folder)
        self._opt_space = _read_space(opt_space, folder, space)
        self._segment, self._timeout_s, self._log_fd = segment, timeout_s, log_fd
        self._failed: Literal["null", "omit"] | float = failed
        self.cautions = left_alone(text)
        self.bounded = "%MAX_POINTS" in text

    def run(
        self, known: Sequence[tuple[Params, Result]], n: int, max_points: int | None
    ) -> tuple[list[Params], str]:
        """Calls the command once.

        Args:
            known: every point so far, with what came of it.
            n: how many points are wanted.
            max_points: how many there may be in all.

        Returns:
            The points as they stand in ``%OUT``, which may lie outside the space, and what it printed last.

        Raises:
            AlgorithmError: it failed, or left no such file; with what it printed last.
        """
        with tempfile.TemporaryDirectory(prefix="hpo-steer-call-", ignore_cleanup_errors=True) as scratch:
            place = self._source.make(Path(scratch) / "call", (INPUT, OUTPUT))
            write_steering_input(place / INPUT, known, self._opt_space, self._segment, failed=self._failed)
            argv = [
                fill_steering(
                    word, infile=INPUT, outfile=OUTPUT, num_points=n, max_points=max_points or _NO_END
                )
                for word in self._argv
            ]
            source = str(self._source.source)
            try:
                ended = call(
                    argv,
                    replace(self._around, cwd=place),
                    timeout_s=self._timeout_s,
                    mounts=[Mount(source, source, writable=False)],  # what links point to
                    log_fd=self._log_fd,
                )
            except OSError as exc:
                raise AlgorithmError(f"the steering command cannot be started: {exc}") from None
            if ended.wrong is not None:
                raise AlgorithmError(with_log(f"the steering command {ended.wrong}", ended.said))
            try:
                return read_steering_output(place / OUTPUT, self._segment), ended.said
            except AlgorithmError as exc:
                raise AlgorithmError(with_log(str(exc), ended.said)) from None


def with_log(text: str, said: str) -> str:
    """A message with what the program has printed last."""
    return f"{text}. It printed last:\n{said}" if said.strip() else f"{text}. It printed nothing"


def check_number(name: str, value: float | None, above: float = -1.0) -> None:
    """Checks an option that is a number.

    Raises:
        ConfigError: it is none, or not above a bound.
    """
    if value is not None and (not _is_number(value) or not value > above):
        raise ConfigError(f"algorithm.{name}", f"is a number above {above:g}, got {value!r}")


def _read_space(given: Any, folder: Path, space: SearchSpace) -> Any:
    """What the file says of the space.

    Raises:
        ConfigError: a file that is not there, or no JSON.
    """
    if given is None:
        return space.to_dict() or None
    if not isinstance(given, str):
        return given
    try:
        return json.loads((folder / given).read_bytes())
    except (OSError, ValueError, RecursionError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else exc
        raise ConfigError("algorithm.opt_space", f"{folder / given} cannot be read as JSON: {why}") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
