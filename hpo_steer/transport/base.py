"""The two ends of a transport: steering's and a worker's.

Both ends are driven by one thread of their owner, which waits on `fileno` together with whatever else it
waits for, and then calls `receive`. Nothing but `open` and `close` blocks. Between them a transport keeps
trying to reconnect by itself; what was published and not confirmed is sent again, so every message arrives at
least once and may arrive twice.

Work is handed to a worker as unsettled *deliveries*. A delivery that is neither settled nor released when its
worker's connection ends goes to another worker. The same holds for events and steering.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeAlias, TypeVar

from hpo_steer.messages import Control, Echo, Event, Message, Work

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

M = TypeVar("M", bound=Message)


@dataclass(frozen=True, eq=False)
class Delivery(Generic[M]):
    """A message in hand, to be settled, released or rejected once.

    Attributes:
        message: what came.
        tag: the transport's own handle; void after a `Disconnected`.
        redelivered: it may have been handed out before.
    """

    message: M
    tag: object
    redelivered: bool = False


@dataclass(frozen=True)
class Confirmed:
    """Messages that the other side now keeps safely: the broker on disk, or steering in its store.

    Attributes:
        tokens: what `WorkerEnd.publish` was given with them.
    """

    tokens: Sequence[object]


@dataclass(frozen=True)
class Disconnected:
    """The connection is gone and is being made anew; deliveries in hand can't be settled any more."""

    reason: str


@dataclass(frozen=True)
class Connected:
    """The connection stands again."""


@dataclass(frozen=True)
class Released:
    """Local transport only: steering has ended, and with it the reason to go on."""

    reason: str


WorkerIncoming: TypeAlias = Delivery[Work] | Control | Confirmed | Disconnected | Connected | Released
SteeringIncoming: TypeAlias = Delivery[Event] | Disconnected | Connected


@dataclass(frozen=True)
class TransportStatus:
    """How a connection stands, for the live view.

    Attributes:
        connected: messages can travel.
        blocked: why the broker takes no messages at present (its memory or disk alarm), if so.
        detail: one line for people, such as ``amqps://broker:5671/hpo``.
        unconfirmed: messages sent and not confirmed yet.
        trouble: one sentence for people on what keeps messages from travelling, and on how to mend it where
            that is known; None while all is well. A broker that is merely `blocked` is no trouble.
    """

    connected: bool
    blocked: str | None = None
    detail: str = ""
    unconfirmed: int = 0
    trouble: str | None = None


class SteeringEnd(ABC):
    """Steering's end: work out, events in.

    Args of the constructors name the experiment and its run; messages of others are dead-lettered.
    """

    @abstractmethod
    def open(self) -> None:
        """Connects and makes the queues.

        Raises:
            BrokerError: the broker is out of reach for longer than the configured time, refuses the
                credentials, or has queues of these names with other arguments.
        """

    @property
    def worker_environment(self) -> Mapping[str, str]:
        """Environment variables that a worker started on this machine needs to find this end."""
        return {}

    @abstractmethod
    def publish(self, work: Sequence[Work], bundle: int = 1) -> None:
        """Puts attempts on the work queue, persistent and confirmed; sent again after a reconnection.

        Args:
            work: the attempts, in the order in which workers should take them.
            bundle: how many may travel to one worker together; more than one only where evaluations take
                milliseconds.

        Raises:
            MalformedMessage: one is larger than any receiver lets in; nothing was sent.
        """

    @abstractmethod
    def receive(self, limit: int = 1000) -> list[SteeringIncoming]:
        """What has come since the last call, at once, at most `limit`, in the order of arrival."""

    @abstractmethod
    def settle(self, deliveries: Sequence[Delivery[Event]]) -> None:
        """Acknowledges events. Call it after their content was committed to the store."""

    @abstractmethod
    def reject(self, delivery: Delivery[Event], reason: str) -> None:
        """Sends an event to the dead letters, with the reason."""

    @abstractmethod
    def control(self, message: Control) -> None:
        """Tells every worker; best effort, lost on workers that are not connected.

        What is about code bundles (`BundlePart`, `BundleGone`) reaches those workers only that collect them.
        """

    @abstractmethod
    def echo(self, message: Echo) -> None:
        """Sends a word to itself on the way that events come: it is received after all that was sent before it.

        Best effort: it is lost with the connection, and while the broker takes no messages.
        """

    @abstractmethod
    def discard_work(self) -> None:
        """Empties the work queue of messages that no worker holds, and waits until that is done."""

    @abstractmethod
    def waiting(self) -> int | None:
        """Work that no worker holds, in the queue or on its way there, as of a moment ago; None while unknown."""

    @abstractmethod
    def drained(self) -> bool:
        """Whether every event that lay in the queue when `open` returned has been received."""

    @abstractmethod
    def status(self) -> TransportStatus:
        """How the connection stands."""

    @abstractmethod
    def fileno(self) -> int:
        """A file descriptor that is readable while `receive` would return something."""

    @abstractmethod
    def close(self) -> None:
        """Waits for confirms of what was published (5 s at most) and disconnects. May be called twice."""


class WorkerEnd(ABC):
    """A worker's end: work in, events out."""

    @abstractmethod
    def open(self) -> None:
        """Connects; raises as `SteeringEnd.open`. No work comes before `set_credit`."""

    @abstractmethod
    def set_credit(self, n: int) -> None:
        """Lets at most `n` unsettled deliveries be in this worker's hands; 0 stops new ones.

        Deliveries that were on their way when the credit shrank may still come: `release` them.
        """

    @abstractmethod
    def receive(self) -> list[WorkerIncoming]:
        """What has come since the last call, at once, in the order of arrival."""

    @abstractmethod
    def publish(self, event: Event, token: object | None = None) -> None:
        """Sends an event, persistent; a token comes back in a `Confirmed` once it is safe.

        Events with a token are sent again after a reconnection until they are confirmed. Events without one
        are dropped while there is no connection, or while the broker takes no messages.

        Raises:
            MalformedMessage: it is larger than any receiver lets in; nothing was sent.
        """

    @abstractmethod
    def collect(self, on: bool) -> None:
        """Has code bundles come too, as far as steering sends any from now on, or no more; off at first."""

    @abstractmethod
    def settle(self, deliveries: Sequence[Delivery[Work]]) -> None:
        """Acknowledges work."""

    @abstractmethod
    def release(self, deliveries: Sequence[Delivery[Work]]) -> None:
        """Gives work back for another worker."""

    @abstractmethod
    def reject(self, delivery: Delivery[Work], reason: str) -> None:
        """Sends work that cannot be understood to the dead letters, with the reason."""

    @abstractmethod
    def status(self) -> TransportStatus:
        """How the connection stands."""

    @abstractmethod
    def fileno(self) -> int:
        """A file descriptor that is readable while `receive` would return something."""

    @abstractmethod
    def close(self) -> None:
        """Waits for confirms of events with tokens (5 s at most) and disconnects. May be called twice."""
