"""How steering and workers reach each other: on one machine without a broker, or over RabbitMQ.

A new transport is one file with a `SteeringEnd` and a `WorkerEnd`, a branch in the two functions here, and a
class in `tests/contract/test_transports.py`.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from hpo_steer.errors import BrokerError
from hpo_steer.transport.admission import ANY_RUN
from hpo_steer.transport.local import ADDRESS, LocalSteeringEnd, LocalWorkerEnd
from hpo_steer.transport.settings import LOCAL, BrokerSettings, redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from hpo_steer.transport.base import SteeringEnd, WorkerEnd

__all__ = ["ADDRESS", "ANY_RUN", "LOCAL", "BrokerSettings", "redact", "steering_end", "worker_end"]


def steering_end(
    settings: BrokerSettings,
    experiment: str,
    run: str,
    *,
    folder: Path | None = None,
    on_retry: Callable[[str], None] | None = None,
) -> SteeringEnd:
    """Steering's end of the transport that the settings name; not opened yet.

    Args:
        settings: the broker.
        experiment: name of the experiment.
        run: id of the run.
        folder: where the local transport writes its dead letters; RabbitMQ keeps them in a queue.
        on_retry: told a sentence each time that `open` fails to connect and will try again.
    """
    if settings.local:
        return LocalSteeringEnd(experiment, run, folder)
    from hpo_steer.transport.rabbitmq import RabbitSteeringEnd

    return RabbitSteeringEnd(settings, experiment, run, on_retry=on_retry)


def worker_end(
    settings: BrokerSettings,
    experiment: str,
    run: str | None = None,
    *,
    address: str | None = None,
    on_retry: Callable[[str], None] | None = None,
) -> WorkerEnd:
    """A worker's end of the transport that the settings name; not opened yet.

    Args:
        settings: the broker.
        experiment: name of the experiment.
        run: id of the run; None, which a remote worker says: of any run.
        address: the local steering's socket; None: as the environment variable `ADDRESS` says.
        on_retry: told a sentence each time that `open` fails to connect and will try again.

    Raises:
        BrokerError: the transport is local, and no steering process has started this worker.
    """
    if settings.local:
        address = address or os.environ.get(ADDRESS)
        if not address:
            raise BrokerError(
                f"broker: local is served by hpo-steer, which starts its workers itself, but {ADDRESS} is "
                "not set. For a worker on its own: --broker amqps://user@host/vhost"
            )
        return LocalWorkerEnd(experiment, run, address)
    from hpo_steer.transport.rabbitmq import RabbitWorkerEnd

    return RabbitWorkerEnd(settings, experiment, run, on_retry=on_retry)
