"""The sections of a config that say what a command runs in, and through which files it is met."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import ValidationError, field_validator, model_validator

from hpo_steer.config.complaints import translated
from hpo_steer.config.section import Count, Positive, Section


class Container(Section):
    """A container that a command runs in.

    Attributes:
        image: its image: a name, or for apptainer and charliecloud also a file or a folder.
        runtime: what runs it; ``auto`` takes what the machine has, ``none`` is a plain process without an image.
        mounts: ``HOST:CONTAINER[:ro|rw]``, the host's part relative to the config's folder.
        env: environment variables inside.
        network: whether it has one.
        entrypoint: whether the image's entry point gets the command as its arguments, as ``docker run`` has it; if left
            out, it does so for a steering command only.
        user: ``UID[:GID]`` inside; the caller, if it is left out.
        gpus: whether the machine's GPUs are handed in.
        memory_mib: bound on its memory, where the runtime has such a thing.
        cores: bound on the cores it uses, likewise.
        workdir: where the working folder appears inside, and where the command starts; at its own path, if left out.
        options: further arguments for the runtime, as they are.
    """

    image: str | None = None
    runtime: Literal["auto", "docker", "podman", "apptainer", "singularity", "charliecloud", "none"] = "auto"
    mounts: list[str] = []
    env: dict[str, str] = {}
    network: bool = True
    entrypoint: bool | None = None
    user: str | None = None
    gpus: bool = False
    memory_mib: Count | None = None
    cores: Positive | None = None
    workdir: str | None = None
    options: list[str] = []

    @field_validator("mounts")
    @classmethod
    def _pairs(cls, value: list[str]) -> list[str]:
        for mount in value:
            if not re.fullmatch(r"[^:]+:/[^:]*(:r[ow])?", mount):
                raise ValueError(
                    f"is written HOST:CONTAINER[:ro], with a full path in the container, got {mount!r}"
                )
        return value

    @field_validator("user")
    @classmethod
    def _numbers(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"\d+(:\d+)?", value):
            raise ValueError(f"is UID or UID:GID in numbers, such as 1000:1000, got {value!r}")
        return value

    @field_validator("workdir")
    @classmethod
    def _whole(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("/"):
            raise ValueError(f"is a full path in the container, such as /srv/workDir, got {value!r}")
        return value

    @model_validator(mode="after")
    def _complete(self) -> Container:
        if self.image is None and self.runtime != "none":
            raise ValueError("needs an image (runtime: none runs a plain process)")
        return self

    @classmethod
    def read(cls, value: Any, key: str) -> Container:
        """The container of an algorithm's options.

        Raises:
            ConfigError: an unknown key, or a value that does not fit.
        """
        try:
            return cls.model_validate(imaged(value))
        except ValidationError as exc:
            raise translated(exc, cls, key) from None


def imaged(value: Any) -> Any:
    """A container that may be given as its image's name alone."""
    return {"image": value} if isinstance(value, str) else value


class Files(Section):
    """The files through which a command meets the worker, in a folder of the attempt's own (PanDA's contract).

    Attributes:
        input: the point's parameters, as a JSON object.
        output: what the command leaves: ``{"status": 0, "loss": 0.12}``.
        training_data: a JSON list of data files.
        data: those files, for models that list none.
        metrics: a file that is kept beside the log.
        meta: a JSON file that is kept likewise.
        checkpoint: files and folders that are saved now and then, and given back to the next attempt.
        checkpoint_interval_s: how often they are saved.
    """

    input: str = "input.json"
    output: str = "output.json"
    training_data: str = "input_ds.json"
    data: list[str] = []
    metrics: str | None = None
    meta: str | None = None
    checkpoint: list[str] = []
    checkpoint_interval_s: Positive = 300.0

    @field_validator("input", "output", "training_data", "metrics", "meta")
    @classmethod
    def _inside(cls, value: str | None) -> str | None:
        return value if value is None else _check_inside(value)

    @field_validator("checkpoint")
    @classmethod
    def _all_inside(cls, value: list[str]) -> list[str]:
        return [_check_inside(each) for each in value]


def _check_inside(value: str) -> str:
    parts = value.split("/")
    if not value or value.startswith("/") or ".." in parts or "\0" in value:
        raise ValueError(f"is a path below the attempt's folder, got {value!r}")
    return value
