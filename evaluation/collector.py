"""Puts a code bundle together from the parts that steering sends to all who want it."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from hpo_steer.errors import BundleError
from hpo_steer.limits import MAX_PART, MAX_RANGES

if TYPE_CHECKING:
    from hpo_steer.messages import BundlePart

WINDOW = 16
"""Parts that are asked for at once: a slow worker has no more than these on their way to it, unless others ask too."""
_FIRST_S = 0.1
"""Until then the way for the parts should be open."""
_AGAIN_S, _LONGEST_S = 2.0, 10.0
"""How long nothing may come before it is asked for again; twice as long each time."""


class Collector:
    """Collects the parts of one bundle, in any order.

    Args:
        file: where they go; it is closed with `close`.
        now: by the monotonic clock.

    Attributes:
        got: bytes so far.
        size: bytes of the whole; None before any part has come.
    """

    def __init__(self, file: IO[bytes], now: float) -> None:
        self.file = file
        self.got = 0
        self.size: int | None = None
        self._missing: set[int] | None = None
        self._asked: set[int] = set(range(WINDOW))
        self._patience_s = _AGAIN_S
        self._next = now + _FIRST_S

    @property
    def complete(self) -> bool:
        """Whether all of it is there."""
        return self._missing is not None and not self._missing

    def take(self, part: BundlePart, now: float) -> None:
        """A part has come.

        Raises:
            BundleError: it does not go with the others.
            OSError: the disk takes no more.
        """
        if self._missing is None:
            self.size, self._missing = part.size, set(range(part.count))
        elif part.size != self.size:
            raise BundleError(f"one part says {part.size:,} bytes, another {self.size:,}")
        self._patience_s = _AGAIN_S
        if part.number in self._missing:
            content = part.content
            self.file.seek(part.number * MAX_PART)
            self.file.write(content)
            self._missing.discard(part.number)
            self.got += len(content)
        self._next = now + _AGAIN_S if self._asked & self._missing else now

    def wanted(self, now: float) -> list[tuple[int, int]]:
        """The ranges to ask for now, first and last part; empty: it is not time to ask."""
        if now < self._next or self.complete:
            return []
        numbers = range(WINDOW) if self._missing is None else sorted(self._missing)[:WINDOW]
        self._asked = set(numbers)
        self._next = now + self._patience_s
        self._patience_s = min(2 * self._patience_s, _LONGEST_S)
        return _ranges(sorted(numbers))[:MAX_RANGES]

    def close(self) -> None:
        """Lets go of what has come."""
        self.file.close()


def _ranges(numbers: list[int]) -> list[tuple[int, int]]:
    """Neighbours as ranges.

    >>> _ranges([0, 1, 2, 5])
    [(0, 2), (5, 5)]
    """
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found
