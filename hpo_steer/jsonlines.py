"""The ask/tell protocol between steering and a process that hosts algorithms: one JSON object a line.

Requests (``op``): ``open`` creates the algorithm of a model, ``restore`` takes it through a history, ``tell`` gives
it observations, ``ask`` wants points. ``open`` is answered with ``opened``, ``ask`` with ``points``; whatever fails
is answered with ``error``. The same lines are spoken by hosts of built-in algorithms,
of users' classes and of long-lived steering containers.

Whoever reads lines of a process that is not ours reads them with `read_lines` and `read_reply`: what is no answer
is one error that says so, and takes no more memory than `MAX_LINE`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hpo_steer.algorithm import Asked, Failure, Observation, Point, Step, Told
from hpo_steer.errors import MalformedMessage
from hpo_steer.limits import MAX_ID, MAX_LINE, tidy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import IO

PROTOCOL = 1


def dumps(message: Mapping[str, Any]) -> bytes:
    """One line."""
    return json.dumps(message, separators=(",", ":"), allow_nan=False).encode() + b"\n"


def loads(line: bytes) -> dict[str, Any]:
    """The object in a line.

    Raises:
        MalformedMessage: it is no JSON object with an ``op``.
    """
    try:
        data = json.loads(line, parse_constant=_no_number)
    except (ValueError, RecursionError) as exc:
        raise MalformedMessage(f"no JSON: {tidy(str(exc))}") from None
    if not isinstance(data, dict) or not isinstance(data.get("op"), str):
        raise MalformedMessage('no JSON object with an "op"')
    return data


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number in JSON")


def read_lines(stream: IO[bytes], most: int = MAX_LINE) -> Iterator[bytes]:
    """The lines of a process; half a line at the end of the stream is left out.

    Raises:
        MalformedMessage: a line is longer than `most` bytes.
    """
    while line := stream.readline(most + 1):
        if line.endswith(b"\n"):
            yield line
        elif len(line) > most:
            raise MalformedMessage(f"a line of more than {most:,} bytes")


def read_reply(line: bytes) -> dict[str, Any]:
    """An answer of an algorithm's process, with all its keys.

    Raises:
        MalformedMessage: it is none.
    """
    reply = loads(line)
    match reply:
        case {"op": "opened", "model": str()}:
            pass
        case {"op": "points", "model": str(), "points": list() as points, "ended": None | str()}:
            for point in points:
                _check_point(point)
            if not isinstance(reply.get("note"), str | None):
                raise MalformedMessage("points: their note is no text")
        case {"op": "error", "message": str(), "user": bool()}:
            if not isinstance(reply.get("key"), str | None):
                raise MalformedMessage("error: its key is no text")
        case {"op": str() as op} if op in ("opened", "points", "error"):
            raise MalformedMessage(f"{op}: a key is missing, or of another type")
        case _:
            raise MalformedMessage('its "op" is none of: opened, points, error')
    return reply


def _check_point(point: object) -> None:
    match point:
        case {"id": int(number), "params": dict(), **rest} if (
            not isinstance(number, bool) and 0 <= number <= MAX_ID
        ):
            read_parent(rest.get("parent"))
        case _:
            raise MalformedMessage('points: one is no {"id": number, "params": object}')


def read_parent(parent: object) -> int | None:
    """The ``parent`` of a proposed point: which it continues.

    Raises:
        MalformedMessage: it is no number of a point.
    """
    if parent is None or (isinstance(parent, int) and not isinstance(parent, bool) and 0 <= parent <= MAX_ID):
        return parent
    shown = tidy(json.dumps(parent))[:40]
    raise MalformedMessage(f"points: a parent is the id of an earlier point or null, got {shown}")


def point_to_json(point: Point) -> dict[str, Any]:
    """A point as the protocol has it; one that continues none has no ``parent``."""
    data: dict[str, Any] = {"id": point.id, "params": point.params}
    return data if point.parent is None else data | {"parent": point.parent}


def point_from_json(data: Mapping[str, Any]) -> Point:
    """The point again."""
    return Point(data["id"], data["params"], data.get("parent"))


def observation_to_json(observation: Observation) -> dict[str, Any]:
    """An observation as the protocol has it."""
    data: dict[str, Any] = {"id": observation.point_id, "params": observation.params}
    if observation.values is not None:
        data["values"] = dict(observation.values)
        if observation.sem is not None:
            data["sem"] = dict(observation.sem)
    elif observation.failure is not None:
        data["failure"] = {"kind": observation.failure.kind, "message": observation.failure.message}
        if observation.curve is not None:
            data["curve"] = [[step, dict(metrics)] for step, metrics in observation.curve]
    return data


def observation_from_json(data: Mapping[str, Any]) -> Observation:
    """The observation again."""
    failure, curve = data.get("failure"), data.get("curve")
    return Observation(
        data["id"],
        data.get("values"),
        Failure(failure["kind"], failure.get("message", "")) if failure else None,
        params=data.get("params"),
        sem=data.get("sem"),
        curve=None if curve is None else tuple((step, metrics) for step, metrics in curve),
    )


def history_to_json(history: Sequence[Step]) -> list[dict[str, Any]]:
    """A history as the protocol has it."""
    return [
        {"told": [observation_to_json(o) for o in step.observations]}
        if isinstance(step, Told)
        else {
            "asked": step.n,
            "points": [point_to_json(p) for p in step.points],
            "given": step.given,
        }
        for step in history
    ]


def history_from_json(data: Sequence[Mapping[str, Any]]) -> list[Step]:
    """The history again."""
    return [
        Told([observation_from_json(o) for o in step["told"]])
        if "told" in step
        else Asked(step["asked"], [point_from_json(p) for p in step["points"]], step.get("given", False))
        for step in data
    ]
