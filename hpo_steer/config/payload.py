"""Looks at the user's training file without running it: does the function exist, and can it be called?"""

from __future__ import annotations

import ast
from pathlib import Path

from hpo_steer.errors import ConfigError, nearest


def payload_file(target: str, folder: Path) -> tuple[Path | None, str, str]:
    """Splits ``FILE.py:NAME`` or ``module:NAME``.

    Returns:
        The file (None for an installed module, which only its own interpreter can find), the module's name, and
        the function's or class's name.
    """
    place, _, name = target.rpartition(":")
    if place.endswith(".py"):
        return folder / place, Path(place).stem, name
    relative = Path(*place.split("."))
    for candidate in (folder / relative.with_suffix(".py"), folder / relative / "__init__.py"):
        if candidate.is_file():
            return candidate, place, name
    return None, place, name


def check_payload(target: str, folder: Path, key: str, kind: str = "function") -> None:
    """Checks a ``function`` or ``class`` of a config against the file it names.

    Raises:
        ConfigError: no such file, a syntax error in it, no such name in it, or a function that takes no argument.
    """
    file, _, name = payload_file(target, folder)
    if file is None:
        return
    if not file.is_file():
        near = [p.name for p in file.parent.glob("*.py")] if file.parent.is_dir() else []
        hint = f"; {nearest(file.name, near)}" if near else ""
        raise ConfigError(key, f"there is no file {file}{hint}")
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    except (SyntaxError, UnicodeDecodeError, ValueError) as exc:
        line = getattr(exc, "lineno", None)
        raise ConfigError(key, f"{file}{f':{line}' if line else ''} is no Python: {exc}") from None
    defined = _top_level(tree)
    if name not in defined:
        if any(isinstance(n, ast.ImportFrom) and any(a.name == "*" for a in n.names) for n in tree.body):
            return
        listed = [k for k, node in defined.items() if not k.startswith("_") and node is not None]
        raise ConfigError(key, f'{file.name} has no {kind} "{name}"; it has: {", ".join(listed) or "none"}')
    node = defined[name]
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not _takes_argument(node):
        raise ConfigError(
            key, f"{file.name}:{node.lineno}: {name}() takes no argument; it gets the parameters as a dict"
        )


def _top_level(tree: ast.Module) -> dict[str, ast.stmt | None]:
    """Names bound at the top of a module, with their definition where it is a function or class."""
    names: dict[str, ast.stmt | None] = {}
    pending: list[ast.stmt] = list(tree.body)
    while pending:
        node = pending.pop(0)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names[node.name] = node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update({(a.asname or a.name).partition(".")[0]: None for a in node.names})
        elif isinstance(node, (ast.If, ast.Try, ast.With)):
            for part in ("body", "orelse", "finalbody"):
                pending.extend(getattr(node, part, []))
            pending.extend(s for h in getattr(node, "handlers", []) for s in h.body)
        else:
            names.update(
                {
                    n.id: None
                    for n in ast.walk(node)
                    if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
                }
            )
    return names


def _takes_argument(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return bool(node.args.args or node.args.posonlyargs or node.args.vararg)
