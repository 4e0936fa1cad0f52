"""Which files of a folder are left out of a code bundle."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pathspec import GitIgnoreSpec

from hpo_steer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

HPOIGNORE = ".hpoignore"
RESERVED = ".hpo-steer"
"""A folder of this name at the top of a bundle is ours."""
DEFAULTS = [
    ".git/",
    ".hg/",
    ".svn/",
    ".jj/",
    "__pycache__/",
    "*.py[cod]",
    ".venv/",
    "*.egg-info/",
    ".tox/",
    ".nox/",
    ".*_cache/",
    ".cache/",
    ".hypothesis/",
    ".ipynb_checkpoints/",
    ".idea/",
    ".vscode/",
    ".DS_Store",
    "node_modules/",
    "runs/",
    ".env",
    ".netrc",
    ".pgpass",
    ".ssh/",
    ".aws/",
    ".gnupg/",
]
"""Left out unless a `.hpoignore` wants them back: what other tools keep beside code, and where secrets use to lie."""
_ENVIRONMENT = "pyvenv.cfg"


@dataclass(frozen=True)
class Found:
    """Something that goes into a bundle.

    Attributes:
        path: where it is.
        kind: ``folder``, ``file`` or ``link``.
    """

    path: Path
    kind: str


def walk(folder: Path, key: str, never: Collection[Path] = ()) -> Iterator[Found]:
    """What is in a folder and not to be left out, sorted by name; a folder comes before what is in it.

    A `.hpoignore` in the folder, or in any below it, has the syntax of ``.gitignore`` and its rules: later lines win,
    those of deeper files win over those above, and nothing in a folder that is left out can be wanted back.

    Args:
        folder: resolved.
        key: of the config, for errors.
        never: files and folders (resolved) that stay here whatever a `.hpoignore` says.

    Raises:
        ConfigError: a folder or a `.hpoignore` cannot be read.
    """
    defaults = (folder, GitIgnoreSpec.from_lines(DEFAULTS))
    yield from _walk(folder, key, frozenset(never), (defaults,))


def _walk(
    folder: Path, key: str, never: frozenset[Path], specs: tuple[tuple[Path, GitIgnoreSpec], ...]
) -> Iterator[Found]:
    if (own := _read(folder, key)) is not None:
        specs = (*specs, (folder, own))
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as exc:
        raise ConfigError(
            key,
            f"cannot read the folder {folder}: {exc.strerror}; list it in {HPOIGNORE} if it is not needed",
        ) from None
    for entry in entries:
        path = folder / entry.name
        is_folder = entry.is_dir(follow_symlinks=False)
        if path in never or _left_out(path, specs, is_folder=is_folder):
            continue
        if entry.is_symlink():
            yield Found(path, "link")
        elif is_folder:
            if not (path / _ENVIRONMENT).exists():
                yield Found(path, "folder")
                yield from _walk(path, key, never, specs)
        elif entry.is_file(follow_symlinks=False):
            yield Found(path, "file")  # sockets, pipes and devices are nobody's code


def _read(folder: Path, key: str) -> GitIgnoreSpec | None:
    file = folder / HPOIGNORE
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, IsADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(key, f"cannot read {file}: {getattr(exc, 'strerror', None) or exc}") from None
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as exc:
        raise ConfigError(key, f"{file} holds no patterns as in .gitignore: {exc}") from None


def _left_out(path: Path, specs: tuple[tuple[Path, GitIgnoreSpec], ...], *, is_folder: bool) -> bool:
    """What the deepest file that has anything to say about a path says."""
    for folder, spec in reversed(specs):
        name = path.relative_to(folder).as_posix() + ("/" if is_folder else "")
        verdict = spec.check_file(name).include
        if verdict is not None:
            return verdict
    return False
