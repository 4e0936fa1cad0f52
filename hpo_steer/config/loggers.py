"""The list ``loggers``: other tools that show a run beside our own reports."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, field_validator

from hpo_steer.config.section import Section
from hpo_steer.errors import ConfigError, nearest
from hpo_steer.transport.settings import conceal, without_passwords

Tool = Literal["tensorboard", "mlflow", "wandb"]
TOOLS: tuple[str, ...] = get_args(Tool)

_Name = Annotated[str, Field(min_length=1)]


class TensorBoard(Section):
    """Event files for TensorBoard.

    Attributes:
        folder: where they are written; None: ``tensorboard`` in the run's folder.
    """

    folder: _Name | None = None


class MLflow(Section):
    """Runs of MLflow.

    Attributes:
        uri: the tracking server or database, such as ``http://mlflow:5000`` or ``sqlite:///mlflow.db``; None: what
            MLFLOW_TRACKING_URI names, else ``mlflow.db`` in the run's folder.
        experiment: MLflow's experiment; None: the name of ours.
    """

    uri: _Name | None = None
    experiment: _Name | None = None

    @field_validator("uri")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and value != without_passwords(value):
            raise ValueError(
                f"holds a password ({conceal(value)}); give it in MLFLOW_TRACKING_URI, or the server's in "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        return value


class Wandb(Section):
    """Runs of Weights & Biases; the key comes from WANDB_API_KEY or ``wandb login``.

    Attributes:
        project: None: the name of the experiment.
        entity: the user or team; None: the key's own.
        mode: ``offline`` writes into the run's folder, for ``wandb sync``; None: what WANDB_MODE says, else online.
    """

    project: Annotated[str, Field(pattern=r"^[^/\\#?%:]{1,128}$")] | None = None
    entity: _Name | None = None
    mode: Literal["online", "offline"] | None = None


class Loggers(Section):
    """Which tools get the run's points, reports and results; each at most once.

    Attributes:
        tensorboard: event files.
        mlflow: runs in MLflow.
        wandb: runs in Weights & Biases.
    """

    tensorboard: TensorBoard | None = None
    mlflow: MLflow | None = None
    wandb: Wandb | None = None

    @property
    def wanted(self) -> dict[str, Section]:
        """The tools that were named, with their options."""
        return {name: section for name in TOOLS if (section := getattr(self, name)) is not None}


def listed(value: Any) -> Any:
    """The section of a list such as ``[tensorboard, {mlflow: {uri: …}}]``.

    Raises:
        ConfigError: no such list, an unknown tool, or one named twice.
    """
    if value is None or isinstance(value, Loggers):
        return value
    if isinstance(value, dict) and set(value) >= set(TOOLS):
        return value  # as a run has recorded it
    each = [value] if isinstance(value, (str, dict)) else value
    if not isinstance(each, list):
        raise ConfigError(
            "loggers", f"is a list such as [tensorboard, {{mlflow: {{uri: …}}}}], got {value!r}"
        )
    found: dict[str, Any] = {}
    for entry in each:
        pairs = {entry: None} if isinstance(entry, str) else entry
        if not isinstance(pairs, dict):
            raise ConfigError("loggers", f"holds names of tools, or {{NAME: {{option: …}}}}, got {entry!r}")
        for name, options in pairs.items():
            if name not in TOOLS:
                raise ConfigError("loggers", f"unknown tool {name!r}; {nearest(str(name), TOOLS)}")
            if name in found:
                raise ConfigError("loggers", f"{name} is named twice; one of each tool is enough")
            found[name] = {} if options is None else options
    return found
