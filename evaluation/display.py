"""What a worker shows: a live line on a terminal, else a line at every change and one a minute."""

from __future__ import annotations

import sys
import time
from typing import IO, TYPE_CHECKING

from hpo_steer.limits import harmless

if TYPE_CHECKING:
    from rich.live import Live

    from evaluation.tally import Snapshot

_PLAIN_S = 60.0
_FETCHING_S = 10.0
_LIVE_S = 0.5


class Display:
    """A worker's words to people.

    Args:
        quiet: warnings, and what it waits for, only (steering has started this worker and shows what happens).
        out: where to; a terminal gets the live line.
    """

    def __init__(self, *, quiet: bool = False, out: IO[str] | None = None) -> None:
        self._quiet = quiet
        self._out = out or (sys.stderr if quiet else sys.stdout)
        self._live: Live | None = None
        self._shown_at = 0.0
        self._last_state: tuple[bool, bool, str | None, str | None, bool, bool] | None = None

    def __enter__(self) -> Display:
        if not self._quiet and self._out.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(
                console=Console(file=self._out, highlight=False),
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def say(self, line: str) -> None:
        """Shows a line that stays."""
        if self._quiet and not line.startswith(("warning:", "error:", "waiting:")):
            return
        line = harmless(line)
        if self._live is not None:
            from rich.text import Text

            self._live.console.print(Text(line))
        else:
            print(line, file=self._out, flush=True)

    def show(self, now_is: Snapshot) -> None:
        """Shows how things stand, as often as that is of use."""
        now = time.monotonic()
        if self._live is not None:
            if now - self._shown_at >= _LIVE_S:
                from rich.text import Text

                self._shown_at = now
                self._live.update(
                    Text(harmless(line(now_is)), overflow="ellipsis", no_wrap=True), refresh=True
                )
            return
        waits = now_is.code is not None
        state = (now_is.connected, now_is.draining, now_is.blocked, now_is.trouble, waits, bool(now_is.note))
        every_s = _FETCHING_S if waits else _PLAIN_S
        if not self._quiet and (now - self._shown_at >= every_s or state != self._last_state):
            self._shown_at, self._last_state = now, state
            print(harmless(line(now_is)), file=self._out, flush=True)


def line(now_is: Snapshot) -> str:
    """A snapshot in one line."""
    spooled = now_is.spooled
    parts = [
        f"{now_is.busy}/{now_is.slots} busy",
        f"{now_is.done:,} done",
        *([f"{now_is.failed:,} failed"] if now_is.failed else []),
        _rate(now_is.per_hour),
        "connected" if now_is.connected else "not connected, trying again",
        f"{spooled} in the spool" if spooled else "spool empty",
    ]
    if now_is.blocked:
        parts.append(f"the broker is blocked: {now_is.blocked}")
    if now_is.trouble:
        parts.append(now_is.trouble)
    if now_is.code:
        parts.append(now_is.code)
    if now_is.draining:
        parts.append("draining")
    if now_is.note:
        parts.append(now_is.note)
    if not now_is.busy and not (now_is.code or now_is.note or now_is.draining) and now_is.connected:
        parts.append("waiting for points")
    return " · ".join(parts)


def _rate(per_hour: float) -> str:
    return f"{per_hour / 3600:,.1f} points/s" if per_hour >= 3600 else f"{per_hour:,.0f} points/h"
