"""Checkpoints as tar archives: written from a snapshot, and unpacked into a folder of ours and nowhere else."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Protocol, cast

from evaluation.checkpoints.snapshot import MAX_FILES, Unsettled
from hpo_steer import faults
from hpo_steer.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluation.checkpoints.snapshot import Mark, Marks

_BLOCK = 1_048_576


class Sink(Protocol):
    """Where an archive is written to."""

    def write(self, data: bytes, /) -> object:
        """Takes some of it."""


class Writer:
    """Passes bytes on, counts them and takes their SHA-256.

    Args:
        target: where they go.
        progress: called after each write.
    """

    def __init__(self, target: Sink, progress: Callable[[], None]) -> None:
        self._target, self._progress = target, progress
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Takes some more."""
        faults.reached("worker.uploading")
        self._target.write(data)
        self._hash.update(data)
        self.size += len(data)
        self._progress()
        return len(data)

    @property
    def sha256(self) -> str:
        """Of all that was written."""
        return self._hash.hexdigest()


class Reader:
    """The other way round; ends in an error where there is more than there should be.

    Args:
        source: where bytes come from.
        size: how many there are.
        progress: called after each read.
    """

    def __init__(self, source: IO[bytes], size: int, progress: Callable[[], None]) -> None:
        self._source, self._most, self._progress = source, size, progress
        self._hash = hashlib.sha256()
        self.size = 0

    def read(self, size: int = -1) -> bytes:
        """Hands some more out."""
        data = self._source.read(_BLOCK if size < 0 else min(size, _BLOCK))
        self._hash.update(data)
        self.size += len(data)
        self._progress()
        if self.size > self._most:
            raise CheckpointError("it is longer than it was when it was saved")
        return data

    @property
    def sha256(self) -> str:
        """Of all that was read."""
        return self._hash.hexdigest()


def pack(folder: Path, marks: Marks, target: Writer) -> None:
    """Writes a snapshot as a tar archive.

    Args:
        folder: the snapshot.
        marks: what it holds.
        target: where the archive goes.

    Raises:
        Unsettled: a file was written to meanwhile.
        OSError: it cannot be read.
    """
    with tarfile.open(
        fileobj=cast("IO[bytes]", target), mode="w|", bufsize=_BLOCK, format=tarfile.PAX_FORMAT
    ) as tar:
        for name, mark in sorted(marks.items()):
            _add(tar, folder / name, name, mark)


def _add(tar: tarfile.TarFile, path: Path, name: str, mark: Mark) -> None:
    info = tarfile.TarInfo(name)
    info.mode, info.mtime = stat.S_IMODE(mark.mode), mark.mtime_ns / 1e9
    if stat.S_ISDIR(mark.mode):
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif stat.S_ISLNK(mark.mode):
        info.type, info.linkname = tarfile.SYMTYPE, os.readlink(path)  # noqa: PTH115
        tar.addfile(info)
    else:
        with path.open("rb") as file:
            info.size = mark.size
            _check_still(file, mark, name)
            try:
                tar.addfile(info, file)
            except OSError as exc:
                if "unexpected end of data" in str(exc):
                    raise Unsettled(f"{name} was cut while it was saved") from None
                raise
            _check_still(file, mark, name)


def _check_still(file: IO[bytes], mark: Mark, name: str) -> None:
    found = os.fstat(file.fileno())
    if (found.st_size, found.st_mtime_ns) != (mark.size, mark.mtime_ns):
        raise Unsettled(f"{name} was written to while it was saved; write under another name and rename")


def unpack(source: Reader, folder: Path) -> None:
    """Unpacks an archive and reads it to its end, so that its SHA-256 can be compared.

    Args:
        source: the archive.
        folder: a folder that is not there yet.

    Raises:
        CheckpointError: it is no archive of ours.
        OSError: the disk is full.
    """
    folder.mkdir()
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", source), mode="r|", bufsize=_BLOCK) as tar:
            links: list[tuple[Path, str]] = []
            for count, info in enumerate(tar):
                if count >= MAX_FILES:
                    raise CheckpointError(f"it holds more than {MAX_FILES:,} files")
                _extract(tar, info, folder, links)
            for path, target in links:  # last, so that no file can be written through one
                path.symlink_to(target)
    except (tarfile.TarError, EOFError, UnicodeError, ValueError) as exc:
        raise CheckpointError(f"it is no archive: {exc}") from None
    while source.read(_BLOCK):
        pass


def _extract(
    tar: tarfile.TarFile, info: tarfile.TarInfo, folder: Path, links: list[tuple[Path, str]]
) -> None:
    name = PurePosixPath(info.name)
    if not name.parts or name.is_absolute() or ".." in name.parts or "\0" in info.name:
        raise CheckpointError(f"it holds {info.name[:200]!r}, which is no name in a folder")
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if info.isdir():
        path.mkdir(exist_ok=True)
        path.chmod((info.mode & 0o777) | 0o700)
    elif info.issym():
        links.append((path, info.linkname))
    elif info.isreg():
        content = tar.extractfile(info)
        assert content is not None  # noqa: S101 - it is a file
        with path.open("xb") as file:
            while block := content.read(_BLOCK):
                file.write(block)
        path.chmod((info.mode & 0o777) | 0o600)
        os.utime(path, (info.mtime, info.mtime))
    else:
        raise CheckpointError(f"it holds {info.name[:200]!r}, which is no file, folder or link")
