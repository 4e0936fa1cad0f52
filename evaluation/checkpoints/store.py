"""Where checkpoints are kept for all workers: a place that fsspec can write to."""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from secrets import token_hex
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from hpo_steer import faults
from hpo_steer.errors import CheckpointError, MissingExtra
from hpo_steer.shipping.urls import shown
from hpo_steer.transport.settings import conceal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from evaluation.checkpoints.archive import Writer

KEPT = 2
"""How many checkpoints of a point stay: the newest whole one, and the one before."""
_EXTRAS = {"s3": "s3"}
_MAX_ENTRY = 65_536


@dataclass(frozen=True)
class Entry:
    """What is known of a checkpoint; written once its archive is whole.

    Attributes:
        name: that of the archive, without its ending.
        attempt: the attempt that saved it.
        size: bytes of the archive.
        content: bytes of the files in it.
        sha256: of the archive.
    """

    name: str
    attempt: int
    size: int
    content: int
    sha256: str


class CheckpointStore:
    """The checkpoints of an experiment's points.

    Each is an archive, ``NAME.tar``, and an entry, ``NAME.json``, which is written once the archive is whole: an
    archive without an entry is half written, or on its way, and nobody takes it. Names sort by attempt, then by time.
    A worker that was given up and goes on saving does no harm: what it saves sorts below.

    No method may be called from a loop: each waits for the network or a disk.

    Args:
        url: the place, as in `evaluation.checkpoint.url`.
        experiment: name of the experiment.
    """

    def __init__(self, url: str, experiment: str) -> None:
        self._url, self._experiment = url.rstrip("/"), experiment
        self._filesystem: Any = None

    @property
    def shown(self) -> str:
        """The place, for people."""
        return shown(self._url)

    def save(
        self,
        run: str,
        point: int,
        attempt: int,
        number: int,
        write: Callable[[IO[bytes]], tuple[Writer, int]],
    ) -> Entry:
        """Adds a checkpoint, and removes those that are not needed any more.

        Args:
            run: id of the run.
            point: the point.
            attempt: the attempt under way.
            number: counts its checkpoints.
            write: writes the archive into an open file; returns what counted it, and the bytes of its files.

        Raises:
            CheckpointError: it cannot be written; those before are untouched.
        """
        name = f"{attempt:06d}-{number:06d}-{token_hex(4)}"
        with self._translated("written to"):
            filesystem, folder = self._open(run, point)
            filesystem.makedirs(folder, exist_ok=True)
            try:
                with filesystem.open(f"{folder}/{name}.tar", "wb") as file:
                    writer, content = write(file)
            except BaseException:
                with contextlib.suppress(Exception):
                    filesystem.rm_file(f"{folder}/{name}.tar")
                raise
            faults.reached("worker.uploaded")
            entry = Entry(name, attempt, writer.size, content, writer.sha256)
            with filesystem.open(f"{folder}/{name}.json", "wb") as file:
                file.write(json.dumps(asdict(entry)).encode())
            with contextlib.suppress(Exception):  # it is saved; the next one tidies up
                self._tidy(filesystem, folder)
        return entry

    def entries(self, run: str, point: int) -> list[Entry]:
        """The whole checkpoints of a point, newest first.

        Raises:
            CheckpointError: the place cannot be read.
        """
        with self._translated("read from"):
            filesystem, folder = self._open(run, point)
            names = self._names(filesystem, folder)
            found = []
            for name in sorted((n for n in names if n.endswith(".json")), reverse=True):
                entry = self._read(filesystem, f"{folder}/{name}")
                if entry is not None and entry.name == name.removesuffix(".json"):
                    found.append(entry)
        return found

    def fetch(self, run: str, point: int, entry: Entry, read: Callable[[IO[bytes]], None]) -> None:
        """Reads a checkpoint.

        Args:
            run: id of the run.
            point: the point.
            entry: which of its checkpoints.
            read: reads the archive from an open file.

        Raises:
            CheckpointError: it cannot be read.
        """
        with self._translated("read from"):
            filesystem, folder = self._open(run, point)
            with filesystem.open(f"{folder}/{entry.name}.tar", "rb") as file:
                read(file)

    def remove(self, run: str, point: int) -> None:
        """Removes all checkpoints of a point.

        Raises:
            CheckpointError: they cannot be removed.
        """
        with self._translated("written to"):
            filesystem, folder = self._open(run, point)
            with contextlib.suppress(FileNotFoundError):
                filesystem.rm(folder, recursive=True)

    def _open(self, run: str, point: int) -> tuple[Any, str]:
        import fsspec

        url = f"{self._url}/{quote(self._experiment, safe='')}/{quote(run, safe='')}/{point}"
        if self._filesystem is None:
            try:
                # the listing of an earlier call may be out of date
                self._filesystem, path = fsspec.core.url_to_fs(
                    url, skip_instance_cache=True, use_listings_cache=False
                )
            except ImportError as exc:
                scheme = urlsplit(url).scheme
                if scheme in _EXTRAS:
                    raise MissingExtra(f'a checkpoint at "{scheme}://…"', _EXTRAS[scheme]) from None
                raise CheckpointError(f"{scheme}:// cannot be used here: {exc}") from None
        else:
            path = self._filesystem._strip_protocol(url)  # noqa: SLF001 - it is fsspec's way
        return self._filesystem, str(path)

    @staticmethod
    def _names(filesystem: Any, folder: str) -> list[str]:
        try:
            found = filesystem.ls(folder, detail=False)
        except FileNotFoundError:
            return []
        return [str(path).rstrip("/").rpartition("/")[2] for path in found]

    @staticmethod
    def _read(filesystem: Any, path: str) -> Entry | None:
        """An entry, if it is whole."""
        try:
            with filesystem.open(path, "rb") as file:
                given = json.loads(file.read(_MAX_ENTRY))
            return Entry(
                str(given["name"]),
                int(given["attempt"]),
                int(given["size"]),
                int(given["content"]),
                str(given["sha256"]),
            )
        except (ValueError, KeyError, TypeError, FileNotFoundError):  # half written, or tidied up this moment
            return None

    def _tidy(self, filesystem: Any, folder: str) -> None:
        names = sorted(self._names(filesystem, folder), reverse=True)
        kept = [name.removesuffix(".json") for name in names if name.endswith(".json")][:KEPT]
        for name in names:
            stem, _, ending = name.rpartition(".")
            # an archive without entry above the newest is on its way
            if stem not in kept and (ending == "json" or (kept and stem < kept[0])):
                with contextlib.suppress(FileNotFoundError):
                    filesystem.rm_file(f"{folder}/{name}")

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        """Each of the file systems has errors of its own, with no common base."""
        try:
            yield
        except (CheckpointError, MissingExtra):
            raise
        except Exception as exc:
            reason = str(exc).strip().partition("\n")[0] or type(exc).__name__
            if isinstance(exc, OSError) and exc.strerror:
                reason = exc.strerror
            raise CheckpointError(f"{self.shown} cannot be {what}: {conceal(reason)}") from exc
