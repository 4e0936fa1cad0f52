"""The exchange of the local transport: in steering's process, it hands work to workers as a broker would."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

from hpo_steer.errors import MalformedMessage, TransportError
from hpo_steer.limits import tidy
from hpo_steer.messages import Echo, Event
from hpo_steer.transport.admission import admit_event, corpse
from hpo_steer.transport.base import Delivery, SteeringIncoming
from hpo_steer.transport.local_wire import Kind, Wire, WireThread, pack_numbers, unpack_numbers

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from hpo_steer.transport.inbox import Inbox

DEAD_LETTERS = "dead-letters.jsonl"
DEAD_LETTERS_BYTES = 268_435_456
"""The file begins anew beyond this; what was in it before is kept beside it, as ``dead-letters.jsonl.old``."""
MOST_UNSENT = 67_108_864
"""Bytes that a worker may leave unread before it counts as gone."""
_ANSWER_S = 5.0


@dataclass(eq=False)
class _Job:
    """Work on its way.

    Attributes:
        body: the message.
        redelivered: it was in a worker's hands before.
    """

    body: bytes
    redelivered: bool = False


@dataclass(eq=False)
class _Worker:
    """A connected worker.

    Attributes:
        wire: the way to it.
        credit: how many jobs it may hold.
        collects: whether it takes code bundles.
        in_hand: those it holds, by the number of the delivery.
    """

    wire: Wire
    credit: int = 0
    collects: bool = False
    in_hand: dict[int, _Job] = field(default_factory=dict)

    @property
    def free(self) -> bool:
        """Whether it takes one more."""
        return len(self.in_hand) < self.credit


class Exchange(WireThread):
    """The queue of work, the workers, and the way of their events to steering; all in its own thread."""

    most_unsent = MOST_UNSENT

    def __init__(
        self, experiment: str, run: str, inbox: Inbox[SteeringIncoming], dead_letters: DeadLetters
    ) -> None:
        super().__init__("hpo-steer local transport")
        self._experiment, self._run_id = experiment, run
        self._inbox = inbox
        self._dead_letters = dead_letters
        self._queue: deque[_Job] = deque()
        self._numbers = 0
        self.workers: dict[Wire, _Worker] = {}

    @property
    def waiting(self) -> int:
        """Jobs that no worker holds; from any thread."""
        return len(self._queue)

    def wait_for(self, function: Callable[..., None], *args: object) -> None:
        """Runs a method in the thread and waits for it; from another thread."""
        done = threading.Event()
        self.call(function, *args)
        self.call(done.set)
        if not done.wait(_ANSWER_S):
            raise TransportError("the local transport does not answer")

    def enqueue(self, bodies: Sequence[bytes]) -> None:
        """Adds work to the end of the queue."""
        self._queue.extend(_Job(body) for body in bodies)

    def discard(self) -> None:
        """Empties the queue."""
        self._queue.clear()

    def confirm(self, tags: Sequence[object]) -> None:
        """Tells workers that steering has committed their events."""
        numbers: dict[Wire, list[int]] = {}
        for tag in tags:
            match tag:
                case (Wire() as wire, int(number)) if number:
                    numbers.setdefault(wire, []).append(number)
        for wire, listed in numbers.items():
            if wire in self.workers:
                self.put(wire, Kind.CONFIRM, 0, pack_numbers(listed))

    def bury_event(self, delivery: Delivery[Event], reason: str) -> None:
        """Puts an event to the dead letters; its worker need not keep it."""
        self._dead_letters.write("events", delivery.message.encoded(), reason)
        self.confirm([delivery.tag])

    def tell_all(self, body: bytes, collecting: bool = False) -> None:
        """Sends a control message to every worker, or to those only that collect code bundles."""
        for wire, worker in self.workers.items():
            if worker.collects or not collecting:
                self.put(wire, Kind.CONTROL, 0, body)

    def echo(self, message: Echo) -> None:
        """Lets steering hear it behind all that workers have sent by now."""
        self.call(self._inbox.put, Delivery(message, None))  # in the next round, which reads before it calls

    def hang_up(self, listener: socket.socket) -> None:
        """Sends what is still to be sent, for a while, and closes everything."""
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(listener)
        listener.close()
        deadline = time.monotonic() + 1.0
        for wire in list(self.workers):
            with contextlib.suppress(OSError):
                wire.sock.settimeout(max(0.01, deadline - time.monotonic()))
                wire.flush()
            self.drop(wire)
        self.workers.clear()
        self._dead_letters.close()

    def on_accept(self, listener: socket.socket) -> None:
        """A worker has connected."""
        try:
            sock, _ = listener.accept()
        except OSError:
            return
        wire = Wire(sock)
        self.workers[wire] = _Worker(wire)
        self.serve(wire)

    def on_frame(self, wire: Wire, kind: Kind, number: int, body: bytes) -> None:
        """A worker says something."""
        worker = self.workers[wire]
        match kind:
            case Kind.EVENT:
                self._take_event(wire, number, body)
            case Kind.CREDIT:
                worker.credit = number
            case Kind.COLLECT:
                worker.collects = bool(number)
            case Kind.SETTLE:
                for tag in unpack_numbers(body):
                    worker.in_hand.pop(tag, None)
            case Kind.RELEASE:
                jobs = [worker.in_hand.pop(tag, None) for tag in sorted(unpack_numbers(body))]
                self._put_back([job for job in jobs if job is not None])
            case Kind.REJECT:
                job = worker.in_hand.pop(number, None)
                if job is not None:
                    self._dead_letters.write("work", job.body, body.decode(errors="replace"))
            case _:
                raise MalformedMessage(f"no frame for steering: {kind.name}")

    def on_batch(self) -> None:
        """Hands out what workers have room for, to the least busy first."""
        idle = sorted(
            (worker for worker in self.workers.values() if worker.free), key=lambda w: len(w.in_hand)
        )
        while self._queue and idle:
            for worker in idle:
                if self._queue:
                    self._hand(worker, self._queue.popleft())
            idle = [worker for worker in idle if worker.free]

    def on_lost(self, wire: Wire, reason: str) -> None:  # noqa: ARG002
        """A worker is gone: what it held comes first again."""
        worker = self.workers.pop(wire)
        self._put_back(list(worker.in_hand.values()))

    def _take_event(self, wire: Wire, number: int, body: bytes) -> None:
        try:
            event = admit_event(body, self._experiment, self._run_id)
        except MalformedMessage as exc:
            self._dead_letters.write("events", body, str(exc))
            self.confirm([(wire, number)])
        else:
            self._inbox.put(Delivery(event, (wire, number)))

    def _hand(self, worker: _Worker, job: _Job) -> None:
        self._numbers += 1
        worker.in_hand[self._numbers] = job
        self.put(worker.wire, Kind.WORK_AGAIN if job.redelivered else Kind.WORK, self._numbers, job.body)

    def _put_back(self, jobs: Sequence[_Job]) -> None:
        for job in jobs:
            job.redelivered = True
        self._queue.extendleft(reversed(jobs))


class DeadLetters:
    """Messages that were of no use, one JSON object a line.

    Args:
        folder: where the file is; None: they are dropped.
        most_bytes: how large the file may grow before it begins anew.
    """

    def __init__(self, folder: Path | None, most_bytes: int = DEAD_LETTERS_BYTES) -> None:
        self._path = folder / DEAD_LETTERS if folder is not None else None
        self._most_bytes = most_bytes
        self._file: IO[str] | None = None

    def write(self, queue: str, body: bytes, reason: str) -> None:
        """Adds a message; where the disk is full it is lost, as nothing may stop for it."""
        if self._path is None:
            return
        text = corpse(body).decode(errors="replace")
        line = json.dumps({"at": time.time(), "queue": queue, "reason": tidy(reason), "body": text})
        with contextlib.suppress(OSError):
            if self._file is None:
                self._file = self._path.open("a", encoding="utf-8")
            self._file.write(line + "\n")
            self._file.flush()
            if self._file.tell() > self._most_bytes:
                self.close()
                self._path.replace(self._path.with_name(f"{DEAD_LETTERS}.old"))

    def close(self) -> None:
        """Closes the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None
