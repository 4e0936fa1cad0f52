"""``hpo-steer permissions``: the commands that give steering and workers their users on RabbitMQ."""

from pathlib import Path
from typing import Annotated

import typer

from steering.commands.options import say


def permissions(
    *,
    config: Annotated[
        Path, typer.Option("--config", "-c", metavar="FILE", help="The experiment; its broker's URL is used.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key of the config.", metavar="KEY=VALUE")
    ] = None,
    steering_user: Annotated[
        str | None,
        typer.Option(
            "--steering-user",
            metavar="NAME",
            help="Who steers. [default: the user in the URL, else NAME-steering]",
            show_default=False,
        ),
    ] = None,
    worker_user: Annotated[
        str | None,
        typer.Option(
            "--worker-user", metavar="NAME", help="Who evaluates. [default: NAME-worker]", show_default=False
        ),
    ] = None,
    all_experiments: Annotated[
        bool,
        typer.Option(
            "--all-experiments", help="For every experiment in the virtual host; NAME is then hpo-steer."
        ),
    ] = False,
) -> None:
    """Prints a shell script that makes the users on RabbitMQ and allows each what it needs, no more.

    Example: hpo-steer permissions --config my.yaml | sudo sh
    """
    from hpo_steer.config import load_config
    from hpo_steer.errors import ConfigError
    from hpo_steer.transport import BrokerSettings
    from hpo_steer.transport.rabbitmq_permissions import (
        check_user,
        script,
        steering_permissions,
        worker_permissions,
    )

    experiment = load_config(config, overrides or []).experiment
    if experiment.broker.local:
        raise ConfigError(
            "broker", "a local broker has no users; name yours with --set broker=amqps://user@host/vhost"
        )
    broker = BrokerSettings(experiment.broker.url)
    name = "hpo-steer" if all_experiments else experiment.name
    named = broker.user if "@" in broker.url else f"{name}-steering"
    steering, worker = steering_user or named, worker_user or f"{name}-worker"
    check_user("--steering-user", steering)
    check_user("--worker-user", worker)
    if steering == worker:
        raise ConfigError("--worker-user", f'steering is "{steering}", too; workers need a user of their own')
    scope = None if all_experiments else experiment.name
    rights = {
        steering: steering_permissions(scope, with_workers=experiment.evaluation.workers > 0),
        worker: worker_permissions(scope),
    }
    say(script(broker.vhost, rights).rstrip("\n"))
