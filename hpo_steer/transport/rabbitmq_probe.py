"""Whether a broker lets us do what steering does, without touching a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpo_steer.transport.rabbitmq_session import Session
from hpo_steer.transport.rabbitmq_topology import Topology

if TYPE_CHECKING:
    from hpo_steer.transport.settings import BrokerSettings


class _Onlooker:
    """Hears of the connection and does nothing; see `rabbitmq_session.Owner`."""

    def on_connected(self, publishing: Any, consuming: Any, connection: int, events: int) -> None: ...

    def on_disconnected(self, reason: str) -> None: ...

    def on_blocked(self, blocked: bool) -> None: ...


def try_broker(settings: BrokerSettings, experiment: str) -> None:
    """Connects as steering would, makes the queues if they are not there, and leaves.

    Raises:
        BrokerError: it does not work; says why.
    """
    topology = Topology(experiment, settings.queue_type)
    session = Session(settings, f"hpo-steer check {experiment}", topology, _Onlooker())
    session.open(None)
    session.close()
