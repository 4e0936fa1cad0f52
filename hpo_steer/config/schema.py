"""The experiment as its config says it: one pydantic model a section."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, field_validator, model_validator

from hpo_steer.config.evaluation import Evaluation
from hpo_steer.config.loggers import Loggers, listed
from hpo_steer.config.pruning import Pruning
from hpo_steer.config.section import Positive, Section
from hpo_steer.config.steering import Steering
from hpo_steer.errors import ConfigError
from hpo_steer.free_space import search_space
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
