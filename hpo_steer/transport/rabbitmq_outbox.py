"""What is on its way to the broker and not confirmed yet."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from itertools import islice
from typing import TYPE_CHECKING, Any

import pika
from pika.exceptions import AMQPError

from hpo_steer.transport.bundle import CONTENT_TYPE, MOST_BYTES, pack

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable

_WINDOW = 2000
"""Messages that may wait for their confirm at once; more wait here, not in a socket's buffer."""


class Care(IntEnum):
    """How far a message is looked after."""

    FLEETING = 0  # dropped where it can't be sent at once
    SESSION = 1  # dropped with the connection
    KEPT = 2  # sent again until it is confirmed


@dataclass(slots=True, eq=False)
class Outgoing:
    """A message on its way.

    Attributes:
        exchange: where it goes.
        key: the queue that is behind it, as routing key; empty: whoever may be listening.
        body: what goes.
        care: how far it is looked after.
        token: what to report once it is confirmed.
        bundle: how many neighbours of its kind it may travel with, itself included.
        headers: of the message.
        then: called once it is confirmed.
    """

    exchange: str
    key: str
    body: bytes
    care: Care = Care.KEPT
    token: object | None = None
    bundle: int = 1
    headers: dict[str, Any] | None = None
    then: Callable[[], None] | None = None


class Outbox:
    """Publishes in order with confirms, and sends again what a lost connection left unconfirmed.

    All methods run in the I/O thread, but for reading `unconfirmed`.

    Args:
        on_confirmed: told the tokens of messages that the broker keeps safely now.
        on_returned: told why a message found no queue; the connection is to be made anew, queues included.
    """

    def __init__(
        self, on_confirmed: Callable[[list[object]], None], on_returned: Callable[[str], None]
    ) -> None:
        self._on_confirmed, self._on_returned = on_confirmed, on_returned
        self._channel: Any = None
        self._blocked = False
        self._pending: deque[Outgoing] = deque()
        self._in_flight: dict[int, list[Outgoing]] = {}
        self._sequence = 0
        self._lowest = 1
        self._resting = False
        self._kept = 0
        self._idle: list[threading.Event] = []

    @property
    def unconfirmed(self) -> int:
        """Messages that are not safe yet."""
        return len(self._pending) + sum(map(len, list(self._in_flight.values())))

    @property
    def oldest(self) -> tuple[int, str] | None:
        """The message that has waited longest for its confirm: its number, and where it went."""
        for number, items in self._in_flight.items():
            return number, items[0].key or items[0].exchange
        return None

    @property
    def refused(self) -> str | None:
        """Where the broker takes no messages for a queue's own reasons, if so; the message rests for a while."""
        pending = self._pending
        return (pending[0].key or pending[0].exchange) if self._resting and pending else None

    def attach(self, channel: Any) -> None:
        """Publishes through a new channel from now on, beginning with what is unconfirmed."""
        self._channel = channel
        self._resting = False
        self._sequence, self._lowest = 0, 1
        channel.confirm_delivery(self._on_confirm, callback=lambda _frame: None)
        channel.add_on_return_callback(self._on_return)
        self.flush()

    def detach(self) -> None:
        """The channel is gone."""
        self._channel = None
        self._blocked = False
        everything = [item for items in self._in_flight.values() for item in items]
        everything += self._pending
        self._in_flight.clear()
        self._pending = deque(item for item in everything if item.care is Care.KEPT)

    def block(self, blocked: bool) -> None:
        """The broker takes no messages, or takes them again."""
        self._blocked = blocked
        self.flush()

    def again(self) -> None:
        """Publishes what the broker refused a while ago."""
        self._resting = False
        self.flush()

    def add(self, items: Iterable[Outgoing]) -> None:
        """Publishes messages, now or as soon as possible."""
        ready = self._channel is not None and not self._blocked and not self._resting
        for item in items:
            if item.care is Care.KEPT:
                self._kept += 1
            elif not ready and (item.care is Care.FLEETING or self._channel is None):
                continue
            self._pending.append(item)
        self.flush()

    def forget(self, key: str) -> None:
        """Sends messages to a queue no more; those that are on their way are not sent again."""
        for items in self._in_flight.values():
            for item in items:
                if item.key == key and item.care is Care.KEPT:
                    item.care = Care.FLEETING
                    self._kept -= 1
        dropped = [item for item in self._pending if item.key == key]
        self._kept -= sum(item.care is Care.KEPT for item in dropped)
        self._pending = deque(item for item in self._pending if item.key != key)
        self._tell_idle()

    def number(self, key: str) -> int:
        """Messages to a queue that are not safe yet."""
        pending = sum(item.key == key for item in self._pending)
        return pending + sum(item.key == key for items in self._in_flight.values() for item in items)

    def on_the_way(self, key: str) -> bool:
        """Whether messages to a queue were sent and are not confirmed."""
        return any(item.key == key for items in self._in_flight.values() for item in items)

    def when_idle(self, event: threading.Event) -> None:
        """Sets the event once everything that is kept is confirmed."""
        self._idle.append(event)
        self._tell_idle()

    def flush(self) -> None:
        """Publishes what may go."""
        channel = self._channel
        if channel is None or self._blocked or self._resting:
            return
        pending, in_flight = self._pending, self._in_flight
        while pending and len(in_flight) < _WINDOW:
            item = pending[0]
            items = self._bundle(item)
            properties = pika.BasicProperties(
                content_type="application/json" if len(items) == 1 else CONTENT_TYPE,
                delivery_mode=1 if item.care is Care.FLEETING else 2,
                headers=item.headers,
                message_id=str(self._sequence + 1),
            )
            try:
                channel.basic_publish(
                    item.exchange,
                    item.key,
                    pack([member.body for member in items]),
                    properties,
                    mandatory=bool(item.key),
                )
            except AMQPError:
                return  # the channel is closing: its end is reported elsewhere, and then all goes again
            self._sequence += 1
            in_flight[self._sequence] = items
            for _ in items:
                pending.popleft()

    def _bundle(self, first: Outgoing) -> list[Outgoing]:
        """The next message, with those of its kind right behind it that may travel in one with it."""
        if first.bundle == 1:
            return [first]
        items: list[Outgoing] = []
        size = 0
        for item in islice(self._pending, first.bundle):
            size += len(item.body)
            if items and (
                size > MOST_BYTES
                or item.bundle < len(items) + 1
                or (item.key, item.exchange, item.care) != (first.key, first.exchange, first.care)
            ):
                break
            items.append(item)
        return items

    def _on_confirm(self, frame: Any) -> None:
        method = frame.method
        tag = method.delivery_tag
        if method.multiple:
            sent = [item for n in range(self._lowest, tag + 1) for item in self._in_flight.pop(n, ())]
            self._lowest = tag + 1
        else:
            sent = list(self._in_flight.pop(tag, ()))
        if isinstance(method, pika.spec.Basic.Nack):
            self._resting = True  # or it would be sent and refused as fast as the network can
            self._pending.extendleft(reversed([item for item in sent if item.care is not Care.FLEETING]))
        else:
            self._confirmed(sent)
        if self._pending:
            self.flush()

    def _confirmed(self, items: list[Outgoing]) -> None:
        tokens = [item.token for item in items if item.token is not None]
        if tokens:
            self._on_confirmed(tokens)
        for item in items:
            if item.care is Care.KEPT:
                self._kept -= 1
            if item.then is not None:
                item.then()
        self._tell_idle()

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        items = self._in_flight.pop(int(properties.message_id), [])
        self._pending.extendleft(item for item in reversed(items) if item.care is Care.KEPT)
        self._on_returned(f"{method.reply_text} for {method.routing_key or method.exchange}")

    def _tell_idle(self) -> None:
        if self._idle and not self._kept:
            for event in self._idle:
                event.set()
            self._idle.clear()
