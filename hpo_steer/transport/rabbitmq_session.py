"""The connections to RabbitMQ, and the one thread that serves them.

An end has two: one publishes, the other consumes, because a broker short of memory or disk stops reading from
those that publish. They stand and fall together, so that there is one way to recover from everything, be it a
restarted broker, a deleted queue or a cancelled consumer: connect anew, declare the queues, go on.
"""

from __future__ import annotations

import logging
import queue
import random
import ssl
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import pika
from pika.adapters.select_connection import IOLoop

from hpo_steer.errors import BrokerError
from hpo_steer.transport.rabbitmq_errors import explain, refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpo_steer.transport.rabbitmq_topology import Topology
    from hpo_steer.transport.settings import BrokerSettings

_log = logging.getLogger(__name__)
_PIKA_LOG = logging.getLogger("pika")
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.4, 10.0
_STABLE_S = 5.0
_CONNECT_S, _HANDSHAKE_S = 5.0, 10.0
_GOODBYE_S = 2.0


class Owner(Protocol):
    """What a session tells its end, in the I/O thread."""

    def on_connected(self, publishing: Any, consuming: Any, connection: int, events: int) -> None:
        """Both channels stand and the queues are there, `events` messages among them."""

    def on_disconnected(self, reason: str) -> None:
        """Both channels are gone."""

    def on_blocked(self, blocked: bool) -> None:
        """The broker takes no messages, or takes them again."""


@dataclass(frozen=True)
class _Opened:
    """It is connected."""


@dataclass(frozen=True)
class _Retrying:
    """It is not, and will try again."""

    reason: str
    delay_s: float


class Session:
    """Keeps the connections of one end.

    Args:
        settings: the broker.
        name: who we are in the broker's own listings.
        topology: the queues.
        owner: who is told.
    """

    def __init__(self, settings: BrokerSettings, name: str, topology: Topology, owner: Owner) -> None:
        self._settings, self._name, self._topology, self._owner = settings, name, topology, owner
        if _PIKA_LOG.level == logging.NOTSET:
            _PIKA_LOG.setLevel(logging.CRITICAL)  # it logs each failed try in six lines; we say it in one
        self.connected = False
        self.blocked: str | None = None
        self.trouble = ""
        self._loop: Any = None
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = False
        self._notes: queue.SimpleQueue[_Opened | _Retrying | BrokerError] = queue.SimpleQueue()
        self._opening = True
        self._pair: _Pair | None = None
        self._pairs: list[_Pair] = []  # with those that are still saying goodbye
        self._connections = 0
        self._tries = 0
        self._delay_s = _FIRST_DELAY_S
        self._since = 0.0
        self._timer: Any = None
        self._stopped = False
        self._parameters: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, name=f"{name}: RabbitMQ", daemon=True)

    @property
    def url(self) -> str:
        """The broker, without the password."""
        return self._settings.url

    def open(self, on_retry: Callable[[str], None] | None) -> None:
        """Connects; see `SteeringEnd.open`. `on_retry` runs in the calling thread."""
        self._parameters = {role: self._parameters_of(role) for role in ("publish", "consume")}
        deadline = time.monotonic() + self._settings.connect_timeout_s
        self._loop = IOLoop()
        self.call(self._connect)
        self._thread.start()
        reason = "no answer in time"
        try:
            while True:
                note = self._notes.get(timeout=max(0.0, deadline - time.monotonic()))
                match note:
                    case _Opened():
                        return
                    case BrokerError():
                        raise note  # noqa: TRY301
                    case _Retrying():
                        reason = note.reason
                        if on_retry is not None:
                            on_retry(f"{self._nobody(reason)}; trying again in {note.delay_s:.1f} s")
        except queue.Empty:
            tries = "once" if self._tries == 1 else f"{self._tries} times"
            text = (
                f"{self._nobody(reason)} (tried {tries} in {self._settings.connect_timeout_s:g} s). "
                "Is it running? For a run without a broker: --broker local"
            )
            self.close()
            raise BrokerError(text) from None
        except BaseException:
            self.close()
            raise

    def call(self, function: Callable[..., None], *args: Any) -> None:
        """Has the I/O thread run a function; from any thread, at once."""
        self._calls.append((function, args))
        if not self._woken and self._loop is not None:
            self._woken = True
            self._loop.add_callback_threadsafe(self._run_calls)

    def call_later(self, delay_s: float, function: Callable[[], None]) -> None:
        """Has the I/O thread run a function in a while; in that thread."""
        self._loop.call_later(delay_s, function)

    def renew(self, reason: str) -> None:
        """Connects anew; in the I/O thread."""
        if self._pair is not None:
            self._pair.fail(RuntimeError(reason))

    def close(self) -> None:
        """Disconnects and ends the thread."""
        if self._thread.is_alive():
            self.call(self._stop)
            self._thread.join(_GOODBYE_S + 3.0)
        if self._loop is not None and not self._thread.is_alive():
            self._loop.close()
            self._loop = None

    @property
    def ended(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def _nobody(self, reason: str) -> str:
        return f"no RabbitMQ at {self._settings.host}:{self._settings.port}: {reason}"

    def _parameters_of(self, role: str) -> Any:
        settings = self._settings
        parameters = pika.ConnectionParameters(
            host=settings.host,
            port=settings.port,
            virtual_host=settings.vhost,
            credentials=pika.PlainCredentials(settings.user, self._password()),
            heartbeat=settings.heartbeat_s,
            client_properties={"connection_name": f"{self._name} ({role})"},
        )
        parameters.socket_timeout = _CONNECT_S
        parameters.stack_timeout = _HANDSHAKE_S
        if settings.tls:
            parameters.ssl_options = pika.SSLOptions(self._tls(), settings.host)
        return parameters

    def _password(self) -> str:
        settings = self._settings
        if settings.password is not None:
            return settings.password
        if settings.user == "guest":
            return "guest"
        raise BrokerError(
            f'no password for user "{settings.user}" of RabbitMQ at {settings.host}:{settings.port}: set it '
            "in the environment variable or the file that the config names"
        )

    def _tls(self) -> ssl.SSLContext:
        settings = self._settings
        try:
            context = ssl.create_default_context(cafile=settings.ca_file)
            if settings.cert_file is not None:
                context.load_cert_chain(settings.cert_file, settings.key_file)
        except (OSError, ssl.SSLError) as exc:
            files = ", ".join(str(f) for f in (settings.ca_file, settings.cert_file, settings.key_file) if f)
            raise BrokerError(f"cannot read the certificates for {settings.host} ({files}): {exc}") from exc
        return context

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._loop.start()
            except Exception as exc:  # noqa: BLE001 - a defect ends a connection, never the thread
                _log.exception("the RabbitMQ transport stumbled; it connects anew")
                self._loop.add_callback_threadsafe(self._run_calls)
                self._lost(exc)

    def _run_calls(self) -> None:
        self._woken = False
        calls = self._calls
        while calls:
            function, args = calls.popleft()
            function(*args)

    def _connect(self) -> None:
        self._timer = None
        if self._stopped:
            return
        self._tries += 1
        self._pair = _Pair(self, self._parameters, self._topology, self._loop)
        self._pairs = [pair for pair in self._pairs if not pair.closed] + [self._pair]

    def on_pair(self, publishing: Any, consuming: Any, events: int) -> None:
        """Both channels stand; in the I/O thread."""
        self._connections += 1
        self.connected, self.trouble = True, ""
        self._since = time.monotonic()
        self._owner.on_connected(publishing, consuming, self._connections, events)
        if self._opening:
            consuming.basic_qos(
                prefetch_count=1, callback=self._on_ready
            )  # answered after all that was asked

    def _on_ready(self, _frame: Any) -> None:
        if self._opening:
            self._opening = False
            self._notes.put(_Opened())

    def on_blocked(self, reason: str | None) -> None:
        """The broker takes no messages, or takes them again; in the I/O thread."""
        self.blocked = reason
        self._owner.on_blocked(reason is not None)

    def on_lost(self, error: BaseException) -> None:
        """The connections are gone; in the I/O thread."""
        self._lost(error)

    def _lost(self, error: BaseException) -> None:
        if self._pair is not None:
            self._pair.end()
            self._pair = None
        reason = explain(error)
        was_connected, self.connected, self.blocked = self.connected, False, None
        self.trouble = reason
        if was_connected:
            self._owner.on_disconnected(reason)
            if time.monotonic() - self._since > _STABLE_S:
                self._delay_s = _FIRST_DELAY_S
        if self._stopped or self._timer is not None:
            return
        refused = refusal(error, self._settings) if self._opening else None
        if refused is not None:
            self._opening = False
            self._notes.put(refused)
            return
        delay_s = self._delay_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)
        if self._opening:
            self._notes.put(_Retrying(reason, delay_s))
        self._timer = self._loop.call_later(delay_s, self._connect)

    def _stop(self) -> None:
        self._stopped = True
        if self._timer is not None:
            self._loop.remove_timeout(self._timer)
        self.connected = False
        if self._pair is not None:
            self._pair.end()
            self._pair = None
        self._await_goodbye(time.monotonic() + _GOODBYE_S)

    def _await_goodbye(self, deadline: float) -> None:
        """Ends the loop once the broker has said goodbye on every connection, for their sockets' sake."""
        left = [pair for pair in self._pairs if not pair.closed]
        if not left:
            self._loop.stop()
        elif time.monotonic() > deadline:
            for pair in left:
                pair.abort()
            self._loop.call_later(0.05, self._loop.stop)
        else:
            self._loop.call_later(0.005, lambda: self._await_goodbye(deadline))


class _Pair:
    """One try at both connections: tells `on_pair` once, then `on_lost` once, and nothing after `end`."""

    def __init__(
        self, session: Session, parameters: dict[str, Any], topology: Topology, loop: IOLoop
    ) -> None:
        self._session, self._topology = session, topology
        self._ended = False
        self._events: int | None = None
        self._channels: dict[str, Any] = {}
        self._parameters, self._loop = parameters, loop
        self._connections: list[Any] = []
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
        for connection in self._connections:
            if connection.is_open:
                connection.close()

    def abort(self) -> None:
        """Ends a handshake that the broker does not answer; the last resort."""
        for connection in self._connections:
            if not (connection.is_open or connection.is_closing or connection.is_closed):
                connection.close()

    def fail(self, error: BaseException) -> None:
        """Closes both, and reports it."""
        if not self._ended:
            self.end()
            self._session.on_lost(error)

    def _connect(self, role: str) -> None:
        self._connections.append(
            pika.SelectConnection(
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
        channel.add_on_close_callback(self._on_closed)
        channel.add_on_cancel_callback(
            lambda _frame: self.fail(RuntimeError("the broker ended our consumer"))
        )
        if role == "publish":
            self._topology.declare(channel, self._on_declared)
        self._go_on()

    def _on_declared(self, events: int) -> None:
        self._events = events
        self._go_on()

    def _go_on(self) -> None:
        if not self._ended and self._events is not None and len(self._channels) == 2:
            self._session.on_pair(self._channels["publish"], self._channels["consume"], self._events)

    def _on_blocked(self, _connection: Any, frame: Any) -> None:
        if not self._ended:
            self._session.on_blocked(str(frame.method.reason) or "a resource alarm of the broker")

    def _on_closed(self, _connection_or_channel: Any, error: BaseException) -> None:
        self.fail(error)
