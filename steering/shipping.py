"""Steering's part of shipping code: it makes the bundle, puts it where workers can get it, and hands it out itself."""

from __future__ import annotations

import base64
import os
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from hpo_steer import faults
from hpo_steer.config.payload import payload_file
from hpo_steer.errors import BundleError, ConfigError, RunUnwritable
from hpo_steer.limits import MAX_PART
from hpo_steer.messages import BundleGone, BundlePart
from hpo_steer.shipping import BundleCache, Manifest, Packed, pack, short
from hpo_steer.shipping.limits import MIB, mib
from hpo_steer.shipping.pack import KEY
from steering.words import plural

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from hpo_steer.config import Experiment, LoadedConfig
    from hpo_steer.messages import BundleWanted, Control
    from steering.ledger import Notify

_GATHER_S = 0.2
"""Workers that begin together ask together: one transmission serves them all."""
_RECENT_S = 1.0
"""A part that was sent so lately is on its way to whoever asks for it."""
_AT_ONCE = 8
"""Parts that may wait for their confirm, so that results and stops need not wait behind them."""
_GONE = "it is of an earlier session of this run"
_ASKING_S = 30.0
"""A worker that wants a bundle says so at least this often."""


@dataclass(frozen=True)
class Shipment:
    """A bundle that was made for a run.

    Attributes:
        packed: the bundle.
        url: where workers find it besides at steering; None: nowhere.
    """

    packed: Packed
    url: str | None

    def close(self) -> None:
        """Lets the archive go."""
        self.packed.file.close()


def make_shipment(config: LoadedConfig, notify: Notify) -> Shipment | None:
    """Makes the bundle of a config and puts it to its URL; None if the config ships nothing.

    Raises:
        ConfigError: the folder cannot be packed, lacks what is to be run, or the URL cannot be written.
        MissingExtra: the package for this kind of URL is not installed.
    """
    ship = config.experiment.evaluation.ship
    if ship is None:
        return None
    packed = pack_config(config)
    try:
        url = None if ship.url is None else _upload(ship.url, ship.prefix or ship.url, packed, notify)
    except BaseException:
        packed.file.close()
        raise
    notify(
        "ship",
        f"code bundle {short(packed.bundle)}: {plural(len(packed.names), 'file')}, {mib(packed.size)}"
        + (f", at {url}" if url else ""),
    )
    return Shipment(packed, url)


def pack_config(config: LoadedConfig) -> Packed:
    """Makes the bundle of a config that ships its code.

    Raises:
        ConfigError: see `make_shipment`.
    """
    experiment, here = config.experiment, config.folder
    ship = experiment.evaluation.ship
    assert ship is not None  # noqa: S101 - the callers have looked
    folder = (here / Path(ship.folder).expanduser()).resolve()
    if not folder.is_dir():
        raise ConfigError(f"{KEY}.folder", f"there is no folder {folder}")
    root = Path(os.path.commonpath([folder, here]))
    manifest = Manifest.of(experiment, here.relative_to(root).as_posix())
    packed = pack(
        folder,
        root=root,
        manifest=manifest.encoded(),
        max_mib=ship.max_mib,
        never=_private(experiment, config),
    )
    try:
        _check_function(experiment, here, root, packed)
    except BaseException:
        packed.file.close()
        raise
    return packed


def _private(experiment: Experiment, config: LoadedConfig) -> list[Path]:
    """What never leaves this machine: passwords, keys, runs, and the config, which may hold a URL with a password."""
    broker, store = experiment.broker, experiment.store
    files = [broker.password_file, broker.key_file, store.password_file]
    here = [config.folder / Path(file).expanduser() for file in files if file is not None]
    return [*here, config.path, Path(store.folder)]


def _check_function(experiment: Experiment, here: Path, root: Path, packed: Packed) -> None:
    function = experiment.evaluation.function
    file = payload_file(function, here)[0] if function is not None else None
    if function is None or file is None:
        return
    place = Path(os.path.normpath(file))
    if not place.is_relative_to(root):
        raise ConfigError(
            KEY, f"{place} lies outside of the folder that is shipped, {root}: set evaluation.ship.folder"
        )
    if place.relative_to(root).as_posix() not in packed.names and file.is_file():
        raise ConfigError(
            KEY, f"{place} is not among the files that are shipped: see .hpoignore and evaluation.ship.folder"
        )


def _upload(prefix: str, seen_by_workers: str, packed: Packed, notify: Notify) -> str:
    from hpo_steer.shipping.urls import address, upload

    try:
        new = upload(address(prefix, packed.bundle), packed.file, packed.size)
    except BundleError as exc:
        raise ConfigError(f"{KEY}.url", str(exc)) from None
    if not new:
        notify("ship", f"code bundle {short(packed.bundle)} is at its URL already")
    return address(seen_by_workers, packed.bundle)


class Shipping:
    """Hands bundles out to workers that ask for them.

    Args:
        experiment: name of the experiment.
        run: id of the run.
        folder: where bundles are kept, of earlier sessions too.
        shipment: what this session ships; None: nothing.
        notify: hears what happens.

    Attributes:
        bundle: the SHA-256 of what this session ships.
        url: where it lies besides here.
    """

    def __init__(
        self, experiment: str, run: str, folder: Path, shipment: Shipment | None, notify: Notify
    ) -> None:
        self._experiment, self._run, self._notify = experiment, run, notify
        self._cache = BundleCache(folder)
        self.bundle = shipment.packed.bundle if shipment is not None else None
        self.url = shipment.url if shipment is not None else None
        self._file: IO[bytes] | None = None
        if shipment is not None:
            self._file = self._keep(shipment.packed)
        self._asked: dict[tuple[str, int], None] = {}
        self._sent: dict[tuple[str, int], float] = {}
        self._begin = 0.0
        self._askers: dict[str, float] = {}
        self._problems: dict[str, str] = {}
        self._gone: set[str] = set()
        self._progress: tuple[str, int, int] | None = None

    def _keep(self, packed: Packed) -> IO[bytes]:
        """Puts the bundle to the others; it stays open, so that it can be sent whatever becomes of the folder."""
        try:
            self._cache.keep(packed.bundle, packed.file)
            self._cache.prune()
            return self._cache.archive(packed.bundle).open("rb")
        except OSError as exc:
            raise RunUnwritable(f"{self._cache.folder} cannot be written: {exc.strerror or exc}") from None

    def close(self) -> None:
        """Lets go of the bundle."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @property
    def pending(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._asked or self._gone)

    def wanted(self, event: BundleWanted, now: float) -> None:
        """A worker lacks a bundle."""
        self._askers[event.worker] = now
        if not event.problem:
            self._problems.pop(event.worker, None)
        elif self._problems.get(event.worker) != event.problem:
            self._problems[event.worker] = event.problem
            self._notify("worker", f"worker {event.worker} has not got the code: {event.problem}")
        if not event.parts:
            return
        count = self._count(event.bundle)
        if count is None:
            self._gone.add(event.bundle)
            return
        if not self._asked:
            self._begin = now + _GATHER_S
        self._sent = {part: at for part, at in self._sent.items() if now - at < _RECENT_S}
        for first, last in event.parts:
            for number in range(first, min(last + 1, count)):
                if (event.bundle, number) not in self._sent:
                    self._asked[event.bundle, number] = None

    def served(self, worker: str) -> None:
        """A worker has begun to evaluate, or is gone."""
        if self._askers.pop(worker, None) is not None:
            self._problems.pop(worker, None)

    def due(self, now: float, unconfirmed: int) -> list[Control]:
        """What is to be sent now.

        Args:
            now: by the monotonic clock.
            unconfirmed: messages on their way to the broker.
        """
        messages: list[Control] = [
            BundleGone(experiment=self._experiment, run=self._run, bundle=bundle, reason=_GONE)
            for bundle in sorted(self._gone)
        ]
        self._gone.clear()
        if now < self._begin:
            return messages
        for bundle, number in sorted(self._asked)[: max(_AT_ONCE - unconfirmed, 0)]:
            del self._asked[bundle, number]
            part = self._part(bundle, number)
            if part is None:
                self._gone.add(bundle)
                continue
            self._sent[bundle, number] = now
            self._progress = (bundle, min((number + 1) * MAX_PART, part.size), part.size)
            messages.append(part)
        if messages:
            faults.reached("steering.shipped")
        return messages

    def waiting(self, now: float) -> str | None:
        """What keeps workers from beginning, as a sentence; None if nothing does."""
        self._askers = {worker: at for worker, at in self._askers.items() if now - at < _ASKING_S}
        asking = len(self._askers)
        if not asking:
            return None
        problems = [text for worker, text in self._problems.items() if worker in self._askers]
        if problems and len(problems) == asking:
            lacks = "1 worker has" if asking == 1 else f"{asking} workers have"
            return f"waiting: {lacks} not got the code: {problems[-1]}"
        progress = ""
        if self._progress is not None:
            bundle, sent, size = self._progress
            progress = f" {short(bundle)} ({sent / MIB:.0f} of {mib(size)})"
        fetch = "1 worker fetches" if asking == 1 else f"{asking} workers fetch"
        return f"waiting: {fetch} the code bundle{progress}"

    def _count(self, bundle: str) -> int | None:
        """How many parts a bundle has; None: it is not here."""
        try:
            with self._open(bundle) as file:
                return -(-os.fstat(file.fileno()).st_size // MAX_PART)
        except OSError:
            return None

    def _open(self, bundle: str) -> AbstractContextManager[IO[bytes]]:
        if self._file is not None and bundle == self.bundle:
            return nullcontext(self._file)
        return self._cache.archive(bundle).open("rb")

    def _part(self, bundle: str, number: int) -> BundlePart | None:
        try:
            with self._open(bundle) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(number * MAX_PART)
                content = file.read(MAX_PART)
        except OSError:
            return None
        return BundlePart(
            experiment=self._experiment,
            run=self._run,
            bundle=bundle,
            number=number,
            count=-(-size // MAX_PART),
            size=size,
            data=base64.b64encode(content).decode(),
        )
