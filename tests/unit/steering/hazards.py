"""A store, a broker and an algorithm that break as a test wants: at any effect, for a while, or late."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

from hpo_steer.algorithm import Asked, Observation, Step
from hpo_steer.errors import StoreError
from hpo_steer.messages import Control, Echo, Event, Work
from hpo_steer.transport.base import Connected, Delivery, Disconnected, SteeringIncoming, TransportStatus
from steering.hosts import AlgorithmHost, InProcessHost, Opening, Proposal, Reply
from tests.unit.steering.simulation import HandTransport

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from steering.store.base import Store, Transaction


class Killed(BaseException):
    """Steering's process has died, at this very place."""


class Fuse:
    """Kills steering at one of its effects: a commit, an acknowledgement, a control message, a publication."""

    def __init__(self) -> None:
        self.left: int | None = None

    def burn(self) -> None:
        """An effect is about to happen, or has just happened."""
        if self.left is None:
            return
        self.left -= 1
        if self.left <= 0:
            self.left = None
            raise Killed


class Witness(Protocol):
    """Sees every effect of steering at the moment it happens."""

    def began(self) -> None: ...
    def heard(self, event: Event) -> None: ...
    def wrote(self) -> None: ...
    def settling(self, event: Event) -> None: ...
    def rejected(self, event: Event) -> None: ...
    def controlled(self, message: Control) -> None: ...
    def published(self, work: Work) -> None: ...


class HazardStore:
    """A store whose next transactions fail, or kill steering before or after they are durable.

    Args:
        store: which keeps the data.
        fuse: burns before and after each commit.
    """

    def __init__(self, store: Store, fuse: Fuse) -> None:
        self._store, self._fuse = store, fuse
        self.witness: Witness | None = None
        self.failures: list[bool] = []
        """Of the next transactions: whether the trouble passes."""

    def face(self) -> Store:
        """Itself, as a store."""
        return cast("Store", self)

    def replace(self, store: Store) -> None:
        """The same data, opened anew."""
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        with self._store.transaction() as transaction:
            yield transaction
            if self.failures:
                raise StoreError("the disk has a bad day", transient=self.failures.pop(0))
            self._fuse.burn()
        if self.witness is not None:
            self.witness.wrote()
        self._fuse.burn()


class HazardTransport(HandTransport):
    """A broker that outlives steering, with a connection that can be cut and an alarm that can be raised.

    Args:
        fuse: burns before each acknowledgement, control message and publication, and after the last.
    """

    def __init__(self, fuse: Fuse) -> None:
        super().__init__()
        self._fuse = fuse
        self.witness: Witness | None = None
        self.connected, self.alarm = True, False
        self.outbox: list[Work] = []
        self.partly: int | None = None
        self._void: set[int] = set()
        self._backlog = 0

    def open(self) -> None:
        """A new steering connects; what the last one had not acknowledged comes again."""
        self._take_back()
        self.connected, self.news, self.outbox, self.partly = True, [], [], None
        self._backlog = len(self.events)
        if self.witness is not None:
            self.witness.began()

    def _take_back(self) -> None:
        self._void |= set(self._in_hand)
        self.events = [*self._in_hand.values(), *self.events]
        self._in_hand.clear()

    def cut(self) -> None:
        """The connection of steering goes away."""
        if self.connected:
            self.connected = False
            self._take_back()
            self.news.append(Disconnected("cut"))

    def mend(self) -> None:
        """It comes back."""
        if not self.connected:
            self.connected = True
            self.news.append(Connected())
            self.deliver()

    def deliver(self) -> None:
        """The broker takes what waits for it, if it takes anything at all."""
        if self.connected and not self.alarm:
            self.work += self.outbox
            self.outbox = []

    @property
    def unread(self) -> int:
        """How many of the events that lay there when this steering began it has not received."""
        return self._backlog

    def receive(self, limit: int = 1000) -> list[SteeringIncoming]:
        if not self.connected:
            found, self.news = self.news, []
            return found
        most = limit if self.partly is None else min(limit, self.partly)
        found = super().receive(most)
        for item in found:
            if isinstance(item, Delivery):
                self._backlog = max(self._backlog - 1, 0)
                if self.witness is not None:
                    self.witness.heard(item.message)
        return found

    def settle(self, deliveries: Sequence[Delivery[Event]]) -> None:
        for delivery in deliveries:
            self._fuse.burn()
            if delivery.tag in self._void:
                continue
            if self.witness is not None:
                self.witness.settling(delivery.message)
            super().settle([delivery])
        self._fuse.burn()

    def reject(self, delivery: Delivery[Event], reason: str) -> None:
        self._fuse.burn()
        if delivery.tag not in self._void:
            super().settle([delivery])
        self.rejected.append((delivery.message, reason))
        if self.witness is not None:
            self.witness.rejected(delivery.message)

    def control(self, message: Control) -> None:
        self._fuse.burn()
        if self.witness is not None:
            self.witness.controlled(message)
        if self.connected:
            super().control(message)

    def echo(self, message: Echo) -> None:
        if self.connected and not self.alarm:
            super().echo(message)

    def publish(self, work: Sequence[Work], bundle: int = 1) -> None:
        for one in work:
            self._fuse.burn()
            if self.witness is not None:
                self.witness.published(one)
            self.outbox.append(one)
            self.deliver()
        self._fuse.burn()

    def discard_work(self) -> None:
        self._fuse.burn()
        self.work.clear()
        self.outbox.clear()

    def waiting(self) -> int | None:
        return len(self.work) + len(self.outbox) if self.connected else None

    def drained(self) -> bool:
        return self._backlog == 0

    def status(self) -> TransportStatus:
        return TransportStatus(
            connected=self.connected,
            blocked="memory" if self.alarm else None,
            unconfirmed=len(self.outbox),
        )


class RecordingHost(AlgorithmHost):
    """Algorithms whose asks and tells are written down, and which may take their time to answer.

    Args:
        slow: answers wait until they are released.

    Attributes:
        heard: of each model, in order: ``("ask", n)`` and ``("tell", number, values or kind of failure)``.
    """

    def __init__(self, *, slow: bool) -> None:
        self._inner = InProcessHost()
        self.slow = slow
        self._pipe = os.pipe() if slow else None
        self._thinking: list[Proposal] = []
        self._ready: list[Reply] = []
        self.heard: dict[str, list[tuple[Any, ...]]] = {}

    def open(self, opening: Opening) -> None:
        self.heard[opening.model] = []
        self._inner.open(opening)

    def restore(self, model: str, history: Sequence[Step]) -> None:
        for step in history:
            if isinstance(step, Asked):
                self.heard[model].append(("ask", step.n))
            else:
                self._note(model, step.observations)
        self._inner.restore(model, history)

    def tell(self, model: str, observations: Sequence[Observation]) -> None:
        self._note(model, observations)
        self._inner.tell(model, observations)

    def _note(self, model: str, observations: Sequence[Observation]) -> None:
        for seen in observations:
            outcome = dict(seen.values or {}) if seen.failure is None else seen.failure.kind
            self.heard[model].append(("tell", seen.point_id, outcome))

    def ask(self, model: str, n: int) -> None:
        self.heard[model].append(("ask", n))
        self._inner.ask(model, n)
        self._collect()

    def _collect(self) -> None:
        for reply in self._inner.replies():
            if self.slow and isinstance(reply, Proposal):
                self._thinking.append(reply)
            else:
                self._ready.append(reply)

    @property
    def thinking(self) -> list[str]:
        """The models whose answers are not there yet, in the order they were asked."""
        return [proposal.model for proposal in self._thinking]

    def release(self, model: str) -> None:
        """The algorithm of a model has made up its mind."""
        self._ready += [p for p in self._thinking if p.model == model]
        self._thinking = [p for p in self._thinking if p.model != model]

    def replies(self) -> list[Reply]:
        self._collect()
        found, self._ready = self._ready, []
        return found

    def fileno(self) -> int | None:
        return self._pipe[0] if self._pipe is not None else None

    def close(self) -> None:
        if self._pipe is not None:
            for fd in self._pipe:
                os.close(fd)
        self._pipe = None
