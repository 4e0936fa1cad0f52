"""What a check found, one line each, also between processes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        subject: what was looked at.
        ok: whether it is right; None: a remark, which is neither.
        text: what it is, or what is wrong and what to do.
        quote: what shows it: the offending bytes, or the last lines that a program has printed.
    """

    subject: str
    ok: bool | None
    text: str
    quote: str = ""

    def to_json(self) -> dict[str, Any]:
        """The finding as an object; without a key for an empty quote."""
        data: dict[str, Any] = {"subject": self.subject, "ok": self.ok, "text": self.text}
        return data | ({"quote": self.quote} if self.quote else {})

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Finding:
        """The finding again."""
        return cls(data["subject"], data["ok"], data["text"], data.get("quote", ""))

    def __str__(self) -> str:
        word = {True: "ok  ", False: "FAIL", None: "note"}[self.ok]
        quoted = "".join(f"\n      | {line}" for line in self.quote.splitlines())
        return f"{word}  {self.subject}: {self.text}{quoted}"


class Breach(Exception):
    """Something does not hold; the text says what, and what to do.

    Args:
        text: a sentence.
        quote: what shows it.
    """

    def __init__(self, text: str, quote: str = "") -> None:
        self.quote = quote
        super().__init__(text)


def outlined(text: str) -> tuple[str, str]:
    r"""A message in two: its first line, and what follows, which is what a program has printed.

    >>> outlined("it ended with exit code 3. It printed last:\nboom")
    ('it ended with exit code 3. It printed last:', 'boom')
    """
    head, _, rest = text.partition("\n")
    return head, rest


def quoted(data: bytes, most: int = 200) -> str:
    r"""Bytes as a line quotes them.

    >>> quoted(b'loading \xff')
    "b'loading \\xff'"
    """
    return repr(data) if len(data) <= most else f"{data[:most]!r}… ({len(data):,} bytes)"


def as_lines(value: dict[str, Any]) -> bytes:
    """A line of JSON that holds whatever a user's program may have said."""
    return json.dumps(value).encode() + b"\n"
