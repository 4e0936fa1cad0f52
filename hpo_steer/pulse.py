"""A program's sign of life, for the health checks of containers.

Where the environment variable ``HPO_STEER_PULSE`` names a file, steering and workers write a line into it every few
seconds, from their main loops: how they stand. ``python -m hpo_steer.pulse`` prints that line; its exit code is 0, or 1
where the file is missing or old. A program that hangs is found out by this, one that waits for points or for the broker
is well.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FILE = "HPO_STEER_PULSE"
BEAT_S = 5.0
STALE_S = 60.0
"""A loop that turns several times a second has not turned for so long: it hangs."""


class Pulse:
    """Writes the signs of life.

    Args:
        file: where to; None: nowhere.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._next = 0.0

    @classmethod
    def named_in(cls, environment: Mapping[str, str]) -> Pulse:
        """One that writes where an environment says, if it does."""
        name = environment.get(FILE)
        return cls(Path(name) if name else None)

    def beat(self, words: Callable[[], str]) -> None:
        """Gives a sign of life if one is due; a file that cannot be written is no reason to end.

        Args:
            words: how the program stands, in one line.
        """
        now = time.monotonic()
        if self._file is None or now < self._next:
            return
        self._next = now + BEAT_S
        with contextlib.suppress(OSError):
            new = self._file.with_name(f"{self._file.name}.{os.getpid()}")
            new.write_text(words() + "\n", encoding="utf-8")
            new.replace(self._file)


def verdict(environment: Mapping[str, str], now: float) -> tuple[bool, str]:
    """Whether the program that beats there is alive, and a line for people.

    Args:
        environment: names the file.
        now: seconds since the epoch.
    """
    name = environment.get(FILE)
    if not name:
        return False, f"{FILE} names no file"
    try:
        age_s = now - Path(name).stat().st_mtime
        words = Path(name).read_text(encoding="utf-8", errors="replace").strip()
    except OSError as exc:
        return False, f"no sign of life: {name}: {exc.strerror}"
    if abs(age_s) > STALE_S:
        return False, f"no sign of life for {age_s:.0f} s; the last one was: {words}"
    return True, words


def main() -> int:
    """Prints how the program stands.

    Returns:
        The exit code: 0 alive, 1 not.
    """
    alive, words = verdict(os.environ, time.time())
    print(words)  # noqa: T201 - the answer
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
