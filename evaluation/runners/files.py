"""Runs a command that meets us through files in a folder of its own: the contract of PanDA's phpo.

The command finds ``input.json`` (the point) and ``input_ds.json`` (its data files) in its working folder, beside
copies of the user's scripts, and leaves ``output.json``, ``{"status": 0, "loss": 0.12}``, there.
"""

from __future__ import annotations

import os
import shutil
import threading
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from containers.launch import Mount
from containers.phpo.evaluation_files import read_evaluation_output, write_point, write_training_data
from containers.phpo.placeholders import fill_evaluation
from evaluation.bounded_log import KEPT_BYTES
from evaluation.runners.base import Handle, Outcome, Task, read_answer
from evaluation.runners.command import CommandRunner, fill
from hpo_steer.training import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from containers.process import Surroundings
    from containers.work_folder import WorkFolder
    from hpo_steer.config.container import Files

_WORK = "work"
_NO_DATA: Mapping[str, Sequence[str]] = {}


class FilesRunner(CommandRunner):
    """Runs a command in a folder of the attempt's own.

    Args:
        command: the program and its arguments, with ``{name}`` for parameters and phpo's placeholders.
        around: the processes' surroundings.
        objectives: metrics that the command must give.
        files: names of the files.
        source: makes the folders.
        parameters: names that the search space knows.
        data: the data files of each model that has its own.
        mounts: what its container sees besides the working folder and the point's.
        keeps: whether the checkpoint of an attempt that has succeeded stays, for points that carry on from it.
        keep: bytes of an attempt's output that are kept.
    """

    def __init__(
        self,
        command: Sequence[str],
        around: Surroundings,
        objectives: Sequence[str],
        files: Files,
        source: WorkFolder,
        *,
        parameters: Sequence[str] = (),
        data: Mapping[str, Sequence[str]] = _NO_DATA,
        mounts: Sequence[Mount] = (),
        keeps: bool = False,
        keep: int = KEPT_BYTES,
    ) -> None:
        seen = Mount(str(source.source), str(source.source), writable=False)  # what the links point to
        super().__init__(command, around, objectives, parameters, (*mounts, seen), keep)
        self._files, self._source, self._data = files, source, data
        self._keeps = keeps
        self._savers: dict[str, _Saver] = {}

    def start(self, task: Task) -> Handle:
        """Starts an attempt; raises as `Runner.start`."""
        files, folder = self._files, self._folder(task)
        task.folder.make()
        written = [
            files.input,
            files.output,
            files.training_data,
            files.metrics,
            files.meta,
            *files.checkpoint,
        ]
        self._source.make(folder, [name for name in written if name is not None])
        saver = _Saver(folder, Path(task.folder.path).parent / CHECKPOINT, files)
        saver.give_back()
        data = self._data.get(task.work.model) or files.data
        for name in (files.input, files.training_data, files.output):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_point(folder / files.input, task.work.params)
        write_training_data(folder / files.training_data, data)
        texts = self.texts(task)
        self._savers[task.folder.path] = saver
        return self.run(
            task,
            [
                fill(fill_evaluation(each, data=data, segment=task.work.model, point=task.work.point), texts)
                for each in self._command
            ],
        )

    def surroundings(self, task: Task) -> Surroundings:
        """The attempt's own folder."""
        return replace(self._around, cwd=self._folder(task))

    def look_after(self, task: Task, now: float) -> None:
        """Saves its checkpoint when it is time."""
        self._savers[task.folder.path].save_if_due(now)

    def over(self, task: Task, code: int) -> Callable[[], None] | None:
        """Keeps what is to be kept of an attempt."""
        saver = self._savers.pop(task.folder.path)
        return partial(self._keep, task, saver, wanted=code != 0 or self._keeps)

    def _keep(self, task: Task, saver: _Saver, *, wanted: bool) -> None:
        saver.finish(keep=wanted)
        folder = self._folder(task)
        for name in (self._files.metrics, self._files.meta):
            if name is not None and (folder / name).is_file():
                kept = task.log.with_name(f"{task.log.stem}.{name.replace('/', '_')}")
                shutil.copyfile(folder / name, kept)

    def read(self, task: Task, stdout: bytes) -> Outcome:  # noqa: ARG002 - what is printed says nothing
        """The metrics that a command has left."""
        return read_answer(read_evaluation_output(self._folder(task) / self._files.output, self._objectives))

    def _folder(self, task: Task) -> Path:
        return Path(task.folder.path) / _WORK


class _Saver:
    """Keeps the files of a checkpoint in the point's folder, which outlives the attempt."""

    def __init__(self, folder: Path, kept: Path, files: Files) -> None:
        self._folder, self._kept, self._files = folder, kept, files
        self._due = 0.0
        self._thread: threading.Thread | None = None

    def give_back(self) -> None:
        """Puts what an earlier attempt has saved into the working folder."""
        for name in self._files.checkpoint:
            _copy(self._kept / name, self._folder / name)

    def save_if_due(self, now: float) -> None:
        """Saves beside the loop, which goes on."""
        if not self._files.checkpoint or (self._thread is not None and self._thread.is_alive()):
            return
        if not self._due:
            self._due = now + self._files.checkpoint_interval_s
        if now >= self._due:
            self._due = now + self._files.checkpoint_interval_s
            self._thread = threading.Thread(target=self._save, daemon=True)
            self._thread.start()

    def finish(self, *, keep: bool) -> None:
        """The attempt is over: its last state is saved for the next one, or none is needed any more."""
        if self._thread is not None:
            self._thread.join()
        if keep:
            self._save()
        else:
            for name in self._files.checkpoint:
                _remove(self._kept / name)

    def _save(self) -> None:
        for name in self._files.checkpoint:
            half = self._kept / f"{name}.half"
            try:
                if _copy(self._folder / name, half):
                    _replace(half, self._kept / name)
            except OSError:  # it changes while it is copied, or the disk is full: the older one stays
                _remove(half)


def _copy(source: Path, target: Path) -> bool:
    """Copies a file or a folder; whether there was one."""
    if not source.exists():
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove(target)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target)
    return True


def _replace(new: Path, path: Path) -> None:
    """Puts a file or a folder into the place of another, in next to no time."""
    old = path.with_name(f"{path.name}.old.tmp")
    _remove(old)
    if path.is_dir() and not path.is_symlink():
        path.rename(old)
    new.replace(path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink()
