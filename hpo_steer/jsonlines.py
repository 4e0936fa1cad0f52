"""The ask/tell protocol between steering and a process that hosts algorithms: one JSON object a line.

Requests (``op``): ``open`` creates the algorithm of a model, ``restore`` takes it through a history, ``tell`` gives
it observations, ``ask`` wants points. ``open`` is answered with ``opened``, ``ask`` with ``points``; whatever fails
is answered with ``error``. The same lines are spoken by hosts of built-in algorithms,
of users' classes and of long-lived steering containers.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hpo_steer.algorithm import Asked, Failure, Observation, Point, Step, Told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROTOCOL = 1


def dumps(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def observation_to_json(observation: Observation) -> dict[str, Any]:
    """An observation as the protocol has it."""
    data: dict[str, Any] = {"id": observation.point_id, "params": observation.params}
    if observation.values is not None:
        data["values"] = dict(observation.values)
        if observation.sem is not None:
            data["sem"] = dict(observation.sem)
    elif observation.failure is not None:
        data["failure"] = {"kind": observation.failure.kind, "message": observation.failure.message}
    return data


def observation_from_json(data: Mapping[str, Any]) -> Observation:
    """The observation again."""
    failure = data.get("failure")
    return Observation(
        data["id"],
        data.get("values"),
        Failure(failure["kind"], failure.get("message", "")) if failure else None,
        params=data.get("params"),
        sem=data.get("sem"),
    )


def history_to_json(history: Sequence[Step]) -> list[dict[str, Any]]:
    """A history as the protocol has it."""
    return [
        {"told": [observation_to_json(o) for o in step.observations]}
        if isinstance(step, Told)
        else {"asked": step.n, "points": [{"id": p.id, "params": p.params} for p in step.points]}
        for step in history
    ]


def history_from_json(data: Sequence[Mapping[str, Any]]) -> list[Step]:
    """The history again."""
    return [
        Told([observation_from_json(o) for o in step["told"]])
        if "told" in step
        else Asked(step["asked"], [Point(p["id"], p["params"]) for p in step["points"]])
        for step in data
    ]
