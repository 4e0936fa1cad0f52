"""How much memory a process and all that it has started hold."""

from __future__ import annotations

import contextlib
import os

_PAGE = os.sysconf("SC_PAGE_SIZE")
_MOST = 1000
"""Processes that are looked at."""


def held_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants, what they share counted for each; 0 where nobody tells."""
    total, todo, seen = 0, [pid], 0
    while todo and seen < _MOST:
        each = todo.pop()
        seen += 1
        with contextlib.suppress(OSError, ValueError, IndexError):  # it ends this moment
            with open(f"/proc/{each}/statm", encoding="ascii") as file:  # noqa: PTH123 - as short as it gets
                total += int(file.read().split()[1]) * _PAGE
            for task in os.listdir(f"/proc/{each}/task"):  # noqa: PTH208 - names are enough
                with open(f"/proc/{each}/task/{task}/children", encoding="ascii") as file:  # noqa: PTH123 - likewise
                    todo += map(int, file.read().split())
    return total
