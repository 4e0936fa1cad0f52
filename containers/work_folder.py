"""Folders in which commands meet us through files: the user's own files are there, and a copy of none is changed.

PanDA ships every ``*.json``, ``*.py``, ``*.sh`` and ``*.yaml`` of the user's folder to the place where a command runs.
Here those at its top are copied, so that a command may change them, and whatever else lies in the folder is linked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

COPIED = (".json", ".py", ".sh", ".yaml")
_LEFT = ("__pycache__", "runs", "node_modules")
_MOST_COPIED = 5_000


class WorkFolder:
    """Makes working folders that show the files of one folder.

    Args:
        source: the user's folder.
        without: folders below it that are left out, such as that of the run.
    """

    def __init__(self, source: Path, without: Sequence[Path] = ()) -> None:
        self.source = source.resolve()
        self._without = {path.resolve() for path in without}

    def make(self, target: Path, reserved: Collection[str] = ()) -> Path:
        """Makes a working folder.

        Args:
            target: where; it need not be there.
            reserved: names that a command is to find absent, or written by us.

        Returns:
            The folder.
        """
        target.mkdir(parents=True, exist_ok=True)
        copied = 0
        tops = {name.split("/")[0] for name in reserved}
        for entry in os.scandir(self.source):
            if entry.name in tops or entry.name.startswith(".") or entry.name in _LEFT:
                continue
            path = Path(entry.path)
            if path.resolve() in self._without or any(path in left.parents for left in self._without):
                continue
            place = target / entry.name
            if entry.is_file() and entry.name.endswith(COPIED) and copied < _MOST_COPIED:
                copied += 1
                shutil.copyfile(path, place)
                with contextlib.suppress(OSError):
                    shutil.copymode(path, place)
            else:
                with contextlib.suppress(FileExistsError):
                    place.symlink_to(path)
        return target
