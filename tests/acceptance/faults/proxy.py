"""A TCP proxy between the programs and a server, which does to their connections what bad networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

_CHUNK = 65_536
_AT_ONCE = struct.pack("ii", 1, 0)


class Way(Enum):
    """Which way bytes go."""

    TO_SERVER = "to the server"
    TO_CLIENT = "to the client"


class Proxy:
    """Forwards connections to a port of this machine, as well or as badly as it is told.

    Use it as a context manager. Everything it is told holds for all connections, present and future.

    Args:
        target: the server's port.

    Attributes:
        port: where clients connect.
        connections: how many were accepted.
        cuts: how many were cut by `cut_after`.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self.connections = self.cuts = 0
        self._lock = threading.Lock()
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._open = {way: threading.Event() for way in Way}
        for gate in self._open.values():
            gate.set()
        self._plan: list[tuple[Way, int]] = []
        self._listener: socket.socket | None = None
        self._closed = False
        self.port = 0
        self.accept()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- what it can be told ---

    def accept(self) -> None:
        """Lets clients connect."""
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            self.port = self._listener.getsockname()[1]
            threading.Thread(target=self._serve, args=(self._listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuses new connections."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def reset(self) -> None:
        """Ends every connection at once, with a reset on both sides."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            _reset(*pair)

    def cut_after(self, *plan: tuple[Way, int]) -> None:
        """Resets connections in the middle of what they say.

        Args:
            plan: a way, and after how many bytes that go it the connection ends on which they go. One cut is
                counted out after the other.
        """
        with self._lock:
            self._plan = list(plan)

    @property
    def cuts_left(self) -> int:
        """How many cuts of the plan have not happened."""
        with self._lock:
            return len(self._plan)

    def stall(self, *ways: Way) -> None:
        """Forwards nothing any more, neither bytes nor the end of a connection; new ones are accepted."""
        for way in ways or Way:
            self._open[way].clear()

    def flow(self) -> None:
        """Forwards again, beginning with what was held up."""
        for gate in self._open.values():
            gate.set()

    def close(self) -> None:
        """Ends everything."""
        self._closed = True
        self.refuse()
        self.flow()
        self.reset()

    # --- what it does ---

    def _serve(self, listener: socket.socket) -> None:
        while not self._closed:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection(("127.0.0.1", self._target), timeout=10.0)
            except OSError:
                _reset(client)
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.append((client, server))
            for source, drain, way in (
                (client, server, Way.TO_SERVER),
                (server, client, Way.TO_CLIENT),
            ):
                source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pump, args=(source, drain, way), daemon=True).start()

    def _pump(self, source: socket.socket, drain: socket.socket, way: Way) -> None:
        gate = self._open[way]
        try:
            while data := source.recv(_CHUNK):
                gate.wait()
                part = self._admitted(way, data)
                drain.sendall(part)
                if len(part) < len(data):
                    _reset(source, drain)
                    return
            gate.wait()
            drain.shutdown(socket.SHUT_WR)
        except OSError:
            if not gate.is_set():
                gate.wait()
            _reset(source, drain)

    def _admitted(self, way: Way, data: bytes) -> bytes:
        """As much as passes before the next cut."""
        with self._lock:
            if not self._plan or self._plan[0][0] is not way:
                return data
            left = self._plan[0][1] - len(data)
            if left >= 0:
                self._plan[0] = (way, left)
                return data
            del self._plan[0]
            self.cuts += 1
            return data[:left]


def _reset(*sockets: socket.socket) -> None:
    for each in sockets:
        with contextlib.suppress(OSError):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
        each.close()
