"""How far steering has read what workers have said to it."""

from __future__ import annotations

from collections import deque

_REMEMBERED = 100
"""Echoes on the way, at most; one that was dropped on the way makes no difference once a later one is back."""


class Hearing:
    """Sends itself an echo every now and then by the way that workers' events come, and notes which are back.

    A worker's silence means something only as far as steering could have heard it. Its own process may have stood
    still, thousands of events may wait in front, the broker may have stopped taking messages, or its disk may be
    busy: all of that holds an echo up just as it holds up a heartbeat. So leases are measured against `until`.

    Args:
        every_s: how often an echo is sent.
        now: by the monotonic clock.

    Attributes:
        until: whatever was put into the events queue before this time has been read.
    """

    def __init__(self, every_s: float, now: float) -> None:
        self._every_s = every_s
        self.until = now
        self._returned = now
        self._sent = -every_s
        self._number = 0
        self._on_the_way: deque[tuple[int, float]] = deque(maxlen=_REMEMBERED)

    def call(self, now: float) -> int | None:
        """The number of the echo that is to be sent now; None while the last is not old enough."""
        if now - self._sent < self._every_s:
            return None
        self._sent = now
        self._number += 1
        self._on_the_way.append((self._number, now))
        return self._number

    def returned(self, number: int, now: float) -> bool:
        """An echo is back.

        Returns:
            Whether it, or the one before it, was held up: then what workers had to say may be held up a little longer.
        """
        known = False
        while self._on_the_way and self._on_the_way[0][0] <= number:
            known, (_, self.until) = True, self._on_the_way.popleft()
        if not known:  # of an earlier session, or handed out twice
            return False
        late, self._returned = now - self._returned > 2 * self._every_s, now
        return late

    def interrupted(self) -> None:
        """The connection is gone, and with it what was on the way; the next echo goes out at once."""
        self._on_the_way.clear()
        self._sent = -self._every_s
