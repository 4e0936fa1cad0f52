"""The folder of a run: its store, its logs, its plots, and a card that says what it is."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import RunUnwritable

if TYPE_CHECKING:
    from pathlib import Path

CARD = "run.json"


@dataclass(frozen=True)
class RunFolder:
    """Where a run's files lie.

    Attributes:
        path: the folder, private to its owner.
    """

    path: Path

    @property
    def logs(self) -> Path:
        """Logs of attempts, workers and algorithms."""
        return self.path / "logs"

    def make(self) -> None:
        """Creates it.

        Raises:
            RunUnwritable: it cannot be created or written to; says why.
        """
        try:
            self.logs.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
            probe = self.path / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as exc:
            raise RunUnwritable(
                f"the run folder {self.path} cannot be written: {exc.strerror or exc}; "
                "choose another with store: FOLDER"
            ) from exc

    def write_card(self, name: str, run: str, store: str | None, config: Path) -> None:
        """Writes down what this folder is, for the commands that read it.

        Args:
            name: of the experiment.
            run: id of the run.
            store: URL of the database without its password; None: SQLite in this folder.
            config: the config's file.
        """
        card = {"name": name, "run": run, "store": store, "config": str(config.resolve())}
        partial = self.path / f"{CARD}.partial"
        partial.write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
        partial.replace(self.path / CARD)

    def read_card(self) -> dict[str, Any] | None:
        """What `write_card` wrote; None if this is no run's folder."""
        try:
            card = json.loads((self.path / CARD).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return card if isinstance(card, dict) else None

    def move_aside(self) -> Path:
        """Renames the folder, so that a fresh run can take its place and nothing is lost."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime())
        target = self.path.with_name(f"{self.path.name}.old-{stamp}")
        self.path.rename(target)
        return target
