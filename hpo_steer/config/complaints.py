"""What pydantic complains of, as errors that name the key and say what to do."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ValidationError

from hpo_steer.errors import ConfigError, nearest


def translated(exc: ValidationError, section: type[BaseModel], key: str = "") -> ConfigError:
    """The first of pydantic's complaints, in our words.

    Args:
        exc: the complaints.
        section: what was to be made.
        key: where it stands in the config; empty for the whole config.
    """
    errors = exc.errors(include_url=False)
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")
    parts = [
        p for p in first["loc"] if not (isinstance(p, str) and re.search(r"[\[\]()]|^(str|dict|list)\b", p))
    ]
    for part in parts:
        key += f"[{part}]" if isinstance(part, int) else f".{part}" if key else str(part)
    kind = first["type"]
    if kind == "extra_forbidden":
        return ConfigError(key, f"unknown key; {nearest(str(parts[-1]), _keys(section, parts[:-1]))}")
    if kind == "missing":
        return ConfigError(key, "is missing")
    if kind == "value_error":
        inner = first.get("ctx", {}).get("error")
        if isinstance(inner, ConfigError):
            return inner
        return ConfigError(key, str(inner))
    if kind in ("dict_type", "model_type", "model_attributes_type", "dataclass_type"):
        return ConfigError(key, f"expected keys and values, got {first['input']!r}")
    given = first["input"]
    shown = f", got {given!r}" if not isinstance(given, (dict, list)) else ""
    return ConfigError(key, re.sub(r"^Input should be ", "should be ", first["msg"]) + shown)


def _keys(section: Any, parts: list[Any]) -> list[str]:
    """The valid keys of the section at a path."""
    for part in parts:
        if isinstance(part, int):
            continue
        annotation = section.model_fields[part].annotation
        section = next(
            (a for a in (annotation, *getattr(annotation, "__args__", ())) if _is_section(a)), None
        )
        if section is None:
            return []
    return list(section.model_fields)


def _is_section(candidate: Any) -> bool:
    return isinstance(candidate, type) and issubclass(candidate, BaseModel)
