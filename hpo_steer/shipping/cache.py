"""The code bundles that are on a machine, packed and unpacked."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import IO, TYPE_CHECKING

from hpo_steer.errors import BundleError
from hpo_steer.shipping.manifest import Manifest
from hpo_steer.shipping.pack import MANIFEST
from hpo_steer.shipping.unpack import digest, unpack

if TYPE_CHECKING:
    from collections.abc import Mapping

KEPT = 5
"""How many bundles stay: those used last."""
_LEFT_OVER_S = 86_400.0


@dataclass(frozen=True)
class Prepared:
    """A bundle that lies unpacked, and was compared with its archive.

    Attributes:
        bundle: its SHA-256.
        folder: where it lies.
        manifest: what it says.
        mended: how many files were missing or differed.
    """

    bundle: str
    folder: Path
    manifest: Manifest
    mended: int = 0
    _marks: Mapping[Path, tuple[int, int]] = field(default_factory=dict, repr=False)

    def damage(self) -> Path | None:
        """A file that is gone or was written to since; None: there is none."""
        return next((path for path, mark in self._marks.items() if _mark(path) != mark), None)


class BundleCache:
    """A folder with bundles: ``SHA256.tar.gz``, and the folder ``SHA256`` with what is in it.

    Several processes may share it. What is in it is complete at any moment: archives and folders get their names when
    they are whole. Nothing is used before it was compared with the hash it is named by.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def archive(self, bundle: str) -> Path:
        """Where a bundle lies packed."""
        return self.folder / f"{bundle}.tar.gz"

    def unpacked(self, bundle: str) -> Path:
        """Where it lies unpacked."""
        return self.folder / bundle

    def collect(self) -> IO[bytes]:
        """An open file without a name for a bundle that is on its way; it vanishes with the process.

        Raises:
            OSError: it cannot be made.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self.folder, prefix=".coming-")

    def keep(self, bundle: str, file: IO[bytes]) -> None:
        """Takes a bundle in.

        Args:
            bundle: the SHA-256 it should have.
            file: an open file that holds it.

        Raises:
            BundleError: it has another.
            OSError: the disk takes no more.
        """
        if (found := digest(file)) != bundle:
            raise BundleError(f"what came has the SHA-256 {found[:16]}…, not {bundle[:16]}…")
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = self.folder / f".{token_hex(8)}.partial"
        try:
            with partial.open("xb") as target:
                shutil.copyfileobj(file, target, 1_048_576)
                target.flush()
                os.fsync(target.fileno())
            partial.replace(self.archive(bundle))
        except BaseException:
            partial.unlink(missing_ok=True)
            raise

    def prepare(self, bundle: str) -> Prepared | None:
        """Unpacks a bundle, or compares what lies unpacked with the archive and mends it.

        Returns:
            The bundle; None if it is not here, or its archive is damaged (which is removed then).

        Raises:
            BundleError: the archive is what it is named, and cannot be used.
            OSError: the disk takes no more.
        """
        archive = self.archive(bundle)
        try:
            with archive.open("rb") as file:
                if digest(file) != bundle:
                    archive.unlink(missing_ok=True)
                    return None
                os.utime(archive)
                return self._lay_out(bundle, file)
        except FileNotFoundError:
            return None

    def _lay_out(self, bundle: str, file: IO[bytes]) -> Prepared:
        folder = self.unpacked(bundle)
        before: dict[Path, tuple[int, int] | None] | None = None
        if not folder.is_dir():
            partial = self.folder / f".{token_hex(8)}.partial"
            try:
                unpack(file, partial)
                with contextlib.suppress(OSError):  # another process was quicker
                    partial.rename(folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
        else:
            before = {path: _mark(path) for path in folder.rglob("*")}
        made = unpack(file, folder)
        marks = {path: mark for path in made if (mark := _mark(path)) is not None}
        manifest = Manifest.decode((folder / MANIFEST).read_bytes())
        mended = sum(before.get(path) != mark for path, mark in marks.items()) if before is not None else 0
        return Prepared(bundle, folder, manifest, mended, marks)

    def prune(self, keep: int = KEPT) -> None:
        """Removes all bundles but those used last, and what processes that were killed have left."""
        now = time.time()
        with contextlib.suppress(OSError):
            archives = sorted(
                self.folder.glob("*.tar.gz"), key=lambda path: path.stat().st_mtime, reverse=True
            )
            for archive in archives[keep:]:
                archive.unlink(missing_ok=True)
                shutil.rmtree(self.unpacked(archive.name.removesuffix(".tar.gz")), ignore_errors=True)
            for path in self.folder.glob(".*.partial"):
                if now - path.stat().st_mtime > _LEFT_OVER_S:
                    shutil.rmtree(path, ignore_errors=True)
                    path.unlink(missing_ok=True)


def _mark(path: Path) -> tuple[int, int] | None:
    """What changes when a file does."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns
