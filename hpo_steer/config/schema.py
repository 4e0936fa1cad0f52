"""The experiment as its config says it: one pydantic model a section."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, field_validator, model_validator

from hpo_steer.config.checkpoint import Checkpoint, checkpointed
from hpo_steer.config.container import Container, Files, imaged
from hpo_steer.config.loggers import Loggers, listed
from hpo_steer.config.pruning import Pruning
from hpo_steer.config.section import Count, Positive, Section
from hpo_steer.config.worker_life import Reuse, WorkerLife
from hpo_steer.errors import ConfigError
from hpo_steer.free_space import search_space
from hpo_steer.limits import MAX_SHIPPED_MIB
from hpo_steer.machine.slots import Wants
from hpo_steer.messages import check_params
from hpo_steer.objectives import Objective, parse_objectives
from hpo_steer.outcomes import OutcomeConstraint, parse_outcome_constraints
from hpo_steer.registry import is_outside
from hpo_steer.space import SearchSpace
from hpo_steer.transport.settings import conceal

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONTINUING = ("pbt", "successive_halving")
"""The algorithms whose points begin with the checkpoints of others."""
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def _check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError(
            f"{value!r} is no name: letters, digits, '_', '-' and '.', starting with a letter or digit"
        )
    return value


class Trigger(Section):
    """When the next iteration starts; exactly one of the three.

    Attributes:
        fraction: this share of the current iteration has ended.
        unevaluated_below: fewer than this many points are unevaluated; then `points_per_iteration` minus this many
            new ones are asked for.
        top_up: every ended point is replaced at once by a new one; where asks take long, some are chosen ahead.
    """

    fraction: float | None = None
    unevaluated_below: Count | None = None
    top_up: bool = False

    @field_validator("fraction")
    @classmethod
    def _inside(cls, value: float | None) -> float | None:
        if value is not None and not 0 < value <= 1:
            raise ValueError(f"must lie above 0 and at most at 1, got {value}")
        return value

    @model_validator(mode="after")
    def _one(self) -> Trigger:
        if (self.fraction is not None) + (self.unevaluated_below is not None) + self.top_up != 1:
            raise ValueError("is one of {fraction: 0.75}, {unevaluated_below: 5} and top_up")
        return self

    def needed(self, size: int) -> int:
        """How many of an iteration's `size` points must have ended (fraction trigger)."""
        return math.ceil((self.fraction or 1.0) * size - 1e-9)

    def __str__(self) -> str:
        if self.fraction is not None:
            return f"{100 * self.fraction:g} %"
        return "top-up" if self.top_up else f"fewer than {self.unevaluated_below} unevaluated"


class Steering(Section):
    """How the search goes on and when it ends.

    Attributes:
        points_per_iteration: how many points an ask proposes (for each model).
        trigger: when the next iteration starts.
        max_points: ends a model's search after this many points; 100 if neither `max_iterations`, `max_time_s` nor
            `patience` is given.
        max_iterations: likewise after this many iterations.
        max_time_s: ends the experiment after this much time, earlier sessions of it included.
        target: ends a model's search once its only objective is this good.
        patience: ends it after this many points in a row without a better one.
        duplicates: what becomes of a point proposed before: `reuse` its values, `forbid` it, `replicate` it.
        ask_timeout_s: an algorithm that takes longer to choose points is started anew, and points of a Sobol
            sequence stand in for those it owes.
    """

    points_per_iteration: Count = 10
    trigger: Trigger = Trigger(fraction=0.75)
    max_points: Count | None = None
    max_iterations: Count | None = None
    max_time_s: Positive | None = None
    target: float | None = None
    patience: Count | None = None
    duplicates: Literal["reuse", "forbid", "replicate"] = "reuse"
    ask_timeout_s: Positive = 600.0

    @field_validator("trigger", mode="before")
    @classmethod
    def _spelt_out(cls, value: Any) -> Any:
        if isinstance(value, str):
            if value != "top_up":
                raise ValueError("is one of {fraction: 0.75}, {unevaluated_below: 5} and top_up")
            return {"top_up": True}
        return value

    @model_validator(mode="after")
    def _smaller(self) -> Steering:
        below = self.trigger.unevaluated_below
        if below is not None and below >= self.points_per_iteration:
            raise ValueError(
                f"trigger.unevaluated_below ({below}) must be below points_per_iteration ({self.points_per_iteration})"
            )
        return self

    @property
    def point_limit(self) -> int | None:
        """`max_points`, or its default where nothing is sure to end the search."""
        others = (self.max_iterations, self.max_time_s, self.patience)
        return self.max_points or (100 if all(rule is None for rule in others) else None)


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
            that is installed.
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
        if self.lease_s < 2 * self.heartbeat_s:
            raise ValueError(
                f"lease_s ({self.lease_s:g}) must be at least twice heartbeat_s ({self.heartbeat_s:g})"
            )
        return self

    @property
    def wants(self) -> Wants:
        """What each point asks for."""
        return Wants(self.gpus, self.cores, self.memory_mib)


class Broker(Section):
    """How steering and workers reach each other.

    Attributes:
        url: ``local`` (worker processes on this machine) or ``amqp(s)://user@host:port/vhost``.
        password_file: a file that holds the password; else it comes from HPO_STEER_BROKER_PASSWORD.
        ca_file: the certificates that may sign the broker's (amqps).
        cert_file: this side's certificate (amqps).
        key_file: its private key.
        connect_timeout_s: how long to try at start.
        queue_type: ``quorum``, or ``classic`` for brokers that offer no quorum queues.
    """

    url: str = "local"
    password_file: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    connect_timeout_s: Positive = 30.0
    queue_type: Literal["quorum", "classic"] = "quorum"

    @field_validator("url")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != "local" and not re.match(r"amqps?://[^/]", value):
            raise ValueError(f"is local, amqp://user@host/vhost or amqps://…, got {conceal(value)!r}")
        return value

    @property
    def local(self) -> bool:
        """Whether workers are processes of this machine only."""
        return self.url == "local"


class Store(Section):
    """Where the experiment is written down.

    Attributes:
        folder: run folders lie in it, one an experiment.
        url: ``postgresql://user@host/database``; else SQLite in the run folder.
        password_file: a file that holds the database's password; else HPO_STEER_STORE_PASSWORD.
    """

    folder: str = "runs"
    url: str | None = None
    password_file: str | None = None

    @field_validator("url")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith("postgresql://"):
            raise ValueError(f"is a folder or postgresql://user@host/database, got {conceal(value)!r}")
        return value


class Model(Section):
    """One of the things tuned in an experiment.

    Attributes:
        name: unique in the experiment.
        constants: handed to the training with every point of this model.
        data: its training files, for `evaluation.files`.
        search_space: this model's own space; else the experiment's.
        algorithm: this model's own algorithm; else the experiment's.
    """

    name: Annotated[str, Field(min_length=1, max_length=200)]
    constants: dict[str, Any] = {}
    data: list[str] = []
    search_space: dict[str, Any] | None = None
    algorithm: str | dict[str, Any] | None = None


class Experiment(Section):
    """One config brought to life.

    Attributes:
        name: names the run folder and the queues.
        seed: fixes every random choice of the search.
        search_space: parameters by name.
        constraints: expressions over parameters that every point satisfies.
        objectives: metrics to minimise or maximise.
        outcome_constraints: bounds on metrics that a point keeps to count as good.
        models: the things tuned; one, called ``main``, if none are listed.
        algorithm: a name, ``{name: …, option: …}``, ``{class: FILE.py:CLASS, option: …}``,
            ``{generator: MODULE:CLASS, option: …}``, ``{command: PROGRAM …}`` or ``{service: PROGRAM …}``.
        warm_start: what is known beforehand: runs, CSV files, points with or without values.
        steering: iterations and stop rules.
        pruning: which trainings are ended early; a method's name, or ``{method: …, option: …}``.
        evaluation: what a worker runs.
        broker: how workers are reached.
        store: where results are kept.
        loggers: other tools that show the run, such as TensorBoard; names, or ``{NAME: {option: …}}``.
    """

    name: str
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    search_space: dict[str, Any]
    constraints: list[str] = []
    objectives: dict[str, Any]
    outcome_constraints: list[str] = []
    models: Annotated[list[Model], Field(min_length=1)] = [Model(name="main")]
    algorithm: str | dict[str, Any] = "auto"
    warm_start: list[str | dict[str, Any]] = []
    steering: Steering = Steering()
    pruning: Pruning | None = None
    evaluation: Evaluation
    broker: Broker = Broker()
    store: Store = Store()
    loggers: Loggers | None = None

    _name_checked = field_validator("name")(_check_name)
    _goals: tuple[Objective, ...] = PrivateAttr(default=())
    _outcomes: tuple[OutcomeConstraint, ...] = PrivateAttr(default=())

    @field_validator("broker", mode="before")
    @classmethod
    def _broker(cls, value: Any) -> Any:
        return {"url": value} if isinstance(value, str) else value

    @field_validator("store", mode="before")
    @classmethod
    def _store(cls, value: Any) -> Any:
        if isinstance(value, str):
            return {"url": value} if "://" in value else {"folder": value}
        return value

    @field_validator("loggers", mode="before")
    @classmethod
    def _loggers(cls, value: Any) -> Any:
        return listed(value)

    @model_validator(mode="after")
    def _consistent(self) -> Experiment:
        names = [model.name for model in self.models]
        if twice := next((n for n in names if names.count(n) > 1), None):
            raise ConfigError("models", f'two models are called "{twice}"; give each its own name')
        goals = parse_objectives(self.objectives)
        if self.steering.target is not None:
            if len(goals) > 1:
                text = "goes with one objective; give each its own: {direction: …, target: …}"
                raise ConfigError("steering.target", text)
            only = goals[0]
            goals = (Objective(only.name, only.direction, self.steering.target, only.reference),)
        self._goals = goals
        if self.pruning is not None:
            self.pruning.metrics(goals)
        self._outcomes = parse_outcome_constraints(self.outcome_constraints)
        for model in self.models:
            self._check_kept(model)
            space = self.space(model)
            try:
                check_params(model.constants)
            except ValueError as exc:
                raise ConfigError("models", f'constants of model "{model.name}": {exc}') from exc
            for name in model.constants:
                if name in space:
                    raise ConfigError(
                        "models", f'constant "{name}" of model "{model.name}" is also a parameter; rename one'
                    )
        return self

    def _check_kept(self, model: Model) -> None:
        """Raises where checkpoints are deleted that an algorithm has use for."""
        kept = self.evaluation.checkpoint
        name = self.algorithm_of(model).get("name")
        if kept is not None and kept.keep == "unfinished" and name in _CONTINUING:
            raise ConfigError(
                "evaluation.checkpoint.keep",
                f"is unfinished, and {name} has points go on from finished ones; use all",
            )

    @property
    def goals(self) -> tuple[Objective, ...]:
        """The objectives, with `steering.target` applied."""
        return self._goals

    @property
    def outcomes(self) -> tuple[OutcomeConstraint, ...]:
        """The outcome constraints."""
        return self._outcomes

    @property
    def measured(self) -> tuple[str, ...]:
        """The metrics that a training has to return: the objectives, then those of outcome constraints."""
        names = (*(goal.name for goal in self._goals), *(each.metric for each in self._outcomes))
        return tuple(dict.fromkeys(names))

    def space(self, model: Model | None = None) -> SearchSpace:
        """The search space of a model (of the experiment, without one).

        Raises:
            ConfigError: naming the key and what is wrong.
        """
        spec = self.search_space if model is None or model.search_space is None else model.search_space
        if not spec and is_outside(self.algorithm_of(model)):
            return search_space(spec, self.constraints)
        return SearchSpace.from_dict(spec, self.constraints)

    def algorithm_of(self, model: Model | None = None) -> Mapping[str, Any]:
        """The algorithm of a model as a mapping with ``name``, ``class`` or ``generator``, and its options."""
        spec = self.algorithm if model is None or model.algorithm is None else model.algorithm
        return {"name": spec} if isinstance(spec, str) else spec
