"""The transport over RabbitMQ 3.10 to 4.x. Only the `rabbitmq*` files here know pika.

The owner's thread and the I/O thread meet in two queues: calls go in, an `Inbox` comes out.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from pika.exceptions import AMQPError

from hpo_steer.errors import MalformedMessage, TransportError
from hpo_steer.limits import tidy
from hpo_steer.messages import BundleGone, BundlePart, Control, Echo, Event, Work
from hpo_steer.transport.admission import admit_control, admit_event, admit_work, corpse, encode
from hpo_steer.transport.base import (
    Confirmed,
    Connected,
    Delivery,
    Disconnected,
    SteeringEnd,
    SteeringIncoming,
    TransportStatus,
    WorkerEnd,
    WorkerIncoming,
)
from hpo_steer.transport.inbox import Inbox
from hpo_steer.transport.rabbitmq_intake import Intake, Tag
from hpo_steer.transport.rabbitmq_outbox import Care, Outbox, Outgoing
from hpo_steer.transport.rabbitmq_session import Session
from hpo_steer.transport.rabbitmq_topology import Topology
from hpo_steer.transport.rabbitmq_watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hpo_steer.transport.settings import BrokerSettings

_CLOSE_S = 5.0
_COUNT_EVERY_S = 1.0
_EVENTS_BUNDLE = 64
_PURGE_AGAIN_S = 0.01
_LINGER_S = 0.01


@dataclass(frozen=True)
class _Drained:
    """Follows the last event that lay in the queue when the connection was made."""


class _End:
    """What both ends share: the session, the outbox, and the dead letters."""

    def __init__(
        self,
        settings: BrokerSettings,
        experiment: str,
        role: str,
        on_messages: Callable[[Tag, list[bytes], bool], None],
    ) -> None:
        self._topology = Topology(experiment, settings.queue_type, makes=role == "steering")
        self._session = Session(settings, f"hpo-steer {role} {experiment}", self._topology, self)
        self._outbox = Outbox(self._on_confirmed, self._session.renew)
        own = self._topology.events if role == "steering" else self._topology.work
        self._intake = Intake(own, on_messages)
        self._watch = Watch(
            self._session,
            self._outbox,
            self._intake,
            election=self._topology.election(settings.vhost),
            bound_s=settings.stall_s,
        )
        self._publishing: Any = None
        self._opened = False
        self._closed = False
        self._left: deque[Outgoing] = deque()
        self._coming = False
        self._collected_at = 0.0

    def status(self) -> TransportStatus:
        """See `SteeringEnd.status`."""
        session = self._session
        trouble = session.trouble
        return TransportStatus(
            connected=session.connected,
            blocked=session.blocked,
            detail=f"{session.url} ({trouble})" if trouble and not session.connected else session.url,
            unconfirmed=len(self._left) + self._outbox.unconfirmed,
            trouble=session.problem or self._watch.trouble,
        )

    def on_connected(
        self,
        publishing: Any,
        consuming: Any,  # noqa: ARG002
        connection: int,  # noqa: ARG002
        events: int,  # noqa: ARG002
    ) -> None:
        """See `rabbitmq_session.Owner`."""
        self._publishing = publishing
        self._outbox.attach(publishing)
        self._watch.attach(publishing)

    def on_disconnected(self, reason: str) -> None:  # noqa: ARG002
        """See `rabbitmq_session.Owner`."""
        self._publishing = None
        self._outbox.detach()
        self._watch.detach()

    def on_blocked(self, blocked: bool) -> None:
        """See `rabbitmq_session.Owner`."""
        self._outbox.block(blocked)

    def _on_confirmed(self, tokens: list[object]) -> None:
        """Messages with tokens are safe; in the I/O thread."""

    def _publish(self, items: Sequence[Outgoing]) -> None:
        """Leaves messages for the I/O thread, which is woken unless it comes for them anyway."""
        self._left.extend(items)
        if not self._coming:
            self._coming = True
            self._session.call(self._collect)

    def _collect(self) -> None:
        """Publishes what was left; a bundle that has room waits a moment, where others went just now."""
        wait_s = self._collected_at + _LINGER_S - time.monotonic()
        if wait_s > 0 and self._left and len(self._left) < self._left[0].bundle:
            self._session.call_later(wait_s, self._collect)
            return
        self._coming = False  # before looking, so that whoever comes too late for this look calls anew
        self._collected_at = time.monotonic()
        items = list(self._left)
        self._outbox.add(items)
        for _ in items:  # only now, so that whoever counts from another thread misses none
            self._left.popleft()

    def _bury(self, origin: str, body: bytes, reason: str, then: Callable[[], None] | None = None) -> None:
        """Puts a message to the dead letters, and only then takes it from where it was; in the I/O thread."""
        headers = {"x-reason": tidy(reason), "x-queue": origin}
        dead = self._topology.dead
        letter = Outgoing(dead, dead, corpse(body), care=Care.SESSION, headers=headers, then=then)
        self._outbox.add([letter])

    def _when_idle(self, idle: threading.Event) -> None:
        self._collected_at = 0.0
        self._collect()
        self._outbox.when_idle(idle)

    def _say_goodbye(self, inbox: Inbox[Any]) -> None:
        if self._closed:
            return
        self._closed = True
        if self._opened and not self._session.ended:
            idle = threading.Event()
            self._session.call(self._when_idle, idle)
            idle.wait(_CLOSE_S)
        self._session.close()
        if self._session.ended:
            inbox.close()


class RabbitSteeringEnd(_End, SteeringEnd):
    """Steering's end.

    Args:
        settings: the broker.
        experiment: name of the experiment.
        run: id of the run.
        on_retry: told each time that `open` fails to connect and will try again.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        experiment: str,
        run: str,
        *,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(settings, experiment, "steering", self._on_events)
        self._experiment, self._run, self._on_retry = experiment, run, on_retry
        self._settings = settings
        self._inbox: Inbox[SteeringIncoming | _Drained] = Inbox()
        self._intake.set_credit(settings.prefetch)
        self._found = 0
        self._to_drain = 0
        self._is_drained = False
        self._waiting: int | None = None
        self._counted_at = 0.0
        self._counting = False

    def open(self) -> None:  # noqa: D102
        self._session.open(self._on_retry)
        self._opened = True
        if self._found == 0:
            self._is_drained = True

    def publish(self, work: Sequence[Work], bundle: int = 1) -> None:  # noqa: D102
        to, queue = self._topology.work_in, self._topology.work
        self._publish([Outgoing(to, queue, encode(item), bundle=bundle) for item in work])

    def receive(self, limit: int = 1000) -> list[SteeringIncoming]:  # noqa: D102
        items = self._inbox.take(limit)
        if not self._is_drained and any(isinstance(item, _Drained) for item in items):
            self._is_drained = True
        return [item for item in items if not isinstance(item, _Drained)]

    def settle(self, deliveries: Sequence[Delivery[Event]]) -> None:  # noqa: D102
        self._session.call(self._intake.settle, _tags(deliveries))

    def reject(self, delivery: Delivery[Event], reason: str) -> None:  # noqa: D102
        tags = _tags([delivery])
        then = partial(self._intake.settle, tags)
        self._session.call(self._bury, self._topology.events, delivery.message.encoded(), reason, then)

    def control(self, message: Control) -> None:  # noqa: D102
        bundles = isinstance(message, BundlePart | BundleGone)
        to = self._topology.bundles if bundles else self._topology.control
        self._publish([Outgoing(to, "", encode(message), care=Care.FLEETING)])

    def echo(self, message: Echo) -> None:  # noqa: D102
        to, queue = self._topology.events_in, self._topology.events
        self._publish([Outgoing(to, queue, encode(message), care=Care.FLEETING)])

    def discard_work(self) -> None:  # noqa: D102
        done = threading.Event()
        deadline = time.monotonic() + self._settings.connect_timeout_s
        while time.monotonic() < deadline:
            self._session.call(self._purge, done)
            if done.wait(1.0):
                return
        raise TransportError(f"cannot empty the work queue: {self.status().detail}")

    def waiting(self) -> int | None:  # noqa: D102
        if not self._session.connected:
            return None
        now = time.monotonic()
        if now - self._counted_at >= _COUNT_EVERY_S:
            self._counted_at = now
            self._session.call(self._count)
        return self._waiting

    def drained(self) -> bool:  # noqa: D102
        return self._is_drained

    def fileno(self) -> int:  # noqa: D102
        return self._inbox.fileno()

    def close(self) -> None:  # noqa: D102
        self._say_goodbye(self._inbox)

    def on_connected(self, publishing: Any, consuming: Any, connection: int, events: int) -> None:  # noqa: D102
        super().on_connected(publishing, consuming, connection, events)
        # a lost connection puts what was received and not settled back, so the count begins anew
        self._to_drain = 0 if self._is_drained else events
        if connection == 1:
            self._found = events
        else:
            self._inbox.put(Connected())
            if not self._is_drained and events == 0:
                self._inbox.put(_Drained())
        self._intake.attach(consuming, connection)

    def on_disconnected(self, reason: str) -> None:  # noqa: D102
        super().on_disconnected(reason)
        self._intake.detach()
        self._waiting, self._counting = None, False
        self._inbox.put(Disconnected(reason))

    def _on_events(self, tag: Tag, bodies: list[bytes], redelivered: bool) -> None:
        for body in bodies:
            self._on_event(tag, body, redelivered)
        if self._to_drain > 0:
            self._to_drain -= 1
            if self._to_drain == 0:
                self._inbox.put(_Drained())

    def _on_event(self, tag: Tag, body: bytes, redelivered: bool) -> None:
        try:
            event = admit_event(body, self._experiment, self._run)
        except MalformedMessage as exc:
            self._bury(self._topology.events, body, str(exc), partial(self._intake.settle, [tag]))
        else:
            self._inbox.put(Delivery(event, tag, redelivered))

    def _purge(self, done: threading.Event) -> None:
        if done.is_set():  # asked once too often: what was published since then is wanted
            return
        for item in [item for item in self._left if item.key == self._topology.work]:
            self._left.remove(item)
        self._outbox.forget(self._topology.work)
        if self._outbox.on_the_way(self._topology.work):
            # a quorum queue may take a purge before messages that were sent ahead of it
            self._session.call_later(_PURGE_AGAIN_S, partial(self._purge, done))
        elif self._publishing is not None and not self._session.blocked:
            self._publishing.queue_purge(self._topology.work, callback=lambda _frame: done.set())

    def _count(self) -> None:
        channel = self._publishing
        if channel is None or self._counting or self._session.blocked:
            self._waiting = None  # a broker that blocks us, or hangs, leaves questions unanswered
            return

        def counted(frame: Any) -> None:
            if channel is self._publishing:
                self._counting = False
                self._waiting = frame.method.message_count + self._outbox.number(self._topology.work)

        try:
            channel.queue_declare(self._topology.work, passive=True, callback=counted)
        except AMQPError:
            return  # the channel is closing
        self._counting = True


class RabbitWorkerEnd(_End, WorkerEnd):
    """A worker's end.

    Args:
        settings: the broker.
        experiment: name of the experiment.
        run: id of the run; None: of any.
        on_retry: told each time that `open` fails to connect and will try again.
    """

    def __init__(
        self,
        settings: BrokerSettings,
        experiment: str,
        run: str | None,
        *,
        on_retry: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(settings, experiment, "worker", self._on_works)
        self._experiment, self._run, self._on_retry = experiment, run, on_retry
        self._inbox: Inbox[WorkerIncoming] = Inbox()
        self._control: tuple[Any, str] | None = None
        self._collecting = False

    def open(self) -> None:  # noqa: D102
        self._session.open(self._on_retry)
        self._opened = True

    def set_credit(self, n: int) -> None:  # noqa: D102
        self._session.call(self._intake.set_credit, n)

    def receive(self) -> list[WorkerIncoming]:  # noqa: D102
        return self._inbox.take(1000)

    def publish(self, event: Event, token: object | None = None) -> None:  # noqa: D102
        care = Care.FLEETING if token is None else Care.KEPT
        to, queue = self._topology.events_in, self._topology.events
        self._publish([Outgoing(to, queue, encode(event), care, token, bundle=_EVENTS_BUNDLE)])

    def collect(self, on: bool) -> None:  # noqa: D102
        self._session.call(self._collect_bundles, on)

    def settle(self, deliveries: Sequence[Delivery[Work]]) -> None:  # noqa: D102
        self._session.call(self._intake.settle, _tags(deliveries))

    def release(self, deliveries: Sequence[Delivery[Work]]) -> None:  # noqa: D102
        self._session.call(self._intake.release, _tags(deliveries))

    def reject(self, delivery: Delivery[Work], reason: str) -> None:  # noqa: D102
        then = partial(self._intake.settle, _tags([delivery]))
        self._session.call(self._bury, self._topology.work, delivery.message.encoded(), reason, then)

    def fileno(self) -> int:  # noqa: D102
        return self._inbox.fileno()

    def close(self) -> None:  # noqa: D102
        self._say_goodbye(self._inbox)

    def on_connected(self, publishing: Any, consuming: Any, connection: int, events: int) -> None:  # noqa: D102
        super().on_connected(publishing, consuming, connection, events)
        if connection > 1:
            self._inbox.put(Connected())
        self._listen(consuming)
        self._intake.attach(consuming, connection)

    def on_disconnected(self, reason: str) -> None:  # noqa: D102
        super().on_disconnected(reason)
        self._intake.detach()
        self._control = None
        self._inbox.put(Disconnected(reason))

    def _listen(self, channel: Any) -> None:
        """Has control messages come to a queue of this connection's own."""
        name = f"{self._topology.control}.{uuid.uuid4().hex}"
        channel.queue_declare(name, exclusive=True, auto_delete=True, callback=_ignore)
        channel.queue_bind(name, self._topology.control, callback=_ignore)
        channel.basic_consume(name, self._on_control, auto_ack=True, consumer_tag="control", callback=_ignore)
        self._control = (channel, name)
        if self._collecting:
            channel.queue_bind(name, self._topology.bundles, callback=_ignore)

    def _collect_bundles(self, on: bool) -> None:
        """Has code bundles come to the same queue; in the I/O thread."""
        if on == self._collecting:
            return
        self._collecting = on
        if self._control is None:
            return
        channel, name = self._control
        try:
            if on:
                channel.queue_bind(name, self._topology.bundles, callback=_ignore)
            else:
                channel.queue_unbind(name, self._topology.bundles, callback=_ignore)
        except AMQPError:
            return  # the channel is closing; `_listen` sees to it when there is another one

    def _on_works(self, tag: Tag, bodies: list[bytes], redelivered: bool) -> None:
        for body in bodies:
            self._on_work(tag, body, redelivered)

    def _on_work(self, tag: Tag, body: bytes, redelivered: bool) -> None:
        try:
            work = admit_work(body, self._experiment, self._run)
        except MalformedMessage as exc:
            self._bury(self._topology.work, body, str(exc), partial(self._intake.settle, [tag]))
        else:
            self._inbox.put(Delivery(work, tag, redelivered))

    def _on_control(self, _channel: Any, _method: Any, _properties: Any, body: bytes) -> None:
        try:
            control = admit_control(body, self._experiment, self._run)
        except MalformedMessage as exc:
            self._bury(self._topology.control, body, str(exc))
        else:
            self._inbox.put(control)

    def _on_confirmed(self, tokens: list[object]) -> None:
        self._inbox.put(Confirmed(tokens))


def _ignore(_frame: Any) -> None:
    """With a callback the requests wait for one another."""


def _tags(deliveries: Sequence[Delivery[Any]]) -> list[Tag]:
    return [cast("Tag", delivery.tag) for delivery in deliveries]
