"""A point's checkpoint in the work folder: whose it is, and how another one takes its place."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from evaluation.checkpoints.snapshot import PREFIX
from hpo_steer.training import CHECKPOINT

if TYPE_CHECKING:
    from collections.abc import Callable

OWNER = "checkpoint.json"
"""The file beside the checkpoint that says which attempt of which run wrote to it last."""
_COMING, _GONE = ".coming-", ".gone-"


@dataclass(frozen=True)
class PointFolder:
    """The folder of a point in a worker's work folder.

    Attributes:
        path: where it is.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Where its checkpoint lies."""
        return self.path / CHECKPOINT

    def holds(self, run: str) -> int | None:
        """Whether a checkpoint of a run lies here.

        Returns:
            The attempt that wrote it, 0 if nobody has said so; None: there is none, or it is of another run.
        """
        try:
            with os.scandir(self.checkpoint) as entries:
                if next(entries, None) is None:
                    return None
        except OSError:
            return None
        owner = self.owner()
        if owner is None:
            return 0
        return owner[1] if owner[0] == run else None

    def owner(self) -> tuple[str, int] | None:
        """The run and the attempt that wrote here last, as far as it is known."""
        try:
            given = json.loads((self.path / OWNER).read_bytes())
            return str(given["run"]), int(given["attempt"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def own(self, run: str, attempt: int) -> None:
        """An attempt writes here from now on.

        Raises:
            OSError: it cannot be written down.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        new = self.path / f"{OWNER}.new"
        new.write_text(json.dumps({"run": run, "attempt": attempt}), encoding="utf-8")
        new.replace(self.path / OWNER)

    def clear(self, run: str) -> None:
        """Removes the checkpoint of another run, and what workers that were killed have left."""
        if (owner := self.owner()) is not None and owner[0] != run:
            self._put_away()
        with contextlib.suppress(OSError):
            for path in self.path.iterdir():
                if path.name.startswith((PREFIX, _COMING, _GONE)):
                    shutil.rmtree(path, ignore_errors=True)

    def replace(self, fill: Callable[[Path], None], admit: Callable[[Callable[[], None]], None]) -> None:
        """Puts another checkpoint into the place of this one, once it is whole.

        Args:
            fill: makes a folder of that name, and fills it.
            admit: calls what it is given, unless the new checkpoint comes too late.

        Raises:
            OSError: the disk is full, or the like; nothing has changed.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        coming = self.path / f"{_COMING}{token_hex(4)}"
        try:
            fill(coming)
            admit(lambda: self._install(coming))
        finally:
            shutil.rmtree(coming, ignore_errors=True)
        self._remove_gone()

    def _install(self, coming: Path) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.checkpoint.rename(self.path / f"{_GONE}{token_hex(4)}")
        coming.rename(self.checkpoint)

    def _put_away(self) -> None:
        with contextlib.suppress(OSError):
            self.checkpoint.rename(self.path / f"{_GONE}{token_hex(4)}")
            (self.path / OWNER).unlink(missing_ok=True)
        self._remove_gone()

    def _remove_gone(self) -> None:
        for path in self.path.glob(f"{_GONE}*"):
            shutil.rmtree(path, ignore_errors=True)
