"""The wire of the local transport: frames over a Unix socket, and the thread that moves them.

A frame is a header (length of the body, kind, number) and a body. Numbers name deliveries and events, so that
the other side can answer for them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import socket
import struct
import threading
from abc import ABC, abstractmethod
from collections import deque
from enum import IntEnum
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import MalformedMessage
from hpo_steer.limits import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_log = logging.getLogger(__name__)
_HEADER = struct.Struct(">IBQ")
_MAX_FRAME = 4 * MAX_BYTES
"""More than any message, so that one that is a little too large is a dead letter, and its sender keeps its wire."""
_CHUNK = 262_144


class Kind(IntEnum):
    """What a frame is: the first five and the last go to steering, the others to a worker."""

    EVENT = 1  # number: to be confirmed under, 0: no confirm; body: the event
    CREDIT = 2  # number: the credit
    SETTLE = 3  # body: numbers of deliveries
    RELEASE = 4  # body: numbers of deliveries
    REJECT = 5  # number: of the delivery; body: the reason
    WORK = 6  # number: of the delivery; body: the work
    WORK_AGAIN = 7  # the same, redelivered
    CONTROL = 8  # body: the message
    CONFIRM = 9  # body: numbers of events
    COLLECT = 10  # number: 1 for code bundles, 0 for none


_KINDS = {kind.value: kind for kind in Kind}


def pack_numbers(numbers: Iterable[int]) -> bytes:
    """Numbers as the body of a frame."""
    listed = list(numbers)
    return struct.pack(f">{len(listed)}Q", *listed)


def unpack_numbers(body: bytes) -> tuple[int, ...]:
    """The inverse of `pack_numbers`.

    Raises:
        MalformedMessage: half a number.
    """
    if len(body) % 8:
        raise MalformedMessage(f"a list of numbers of {len(body):,} bytes, which is no multiple of 8")
    return struct.unpack(f">{len(body) // 8}Q", body)


class Wire:
    """A connected socket that sends and receives frames without ever blocking."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.sock = sock
        self._incoming = bytearray()
        self._outgoing = bytearray()

    @property
    def idle(self) -> bool:
        """Whether everything was handed to the kernel."""
        return not self._outgoing

    @property
    def unsent(self) -> int:
        """Bytes that the kernel has not taken."""
        return len(self._outgoing)

    def put(self, kind: Kind, number: int = 0, body: bytes = b"") -> None:
        """Adds a frame to what `flush` sends."""
        self._outgoing += _HEADER.pack(len(body), kind, number)
        self._outgoing += body

    def flush(self) -> None:
        """Sends as much as the kernel takes.

        Raises:
            OSError: the other side is gone.
        """
        while self._outgoing:
            try:
                sent = self.sock.send(memoryview(self._outgoing)[:_CHUNK])
            except BlockingIOError:
                return
            del self._outgoing[:sent]

    def frames(self) -> Iterator[tuple[Kind, int, bytes]]:
        """The frames that have come.

        Raises:
            EOFError: the other side has closed the connection; frames that came before were yielded.
            OSError: the other side is gone.
            MalformedMessage: the other side sends no frames of ours.
        """
        try:
            data = self.sock.recv(_CHUNK)
        except BlockingIOError:
            return
        if not data:
            raise EOFError
        incoming = self._incoming
        incoming += data
        at = 0
        try:
            while len(incoming) - at >= _HEADER.size:
                length, kind, number = _HEADER.unpack_from(incoming, at)
                if length > _MAX_FRAME or kind not in _KINDS:
                    raise MalformedMessage(f"no frame of ours: kind {kind}, {length:,} bytes")
                end = at + _HEADER.size + length
                if len(incoming) < end:
                    break
                body = bytes(memoryview(incoming)[at + _HEADER.size : end])
                at = end
                yield _KINDS[kind], number, body
        finally:
            del incoming[:at]


class WireThread(ABC):
    """One thread that serves wires, and runs calls which other threads leave with it, in their order.

    Attributes:
        most_unsent: a wire that leaves more bytes than this unread is ended; None: it may.
    """

    most_unsent: int | None = None

    def __init__(self, name: str) -> None:
        self._selector = selectors.DefaultSelector()
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._wake_write.setblocking(False)
        self._woken = False
        self._ended = False
        self._dirty: dict[Wire, None] = {}
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._thread.start()

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Has the thread run a function; from any thread, at once. Without effect after `end`."""
        self._calls.append((function, args))
        if not self._woken:
            self._woken = True
            with contextlib.suppress(OSError):  # full, so it wakes already; or closed
                self._wake_write.send(b"\0")

    def end(self, timeout_s: float = 5.0) -> None:
        """Ends the thread after the calls so far, and closes its descriptors."""
        if self._thread.ident is not None:
            self.call(self._end)
            self._thread.join(timeout_s)
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    @abstractmethod
    def on_frame(self, wire: Wire, kind: Kind, number: int, body: bytes) -> None:
        """A frame has come; in the thread."""

    @abstractmethod
    def on_batch(self) -> None:
        """Everything at hand was read; in the thread."""

    def on_flushed(self) -> None:  # noqa: B027 - only one side waits for that
        """What could be sent was sent; in the thread."""

    @abstractmethod
    def on_lost(self, wire: Wire, reason: str) -> None:
        """A wire has ended; in the thread."""

    def on_accept(self, listener: socket.socket) -> None:  # noqa: B027 - only one side listens
        """Somebody connects; in the thread."""

    def listen(self, listener: socket.socket) -> None:
        """Has the thread accept on a listening socket."""
        self._selector.register(listener, selectors.EVENT_READ, listener)

    def serve(self, wire: Wire) -> None:
        """Has the thread serve a wire."""
        self._selector.register(wire.sock, selectors.EVENT_READ, wire)

    def drop(self, wire: Wire) -> None:
        """Ends a wire without `on_lost`."""
        self._dirty.pop(wire, None)
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(wire.sock)
        wire.sock.close()

    def put(self, wire: Wire, kind: Kind, number: int = 0, body: bytes = b"") -> None:
        """Sends a frame soon."""
        wire.put(kind, number, body)
        self._dirty[wire] = None

    def _end(self) -> None:
        self._ended = True

    def _run(self) -> None:
        while not self._ended:
            try:
                self._step()
            except Exception:  # noqa: BLE001 - a defect in one frame must not silence all the others
                _log.exception("the local transport stumbled; it goes on")

    def _step(self) -> None:
        for key, mask in self._selector.select():
            if key.data is None:
                self._drain_wake()
            elif isinstance(key.data, Wire):
                if mask & selectors.EVENT_READ:
                    self._read(key.data)
                if mask & selectors.EVENT_WRITE:
                    self._dirty[key.data] = None
            else:
                self.on_accept(key.data)
        self._woken = False
        while self._calls:
            function, args = self._calls.popleft()
            function(*args)
        self.on_batch()
        dirty, self._dirty = self._dirty, {}
        for wire in dirty:
            self._flush(wire)
        self.on_flushed()

    def _drain_wake(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wake_read.recv(4096)

    def _read(self, wire: Wire) -> None:
        try:
            for kind, number, body in wire.frames():
                self.on_frame(wire, kind, number, body)
        except EOFError:
            self._lose(wire, "it has ended")
        except OSError as exc:
            self._lose(wire, os.strerror(exc.errno).lower() if exc.errno else str(exc))
        except MalformedMessage as exc:
            self._lose(wire, str(exc))

    def _flush(self, wire: Wire) -> None:
        if wire.sock.fileno() < 0:
            return
        try:
            wire.flush()
        except OSError:
            return  # what the other side still sent is read first, then the end of the wire is seen
        if self.most_unsent is not None and wire.unsent > self.most_unsent:
            self.call(self._lose, wire, f"it leaves {wire.unsent:,} bytes unread")
        events = selectors.EVENT_READ if wire.idle else selectors.EVENT_READ | selectors.EVENT_WRITE
        if self._selector.get_key(wire.sock).events != events:
            self._selector.modify(wire.sock, events, wire)

    def _lose(self, wire: Wire, reason: str) -> None:
        if wire.sock.fileno() < 0:
            return
        self.drop(wire)
        self.on_lost(wire, reason)
