"""The two files of a steering command: what it reads (``%IN``) and what it writes (``%OUT``).

Plain, ``%IN`` is ``{"points": [[{"lr": 0.1}, 0.3], [{"lr": 0.2}, null]], "opt_space": …}`` and ``%OUT`` a list of
new points, ``[{"lr": 0.05}]``. In the segmented form a point is ``[0, {"lr": 0.1}]``, where 0 is the id of the segment
(our model), and the space ``[{"model_id": 0, "search_space": …}]``.

The format has one word for "no loss", ``null``, and its readers take it for "not evaluated yet". A point that failed
has no loss either: it is written as ``null`` and listed besides under a key of our own, ``failed``, which other readers
skip: ``"failed": [{"point": 1, "kind": "timeout", "message": "…"}]``, where ``point`` is its place in ``points``. A
command that counts every ``null`` as a point on its way, such as ``hpogrid generate``, proposes so many fewer; it is
better served by ``failed="omit"``, which leaves those points out, or by a loss of the user's choosing (PanDA's own is
100000).
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from containers.phpo.files import BadFile, read_json, shown
from hpo_steer.algorithm import Failure
from hpo_steer.errors import AlgorithmError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from hpo_steer.space import Params

Result: TypeAlias = float | Failure | None
"""What came of a point: its loss, why it has none, or None while it is being evaluated."""

MAX_BYTES = 64 * 1024 * 1024
"""Of an output file."""

INPUT, OUTPUT = "idds_input.json", "idds_output.json"
"""The files' names in iDDS. ``%IN`` and ``%OUT`` stand for names, not paths: commands put a folder in front of them."""


def write_steering_input(
    path: Path,
    points: Sequence[tuple[Mapping[str, Any], Result]],
    opt_space: Any,
    segment: int | None = None,
    *,
    failed: Literal["null", "omit"] | float = "null",
) -> None:
    """Writes ``%IN``.

    Args:
        path: the file.
        points: every point so far, in the order they were proposed, with what came of it. A loss of 0 is a loss.
        opt_space: handed on as it is. In the segmented form, where it lists the spaces of several segments, only
            that of `segment` is; anything else is put into such a list.
        segment: the segmented form, with this segment's id.
        failed: how failed points are told: as ``null``, not at all, or by this number as their loss.

    Raises:
        ValueError: a loss that is not finite, or a value that JSON cannot hold; names the point.
    """
    rows: list[list[Any]] = []
    failures: list[dict[str, Any]] = []
    for params, result in points:
        loss: float | None
        if isinstance(result, Failure):
            if failed == "omit":
                continue
            failures.append({"point": len(rows), "kind": result.kind, "message": result.message})
            loss = None if failed == "null" else float(failed)
        else:
            loss = result
        if loss is not None and not math.isfinite(loss):
            raise ValueError(f"the loss of {shown(dict(params))} is {loss}; a loss is a finite number")
        rows.append([dict(params) if segment is None else [segment, dict(params)], loss])
    space = opt_space if segment is None else segmented_space(opt_space, segment)
    data: dict[str, Any] = {"points": rows, "opt_space": space}
    if failures:
        data["failed"] = failures
    try:
        text = json.dumps(data, allow_nan=False)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"the steering input holds a value that JSON cannot: {exc}") from None
    path.write_text(text, encoding="utf-8")


def segmented_space(opt_space: Any, segment: int) -> list[dict[str, Any]]:
    """The spaces of the segmented form for one segment.

    >>> segmented_space({"lr": [0, 1]}, 2)
    [{'model_id': 2, 'search_space': {'lr': [0, 1]}}]
    """
    if isinstance(opt_space, list):
        listed = [entry for entry in opt_space if isinstance(entry, dict) and "model_id" in entry]
        mine = [entry for entry in listed if entry["model_id"] == segment]
        if mine:
            return mine[:1]
        if listed:
            ids = ", ".join(shown(entry["model_id"]) for entry in listed)
            raise ValueError(f"opt_space has no model_id {segment}; it has {ids}")
    return [{"model_id": segment, "search_space": opt_space}]


def read_steering_output(path: Path, segment: int | None = None) -> list[Params]:
    """Reads ``%OUT``: the new points, none if the command ends the search.

    Args:
        path: the file.
        segment: the segmented form, with this segment's id.

    Raises:
        AlgorithmError: the file is missing, broken, too large, or not of that form; one sentence.
    """
    name = f"the steering output {path.name}"
    try:
        data = read_json(path, "the steering output", max_bytes=MAX_BYTES)
    except BadFile as exc:
        raise AlgorithmError(str(exc)) from None
    form = '[{"name": value, …}, …]' if segment is None else f'[[{segment}, {{"name": value, …}}], …]'
    if not isinstance(data, list):
        raise AlgorithmError(f"{name} holds no list; expected {form}, got {shown(data)}")
    points: list[Params] = []
    for i, entry in enumerate(data):
        if problem := _problem(entry, segment):
            raise AlgorithmError(f"{name}: entry {i} is {shown(entry)}, {problem}; expected {form}")
        points.append(entry if segment is None else entry[1])
    return points


def _problem(entry: Any, segment: int | None) -> str | None:
    """What is wrong with an entry of the output."""
    pair = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], dict)
    if segment is None:
        if pair:
            return "which is the segmented form (the option segmented: true reads it)"
        return None if isinstance(entry, dict) else "no object of parameters"
    if isinstance(entry, dict):
        return "which has no segment (without segmented: true this form is right)"
    if not pair:
        return "no pair of a segment and an object of parameters"
    given = entry[0]
    if isinstance(given, bool) or not isinstance(given, int) or given != segment:
        return f"a point of segment {shown(given)}, where only segment {segment} was asked for"
    return None
