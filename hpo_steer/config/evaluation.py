"""How points are evaluated, and by whom, as a config says it."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from hpo_steer.config.checkpoint import Checkpoint, checkpointed
from hpo_steer.config.container import Container, Files, imaged
from hpo_steer.config.section import Count, Positive, Section
from hpo_steer.config.worker_life import Reuse, WorkerLife
from hpo_steer.limits import MAX_SHIPPED_MIB
from hpo_steer.machine.slots import Wants
from hpo_steer.transport.settings import conceal


class Ship(Section):
    """Which folder steering sends to its workers, and how.

    Attributes:
        folder: relative to the config's folder.
        url: a place that both sides can reach, under which steering puts bundles: ``s3://bucket/prefix`` or
            ``file:///folder``; None: workers get them from steering itself.
        download_url: the same place as workers reach it, where that is another URL, such as ``https://…``.
        max_mib: how much all files together may be.
    """

    folder: str = "."
    url: str | None = None
    download_url: str | None = None
    max_mib: Annotated[int, Field(ge=1, le=MAX_SHIPPED_MIB)] = 100

    @field_validator("url", "download_url")
    @classmethod
    def _known(cls, value: str | None, info: ValidationInfo) -> str | None:
        schemes = "file|s3" if info.field_name == "url" else "file|s3|https?"
        if value is not None and not re.match(rf"({schemes})://[^?#]+$", value):
            given = schemes.replace("https?", "http|https").replace("|", "://…, ")
            raise ValueError(f"is one of {given}://…, got {conceal(value)!r}")
        return value

    @model_validator(mode="after")
    def _both(self) -> Ship:
        if self.download_url is not None and self.url is None:
            raise ValueError("download_url goes with url, where steering puts the bundle")
        return self

    @property
    def prefix(self) -> str | None:
        """Where workers find bundles."""
        return self.download_url or self.url


class Evaluation(Section):
    """How a point is evaluated, and by whom.

    Attributes:
        function: ``FILE.py:NAME`` or ``package.module:NAME``, relative to the config's folder.
        command: a program and its arguments, where ``{name}`` stands for a parameter, ``{input}`` and ``{output}``
            for the JSON files of the point and of its metrics.
        service: a program that stays up and takes a point a line; empty: the entry point of the container's image.
        container: what the function, command or service runs in.
        files: the files through which a command meets the worker.
        checkpoint: what becomes of the state that trainings save; a URL or ``true`` may stand for the section.
        ship: steering sends the folder with the code to its workers; None: they have it.
        python: the interpreter that runs the function; the default is the one hpo-steer runs in.
        env: environment variables for the training.
        workers: how many workers steering starts on this machine; 0: only those that connect over the broker.
        slots: how many points a worker evaluates at once; `auto`: as many as its machine has room for, which is also
            the default where `gpus`, `cores` or `memory_mib` is given, else 1.
        gpus: how many GPUs each point gets, or the share of one, such as 0.25; 0: it sees none.
        cores: how many cores each point gets, for itself; else its libraries are told to start no more threads than
            its part of the machine's cores.
        memory_mib: how much memory each point gets, in MiB; one that takes more is ended.
        mps: whether points that share a GPU run on it side by side, by NVIDIA's Multi-Process Service; `auto`: where
            that is installed and no container is used.
        reuse: one child process takes many points, so that imports are paid once (functions; services do so anyway);
            ``{points: 100, memory_mib: 8192}`` says when a new one takes its place.
        worker: when a worker ends by itself, and when it takes no more points.
        log_mib: what is kept of an attempt's output: its beginning and its end.
        timeout_s: an attempt that takes longer fails.
        max_attempts: how often a point is tried when the training fails.
        max_retries: how many such repeats the whole experiment may spend; None: no bound of its own.
        retry_delay_s: how long a failed point waits before its next attempt; twice as long each further time, at
            most 5 min.
        max_lost: how often a point may lose its worker before it is set aside, as one that kills each of them.
        heartbeat_s: how often a worker renews its leases, and steering makes sure that it could hear it.
        lease_s: how long steering waits for a heartbeat before the point goes out again.
    """

    function: str | None = None
    command: list[str] | None = None
    service: list[str] | None = None
    container: Container | None = None
    files: Files | None = None
    checkpoint: Checkpoint | None = None
    worker: WorkerLife = WorkerLife()
    ship: Ship | None = None
    python: str | None = None
    env: dict[str, str] = {}
    workers: Annotated[int, Field(ge=0, le=1024)] = 2
    slots: Annotated[int, Field(ge=1, le=1024)] | Literal["auto"] | None = None
    gpus: Annotated[float, Field(ge=0, le=1024)] | None = None
    cores: Annotated[int, Field(ge=1, le=4096)] | None = None
    memory_mib: Annotated[int, Field(ge=16)] | None = None
    mps: bool | Literal["auto"] = "auto"
    reuse: Reuse | None = None
    log_mib: Annotated[int, Field(ge=1, le=1024)] = 16
    timeout_s: Positive | None = None
    max_attempts: Count = 3
    max_retries: Annotated[int, Field(ge=0)] | None = None
    retry_delay_s: Annotated[float, Field(ge=0, le=300)] = 1.0
    max_lost: Count = 10
    heartbeat_s: Positive = 5.0
    lease_s: Positive = 60.0

    @model_validator(mode="before")
    @classmethod
    def _image_alone(cls, value: Any) -> Any:
        if not isinstance(value, dict) or value.get("container") is None:
            return value
        given = [form for form in ("function", "command", "service") if value.get(form) is not None]
        return value if given else {**value, "service": []}

    @field_validator("container", mode="before")
    @classmethod
    def _container(cls, value: Any) -> Any:
        return imaged(value)

    @field_validator("checkpoint", mode="before")
    @classmethod
    def _checkpoint(cls, value: Any) -> Any:
        return checkpointed(value)

    @field_validator("command", "service", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        import shlex

        return shlex.split(value) if isinstance(value, str) else value

    @field_validator("ship", "reuse", mode="before")
    @classmethod
    def _switched(cls, value: Any) -> Any:
        return {True: {}, False: None}[value] if isinstance(value, bool) else value

    @field_validator("slots", mode="before")
    @classmethod
    def _counted(cls, value: Any) -> Any:
        number = int(value) if isinstance(value, str) and value.isdecimal() else value
        if number not in (None, "auto") and not (type(number) is int and 1 <= number <= 1024):
            raise ValueError(f"is a number from 1 to 1024, or auto, got {value!r}")
        return number

    @field_validator("mps", mode="before")
    @classmethod
    def _chosen(cls, value: Any) -> Any:
        if value not in (True, False, "auto"):
            raise ValueError(f"is true, false or auto, got {value!r}")
        return value

    @field_validator("gpus")
    @classmethod
    def _whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and value != int(value):
            raise ValueError(f"is a whole number of GPUs, or a share of one below 1, got {value:g}")
        return value

    @field_validator("function")
    @classmethod
    def _named(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[^:]+:[A-Za-z_]\w*", value):
            raise ValueError(f"expected FILE.py:FUNCTION, got {value!r}")
        return value

    @model_validator(mode="after")
    def _one(self) -> Evaluation:
        if sum(form is not None for form in (self.function, self.command, self.service)) != 1:
            raise ValueError(
                "needs exactly one of function: FILE.py:NAME, command: [program, argument, …] and "
                "service: [program, argument, …]"
            )
        if self.command == []:
            raise ValueError("command is empty")
        if self.service == [] and (self.container is None or self.container.image is None):
            raise ValueError("service is empty; only an image has an entry point to run instead")
        if self.files is not None and self.command is None:
            raise ValueError("files go with a command")
        if self.mps is True and not self.wants.share:
            raise ValueError("mps goes with a share of a GPU, such as gpus: 0.25")
        if self.mps is True and self.container is not None:
            raise ValueError("mps goes without a container; trainings in containers take turns on a GPU")
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(
                f"lease_s ({self.lease_s:g}) must be at least twice heartbeat_s ({self.heartbeat_s:g})"
            )
        return self

    @property
    def wants(self) -> Wants:
        """What each point asks for."""
        return Wants(self.gpus, self.cores, self.memory_mib)
