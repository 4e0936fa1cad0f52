"""What pydantic complains of, as errors that name the key and say what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, get_origin

from pydantic import BaseModel, ValidationError

from hpo_steer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

SYNONYMS = {
    "budget": "steering.max_points",
    "max_trials": "steering.max_points",
    "maxTrialCount": "steering.max_points",
    "n_trials": "steering.max_points",
    "num_samples": "steering.max_points",
    "total_trials": "steering.max_points",
    "batch_size": "steering.points_per_iteration",
    "parallelTrialCount": "steering.points_per_iteration",
    "n_jobs": "evaluation.slots",
    "max_concurrent": "evaluation.slots",
    "max_concurrent_trials": "evaluation.slots",
    "timeout": "steering.max_time_s",
    "time_budget_s": "steering.max_time_s",
    "parameters": "search_space",
    "param_space": "search_space",
    "params": "search_space",
    "space": "search_space",
    "direction": "objectives",
    "directions": "objectives",
    "goal": "objectives",
    "metric": "objectives",
    "mode": "objectives",
    "objective": "objectives",
    "sampler": "algorithm",
    "search_alg": "algorithm",
    "pruner": "pruning",
    "scheduler": "pruning",
    "database": "store",
    "storage": "store",
}
"""What other tools, and people, call our keys."""
_MOST_MEANT = 2


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
        return ConfigError(key, f"unknown key; {_hint(str(parts[-1]), section, parts[:-1])}")
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


def _hint(name: str, section: type[BaseModel], parts: list[Any]) -> str:
    """What may be meant by an unknown key.

    Args:
        name: the key.
        section: the whole that it was found in.
        parts: the path in that to where it was found.
    """
    paths = _paths(section)
    meant = [path for path in paths if path.split(".")[-1] == name]
    if SYNONYMS.get(name) in paths and not (meant and parts):
        meant = [SYNONYMS[name]]
    if meant and len(meant) <= _MOST_MEANT:
        return "did you mean " + " or ".join(f'"{path}"' for path in meant) + "?"
    return nearest(name, _keys(section, parts))


def _paths(section: type[BaseModel], before: str = "") -> list[str]:
    """All keys of a section and of those in it, with dots between."""
    found = []
    for name, field in section.model_fields.items():
        found.append(before + name)
        if get_origin(field.annotation) not in (list, dict, tuple):
            for inner in _sections(field.annotation):
                found += _paths(inner, f"{before}{name}.")
    return found


def _keys(section: Any, parts: list[Any]) -> list[str]:
    """The valid keys of the section at a path."""
    for part in parts:
        if isinstance(part, int):
            continue
        section = next(_sections(section.model_fields[part].annotation), None)
        if section is None:
            return []
    return list(section.model_fields)


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections that a key may hold."""
    for each in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(each, type) and issubclass(each, BaseModel):
            yield each
