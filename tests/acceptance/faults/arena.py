"""One experiment among servers of its own, with everything that a fault needs: kill, pause, armed faults, restarts.

    with Arena(tmp_path, broker=node, workers=2, points=8) as arena:
        arena.start()
        arena.wait_for(lambda: arena.trained() >= 3, "three trainings")
        arena.kill("worker")
        audit = arena.finish()
    assert not audit.wrong and not audit.unexplained

What has died is started again at once, as a service manager would. A run that does not end fails with the whole
story: what every process said, what the store holds, what lies in the queues.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import yaml

from hpo_steer.errors import HpoSteerError
from steering.store.opening import StoreLocation, open_store
from tests.acceptance.faults.books import TRAIN, Audit, Disturbance, Training, audit, read_journal
from tests.acceptance.faults.processes import (
    MARK,
    Keeper,
    Kind,
    Process,
    Supervisor,
    find_processes,
    send,
    wait_until_gone,
)
from tests.acceptance.program import EVALUATE, STEER, without_plots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from steering.store.base import PointRecord, Store
    from tests.servers.postgresql import PostgresqlServer
    from tests.servers.rabbitmq import RabbitNode

HEARTBEAT_S, LEASE_S = 0.3, 1.5
SHORT_S, LONG_S = 0.2, 0.5
"""A training of `SHORT_S` is settled with its result once its worker knows how long they take."""
_LOOK_S = 0.05
_UNDER_WAY = ".running"
"""What a worker notes beside its results: the attempts that it trains."""


class Stuck(AssertionError):
    """A run did not come to its end; its text is the whole story."""


class Arena:
    """One experiment that faults are done to.

    Args:
        folder: of the project; made if need be.
        broker: a running node; None: the local transport, where steering starts the workers.
        database: a running server for the store; None: SQLite.
        workers: how many; over a broker they are started by hand unless `by_steering`.
        by_steering: steering starts them over the broker too.
        slots: of each worker.
        points: how many the experiment has.
        training_s: how long a training takes: shortest and longest.
        faults: ``NAME:COUNT:ACTION`` of `hpo_steer.faults`, armed in every program.
        name: of the experiment, where several share a broker.
        settings: further keys of the config; nested ones are merged.
        env: further environment of every program.

    Attributes:
        disturbances: what was done to processes so far.
        journal: file of the trainings.
        config: the experiment's config, as written.
        environment: of all its programs.
        steering: the keeper of steering, once started.
        workers: the keepers of workers started by hand.
    """

    def __init__(
        self,
        folder: Path,
        *,
        broker: RabbitNode | None = None,
        database: PostgresqlServer | None = None,
        workers: int = 2,
        by_steering: bool = False,
        slots: int = 1,
        points: int = 8,
        training_s: tuple[float, float] = (SHORT_S, SHORT_S),
        faults: Sequence[str] = (),
        name: str = "arena",
        settings: Mapping[str, Any] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.broker, self.database, self.name = folder, broker, database, name
        self.points, self._count = points, workers
        self._by_steering = by_steering or broker is None
        self.journal = folder / "journal"
        self._hold = folder / "hold"
        self.tokens = folder / "tokens"
        self.tokens.mkdir()
        self.faults = tuple(faults)
        self.disturbances: list[Disturbance] = []
        self._supervisor = Supervisor()
        self.steering: Keeper | None = None
        self.workers: list[Keeper] = []
        self._paused: dict[int, tuple[float, Kind]] = {}
        self.environment = self._environment(env or {})
        shortest, longest = training_s
        (folder / "train.py").write_text(
            TRAIN.format(
                journal=str(self.journal), hold=str(self._hold), shortest_s=shortest, longest_s=longest
            )
        )
        self.config = self._configure(slots, settings or {})
        (folder / "config.yaml").write_text(yaml.safe_dump(self.config, sort_keys=False))

    # ------------------------------------------------------------ setting up

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        # what is killed writes no coverage down, and measuring it makes hundreds of programs slower
        env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        env |= without_plots()
        env |= {MARK: str(self.folder), "XDG_CACHE_HOME": str(self.folder / "cache")}
        if self.broker is not None:
            env["HPO_STEER_BROKER_PASSWORD"] = "guest"
        if self.database is not None:
            env["HPO_STEER_STORE_PASSWORD"] = self.database.password
        if self.faults:
            env["HPO_STEER_FAULTS"] = ",".join(self.faults)
            env["HPO_STEER_FAULTS_FOLDER"] = str(self.tokens)
        return {**env, **more}

    def _configure(self, slots: int, settings: Mapping[str, Any]) -> dict[str, Any]:
        config: dict[str, Any] = {
            "name": self.name,
            "seed": 3,
            "search_space": {
                "x": {"type": "float", "low": 0.0, "high": 1.0},
                "k": {"type": "int", "low": 1, "high": 9},
            },
            "objectives": {"loss": "minimize"},
            "algorithm": "random",
            "steering": {"points_per_iteration": 4, "trigger": {"fraction": 0.5}, "max_points": self.points},
            "evaluation": {
                "function": "train.py:train",
                "workers": self._count if self._by_steering else 0,
                "slots": slots,
                "reuse": True,
                "heartbeat_s": HEARTBEAT_S,
                "lease_s": LEASE_S,
                "max_lost": 100,
            },
        }
        if self.broker is not None:
            config["broker"] = {"url": f"amqp://guest@127.0.0.1:{self.broker.port}/"}
        if self.database is not None:
            config["store"] = self.database.create_database(f"arena_{random.getrandbits(60):x}")
        for key, given in settings.items():
            whole = key == "algorithm" or not isinstance(given, dict) or not isinstance(config.get(key), dict)
            config[key] = given if whole else {**config[key], **given}
        return config

    def start(self) -> None:
        """Starts steering, and the workers that it does not start itself."""
        self.start_steering()
        if not self._by_steering:
            for _ in range(self._count):
                self.add_worker()

    def start_steering(self) -> Keeper:
        """Starts steering and keeps it running until it ends with 0."""
        keeper = Keeper("steering", [STEER, "--config", "config.yaml"], self.folder, self.environment)
        self.steering = self._supervisor.add(keeper)
        return keeper

    def add_worker(
        self, *arguments: str, env: Mapping[str, str] | None = None, inside: Sequence[str] = ()
    ) -> Keeper:
        """Starts a worker by hand and keeps it running.

        Args:
            arguments: more of them for the program.
            env: more environment.
            inside: what goes in front of the command, such as ``ip netns exec NAME``.
        """
        name = f"worker-{len(self.workers)}"
        argv = [*inside, EVALUATE, "--config", "config.yaml", *arguments]
        keeper = self._supervisor.add(Keeper(name, argv, self.folder, {**self.environment, **(env or {})}))
        self.workers.append(keeper)
        return keeper

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *_: object) -> None:
        """Ends everything that still runs."""
        self._supervisor.close()
        deadline = time.monotonic() + 20.0
        while (left := find_processes(str(self.folder))) and time.monotonic() < deadline:
            for process in left:
                send(process.pid, signal.SIGKILL)
            time.sleep(0.02)
        for keeper in self._supervisor.keepers:
            if keeper.process is not None:
                keeper.process.wait()

    @property
    def keepers(self) -> list[Keeper]:
        """Who keeps steering and the workers running."""
        return list(self._supervisor.keepers)

    # ------------------------------------------------------------ faults

    def processes(self, kind: Kind | None = None) -> list[Process]:
        """What runs of this experiment."""
        return [p for p in find_processes(str(self.folder)) if kind in (None, p.kind)]

    def kill(self, kind: Kind, *, which: int = 0) -> int | None:
        """Kills a process of this kind with SIGKILL, and waits until it is dead.

        Returns:
            Its id; None if there was none.
        """
        there = self.processes(kind)
        if not there:
            return None
        pid = there[which % len(there)].pid
        at = time.monotonic()
        if not send(pid, signal.SIGKILL):
            return None
        wait_until_gone(pid)
        self._note_kill(pid, "killed", at, kind)
        return pid

    def pause(self, kind: Kind, *, which: int = 0) -> int | None:
        """Stops a process with SIGSTOP; see `wake`."""
        there = [p for p in self.processes(kind) if p.state != "T" and p.pid not in self._paused]
        if not there:
            return None
        pid = there[which % len(there)].pid
        self._paused[pid] = (time.monotonic(), kind)
        return pid if send(pid, signal.SIGSTOP) else None

    def paused_itself(self, pid: int, kind: Kind) -> None:
        """An armed fault has paused this process."""
        self._paused[pid] = (time.monotonic(), kind)

    def wake(self, pid: int) -> None:
        """Lets a paused process go on."""
        at, kind = self._paused.pop(pid, (0.0, "other"))
        send(pid, signal.SIGCONT)
        self.note(pid, "paused", at, kind=kind)

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """No training ends meanwhile: what is done in here happens while they run, however slow the machine is."""
        self._hold.touch()
        try:
            yield
        finally:
            self._hold.unlink()

    def note(self, pid: int, what: str, at: float, until: float | None = None, *, kind: str = "") -> None:
        """Writes down what was done to a process, so that the books can explain what follows.

        Args:
            pid: of a worker or a training; 0: of all.
            what: such as ``killed``, ``paused``, ``cut off from the broker``.
            at: when it began, monotonic seconds.
            until: when it ended; None: now.
            kind: what the process was.
        """
        self.disturbances.append(
            Disturbance(pid, what, at, time.monotonic() if until is None else until, kind)
        )

    def _note_kill(self, pid: int, what: str, at: float, kind: str) -> None:
        self.note(pid, what, at, math.inf, kind=kind)
        if kind == "steering" and self.broker is None:
            self.note(0, f"{what}, and its workers with it", at, kind=kind)

    def fired(self) -> dict[str, int]:
        """The armed faults that have fired, with the process each hit."""
        found = {}
        for number, fault in enumerate(self.faults):
            token = self.tokens / f"{number}-{fault.split(':')[0]}"
            with contextlib.suppress(OSError, ValueError):
                found[fault] = int(token.read_text())
        return found

    def _note_fired(self) -> None:
        """An armed fault that has killed a process is a disturbance; one that paused it is noted by `wake`."""
        for number, fault in enumerate(self.faults):
            name, _, action = fault.split(":")
            token = self.tokens / f"{number}-{name}"
            if action == "kill" and token.exists():
                at = time.monotonic() - (time.time() - token.stat().st_mtime)
                kind = name.partition(".")[0]
                self._note_kill(int(token.read_text()), f"killed at {name}", at, kind)

    # ------------------------------------------------------------ looking

    def trainings(self) -> list[Training]:
        """The journal so far."""
        return read_journal(self.journal)

    def trained(self) -> int:
        """How many trainings have come to their end."""
        return sum(t.end is not None for t in self.trainings())

    def store(self) -> Store:
        """The store, for reading; close it.

        Raises:
            HpoSteerError: there is none yet.
        """
        if self.database is not None:
            where = StoreLocation(url=self.config["store"], password=self.database.password)
        else:
            where = StoreLocation(folder=self.folder / "runs" / self.name)
        return open_store(where, self.name, create=False, read_only=True)

    def records(self) -> list[PointRecord]:
        """All points in the store; none before there is one."""
        try:
            store = self.store()
        except HpoSteerError:
            return []
        try:
            return store.points()
        except HpoSteerError:
            return []
        finally:
            store.close()

    def ended(self) -> int:
        """How many points have ended, by the store."""
        return sum(p.state in ("done", "failed") for p in self.records())

    def wait_for(self, condition: Callable[[], bool], what: str, timeout_s: float = 60.0) -> None:
        """Waits until something is so.

        Raises:
            Stuck: it did not come true in time; with the whole story.
        """
        deadline = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > deadline:
                raise Stuck(f"{what}: not in {timeout_s:g} s\n{self.story()}")
            time.sleep(_LOOK_S)

    def spooled(self) -> list[Path]:
        """The results in the spools, and what was set aside there as damaged."""
        return [path for path in self._in_spools() if path.suffix != _UNDER_WAY]

    def _in_spools(self) -> list[Path]:
        """Everything in the spools; folders may come and go meanwhile."""
        walked = [(Path(folder), names) for folder, _, names in os.walk(self.folder)]
        return sorted(
            folder / name
            for folder, names in walked
            if "spool" in folder.parts
            for name in names
            if name != "lock"
        )

    # ------------------------------------------------------------ the end

    def finish(self, *, stall_s: float = 30.0, timeout_s: float = 240.0, failures: bool = False) -> Audit:
        """Waits until steering has ended with 0, ends the workers, and checks the books.

        Args:
            stall_s: how long nothing may move.
            timeout_s: how long all of it may take.
            failures: points may fail.

        Raises:
            Stuck: nothing moved for so long, or it took too long; with the whole story.
        """
        self.wait_for_end(stall_s=stall_s, timeout_s=timeout_s)
        return self.close_books(failures=failures)

    def wait_for_end(self, *, stall_s: float = 30.0, timeout_s: float = 240.0) -> None:
        """Waits until steering has ended with 0; raises as `finish`."""
        assert self.steering is not None
        deadline, moved, last = time.monotonic() + timeout_s, time.monotonic(), -1
        over = False
        while not self.steering.wait(_LOOK_S):
            size = self.journal.stat().st_size if self.journal.exists() else 0
            if size != last:
                last, moved = size, time.monotonic()
            if time.monotonic() - moved > stall_s:
                if over or self.ended() != self.points:
                    what = "all points have ended, and steering runs on" if over else "nothing has moved"
                    raise Stuck(f"{what}: for {stall_s:g} s\n{self.story()}")
                over, moved = True, time.monotonic()  # it may be at its report, for as long once more
            if time.monotonic() > deadline:
                raise Stuck(f"the run takes longer than {timeout_s:g} s\n{self.story()}")
        if self.steering.exits[-1] != 0:
            raise Stuck(f"steering ended with {self.steering.exits[-1]}\n{self.story()}")

    def close_books(self, *, failures: bool = False) -> Audit:
        """Ends the workers in order and checks everything; a sentence for each thing that is wrong.

        A run may be over before the successor of a killed worker is up, whose results in the spool it has to send.
        """
        deadline = time.monotonic() + 20.0
        while self._in_spools() and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        for worker in self.workers:
            worker.stop()
        for worker in self.workers:
            if not worker.wait(20.0):
                raise Stuck(f"{worker.name} does not end\n{self.story()}")
        self._note_fired()
        store = self.store()
        try:
            found = audit(store, self.trainings(), self.disturbances, expected=self.points, failures=failures)
        finally:
            store.close()
        wrong = [*found.wrong, *self._left_over(store_ended={p.id for p in self.records() if p.told})]
        return Audit(**{**vars(found), "wrong": tuple(wrong)})

    def _left_over(self, store_ended: set[int]) -> list[str]:
        """What lies about and should not: processes, spooled results, messages."""
        wrong = []
        deadline = time.monotonic() + 5.0
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(_LOOK_S)
        wrong += [f"left: process {p.pid} {p.kind} {p.state} {p.line[:200]}" for p in left]
        wrong += [f"left: {path.relative_to(self.folder)}" for path in self._in_spools()]
        if self.broker is not None:
            for queue in ("work", "events", "dead"):
                for body, reason in self.messages(queue):
                    text = f"left: in the {queue} queue {body[:300]!r} {reason}"
                    if queue != "events" or _matters(body, store_ended):
                        wrong.append(text)
        else:
            letters = self.folder / "runs" / self.name / "dead-letters.jsonl"
            if letters.exists():
                wrong.append(f"left: dead letters {letters.read_text()[:500]}")
        return wrong

    def messages(self, queue: str) -> list[tuple[bytes, str]]:
        """Takes everything out of one of the experiment's queues: bodies, and reasons of dead letters."""
        assert self.broker is not None
        found: list[tuple[bytes, str]] = []
        connection = pika.BlockingConnection(pika.URLParameters(self.broker.url))
        try:
            channel = connection.channel()
            while True:
                frame, properties, body = channel.basic_get(f"hpo.{self.name}.{queue}", auto_ack=True)
                if frame is None:
                    return found
                found.append((body, str((properties.headers or {}).get("x-reason", ""))))
        finally:
            connection.close()

    def remove_queues(self) -> None:
        """Takes the experiment's queues off the broker, so that a node can serve many experiments."""
        assert self.broker is not None
        connection = pika.BlockingConnection(pika.URLParameters(self.broker.url))
        try:
            channel = connection.channel()
            for queue in ("work", "events", "dead"):
                channel.queue_delete(f"hpo.{self.name}.{queue}")
            for exchange in ("control", "dead"):
                channel.exchange_delete(f"hpo.{self.name}.{exchange}")
        finally:
            connection.close()

    def story(self) -> str:
        """Everything there is to know, for a run that failed."""
        parts = [f"faults fired: {self.fired()}", f"done to processes: {self.disturbances}"]
        parts += [f"process {p.pid} {p.kind} {p.state} {p.line[:120]}" for p in self.processes()]
        for keeper in self._supervisor.keepers:
            parts.append(f"--- {keeper.name}: exits {keeper.exits}\n{_tail(keeper.log)}")
        for log in sorted((self.folder / "runs").glob("*/logs/*.log")):
            if log.stat().st_size and not log.name[0].isdigit():
                parts.append(f"--- {log.name}\n{_tail(log, 1500)}")
        parts.append("--- points that have not ended, or not well")
        parts += [repr(p) for p in self.records() if p.state != "done"]
        parts.append("--- the last trainings")
        parts += [repr(t) for t in self.trainings()[-12:]]
        parts += [f"in the spool: {path}" for path in self._in_spools()]
        if self.broker is not None:
            with contextlib.suppress(RuntimeError, OSError):
                columns = ("name", "messages_ready", "messages_unacknowledged", "consumers")
                parts.append(f"--- queues\n{self.broker.ctl('list_queues', *columns)}")
        return "\n".join(parts)


def _tail(path: Path, chars: int = 5000) -> str:
    return path.read_text(errors="replace")[-chars:] if path.exists() else ""


def _matters(body: bytes, ended: set[int]) -> bool:
    """Whether an event that nobody read is a result of a point that has not ended."""
    for line in body.splitlines():  # several events may travel in one message
        with contextlib.suppress(ValueError):
            event = json.loads(line)
            if event.get("type") == "result" and event.get("point") not in ended:
                return True
    return False
