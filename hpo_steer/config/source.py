"""Reads config files, and remembers on which line each key stands."""

from __future__ import annotations

import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

import yaml

from hpo_steer.errors import ConfigError, nearest

if TYPE_CHECKING:
    from pathlib import Path

SUFFIXES = (".yaml", ".yml", ".toml", ".json")


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars: ``1e-5`` is a number, ``on`` and ``no`` are words; a key may stand only once."""


_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, rule)
        for tag, rule in rules
        if tag.rpartition(":")[2] not in {"bool", "float", "int", "timestamp"}
    ]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int", re.compile(r"^[-+]?[0-9][0-9_]*$"), list("-+0123456789")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9]+|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


def _whole(loader: _Loader, node: yaml.ScalarNode) -> int:
    return int(str(loader.construct_scalar(node)).replace("_", ""))


_Loader.add_constructor("tag:yaml.org,2002:int", _whole)


class Source:
    """A config's text: its data, and the line of every key.

    Attributes:
        path: the file.
        data: what it says, before any check.
    """

    def __init__(self, path: Path, data: dict[str, Any], lines: dict[str, int]) -> None:
        self.path, self.data, self._lines = path, data, lines

    @classmethod
    def read(cls, path: Path) -> Source:
        """Reads a YAML, TOML or JSON file.

        Raises:
            ConfigError: no such file, an unknown suffix, or broken syntax (with its line).
        """
        if path.suffix not in SUFFIXES:
            raise ConfigError("", f"a config ends in {', '.join(SUFFIXES)}", str(path))
        try:
            text = path.read_text(encoding="utf-8")
        except FileNotFoundError:
            near = (
                sorted(p.name for p in path.parent.glob("*") if p.suffix in SUFFIXES)
                if path.parent.is_dir()
                else []
            )
            hint = f"; {nearest(path.name, near)}" if near else ""
            raise ConfigError("", f"there is no such file{hint}", str(path)) from None
        except IsADirectoryError:
            raise ConfigError("", "is a folder; name the config file in it", str(path)) from None
        except (OSError, UnicodeDecodeError) as exc:
            raise ConfigError("", f"cannot be read ({exc})", str(path)) from None
        data, lines = _toml(path, text) if path.suffix == ".toml" else _yaml(path, text)
        if not isinstance(data, dict):
            raise ConfigError("", "is empty" if data is None else "expected keys and values", str(path))
        return cls(path, data, lines)

    def where(self, key: str) -> str:
        """``file:line`` of a key, or of the nearest key above it; ``file`` where it has none."""
        while key:
            if key in self._lines:
                return f"{self.path}:{self._lines[key]}"
            key = re.sub(r"(\.[^.\[]*|\[\d+\]|^[^.\[]*)$", "", key)
        return str(self.path)


def _yaml(path: Path, text: str) -> tuple[Any, dict[str, int]]:
    """JSON goes the same way: it is YAML, and gets its line numbers here."""
    if path.suffix == ".json":
        try:
            json.loads(text)
        except json.JSONDecodeError as exc:
            raise ConfigError("", exc.msg, f"{path}:{exc.lineno}") from None
        text = text.replace("\t", " ")
    try:
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            lines: dict[str, int] = {}
            if node is not None:
                _note(path, node, "", lines)
            data = loader.construct_document(node) if node is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise ConfigError("", f"is no YAML: {exc.problem or exc}", f"{path}:{line}") from None
    except (yaml.YAMLError, ValueError) as exc:
        raise ConfigError("", f"is no YAML: {exc}", str(path)) from None
    return data, lines


def _note(
    path: Path, node: yaml.Node, key: str, lines: dict[str, int], above: tuple[yaml.Node, ...] = ()
) -> None:
    if any(node is other for other in above):
        raise ConfigError(key, "contains itself", f"{path}:{node.start_mark.line + 1}")
    above = (*above, node)
    if isinstance(node, yaml.MappingNode):
        for name, value in node.value:
            inner = f"{key}.{name.value}" if key else str(name.value)
            if inner in lines:
                raise ConfigError(
                    inner, f"stands twice, first on line {lines[inner]}", f"{path}:{name.start_mark.line + 1}"
                )
            lines[inner] = name.start_mark.line + 1
            _note(path, value, inner, lines, above)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            lines[f"{key}[{i}]"] = value.start_mark.line + 1
            _note(path, value, f"{key}[{i}]", lines, above)


def _toml(path: Path, text: str) -> tuple[Any, dict[str, int]]:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        line = re.search(r"line (\d+)", str(exc))
        raise ConfigError("", f"is no TOML: {exc}", f"{path}:{line[1]}" if line else str(path)) from None
    lines: dict[str, int] = {}
    table = ""
    for number, row in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", row):
            table = header[1].replace('"', "").replace(" ", "")
            lines.setdefault(table, number)
        elif entry := re.match(r"\s*([\w.\"-]+)\s*=", row):
            name = entry[1].replace('"', "")
            lines.setdefault(f"{table}.{name}" if table else name, number)
    return data, lines
