"""A checkpoint folder as it was at one moment, while its training may go on to write."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from hpo_steer.errors import CheckpointError
from hpo_steer.shipping.limits import mib

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNFINISHED = (".tmp", ".part", ".partial", ".half", ".new")
"""Endings of names that are left out: files that are still being written, by custom."""
MAX_FILES = 100_000
PREFIX = ".snapshot-"
_TRIES = 5
_PAUSE_S = 0.2


class TooLarge(CheckpointError):
    """A checkpoint is beyond its bound."""


class Unsettled(CheckpointError):
    """A checkpoint changes while it is looked at; the next try may find it still."""


@dataclass(frozen=True)
class Mark:
    """What of a file changes when it is written to.

    Attributes:
        inode: a renamed file brings its own.
        size: bytes.
        mtime_ns: when it was last written to.
        mode: kind and permissions.
    """

    inode: int
    size: int
    mtime_ns: int
    mode: int


Marks = dict[str, Mark]
"""The files, folders and links of a checkpoint, by their names relative to it."""


def look(folder: Path, max_bytes: int) -> Marks:
    """What lies in a checkpoint folder; empty: nothing worth saving.

    Args:
        folder: the checkpoint.
        max_bytes: bound on all its files together.

    Raises:
        TooLarge: it holds more.
        OSError: it cannot be read.
    """
    marks: Marks = {}
    size = 0
    for name, entry in _walk(folder, ""):
        found = entry.stat(follow_symlinks=False)
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode) or stat.S_ISLNK(found.st_mode)):
            continue  # sockets, pipes
        is_folder = stat.S_ISDIR(found.st_mode)
        marks[name] = Mark(
            found.st_ino,
            0 if is_folder else found.st_size,
            0 if is_folder else found.st_mtime_ns,
            found.st_mode,
        )
        size += marks[name].size
        if size > max_bytes:
            raise TooLarge(f"it holds more than {mib(max_bytes)} (evaluation.checkpoint.max_mib)")
        if len(marks) > MAX_FILES:
            raise TooLarge(f"it holds more than {MAX_FILES:,} files")
    return marks


@contextlib.contextmanager
def snapshot(folder: Path, max_bytes: int) -> Iterator[tuple[Path, Marks]]:
    """A second folder with the same files, which stay while the training replaces its own.

    The files are hard links where the file system has them, so nothing is copied. A training that writes under
    another name and renames cannot change them any more; one that writes in place can, which `Marks` tell.

    Args:
        folder: the checkpoint.
        max_bytes: as in `look`.

    Yields:
        The second folder, and its marks. It is gone afterwards.

    Raises:
        TooLarge: see `look`.
        Unsettled: it changed each time it was looked at.
        OSError: it cannot be read, or the disk is full.
    """
    copy, marks = _take(folder, max_bytes)
    try:
        yield copy, marks
    finally:
        shutil.rmtree(copy, ignore_errors=True)


def _take(folder: Path, max_bytes: int) -> tuple[Path, Marks]:
    for last in (False,) * (_TRIES - 1) + (True,):
        copy = folder.parent / f"{PREFIX}{token_hex(4)}"
        try:
            before = look(folder, max_bytes)
            linked = _link(folder, copy, before)
            if before == look(folder, max_bytes):
                return copy, _copied(copy, before, linked=linked)
        except FileNotFoundError:  # a file was renamed this moment
            pass
        except BaseException:
            shutil.rmtree(copy, ignore_errors=True)
            raise
        shutil.rmtree(copy, ignore_errors=True)
        if not last:
            time.sleep(_PAUSE_S)
    raise Unsettled("it changes all the time; write files under a name that ends in .tmp, and rename them")


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        if entry.name.endswith(UNFINISHED):
            continue
        yield prefix + entry.name, entry
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path), f"{prefix}{entry.name}/")


def _link(folder: Path, copy: Path, marks: Mapping[str, Mark]) -> bool:
    """Puts everything into the copy; whether by links throughout."""
    linked = True
    copy.mkdir()
    for name, mark in marks.items():
        source, target = folder / name, copy / name
        if stat.S_ISDIR(mark.mode):
            target.mkdir()
        elif stat.S_ISLNK(mark.mode):
            target.symlink_to(os.readlink(source))  # noqa: PTH115 - the text, not where it leads
        else:
            try:
                os.link(source, target, follow_symlinks=False)
            except FileNotFoundError:
                raise
            except OSError:  # no links here, or the file is somebody else's (a container's)
                shutil.copy2(source, target, follow_symlinks=False)
                linked = False
    return linked


def _copied(copy: Path, marks: Marks, *, linked: bool) -> Marks:
    """The marks of what was copied, whose inodes are others."""
    if linked:
        return marks
    found: Marks = {}
    for name, mark in marks.items():
        status = (copy / name).lstat()
        found[name] = (
            mark if stat.S_ISDIR(mark.mode) else Mark(status.st_ino, mark.size, mark.mtime_ns, mark.mode)
        )
    return found
