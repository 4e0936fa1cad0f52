"""From a folder to a code bundle."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from hpo_steer.errors import ConfigError
from hpo_steer.shipping.ignore import HPOIGNORE, RESERVED, Found, walk
from hpo_steer.shipping.limits import MAX_FILES, MIB, mib

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

KEY = "evaluation.ship"
MANIFEST = f"{RESERVED}/experiment.json"
_TIME = 315_532_800
"""1980, the first year that every archive format knows."""
_LEVEL = 6
_NAMED = 5
"""How many of the largest files an error names."""


@dataclass(frozen=True)
class Packed:
    """A code bundle that was just made.

    Attributes:
        bundle: its SHA-256.
        size: its bytes.
        names: the files in it.
        file: an open file without a name that holds it.
    """

    bundle: str
    size: int
    names: tuple[str, ...]
    file: IO[bytes]


def pack(
    folder: Path, *, root: Path | None = None, manifest: bytes, max_mib: int, never: Collection[Path] = ()
) -> Packed:
    """Makes a bundle: a gzipped tar archive that is the same, byte for byte, as long as the files are.

    Names are sorted; times, owners and all of the modes but the right to execute are left out.

    Args:
        folder: what goes into it.
        root: what names in it are relative to; None: the folder.
        manifest: what goes into the file `MANIFEST`.
        max_mib: how much all files together may be, before compression.
        never: files and folders that stay here in any case, such as passwords and runs.

    Raises:
        ConfigError: too much, a file that cannot be read, or a link that leads out of the folder.
    """
    folder = folder.resolve()
    root = folder if root is None else root.resolve()
    found = [
        item
        for item in walk(folder, KEY, [path.resolve() for path in never])
        if item.path.relative_to(root).parts[0] != RESERVED
    ]
    _weigh(found, root, max_mib)
    file = tempfile.TemporaryFile(prefix="hpo-steer-")  # noqa: SIM115 - the caller's, who closes it
    try:
        hashed = _Hashed(file)
        with (
            gzip.GzipFile("", "wb", _LEVEL, hashed, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
        ):
            _add(archive, _info(MANIFEST, size=len(manifest)), io.BytesIO(manifest))
            for item in found:
                _put(archive, item, folder, root)
    except BaseException:
        file.close()
        raise
    names = tuple(item.path.relative_to(root).as_posix() for item in found if item.kind != "folder")
    return Packed(hashed.digest(), hashed.size, names, file)


class _Hashed:
    """A file that is written to, with the hash of what was written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._hash = file, hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        try:
            return self._file.write(data)
        except OSError as exc:
            where = tempfile.gettempdir()
            raise ConfigError(KEY, f"the bundle cannot be written to {where}: {exc.strerror}") from None

    def flush(self) -> None:
        self._file.flush()

    def digest(self) -> str:
        return self._hash.hexdigest()


def _weigh(found: list[Found], root: Path, max_mib: int) -> None:
    """Refuses what is too much, before any of it is read."""
    sizes = {item.path: item.path.lstat().st_size for item in found if item.kind == "file"}
    total = sum(sizes.values())
    if total > max_mib * MIB:
        largest = sorted(sizes, key=lambda path: (-sizes[path], path))[:_NAMED]
        listed = ", ".join(f"{path.relative_to(root)} ({mib(sizes[path])})" for path in largest)
        raise ConfigError(
            KEY,
            f"{root} holds {mib(total)} in {len(sizes):,} files, more than max_mib ({max_mib} MiB); the largest are "
            f"{listed}. List in {HPOIGNORE} what is no code, or raise evaluation.ship.max_mib",
        )
    if len(found) > MAX_FILES:
        raise ConfigError(
            KEY,
            f"{root} holds {len(found):,} files; {MAX_FILES:,} are allowed. List what is no code in {HPOIGNORE}",
        )


def _put(archive: tarfile.TarFile, item: Found, folder: Path, root: Path) -> None:
    name = item.path.relative_to(root).as_posix()
    if item.kind == "folder":
        info = _info(name, mode=0o755)
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    elif item.kind == "link":
        info = _info(name)
        info.type, info.linkname = tarfile.SYMTYPE, _target(item.path, folder)
        archive.addfile(info)
    else:
        try:
            with item.path.open("rb") as file:
                status = os.fstat(file.fileno())
                mode = 0o755 if status.st_mode & 0o100 else 0o644
                _add(archive, _info(name, size=status.st_size, mode=mode), file)
        except OSError as exc:
            raise ConfigError(
                KEY,
                f"cannot read {item.path}: {exc.strerror or exc}; list it in {HPOIGNORE} if it is not needed",
            ) from None


def _target(link: Path, folder: Path) -> str:
    """Where a link in a bundle leads, relative to the link."""
    target = link.resolve()
    if not target.is_relative_to(folder):
        raise ConfigError(
            KEY,
            f"{link} is a link out of the folder, to {target}, which other machines do not have; copy what it "
            f"leads to, or list it in {HPOIGNORE}",
        )
    if not target.exists():
        raise ConfigError(KEY, f"{link} is a link to nothing; remove it, or list it in {HPOIGNORE}")
    return os.path.relpath(target, link.parent)


def _info(name: str, *, size: int = 0, mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode, info.mtime = size, mode, _TIME
    return info


def _add(archive: tarfile.TarFile, info: tarfile.TarInfo, file: IO[bytes]) -> None:
    archive.addfile(info, file)
