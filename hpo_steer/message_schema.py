"""The JSON Schema of every message in one: ``python -m hpo_steer.message_schema``.

People write workers in other languages against it. What a schema cannot say (the depth of `params`, the size of a
message) is in `hpo_steer.limits`. `hpo_steer.protocol` has a schema for each message, line and file by itself.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import TypeAdapter

from hpo_steer.messages import Control, Event, Work

_TOLD = ("v", "type")


def message_schema() -> dict[str, Any]:
    """One schema that every valid message fits; ``$defs`` has one for each kind."""
    adapter: TypeAdapter[Work | Control | Event] = TypeAdapter(Work | Control | Event)
    schema = adapter.json_schema(ref_template="#/$defs/{model}")
    for definition in schema["$defs"].values():
        tidy_definition(definition, message="type" in definition["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Messages of hpo-steer, protocol version 1",
        "oneOf": schema.pop("anyOf"),
        "$defs": dict(sorted(schema["$defs"].items())),
    }


def tidy_definition(definition: dict[str, Any], *, message: bool) -> None:
    """Says what is required, and keeps the first line of a docstring.

    Args:
        definition: changed in place.
        message: whether it is a message, whose version and type have no default.
    """
    description = definition.get("description", "")
    definition["description"] = description.partition("\n")[0]
    if message:
        definition["required"] = [*_TOLD, *definition.get("required", ())]
    for field in definition.get("properties", {}).values():
        field.pop("title", None)


def main() -> None:
    """Prints it."""
    sys.stdout.write(json.dumps(message_schema(), indent=2) + "\n")


if __name__ == "__main__":
    main()
