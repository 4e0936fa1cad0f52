"""What comes in pieces, as lines."""

from __future__ import annotations

from collections import deque


class Lines:
    r"""Splits bytes into lines, in time that grows with their number and not with its square.

    Example:
        >>> lines = Lines()
        >>> lines.feed(b"one")
        >>> lines.feed(b" line\nand a half")
        >>> lines.next(), lines.next(), lines.unfinished
        (b'one line', None, 10)

    Attributes:
        unfinished: bytes of the line that is not whole yet.
    """

    def __init__(self) -> None:
        self._whole: deque[bytes] = deque()
        self._pieces: list[bytes] = []
        self.unfinished = 0

    def __bool__(self) -> bool:
        """Whether there is a whole line."""
        return bool(self._whole)

    def feed(self, data: bytes) -> None:
        """Takes in the next bytes."""
        if b"\n" not in data:
            self._pieces.append(data)
            self.unfinished += len(data)
            return
        first, *rest = data.split(b"\n")
        self._whole.append(b"".join((*self._pieces, first)))
        last = rest.pop()
        self._whole.extend(rest)
        self._pieces = [last] if last else []
        self.unfinished = len(last)

    def next(self) -> bytes | None:
        """The next whole line, without its end."""
        return self._whole.popleft() if self._whole else None

    def drop(self) -> None:
        """Forgets the line that is not whole."""
        self._pieces, self.unfinished = [], 0
