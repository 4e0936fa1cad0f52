"""Writes the documents of the protocol into a folder: ``python -m hpo_steer.protocol docs/reference``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import yaml

from hpo_steer.message_schema import message_schema
from hpo_steer.protocol import VERSION
from hpo_steer.protocol.asyncapi import asyncapi
from hpo_steer.protocol.schemas import DOCUMENTS, schema_of


def documents() -> dict[str, str]:
    """The text of every file, by its path in the folder."""
    texts = {f"schemas/v{VERSION}/{name}.json": _json(schema_of(name)) for name in DOCUMENTS}
    texts["messages.schema.json"] = _json(message_schema())
    texts["asyncapi.yaml"] = yaml.dump(
        asyncapi(), Dumper=_Plain, sort_keys=False, width=100, allow_unicode=True
    )
    return texts


class _Plain(yaml.SafeDumper):
    """Writes a value that occurs twice twice."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - as its base has it
        return True


def _json(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"


def main() -> None:
    """Writes them."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m hpo_steer.protocol FOLDER")
    for name, text in documents().items():
        file = Path(sys.argv[1]) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
