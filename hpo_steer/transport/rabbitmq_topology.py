"""The queues and exchanges of an experiment on RabbitMQ, declared alike by both ends.

| name | kind | what for |
| --- | --- | --- |
| ``hpo.NAME.work`` | queue | steering to whichever worker is free |
| ``hpo.NAME.events`` | queue | workers to steering |
| ``hpo.NAME.control`` | fanout exchange | steering to every worker |
| ``hpo.NAME.control.ID`` | exclusive queue | the copy of one worker |
| ``hpo.NAME.dead`` | fanout exchange and queue | messages that were of no use, with the header ``x-reason`` |
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
DEAD_LETTERS_KEPT = 10_000
"""The dead-letter queue drops its oldest beyond this, so that a flood of rubbish cannot fill the disk."""


class Topology:
    """The names, and how they are declared.

    Args:
        experiment: name of the experiment.
        queue_type: ``quorum`` or ``classic``.
    """

    def __init__(self, experiment: str, queue_type: str = "quorum") -> None:
        base = f"hpo.{experiment}"
        self.work, self.events = f"{base}.work", f"{base}.events"
        self.control, self.dead = f"{base}.control", f"{base}.dead"
        self._queue_type = queue_type

    def arguments(self) -> dict[str, Any]:
        """The arguments of the work and the events queue."""
        arguments: dict[str, Any] = {"x-queue-type": self._queue_type, "x-dead-letter-exchange": self.dead}
        if self._queue_type == "quorum":
            arguments["x-delivery-limit"] = DELIVERY_LIMIT
        return arguments

    def declare(self, channel: Any, done: Callable[[int], None]) -> None:
        """Declares everything that outlives a connection.

        Args:
            channel: an open channel; it closes where something is there already with other arguments.
            done: told the number of messages in the events queue.
        """

        def ignore(_frame: Any) -> None:
            pass  # with a callback the requests wait for one another

        for exchange in (self.dead, self.control):
            channel.exchange_declare(exchange, "fanout", durable=True, callback=ignore)
        dead = {"x-queue-type": self._queue_type, "x-max-length": DEAD_LETTERS_KEPT}
        channel.queue_declare(self.dead, durable=True, arguments=dead, callback=ignore)
        channel.queue_bind(self.dead, self.dead, callback=ignore)
        channel.queue_declare(self.work, durable=True, arguments=self.arguments(), callback=ignore)
        channel.queue_declare(
            self.events,
            durable=True,
            arguments=self.arguments(),
            callback=lambda frame: done(frame.method.message_count),
        )
