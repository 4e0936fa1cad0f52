"""The transport without a broker: steering itself hands work to workers on this machine over a Unix socket.

Nothing is kept on disk here. Steering's store knows every point, so a steering that starts anew publishes its
work again; and a worker's event counts as confirmed only once steering has settled it, that is, committed it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hpo_steer.errors import BrokerError, MalformedMessage, TransportError
from hpo_steer.messages import BundleGone, BundlePart
from hpo_steer.transport.admission import admit_control, admit_work, encode
from hpo_steer.transport.base import (
    Confirmed,
    Delivery,
    Released,
    SteeringEnd,
    SteeringIncoming,
    TransportStatus,
    WorkerEnd,
    WorkerIncoming,
)
from hpo_steer.transport.inbox import Inbox
from hpo_steer.transport.local_exchange import DeadLetters, Exchange
from hpo_steer.transport.local_wire import Kind, Wire, WireThread, pack_numbers, unpack_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hpo_steer.messages import Control, Echo, Event, Work

ADDRESS = "HPO_STEER_LOCAL"
"""The environment variable that tells a worker the path of steering's socket."""
_CLOSE_S = 5.0
_LONGEST_SOCKET_PATH = 100


class LocalSteeringEnd(SteeringEnd):
    """Steering's end, which is also the broker.

    Args:
        experiment: name of the experiment.
        run: id of the run.
        folder: where `DEAD_LETTERS` is written; None: such messages are dropped.
    """

    def __init__(self, experiment: str, run: str, folder: Path | None = None) -> None:
        self._inbox: Inbox[SteeringIncoming] = Inbox()
        self._exchange = Exchange(experiment, run, self._inbox, DeadLetters(folder))
        self._folder: Path | None = None
        self._listener: socket.socket | None = None
        self._closed = False

    @property
    def address(self) -> str:
        """The path of the socket, once open."""
        if self._folder is None:
            raise TransportError("the local transport is not open, so it has no address yet")
        return str(self._folder / "s")

    @property
    def worker_environment(self) -> Mapping[str, str]:
        """What a worker's environment must hold so that it finds this end."""
        return {ADDRESS: self.address}

    def open(self) -> None:  # noqa: D102
        self._folder = _private_folder()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.address)
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._exchange.listen(self._listener)
        self._exchange.start()

    def publish(self, work: Sequence[Work], bundle: int = 1) -> None:  # noqa: ARG002, D102
        self._exchange.call(self._exchange.enqueue, [encode(item) for item in work])

    def receive(self, limit: int = 1000) -> list[SteeringIncoming]:  # noqa: D102
        return self._inbox.take(limit)

    def settle(self, deliveries: Sequence[Delivery[Event]]) -> None:  # noqa: D102
        self._exchange.call(self._exchange.confirm, [delivery.tag for delivery in deliveries])

    def reject(self, delivery: Delivery[Event], reason: str) -> None:  # noqa: D102
        self._exchange.call(self._exchange.bury_event, delivery, reason)

    def control(self, message: Control) -> None:  # noqa: D102
        bundles = isinstance(message, BundlePart | BundleGone)
        self._exchange.call(self._exchange.tell_all, encode(message), bundles)

    def echo(self, message: Echo) -> None:  # noqa: D102
        self._exchange.call(self._exchange.echo, message)

    def discard_work(self) -> None:  # noqa: D102
        self._exchange.wait_for(self._exchange.discard)

    def waiting(self) -> int | None:  # noqa: D102
        return self._exchange.waiting

    def drained(self) -> bool:  # noqa: D102
        return True

    def status(self) -> TransportStatus:  # noqa: D102
        number = len(self._exchange.workers)
        workers = "1 worker" if number == 1 else f"{number} workers"
        return TransportStatus(
            connected=self._folder is not None and not self._closed, detail=f"local, {workers}"
        )

    def fileno(self) -> int:  # noqa: D102
        return self._inbox.fileno()

    def close(self) -> None:  # noqa: D102
        if self._closed:
            return
        self._closed = True
        if self._listener is not None:
            self._exchange.wait_for(self._exchange.hang_up, self._listener)
        self._exchange.end()
        self._inbox.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


class LocalWorkerEnd(WorkerEnd):
    """A worker's end.

    Args:
        experiment: name of the experiment.
        run: id of the run; None: of any.
        address: the path of steering's socket.
    """

    def __init__(self, experiment: str, run: str | None, address: str) -> None:
        self._address = address
        self._inbox: Inbox[WorkerIncoming] = Inbox()
        self._line = _Line(experiment, run, self._inbox)
        self._events = 0
        self._closed = False

    def open(self) -> None:  # noqa: D102
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(self._address)
        except OSError as exc:
            sock.close()
            self.close()
            raise BrokerError(
                f"no steering process at {self._address}: {exc.strerror}. It has ended, or {ADDRESS} is stale"
            ) from exc
        self._line.connect(sock)

    def set_credit(self, n: int) -> None:  # noqa: D102
        self._line.send(Kind.CREDIT, n)

    def receive(self) -> list[WorkerIncoming]:  # noqa: D102
        return self._inbox.take(1000)

    def publish(self, event: Event, token: object | None = None) -> None:  # noqa: D102
        body = encode(event)
        number = 0
        if token is not None:
            number = self._events = self._events + 1
            self._line.tokens[number] = token
        self._line.send(Kind.EVENT, number, body)

    def collect(self, on: bool) -> None:  # noqa: D102
        self._line.send(Kind.COLLECT, int(on))

    def settle(self, deliveries: Sequence[Delivery[Work]]) -> None:  # noqa: D102
        self._line.send(Kind.SETTLE, 0, pack_numbers(_number(delivery) for delivery in deliveries))

    def release(self, deliveries: Sequence[Delivery[Work]]) -> None:  # noqa: D102
        self._line.send(Kind.RELEASE, 0, pack_numbers(_number(delivery) for delivery in deliveries))

    def reject(self, delivery: Delivery[Work], reason: str) -> None:  # noqa: D102
        self._line.send(Kind.REJECT, _number(delivery), reason.encode())

    def status(self) -> TransportStatus:  # noqa: D102
        return TransportStatus(
            connected=self._line.wire is not None, detail="local", unconfirmed=len(self._line.tokens)
        )

    def fileno(self) -> int:  # noqa: D102
        return self._inbox.fileno()

    def close(self) -> None:  # noqa: D102
        if self._closed:
            return
        self._closed = True
        if self._line.wire is not None:
            self._line.call(self._line.hang_up)
            self._line.quiet.wait(_CLOSE_S)
        self._line.end()
        self._inbox.close()


class _Line(WireThread):
    """A worker's wire to steering."""

    def __init__(self, experiment: str, run: str | None, inbox: Inbox[WorkerIncoming]) -> None:
        super().__init__("hpo-evaluate local transport")
        self._experiment, self._run_id = experiment, run
        self._inbox = inbox
        self._hanging_up = False
        self.wire: Wire | None = None
        self.tokens: dict[int, object] = {}
        self.quiet = threading.Event()

    def connect(self, sock: socket.socket) -> None:
        self.wire = Wire(sock)
        self.serve(self.wire)
        self.start()

    def send(self, kind: Kind, number: int = 0, body: bytes = b"") -> None:
        """Sends a frame; from the owner's thread."""
        self.call(self._send, kind, number, body)

    def hang_up(self) -> None:
        """Ends the connection once every event with a token is confirmed."""
        self._hanging_up = True

    def on_frame(self, wire: Wire, kind: Kind, number: int, body: bytes) -> None:  # noqa: ARG002
        match kind:
            case Kind.WORK | Kind.WORK_AGAIN:
                self._take_work(number, body, redelivered=kind is Kind.WORK_AGAIN)
            case Kind.CONFIRM:
                numbers = unpack_numbers(body)
                self._inbox.put(Confirmed([self.tokens.pop(n) for n in numbers if n in self.tokens]))
            case Kind.CONTROL:
                with contextlib.suppress(MalformedMessage):  # steering's own: it cannot be, short of a defect
                    self._inbox.put(admit_control(body, self._experiment, self._run_id))
            case _:
                raise MalformedMessage(f"no frame for a worker: {kind.name}")

    def on_batch(self) -> None:
        """Nothing is gathered."""

    def on_flushed(self) -> None:
        if self._hanging_up and (self.wire is None or (not self.tokens and self.wire.idle)):
            self.quiet.set()

    def on_lost(self, wire: Wire, reason: str) -> None:  # noqa: ARG002
        self.wire = None
        self._inbox.put(Released(f"steering is gone: {reason}"))

    def end(self, timeout_s: float = 5.0) -> None:
        super().end(timeout_s)
        if self.wire is not None:
            self.wire.sock.close()
            self.wire = None

    def _send(self, kind: Kind, number: int, body: bytes) -> None:
        if self.wire is not None:
            self.put(self.wire, kind, number, body)

    def _take_work(self, number: int, body: bytes, *, redelivered: bool) -> None:
        try:
            work = admit_work(body, self._experiment, self._run_id)
        except MalformedMessage as exc:
            self._send(Kind.REJECT, number, str(exc).encode())
        else:
            self._inbox.put(Delivery(work, number, redelivered))


def _number(delivery: Delivery[Work]) -> int:
    assert isinstance(delivery.tag, int)  # noqa: S101 - it is our own
    return delivery.tag


def _private_folder() -> Path:
    """A new folder of mode 0700 whose path leaves room for a socket's name."""
    make = partial(tempfile.mkdtemp, prefix="hpo-steer-")
    folder = make()
    if len(os.fsencode(folder)) > _LONGEST_SOCKET_PATH:
        Path(folder).rmdir()
        folder = make(dir="/tmp")  # noqa: S108 - mkdtemp makes it safely, and TMPDIR is too long for a socket
    return Path(folder)
