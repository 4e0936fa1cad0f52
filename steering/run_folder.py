"""The folder of a run: its store, its logs, its plots, and a card that says what it is."""

from __future__ import annotations

import json
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import RunUnwritable

if TYPE_CHECKING:
    from collections.abc import Sequence

CARD = "run.json"
_REQUESTS = "requests"


@dataclass(frozen=True)
class Request:
    """Points to be tried once more.

    Attributes:
        file: where the request lies until it is done.
        points: their ids.
    """

    file: Path
    points: tuple[int, ...]

    def done(self) -> None:
        """It was done, or is taken back."""
        self.file.unlink(missing_ok=True)

    @property
    def waits(self) -> bool:
        """Whether nobody has done it yet."""
        return self.file.exists()


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

    @property
    def bundles(self) -> Path:
        """Code that is shipped to workers."""
        return self.path / "bundles"

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

    # ------------------------------------------------------------ requests

    def request(self, points: Sequence[int]) -> Request:
        """Leaves a request to try failed points once more, for the steering that works on this run.

        Raises:
            RunUnwritable: it cannot be written.
        """
        folder = self.path / _REQUESTS
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            new = folder / f".{secrets.token_hex(8)}"
            new.write_text(json.dumps({"retry": list(points)}))
            file = new.with_name(f"{new.name[1:]}.json")
            new.rename(file)
        except OSError as exc:
            raise RunUnwritable(f"{folder} cannot be written: {exc.strerror or exc}") from exc
        return Request(file, tuple(points))

    def requests(self) -> list[Request]:
        """The requests that wait; what is no request is removed."""
        try:
            files = sorted((self.path / _REQUESTS).glob("*.json"))
        except OSError:
            return []
        return [request for file in files if (request := _read_request(file)) is not None]

    def move_aside(self) -> Path:
        """Renames the folder, so that a fresh run can take its place and nothing is lost."""
        stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime())
        target = self.path.with_name(f"{self.path.name}.old-{stamp}")
        self.path.rename(target)
        return target


def _read_request(file: Path) -> Request | None:
    try:
        points = json.loads(file.read_text())["retry"]
        return Request(file, tuple(int(point) for point in points))
    except (OSError, ValueError, TypeError, KeyError):
        file.unlink(missing_ok=True)
        return None
