"""Which worker of this user's uses which GPUs and cores of this machine, written down where all of them see it.

A worker takes what is free, or waits until something is. What a worker held that has died is free.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hpo_steer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evaluation.resources.places import Place

_FILE = "claims.json"


@dataclass(frozen=True)
class Claim:
    """What one worker holds.

    Attributes:
        pid: its process.
        born: when that process began, so that another one of the same number is not taken for it.
        experiment: what it works for.
        gpus: pairs of a GPU's UUID and the share of it.
        cores: numbers of cores.
    """

    pid: int
    born: str
    experiment: str
    gpus: tuple[tuple[str, float], ...] = ()
    cores: tuple[int, ...] = ()


class Claims:
    """The claims of this user's workers on this machine.

    Args:
        folder: where they are written down; a private one in the temporary folder, if left out.

    Raises:
        ConfigError: that folder belongs to somebody else.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or Path(tempfile.gettempdir()) / f"hpo-steer-{os.getuid()}"
        self._folder.mkdir(mode=0o700, exist_ok=True)
        if self._folder.lstat().st_uid != os.getuid():
            raise ConfigError("", f"{self._folder} belongs to somebody else; set TMPDIR to another folder")

    def take(
        self, experiment: str, choose: Callable[[list[Claim]], list[Place] | None]
    ) -> list[Place] | None:
        """Takes places, while no other worker does.

        Args:
            experiment: what they are for.
            choose: picks places, given what others hold; None: not enough is free.

        Returns:
            What `choose` does.
        """
        with self._file() as file:
            others = [each for each in self._read(file) if each.pid != os.getpid()]
            places = choose(others)
            if places is not None:
                gpus = tuple((uuid, place.share or 1.0) for place in places for uuid in place.gpus)
                cores = tuple(core for place in places for core in place.cores)
                others.append(Claim(os.getpid(), _born(os.getpid()), experiment, gpus, cores))
                self._write(file, others)
        return places

    def others(self) -> list[Claim]:
        """What other workers hold."""
        with self._file() as file:
            return [each for each in self._read(file) if each.pid != os.getpid()]

    def release(self) -> None:
        """Gives back what this process holds."""
        with contextlib.suppress(OSError), self._file() as file:
            self._write(file, [each for each in self._read(file) if each.pid != os.getpid()])

    @contextlib.contextmanager
    def _file(self) -> Iterator[IO[str]]:
        fd = os.open(self._folder / _FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def _read(self, file: IO[str]) -> list[Claim]:
        """The claims of workers that live; a file that was cut off holds none."""
        found = []
        with contextlib.suppress(ValueError, TypeError, KeyError):
            for each in json.load(file):
                gpus = tuple((str(uuid), float(share)) for uuid, share in each["gpus"])
                cores = tuple(int(core) for core in each["cores"])
                found.append(Claim(int(each["pid"]), str(each["born"]), str(each["experiment"]), gpus, cores))
        return [claim for claim in found if claim.born == _born(claim.pid)]

    def _write(self, file: IO[str], claims: list[Claim]) -> None:
        file.seek(0)
        file.truncate()
        json.dump([asdict(each) for each in claims], file)


def _born(pid: int) -> str:
    """When a process began, in clock ticks since the machine did; empty: it is no more."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]
