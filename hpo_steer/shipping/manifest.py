"""What a code bundle says about itself: whose it is, and what is to be run in it."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from hpo_steer.config.evaluation import Evaluation
from hpo_steer.errors import BundleError
from hpo_steer.messages import describe

if TYPE_CHECKING:
    from hpo_steer.config import Experiment

_STEERINGS = frozenset(
    {"ship", "workers", "timeout_s", "max_attempts", "max_retries", "retry_delay_s", "max_lost"}
)
"""Keys of the section that concern steering alone; a bundle stays the same when they change."""


class Manifest(BaseModel):
    """The file ``.hpo-steer/experiment.json`` in a bundle.

    Attributes:
        v: version of this format.
        experiment: name of the experiment.
        folder: where the config's folder is in the bundle: trainings run there.
        evaluation: the config's section, but for what differs from the defaults and what only steering needs.
        objectives: metrics that a training must return.
        parameters: names that may come with a point.
        data: the data files of each model that lists its own.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    v: Literal[1] = 1
    experiment: str
    folder: str = "."
    evaluation: dict[str, Any]
    objectives: list[str]
    parameters: list[str]
    data: dict[str, list[str]] = {}

    @field_validator("folder")
    @classmethod
    def _inside(cls, value: str) -> str:
        place = PurePosixPath(value)
        if place.is_absolute() or ".." in place.parts or "\0" in value:
            raise ValueError("leads out of the bundle")
        return value

    @classmethod
    def of(cls, experiment: Experiment, folder: str) -> Manifest:
        """The manifest of an experiment.

        Args:
            experiment: its config.
            folder: see above.
        """
        spaces = [experiment.space(model) for model in experiment.models]
        names = dict.fromkeys(parameter.name for space in spaces for parameter in space)
        constants = dict.fromkeys(name for model in experiment.models for name in model.constants)
        return cls(
            experiment=experiment.name,
            folder=folder,
            evaluation=experiment.evaluation.model_dump(
                mode="json", exclude_defaults=True, exclude=set(_STEERINGS)
            ),
            objectives=list(experiment.measured),
            parameters=[*names, *constants],
            data={model.name: model.data for model in experiment.models if model.data},
        )

    def encoded(self) -> bytes:
        """The manifest as a file."""
        return (self.model_dump_json(indent=2) + "\n").encode()

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Reads the file.

        Raises:
            BundleError: it is none.
        """
        try:
            return cls.model_validate_json(data)
        except ValidationError as exc:
            raise BundleError(f"its manifest cannot be read: {describe(exc)}") from None

    def section(self) -> Evaluation:
        """The config's section ``evaluation``.

        Raises:
            BundleError: it is none that this version understands.
        """
        try:
            return Evaluation.model_validate(self.evaluation)
        except ValidationError as exc:
            raise BundleError(
                f"its section evaluation is none of this version of hpo-steer: {describe(exc)}; "
                "install the version that steering has"
            ) from None
