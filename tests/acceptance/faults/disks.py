"""Small disks: they can be filled, freed, and made read-only, while programs write to them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BALLAST = ".ballast"


class SmallDisk:
    """A file system in memory that is mounted on a folder.

    Attributes:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Leaves no byte free."""
        with (self.path / _BALLAST).open("ab", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(b"\0" * 4096)

    def free(self) -> None:
        """Gives the space back that `fill` took."""
        (self.path / _BALLAST).unlink()

    @property
    def full(self) -> bool:
        """Whether no block is free."""
        return os.statvfs(self.path).f_bavail == 0

    def read_only(self, on: bool) -> None:
        """Forbids or allows all writing; what is open for writing must be closed before."""
        _mount("-o", f"remount,{'ro' if on else 'rw'}", str(self.path))


@contextmanager
def small_disk(path: Path, size_kib: int) -> Iterator[SmallDisk]:
    """Mounts a new disk, and removes it in the end.

    Without the right to mount, the test is skipped; in CI it fails.
    """
    path.mkdir(parents=True, exist_ok=True)
    try:
        _mount("-t", "tmpfs", "-o", f"size={size_kib}k,mode=0755", "hpo-steer-tests", str(path))
    except (OSError, subprocess.CalledProcessError) as exc:
        message = f"no right to mount a small disk: {exc}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, text=True)
