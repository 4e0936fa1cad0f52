"""JSON Schemas, one a document, made from the types that describe messages, lines and files.

They are written in draft 7, which the tools of AsyncAPI read without a plug-in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpo_steer.message_schema import tidy_definition
from hpo_steer.messages import (
    BundleGone,
    BundlePart,
    BundleWanted,
    Bye,
    Cancel,
    Echo,
    Heartbeat,
    Hello,
    Message,
    Pardon,
    Report,
    Result,
    Started,
    Stop,
    Work,
)
from hpo_steer.protocol import VERSION, files, lines

if TYPE_CHECKING:
    from pydantic import BaseModel

DRAFT = "http://json-schema.org/draft-07/schema#"

_MESSAGES = (
    *(Work, Stop, Cancel, Pardon, BundlePart, BundleGone),
    *(Hello, Started, Heartbeat, Report, Result, BundleWanted, Bye, Echo),
)

DOCUMENTS: dict[str, type[BaseModel]] = {
    **{f"messages/{kind.model_fields['type'].default}": kind for kind in _MESSAGES},
    "ask-tell/open": lines.Open,
    "ask-tell/restore": lines.Restore,
    "ask-tell/tell": lines.Tell,
    "ask-tell/ask": lines.Ask,
    "ask-tell/opened": lines.Opened,
    "ask-tell/points": lines.Points,
    "ask-tell/error": lines.Error,
    "evaluation/request": lines.ServiceRequest,
    "evaluation/answer": lines.ServiceAnswer,
    "evaluation/report": lines.ReportLine,
    "files/steering-in": files.SteeringIn,
    "files/steering-out": files.SteeringOut,
    "files/steering-in-segmented": files.SteeringInSegmented,
    "files/steering-out-segmented": files.SteeringOutSegmented,
    "files/evaluation-in": files.EvaluationIn,
    "files/evaluation-out": files.EvaluationOut,
    "files/training-data": files.TrainingData,
    "files/metrics": files.CommandMetrics,
}
"""What each schema is of, by the name of its file, without its end."""


def schema_of(name: str) -> dict[str, Any]:
    """The schema of one document, complete in itself."""
    kind = DOCUMENTS[name]
    made = kind.model_json_schema(ref_template="#/definitions/{model}")
    definitions = made.pop("$defs", {})
    tidy_definition(made, message=issubclass(kind, Message))
    for definition in definitions.values():
        tidy_definition(definition, message=False)
    folder, _, file = name.partition("/")
    head = {
        "$schema": DRAFT,
        "$id": f"{file}.json",
        "title": f"hpo-steer, protocol version {VERSION}: {folder}/{file}",
    }
    body = {**made, "definitions": dict(sorted(definitions.items()))} if definitions else made
    schema: dict[str, Any] = _draft_7(head | {key: value for key, value in body.items() if key != "title"})
    return schema


def _draft_7(value: Any) -> Any:
    """The same schema in the words of draft 7: a tuple is an `items` that lists."""
    if isinstance(value, list):
        return [_draft_7(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    changed = {key: _draft_7(entry) for key, entry in value.items()}
    if "prefixItems" in changed:
        changed["items"] = changed.pop("prefixItems")
        changed["additionalItems"] = False
    return changed
