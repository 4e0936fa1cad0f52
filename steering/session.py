"""One session of steering: from a config to the end of the search, or to an interruption.

`Session.open` does everything that can go wrong through a mistake of the user's, and starts nothing before all of
it has gone well: the config is compared with the run's, the algorithms are created, the lock is taken, the broker
is reached. Only then is a run written down and are workers started.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from containers.enclosure import check_container
from hpo_steer.config.secrets import broker_settings, inherited, store_password
from hpo_steer.config.surroundings import check_evaluation
from hpo_steer.errors import ConfigError
from hpo_steer.machine import slots_of_workers
from hpo_steer.registry import entry, is_outside
from hpo_steer.transport import steering_end
from steering.changes import check_resumable, recorded
from steering.clock import Clock, SystemClock
from steering.hosts import AlgorithmHost, HostDied, InProcessHost, Opening, ProcessHost, wait_opened
from steering.ledger import Notify
from steering.local_workers import LocalWorkers
from steering.loggers.processes import Loggers
from steering.loop import SteeringLoop
from steering.run_folder import RunFolder
from steering.shipping import Shipment, Shipping, make_shipment
from steering.store.base import Counts, ModelRecord, PointRecord, RunRecord, Store
from steering.store.opening import StoreLocation, open_store
from steering.waiting import Watchdog
from steering.warm_start import read_starts, write_starts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpo_steer.config import Experiment, LoadedConfig, Model
    from hpo_steer.transport.base import SteeringEnd

_TICK_S = 0.2
_QUIET_S = 1.0
_GRACE_S = 10.0
_LOGGERS_S = 30.0
"""How long loggers may take to write what is left."""
_OPEN_S = 300.0
"""How long the algorithms may take to be created."""
_PULL_S = 3600.0
"""The same where an image may have to be fetched before."""


@dataclass(frozen=True)
class Outcome:
    """How a session ended.

    Attributes:
        interrupted: by the user; the run can be resumed.
        reasons: why the search ended, by model.
        found: whether any point has values.
    """

    interrupted: bool
    reasons: dict[str, str]
    found: bool


class Session:
    """A steering session; use `open`, then `load`, `run` and `close`.

    Attributes:
        config: the experiment.
        folder: the run's folder.
        loop: the steering loop.
        resumed: how many points had ended before this session; None for a new run.
        again: how many points were running when the last session ended.
        waiting: why nothing moves at present, as a sentence; None while points go on.
    """

    def __init__(
        self,
        config: LoadedConfig,
        folder: RunFolder,
        store: Store,
        transport: SteeringEnd,
        loop: SteeringLoop,
        workers: LocalWorkers,
        loggers: Loggers,
        *,
        resumed: int | None,
    ) -> None:
        self.config, self.folder, self.loop = config, folder, loop
        self._store, self.transport, self._workers = store, transport, workers
        self._loggers = loggers
        start = None if config.experiment.evaluation.workers else f"hpo-evaluate --config {config.path}"
        self._watchdog = Watchdog(loop, loop.clock, start, workers.last_words)
        self.waiting: str | None = None
        self.resumed, self.again = resumed, 0
        self.interruptions = 0
        self.preempted = False
        self.began = time.monotonic()

    @property
    def slots_here(self) -> Sequence[int]:
        """The slots of each worker that it starts on this machine."""
        return self._workers.slots

    @property
    def experiment(self) -> Experiment:
        """What is tuned."""
        return self.config.experiment

    @property
    def cause(self) -> str | None:
        """One word for `waiting`, which stays the same while its figures change."""
        return self._watchdog.cause

    # ------------------------------------------------------------ opening

    @classmethod
    def open(
        cls,
        config: LoadedConfig,
        overrides: Sequence[str] = (),
        *,
        fresh: bool = False,
        extend: bool = False,
        notify: Notify,
        clock: Clock | None = None,
    ) -> Session:
        """Makes everything ready.

        Args:
            config: the experiment.
            overrides: the ``--set`` texts it was loaded with, for the workers.
            fresh: move an earlier run aside and start anew.
            extend: let stop rules differ from the run's.
            notify: hears what happens.
            clock: the time.

        Raises:
            UserError: whatever the user has to mend; nothing was started.
        """
        experiment = config.experiment
        slots = _check(config, notify)
        folder = RunFolder(run_path(experiment))
        loggers = Loggers(experiment.loggers.wanted if experiment.loggers else {}, folder.path, notify)
        hosts = _Hosts(config, folder)
        cleanup: list[Callable[[], None]] = [hosts.close]
        try:
            shipment = _ship(config, notify)
            if shipment is not None:
                cleanup.insert(0, shipment.close)
            folder.make()
            hosts.open()
            store = _store(config, folder, fresh=fresh, notify=notify)
            cleanup.insert(0, store.close)
            store.lock(_owner())
            known = store.run()
            before = _resume(store, known, experiment, folder, extend=extend)
            run = known.run if known else uuid.uuid4().hex
            begun = known is not None and store.iterations()
            starts = {} if begun or not experiment.warm_start else read_starts(config)
            transport = steering_end(
                broker_settings(experiment.broker, config.folder),
                experiment.name,
                run,
                folder=folder.path,
                on_retry=lambda text: notify("broker", text),
            )
            transport.open()
            cleanup.insert(0, transport.close)
            if known is None:
                _create(store, run, experiment)
            else:
                transport.discard_work()
                if extend:
                    _extend(store, experiment)
            if starts:
                write_starts(store, experiment, starts, time.time(), notify)
            folder.write_card(experiment.name, run, recorded(experiment)["store"]["url"], config.path)
            loop = SteeringLoop(
                experiment,
                run,
                store,
                transport,
                hosts.openings,
                clock or SystemClock(),
                notify,
                Shipping(experiment.name, run, folder.bundles, shipment, notify),
            )
            if shipment is not None:
                shipment.close()
            cleanup.insert(0, loop.close)
            workers = LocalWorkers(
                slots,
                config.path,
                overrides,
                {
                    **transport.worker_environment,
                    **inherited(experiment.broker, config.folder),
                    "HPO_STEER_RUN": run,
                },
                folder.path,
            )
        except BaseException:
            for undo in cleanup:
                undo()
            raise
        return cls(config, folder, store, transport, loop, workers, loggers, resumed=before)

    # ------------------------------------------------------------ running

    def load(self) -> None:
        """Takes up the run where its store has it."""
        self.again = self.loop.load(workers_gone=self.experiment.broker.local)

    def run(self, tick: Callable[[], None], on_hold: Callable[[], None]) -> Outcome:
        """Steers until the search is over or the user has interrupted it.

        Args:
            tick: called several times a second.
            on_hold: called once nothing is sent out any more, after the first interruption.

        Raises:
            HpoSteerError: the experiment can't go on; what was committed is safe and the run can be resumed.
        """
        loop = self.loop
        if not loop.over:
            self._workers.start()
        self._loggers.start()
        quiet_since: float | None = None
        while not loop.over and self.interruptions < 2:
            loop.step(_TICK_S)
            self.waiting = self._watchdog.look(self.transport.status())
            loop.note(self._watchdog.cause, self.waiting)
            self._workers.tend(
                lambda ended: loop.forsake_process(ended.host, ended.pid, ended.how, orderly=ended.orderly)
            )
            self._loggers.tend()
            tick()
            self._heed_requests()
            if self.interruptions:
                if quiet_since is None:
                    loop.hold()
                    on_hold()
                    quiet_since = time.monotonic()
                if loop.book.running():
                    quiet_since = time.monotonic()
                elif time.monotonic() - quiet_since > _QUIET_S:
                    break
        if self.preempted and not loop.over:
            self._have_saved()
        reasons = {name: tuned.ended for name, tuned in loop.models.items() if tuned.ended is not None}
        interrupted = not loop.over
        text = "; ".join(sorted(set(reasons.values())))
        loop.finish(None if interrupted else text)
        return Outcome(interrupted, reasons, found=loop.counts.done > 0)

    def _have_saved(self) -> None:
        """Lets the workers of this machine save and release what they train."""
        self.loop.hold()
        self._workers.dismiss()
        deadline = time.monotonic() + self.experiment.evaluation.worker.grace_s
        while (
            self._workers.alive
            and self.loop.book.running()
            and time.monotonic() < deadline
            and self.interruptions < 3
        ):
            self.loop.step(_TICK_S)

    def _heed_requests(self) -> None:
        """Does what ``hpo-steer retry`` has asked for; while an algorithm is choosing points it waits."""
        for request in self.folder.requests():
            if self.loop.retry(request.points) is not None:
                request.done()

    def points(self) -> list[PointRecord]:
        """All points, from the store."""
        return self._store.points()

    def store_counts(self) -> Counts:
        """How many points are in which state, from the store."""
        return self._store.counts()

    def close(self) -> None:
        """Ends workers and connections; safe at any moment."""
        self.loop.close()
        self.transport.close()
        self._workers.stop(_GRACE_S if self.interruptions < 2 else 1.0)
        self._loggers.stop(_LOGGERS_S if self.interruptions < 2 else 1.0)
        self._store.close()


def run_path(experiment: Experiment) -> Path:
    """The folder of an experiment's run."""
    return Path(experiment.store.folder) / experiment.name


def _check(config: LoadedConfig, notify: Notify) -> list[int]:
    """Checks the spaces, and what the user's training needs where this machine will run it.

    Returns:
        The slots of each worker that is to be started here.

    Raises:
        ConfigError: names the file, line and key.
    """
    experiment = config.experiment
    rules = experiment.evaluation
    try:
        spaces = [experiment.space(model) for model in experiment.models]
        for space in {str(space.to_dict()): space for space in spaces if space.constraints}.values():
            space.sample(1, np.random.default_rng(experiment.seed))
        if rules.workers:
            names = [p.name for space in spaces for p in space]
            names += [name for model in experiment.models for name in model.constants]
            check_evaluation(rules, config.folder, names, lambda text: notify("warning", text))
            if rules.container is not None:
                where = check_container(
                    rules.container, config.folder, lambda text: notify("container", text)
                )
                notify("container", f"points are evaluated in {where}")
        return slots_of_workers(rules)
    except ConfigError as exc:
        raise exc.at(config.source.where(exc.key)) from None


def _ship(config: LoadedConfig, notify: Notify) -> Shipment | None:
    try:
        return make_shipment(config, notify)
    except ConfigError as exc:
        raise exc.at(config.source.where(exc.key)) from None


def _store(config: LoadedConfig, folder: RunFolder, *, fresh: bool, notify: Notify) -> Store:
    from steering.store.filesystem import network_filesystem

    where = config.experiment.store
    if where.url is None and (kind := network_filesystem(folder.path)):
        notify(
            "warning",
            f"{folder.path} lies on a network file system ({kind}), where SQLite can lose data: choose a local "
            "folder with store: FOLDER, or store: postgresql://user@host/database",
        )
    name = config.experiment.name
    location = (
        StoreLocation(folder=folder.path)
        if where.url is None
        else StoreLocation(url=where.url, password=store_password(where, config.folder))
    )
    store = open_store(location, name, create=True)
    if not fresh or store.run() is None:
        return store
    try:
        store.lock(_owner())  # never under the feet of a steering that runs
        if where.url is not None:
            store.delete()
    finally:
        store.close()
    if where.url is None:
        notify("fresh", f"the earlier run now lies in {folder.move_aside()}")
        folder.make()
    return open_store(location, name, create=True)


def _owner() -> str:
    return f"{socket.gethostname()}, process {os.getpid()}"


def _resume(
    store: Store, known: RunRecord | None, experiment: Experiment, folder: RunFolder, *, extend: bool
) -> int | None:
    if known is None:
        return None
    check_resumable(str(folder.path), known.config, recorded(experiment), extend=extend)
    return store.counts().ended


def _create(store: Store, run: str, experiment: Experiment) -> None:
    models = [ModelRecord(model.name, number) for number, model in enumerate(experiment.models)]
    store.create(RunRecord(experiment.name, run, recorded(experiment), time.time()), models)


def _extend(store: Store, experiment: Experiment) -> None:
    """Reopens models that stop rules had ended; those whose space is exhausted end again by themselves."""
    with store.transaction() as transaction:
        transaction.set_run(ended=None, config=recorded(experiment))
        for model in store.models():
            transaction.end_model(model.name, None)


class _Hosts:
    """Creates the hosts of an experiment's algorithms and the algorithms in them."""

    def __init__(self, config: LoadedConfig, folder: RunFolder) -> None:
        self._config, self._folder = config, folder
        self._all: list[AlgorithmHost] = []
        self.openings: list[tuple[Model, Opening, AlgorithmHost]] = []

    def open(self) -> None:
        """Creates them, and waits until every algorithm was made.

        Raises:
            UserError: an algorithm cannot be made from its config; the error names the place.
        """
        experiment = self._config.experiment
        cheap: InProcessHost | None = None
        heavy: dict[str, list[ProcessHost]] = {}
        limit = min(len(experiment.models), os.cpu_count() or 1)
        waiting: dict[int, set[str]] = {}
        for number, model in enumerate(experiment.models):
            opening = Opening.of(experiment, model, number, self._config.folder)
            host: AlgorithmHost
            name = opening.spec.get("name")
            if name is not None and not entry(str(name)).heavy:
                cheap = cheap or InProcessHost()
                host = cheap
            else:
                # users' classes never share an interpreter with our algorithms
                outside = is_outside(opening.spec)
                mine = heavy.setdefault("programs" if outside else "classes" if name is None else "ours", [])
                if len(mine) < limit:
                    log = self._folder.logs / f"algorithm-{len(self._all)}.log"
                    mine.append(ProcessHost(log, outside=outside))
                host = mine[number % len(mine)]
            if host not in self._all:
                self._all.append(host)
            self.openings.append((model, opening, host))
            host.open(opening)
            waiting.setdefault(id(host), set()).add(model.name)
        programs = heavy.get("programs", [])
        for host in list(self._all):
            try:
                self._wait(host, waiting[id(host)], _PULL_S if host in programs else _OPEN_S)
            except ConfigError as exc:
                raise exc.at(self._config.source.where(exc.key)) from None

    def _wait(self, host: AlgorithmHost, models: set[str], timeout_s: float) -> None:
        """Waits until a host's algorithms were made; a process that died meanwhile is started again."""
        for tries_left in (2, 1, 0):
            try:
                wait_opened(host, models, timeout_s)
            except HostDied:
                if not tries_left or not isinstance(host, ProcessHost):
                    raise
            else:
                return
            fresh = host.again()
            host.close()
            self._all[self._all.index(host)] = fresh
            self.openings = [(m, o, fresh if h is host else h) for m, o, h in self.openings]
            for _, opening, of in self.openings:
                if of is fresh:
                    fresh.open(opening)
            host = fresh

    def close(self) -> None:
        for host in self._all:
            host.close()
