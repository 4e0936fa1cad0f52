"""From a code bundle to a folder, without trust in what is in it."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from secrets import token_hex
from typing import IO, TYPE_CHECKING, cast

from hpo_steer.errors import BundleError
from hpo_steer.shipping.limits import MAX_FILES, MAX_MIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterator

_BLOCK = 1_048_576
_HEADERS = 4_096
"""Bytes that an archive may spend on the headers of one member."""


def digest(file: IO[bytes]) -> str:
    """The SHA-256 of a file, which is then at its beginning."""
    file.seek(0)
    found = hashlib.sha256()
    while block := file.read(_BLOCK):
        found.update(block)
    file.seek(0)
    return found.hexdigest()


@dataclass(frozen=True)
class Bounds:
    """How much an archive may bring.

    Attributes:
        size: bytes of all files together.
        files: how many files, folders and links.
    """

    size: int = MAX_MIB * MIB
    files: int = MAX_FILES


def unpack(archive: IO[bytes], folder: Path, bounds: Bounds | None = None) -> list[Path]:
    """Unpacks a bundle into a folder, and mends what is already there and differs.

    Only plain files, folders, and links within the folder are made; nothing is written through a link. Files that are
    in the folder and not in the bundle stay.

    Args:
        archive: the bundle.
        folder: where to; it is made if need be.
        bounds: how much it may bring.

    Returns:
        The files and links of the bundle, in its order.

    Raises:
        BundleError: it is no bundle, or tries to leave the folder, or brings too much.
        OSError: the disk takes no more.
    """
    folder.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    links: list[tuple[Path, str]] = []
    with _members(archive, bounds or Bounds()) as members:
        for info, content in members:
            path = folder / info.name
            if info.isdir():
                _make_folder(folder, path)
                continue
            _make_folder(folder, path.parent)
            made.append(path)
            if content is None:
                links.append((path, info.linkname))  # last, so that no file can be written through one
            else:
                _write(path, content, 0o755 if info.mode & 0o100 else 0o644)
    for path, target in links:
        _link(path, target)
    return made


@contextmanager
def _members(
    archive: IO[bytes], bounds: Bounds
) -> Iterator[Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]]:
    archive.seek(0)
    try:
        with gzip.GzipFile(fileobj=archive, mode="rb") as stream:
            bounded = _Bounded(stream, bounds)
            with tarfile.open(fileobj=cast("IO[bytes]", bounded), mode="r:") as tar:
                yield _checked(tar, bounded, bounds)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, ValueError) as exc:
        raise BundleError(f"it is no archive of ours: {exc}") from None


def _checked(
    tar: tarfile.TarFile, stream: _Bounded, bounds: Bounds
) -> Iterator[tuple[tarfile.TarInfo, IO[bytes] | None]]:
    """The members, each with its content if it is a file."""
    size, kinds = 0, dict[PurePosixPath, bool]()
    for info in tar:
        name = PurePosixPath(info.name)
        if (
            not name.parts
            or name.is_absolute()
            or ".." in name.parts
            or "\0" in info.name
            or "\\" in info.name
        ):
            raise BundleError(f"it holds {info.name[:200]!r}, which is no name in a folder")
        if name in kinds or any(kinds.get(parent, True) is False for parent in name.parents):
            raise BundleError(f"it holds {info.name[:200]!r} twice, or in a place that is no folder")
        kinds[name] = info.isdir()
        size += info.size
        if size > bounds.size or len(kinds) > bounds.files:
            raise BundleError(f"it holds more than {bounds.size // MIB:,} MiB or {bounds.files:,} files")
        if info.issym():
            _check_link(name, info.linkname)
            yield info, None
        elif info.isreg():
            yield info, tar.extractfile(info)
        elif info.isdir():
            yield info, None
        else:
            raise BundleError(f"it holds {info.name[:200]!r}, which is no file, folder or link")
    while stream.read(_BLOCK):
        pass  # to the end, where the checksum is


def _check_link(name: PurePosixPath, target: str) -> None:
    place = list(name.parent.parts)
    for part in PurePosixPath(target).parts:
        if part != "..":
            place.append(part)
        elif place:
            place.pop()
        else:
            place.append("/")
        if "/" in place:
            raise BundleError(f"it holds a link out of the folder, {str(name)[:200]!r}")


class _Bounded:
    """A stream that ends in an error where an archive turns out larger than it may be."""

    def __init__(self, stream: gzip.GzipFile, bounds: Bounds) -> None:
        self._stream = stream
        self._most = bounds.size + bounds.files * _HEADERS

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _BLOCK:  # a header of that length, which tarfile would read at once
            raise BundleError("it holds a header without end")
        self._check(self._stream.tell() + size)
        return self._stream.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        self._check(place)
        return self._stream.seek(place, whence)

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._stream.tell()

    def _check(self, place: int) -> None:
        if place > self._most:
            raise BundleError(f"it unpacks to more than {self._most // MIB:,} MiB")


def _make_folder(top: Path, path: Path) -> None:
    """Makes a folder below `top`; what stands in its place and is no folder, such as a link, is put away."""
    for folder in reversed([path, *path.parents]):
        if folder != top and not folder.is_relative_to(top):
            continue
        if folder != top and (folder.is_symlink() or (folder.exists() and not folder.is_dir())):
            folder.unlink()
        folder.mkdir(exist_ok=True)


def _write(path: Path, content: IO[bytes], mode: int) -> None:
    """Writes a file, unless it is there with this very content."""
    if _same(path, content, mode):
        return
    content.seek(0)
    partial = path.with_name(f".{token_hex(8)}.partial")
    try:
        with partial.open("xb") as file:
            while block := content.read(_BLOCK):
                file.write(block)
        partial.chmod(mode)
        _clear(path)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _same(path: Path, content: IO[bytes], mode: int) -> bool:
    try:
        if path.is_symlink() or not path.is_file():
            return False
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                if block != content.read(len(block)):
                    return False
        if content.read(1):
            return False
        if path.stat().st_mode & 0o777 != mode:
            path.chmod(mode)
    except OSError:
        return False
    return True


def _link(path: Path, target: str) -> None:
    if path.is_symlink() and os.readlink(path) == target:  # noqa: PTH115 - the text, not where it leads
        return
    _clear(path)
    path.unlink(missing_ok=True)
    path.symlink_to(target)


def _clear(path: Path) -> None:
    """Puts a folder away that stands where a file belongs."""
    if path.is_dir() and not path.is_symlink():
        path.rename(path.with_name(f".{token_hex(8)}.old"))


def listing(archive: IO[bytes]) -> list[str]:
    """The names in a bundle."""
    with _members(archive, Bounds()) as members:
        return [info.name for info, _ in members]
