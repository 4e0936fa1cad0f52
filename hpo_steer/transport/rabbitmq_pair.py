"""One try at the two connections of a session, and what becomes of them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from pika.exceptions import ChannelClosedByBroker

from hpo_steer.transport.rabbitmq_frames import Connection

if TYPE_CHECKING:
    from pika.adapters.select_connection import IOLoop

    from hpo_steer.transport.rabbitmq_topology import Topology

_SETUP_S = 20.0
_GOODBYE_S = 10.0
_REFUSED, _NOT_FOUND = 403, 404


class Watcher(Protocol):
    """Who is told what becomes of a pair, in the I/O thread."""

    def on_pair(self, publishing: Any, consuming: Any, events: int) -> None:
        """Both channels stand and the queues are there, `events` messages among them."""

    def on_blocked(self, reason: str | None) -> None:
        """The broker takes no messages, or takes them again."""

    def on_lost(self, error: BaseException) -> None:
        """The connections are gone."""


class QueuesSilent(Exception):
    """The broker is there and does not answer about the queues."""


class Pair:
    """One try at both connections: tells `on_pair` once, then `on_lost` once, and nothing after `end`.

    A broker that takes the connections and then goes silent before the queues are there is given up, too.
    """

    def __init__(
        self, session: Watcher, parameters: dict[str, Any], topology: Topology, loop: IOLoop
    ) -> None:
        self._session, self._topology = session, topology
        self._ended = False
        self._events: int | None = None
        self._looks = False  # whether it is looking for the queues, before it makes them
        self._channels: dict[str, Any] = {}
        self._parameters, self._loop = parameters, loop
        self._connections: list[Any] = []
        self._deadline: Any = loop.call_later(_SETUP_S, self._on_deadline)
        self._connect("publish")

    @property
    def closed(self) -> bool:
        """Whether the broker has said goodbye on both."""
        return all(connection.is_closed for connection in self._connections)

    def end(self) -> None:
        """Closes both, and reports nothing any more.

        One that is still opening is closed once it is open, or fails by itself: pika 1.4 stumbles over
        ending a handshake which fails at that moment.
        """
        self._ended = True
        self._stop_deadline()
        for connection in self._connections:
            if connection.is_open:
                connection.close()
        if not self.closed:
            self._loop.call_later(_GOODBYE_S, self._leave)

    def abort(self) -> None:
        """Ends what the broker does not answer, a handshake or a goodbye; the last resort."""
        self._leave()
        for connection in self._connections:
            if not (connection.is_open or connection.is_closing or connection.is_closed):
                connection.close()

    def _leave(self) -> None:
        """Drops connections on which the broker does not say goodbye, as one that blocks us never does."""
        for connection in self._connections:
            if connection.is_closing:
                connection._terminate_stream(TimeoutError("no goodbye"))  # noqa: SLF001 - pika has no other way

    def _on_deadline(self) -> None:
        self._deadline = None
        if self._channels:
            election = self._topology.election(self._parameters["publish"].virtual_host)
            self.fail(
                QueuesSilent(
                    f"it took the connection, and said nothing about its queues for {_SETUP_S:g} s. If they have "
                    f"lost their leader, which a kill of the broker can bring about, give them one: {election}"
                )
            )
        else:
            self.fail(TimeoutError())

    def _stop_deadline(self) -> None:
        if self._deadline is not None:
            self._loop.remove_timeout(self._deadline)
            self._deadline = None

    def fail(self, error: BaseException) -> None:
        """Closes both, and reports it."""
        if not self._ended:
            self.end()
            self._session.on_lost(error)

    def _connect(self, role: str) -> None:
        self._connections.append(
            Connection(
                self._parameters[role],
                on_open_callback=partial(self._on_open, role),
                on_open_error_callback=self._on_closed,
                on_close_callback=self._on_closed,
                custom_ioloop=self._loop,
            )
        )

    def _on_open(self, role: str, connection: Any) -> None:
        if self._ended:
            connection.close()
            return
        if role == "publish":
            self._connect("consume")
            connection.add_on_connection_blocked_callback(self._on_blocked)
            connection.add_on_connection_unblocked_callback(lambda _c, _f: self._session.on_blocked(None))
        connection.channel(on_open_callback=partial(self._on_channel, role))

    def _on_channel(self, role: str, channel: Any) -> None:
        if self._ended:
            return
        self._channels[role] = channel
        channel.add_on_close_callback(self._on_channel_closed)
        channel.add_on_cancel_callback(
            lambda _frame: self.fail(RuntimeError("the broker ended our consumer"))
        )
        if role == "publish":
            self._looks = not (self._topology.makes or self._looks)
            (self._topology.look if self._looks else self._topology.declare)(channel, self._on_declared)
        self._go_on()

    def _on_declared(self, events: int) -> None:
        self._events = events
        self._go_on()

    def _go_on(self) -> None:
        if not self._ended and self._events is not None and len(self._channels) == 2:
            self._stop_deadline()
            self._session.on_pair(self._channels["publish"], self._channels["consume"], self._events)

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        if not self._ended:
            self._session.on_blocked(str(frame.method.reason) or "a resource alarm of the broker")

    def _on_channel_closed(self, channel: Any, error: BaseException) -> None:
        """A worker that finds no queues makes them in another channel; if it may not, it says so."""
        code = error.reply_code if isinstance(error, ChannelClosedByBroker) else 0
        declaring = self._events is None and channel is self._channels.get("publish")
        if declaring and not self._topology.makes:
            if self._looks and code == _NOT_FOUND and not self._ended:
                channel.connection.channel(on_open_callback=partial(self._on_channel, "publish"))
                return
            if not self._looks and code == _REFUSED:
                error = self._topology.missing(self._parameters["publish"].credentials.username)
        self.fail(error)

    def _on_closed(self, _connection: Any, error: BaseException) -> None:
        self.fail(error)
