"""Reads JSON that a user's command has written: bounded, strict, and with errors that show what is wrong."""

from __future__ import annotations

import json
import math
import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

_SHOWN = 60
_MAX_DIGITS = 1_000


class BadFile(ValueError):
    """A file is not what was agreed; the text is one sentence that names it."""


def read_json(path: Path, what: str, *, max_bytes: int, strict: bool = True) -> Any:
    """The value in a JSON file.

    Args:
        path: the file; a pipe or a device is not opened.
        what: what the file is, to begin the sentence with, such as ``the steering output``.
        max_bytes: a larger one is refused unread.
        strict: whether ``NaN``, ``Infinity`` and numbers that no float can hold are refused.

    Raises:
        BadFile: there is no such file, or it is no JSON.
    """
    name = f"{what} {path.name}"
    data = _read(path, name, max_bytes)
    if not data.strip():
        raise BadFile(f"{name} is empty")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        found = data[max(exc.start - 20, 0) : exc.start + 20]
        raise BadFile(f"{name} is no JSON: byte {exc.start} is not UTF-8, near {found!r}") from None
    try:
        return _decoder(strict).decode(text)
    except json.JSONDecodeError as exc:
        place = f"line {exc.lineno} column {exc.colno}"
        raise BadFile(f"{name} is no JSON: {exc.msg} at {place}, near {_near(text, exc.pos)}") from None
    except RecursionError:
        raise BadFile(f"{name} is no JSON of ours: it is nested too deeply") from None
    except ValueError as exc:
        raise BadFile(f"{name} holds {exc}") from None


def shown(value: Any) -> str:
    """A value as a sentence quotes it: its JSON, cut to a short text."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"


def _read(path: Path, name: str, max_bytes: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise BadFile(f"{name} is not there: the command has not written it") from None
    except OSError as exc:
        raise BadFile(f"{name} cannot be read: {exc.strerror}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise BadFile(f"{name} is no file")
        data, size = b"", status.st_size
        if size <= max_bytes:
            with os.fdopen(fd, "rb", closefd=False) as stream:
                data = stream.read(max_bytes + 1)
            size = len(data)
        if size > max_bytes:
            raise BadFile(f"{name} holds {size:,} bytes; at most {max_bytes:,} are read")
        return data
    finally:
        os.close(fd)


def _decoder(strict: bool) -> json.JSONDecoder:
    if not strict:
        return json.JSONDecoder(object_pairs_hook=_object, parse_int=_int)
    return json.JSONDecoder(
        object_pairs_hook=_object, parse_int=_int, parse_constant=_constant, parse_float=_float
    )


def _constant(text: str) -> float:
    raise ValueError(f"{text}, which is no JSON number")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"the number {text[:_SHOWN]}, which is too large")
    return number


def _int(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError(f"a whole number of {len(text):,} digits")
    return int(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object with the key {shown(twice)} twice")
    return made


def _near(text: str, pos: int) -> str:
    found = text[max(pos - 25, 0) : pos + 25]
    return repr(found) if found.strip() else "the end"
