"""The queues and exchanges of an experiment on RabbitMQ.

| name | kind | what for |
| --- | --- | --- |
| ``hpo.NAME.work`` | queue | steering to whichever worker is free |
| ``hpo.NAME.work.in`` | fanout exchange | the way into it, for steering only |
| ``hpo.NAME.events`` | queue | workers to steering |
| ``hpo.NAME.events.in`` | fanout exchange | the way into it, for workers |
| ``hpo.NAME.control`` | fanout exchange | steering to every worker |
| ``hpo.NAME.control.ID`` | exclusive queue | the copy of one worker |
| ``hpo.NAME.bundles`` | fanout exchange | code bundles, to the control queues of workers that collect them |
| ``hpo.NAME.dead`` | fanout exchange and queue | messages that were of no use, with the header ``x-reason`` |

Nothing goes through the broker's default exchange: whoever may write to that may write to every queue. A queue and
the exchange before it have different names, as a permission to write is one for all things of a name, and writing
to a queue means binding it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

DELIVERY_LIMIT = 100_000
"""How often a message may be handed out in vain before the broker itself puts it to the dead letters.

Brokers of 4.0 and later set 20 where the queue says nothing; those before 4.3 count a benign `release` as a
failed delivery, and all of them count lost connections. A point must not die of either: steering counts its
attempts itself. So the limit only ends a message that goes round without end. Brokers before 4.0 take no -1
("unlimited"), and the number must be the same everywhere, as a queue is declared anew after an upgrade too.
"""
DEAD_LETTERS_BYTES = 1_073_741_824
"""The dead-letter queue drops its oldest beyond this, so that a flood of rubbish cannot fill the disk.

Bytes and no count: what fills a disk is bytes, and a flood of short messages is to be accounted for whole.
"""


class QueuesMissing(Exception):
    """Steering has not made the queues yet, and we may not; the worker waits."""


class Topology:
    """The names, and how they are declared.

    Args:
        experiment: name of the experiment.
        queue_type: ``quorum`` or ``classic``.
        makes: whether this end declares everything whenever it connects, as steering does. A worker looks whether
            it is there, and declares it only if it is not.
    """

    def __init__(self, experiment: str, queue_type: str = "quorum", *, makes: bool = True) -> None:
        base = f"hpo.{experiment}"
        self.experiment = experiment
        self.work, self.events = f"{base}.work", f"{base}.events"
        self.work_in, self.events_in = f"{base}.work.in", f"{base}.events.in"
        self.control, self.dead = f"{base}.control", f"{base}.dead"
        self.bundles = f"{base}.bundles"
        self.makes = makes
        self._queue_type = queue_type

    @property
    def exchanges(self) -> tuple[str, ...]:
        """The exchanges that everybody needs, fanout and durable; who ships no code can do without `bundles`."""
        return (self.dead, self.control, self.work_in, self.events_in)

    @property
    def queues(self) -> tuple[tuple[str, str, dict[str, Any]], ...]:
        """All durable queues, each with the exchange it is bound to and its arguments."""
        dead = {"x-queue-type": self._queue_type, "x-max-length-bytes": DEAD_LETTERS_BYTES}
        return (
            (self.dead, self.dead, dead),
            (self.work, self.work_in, self.arguments()),
            (self.events, self.events_in, self.arguments()),
        )

    def election(self, vhost: str) -> str:
        """The command that gives the queues of an experiment a leader; one that has one keeps it."""
        names = ", ".join(f'<<"{queue}">>' for queue in (self.work, self.events, self.dead))
        return (
            f'rabbitmqctl eval \'[case rabbit_amqqueue:lookup(rabbit_misc:r(<<"{vhost}">>, queue, N)) of '
            f"{{ok, Q}} -> ra:trigger_election(amqqueue:get_pid(Q)); _ -> ok end || N <- [{names}]].'"
        )

    def arguments(self) -> dict[str, Any]:
        """The arguments of the work and the events queue."""
        arguments: dict[str, Any] = {"x-queue-type": self._queue_type, "x-dead-letter-exchange": self.dead}
        if self._queue_type == "quorum":
            arguments["x-delivery-limit"] = DELIVERY_LIMIT
        return arguments

    def declare(self, channel: Any, done: Callable[[int], None]) -> None:
        """Declares everything that outlives a connection.

        Args:
            channel: an open channel; it closes where something is there already with other arguments (406), or
                where the user may not make it (403).
            done: told the number of messages in the events queue.
        """
        for exchange in (*self.exchanges, self.bundles):
            channel.exchange_declare(exchange, "fanout", durable=True, callback=_ignore)
        for queue, exchange, arguments in self.queues:
            channel.queue_declare(queue, durable=True, arguments=arguments, callback=_ignore)
            channel.queue_bind(queue, exchange, callback=_ignore)
        self._count(channel, done)

    def look(self, channel: Any, done: Callable[[int], None]) -> None:
        """Looks whether everything is there; this needs no permission to make it.

        Args:
            channel: an open channel; it closes where something is not there (404).
            done: told the number of messages in the events queue.
        """
        for exchange in self.exchanges:
            channel.exchange_declare(exchange, passive=True, callback=_ignore)
        channel.queue_declare(self.work, passive=True, callback=_ignore)
        self._count(channel, done)

    def missing(self, user: str) -> QueuesMissing:
        """What a worker says that can only wait."""
        return QueuesMissing(
            f'steering has not made the queues of experiment "{self.experiment}" yet, and user "{user}" may not; '
            "waiting for it"
        )

    def _count(self, channel: Any, done: Callable[[int], None]) -> None:
        channel.queue_declare(
            self.events, passive=True, callback=lambda frame: done(frame.method.message_count)
        )


def _ignore(_frame: Any) -> None:
    """With a callback the requests wait for one another."""
