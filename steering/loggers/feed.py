"""The process that feeds one logger from the store of a run that goes on.

Its first line of input says what to do; the end of its input, that the session is over. What it has to say to the user
are the lines of its output.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo_steer.errors import HpoSteerError
from hpo_steer.transport.settings import conceal
from steering.loggers.base import RunCard
from steering.loggers.journal import Journal, Written
from steering.loggers.tools import make
from steering.run_view import open_view

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from steering.loggers.base import RunLogger
    from steering.run_view import RunView

_PAUSE_S = 1.0
_REST = 4.0
"""A pass that took long is followed by a pause so many times as long: reading must not burden the database."""
_LONGEST_PAUSE_S = 60.0
_LAST_TRIES = 2
_NICE = 5
_TEXT_MOST = 200


class StillWriting(HpoSteerError):
    """The logger of the session before has not ended yet; it is waited for."""


class Feed:
    """Feeds a logger until the session is over, whatever its tool does meanwhile.

    Args:
        folder: of the run.
        tool: the logger's name.
        options: its options.
        over: set once the session is over.
    """

    def __init__(self, folder: Path, tool: str, options: Mapping[str, Any], over: threading.Event) -> None:
        self._folder, self._tool, self._options, self._over = folder, tool, options, over
        self._said: str | None = None

    def run(self) -> int:
        """Returns the exit code: 1 if not everything could be written."""
        failures = last_tries = 0
        while True:
            over = self._over.is_set()
            try:
                with _alone(self._folder / "loggers" / f"{self._tool}.lock"):
                    self._follow()
            except Exception as exc:  # whatever a tool or its server does, the run is not to suffer
                failures, last_tries = failures + 1, last_tries + over
                logging.getLogger(__name__).exception("the logger %s failed", self._tool)
                self._say(exc, gives_up=last_tries >= _LAST_TRIES)
                if last_tries >= _LAST_TRIES:
                    return 1
                pause_s = min(2.0 ** min(failures, 10), _LONGEST_PAUSE_S)
                if over:
                    time.sleep(min(pause_s, 1.0))
                else:
                    self._over.wait(pause_s)
            else:
                return 0

    def _follow(self) -> None:
        """From the beginning of what is not written to the end of the session."""
        with open_view(str(self._folder)) as view:
            logger = make(self._tool, _card(view), self._options)
            with closing(logger):
                logger.begin()
                self._pass_on(view, logger)
                record = view.store.run()
                logger.end(record.ended if record is not None else None)

    def _pass_on(self, view: RunView, logger: RunLogger) -> None:
        written = Written(self._folder / "loggers" / f"{self._tool}.jsonl", logger.target)
        journal = Journal(view.store, view.experiment, logger, written)
        over = False
        while not over:
            over = self._over.is_set()
            began = time.monotonic()
            journal.pass_on()
            self._said = None
            if not over:
                self._over.wait(max(_PAUSE_S, _REST * (time.monotonic() - began)))

    def _say(self, exc: Exception, *, gives_up: bool) -> None:
        """One sentence for the user, each only once while it lasts."""
        text = conceal(str(exc)).strip().partition("\n")[0] or type(exc).__name__
        text = text if len(text) <= _TEXT_MOST else text[: _TEXT_MOST - 1] + "…"
        then = (
            "not everything was written; the same command makes up for it"
            if gives_up
            else "the search goes on, and it is tried again"
        )
        if self._said != text or gives_up:
            self._said = text
            print(f"{text}: {then}", flush=True)  # noqa: T201 - the way to the user


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Sees to it that no other process feeds the same logger.

    Raises:
        StillWriting: one does: the session before was killed, and its logger writes what it has read.
    """
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with file.open("a") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StillWriting("the logger of the session before still writes") from None
        yield


def _card(view: RunView) -> RunCard:
    experiment = view.experiment
    return RunCard(
        view.name,
        view.run.run,
        view.folder.absolute(),
        view.run.created_at,
        view.run.config,
        tuple(goal.name for goal in experiment.goals),
        {model.name: model.constants for model in experiment.models},
    )


def _listen(over: threading.Event) -> None:
    """Waits for the end of the input."""
    while sys.stdin.readline():
        pass
    over.set()


def main() -> None:
    """The process."""
    os.nice(_NICE)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s: %(message)s")
    request = json.loads(sys.stdin.readline() or "null")
    if request is None:
        return
    over = threading.Event()
    threading.Thread(target=_listen, args=(over,), daemon=True).start()
    feed = Feed(Path(request["folder"]), request["tool"], request["options"], over)
    sys.exit(feed.run())
