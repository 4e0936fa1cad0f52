"""The connections to RabbitMQ, and the one thread that serves them.

An end has two: one publishes, the other consumes, because a broker short of memory or disk stops reading from
those that publish. They stand and fall together, so that there is one way to recover from everything, be it a
restarted broker, a deleted queue or a cancelled consumer: connect anew, declare the queues, go on.
"""

from __future__ import annotations

import logging
import queue
import random
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
from hpo_steer.transport.rabbitmq_pair import Pair
from hpo_steer.transport.rabbitmq_topology import QueuesMissing
from hpo_steer.transport.tls import client_context

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
    patient: bool


class _Renewal(Exception):
    """We end the connections ourselves, to make them anew."""


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
        self.refusal: str | None = None
        self._renewing = False
        self._loop: Any = None
        self._calls: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        self._woken = False
        self._notes: queue.SimpleQueue[_Opened | _Retrying | BrokerError] = queue.SimpleQueue()
        self._opening = True
        self._pair: Pair | None = None
        self._pairs: list[Pair] = []  # with those that are still saying goodbye
        self._connections = 0
        self._tries = 0
        self._delay_s = _FIRST_DELAY_S
        self._since = 0.0
        self._timer: Any = None
        self._stopped = False
        self._parameters: dict[str, Any] = {}
        self._thread = threading.Thread(target=self._run, name=f"{name}: RabbitMQ", daemon=True)

    @property
    def problem(self) -> str | None:
        """What keeps us from the broker, in a sentence that says how to mend it where that is known.

        None while we connect anew of our own accord.
        """
        if self.refusal is not None:
            return self.refusal
        apart = bool(self.trouble) and not (self.connected or self._renewing)
        return f"{self._nobody(self.trouble)}; trying again" if apart else None

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
                    case _Retrying(patient=True):  # the broker is there; only steering is not
                        deadline = time.monotonic() + self._settings.connect_timeout_s
                        if on_retry is not None and note.reason != reason:
                            on_retry(note.reason)
                        reason = note.reason
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
            self._pair.fail(_Renewal(reason))

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
            parameters.ssl_options = pika.SSLOptions(client_context(settings), settings.host)
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
        self._pair = Pair(self, self._parameters, self._topology, self._loop)
        self._pairs = [pair for pair in self._pairs if not pair.closed] + [self._pair]

    def on_pair(self, publishing: Any, consuming: Any, events: int) -> None:
        """Both channels stand; in the I/O thread."""
        self._connections += 1
        if self.refusal == self.trouble:  # what we waited for is there
            self.refusal = None
        self.connected, self.trouble = True, ""
        self._since = time.monotonic()
        self._loop.call_later(_STABLE_S, partial(self._prove, self._connections))
        self._owner.on_connected(publishing, consuming, self._connections, events)
        if self._opening:
            consuming.basic_qos(
                prefetch_count=1, callback=self._on_ready
            )  # answered after all that was asked

    def _prove(self, connection: int) -> None:
        """A connection that has lasted: what refused the earlier ones is over."""
        if self.connected and connection == self._connections:
            self.refusal = None

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
        self.trouble, self._renewing = reason, isinstance(error, _Renewal)
        if was_connected:
            self._owner.on_disconnected(reason)
            if time.monotonic() - self._since > _STABLE_S:
                self._delay_s = _FIRST_DELAY_S
        if self._stopped or self._timer is not None:
            return
        refused = refusal(error, self._settings)
        patient = isinstance(error, QueuesMissing)
        if refused is not None or patient:
            self.refusal = reason if refused is None else str(refused)
        if refused is not None and self._opening:
            self._opening = False
            self._notes.put(refused)
            return
        delay_s = self._delay_s * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        self._delay_s = min(2 * self._delay_s, _LONGEST_DELAY_S)
        if self._opening:
            self._notes.put(_Retrying(reason, delay_s, patient))
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
