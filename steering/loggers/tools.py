"""The loggers by name, and whether what they need is there."""

from __future__ import annotations

import importlib.util
from importlib import import_module
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from steering.loggers.base import RunCard, RunLogger

_NEEDS = {"tensorboard": "tensorboardX", "mlflow": "mlflow", "wandb": "wandb"}
_CLASSES = {"tensorboard": "TensorBoardLogger", "mlflow": "MLflowLogger", "wandb": "WandbLogger"}


def check(names: Iterable[str]) -> None:
    """Finds out whether the packages of these loggers are installed.

    Raises:
        MissingExtra: one is not; says how to install it.
    """
    for name in names:
        if importlib.util.find_spec(_NEEDS[name]) is None:
            raise MissingExtra(f"logger {name}", name)


def make(name: str, card: RunCard, options: Mapping[str, Any]) -> RunLogger:
    """A logger.

    Args:
        name: of the tool.
        card: the run.
        options: of the config.
    """
    module = import_module(f"steering.loggers.{name}")
    made: RunLogger = getattr(module, _CLASSES[name])(card, options)
    return made
