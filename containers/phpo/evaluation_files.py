"""The files of an evaluation command: a point and data files in, ``{"status": 0, "loss": 0.12}`` out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from containers.phpo.files import BadFile, read_json, shown
from hpo_steer.child import Answer, check_metrics, failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

MAX_BYTES = 8_000_000
"""Of an output file."""

LOSS = "loss"


def write_point(path: Path, params: Mapping[str, Any]) -> None:
    """Writes the point to evaluate: its parameters and nothing else."""
    path.write_text(json.dumps(dict(params), allow_nan=False), encoding="utf-8")


def write_training_data(path: Path, files: Sequence[str]) -> None:
    """Writes the list of training files, a JSON list of names."""
    path.write_text(json.dumps(list(files)), encoding="utf-8")


def read_evaluation_output(path: Path, measured: Sequence[str], *, objective: str | None = None) -> Answer:
    """Reads what an evaluation has left.

    The file holds ``status`` (0: fine), ``loss`` and perhaps ``message``; every further number is a metric of that
    name. Where the experiment's only objective has another name and the file does not give it, ``loss`` is its
    value, and the command needs no change; mind that ``loss`` is then read in the objective's own direction.

    Args:
        path: the file.
        measured: the metrics that must be there: objectives, and those of outcome constraints.
        objective: the experiment's only objective; by default the only one of `measured`.

    Returns:
        ``{"metrics": …}``, or ``{"failure": …}`` of the kind ``error``; ``invalid`` where an objective is not finite.
    """
    name = f"the evaluation output {path.name}"
    try:
        data = read_json(path, "the evaluation output", max_bytes=MAX_BYTES, strict=False)
    except BadFile as exc:
        return failure("error", str(exc))
    if not isinstance(data, dict):
        return failure("error", f"{name} holds {shown(data)}; expected {_FORM}")
    if "status" not in data:
        return failure(
            "error", f"{name} has no status, so nothing says that the evaluation went well; expected {_FORM}"
        )
    status, message = data["status"], data.get("message")
    if isinstance(status, bool) or not isinstance(status, int):
        return failure(
            "error", f"{name} has the status {shown(status)}; a status is a whole number, 0 if all is well"
        )
    if status != 0:
        said = f": {message}" if message not in (None, "") else ""
        return failure("error", f"the evaluation gave status {status}{said}")
    return check_metrics(_metrics(data, measured, objective), list(measured), name)


_FORM = '{"status": 0, "loss": 0.12}'


def _metrics(data: Mapping[str, Any], measured: Sequence[str], objective: str | None) -> dict[str, Any]:
    """The numbers among what a file gives, and whatever stands under a name that must be there."""
    only = objective or (measured[0] if len(measured) == 1 else None)
    given = {key: value for key, value in data.items() if key not in ("status", "message") or key in measured}
    if only is not None and only not in given and LOSS in given and LOSS not in measured:
        given[only] = given.pop(LOSS)
    return {
        key: value
        for key, value in given.items()
        if key in measured or (isinstance(value, (int, float)) and not isinstance(value, bool))
    }
