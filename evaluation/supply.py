"""Where a worker's code comes from, if steering ships it: the cache, a URL, or steering itself."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Protocol

from evaluation.collector import Collector
from hpo_steer import faults
from hpo_steer.errors import BundleError, HpoSteerError, MissingExtra
from hpo_steer.messages import BundlePart
from hpo_steer.shipping import short
from hpo_steer.shipping.limits import MIB, mib

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluation.launch import Assignment
    from evaluation.runners.shipped import ShippedRunner
    from evaluation.shipment import Workshop
    from hpo_steer.messages import BundleGone, Work
    from hpo_steer.shipping import BundleCache, Prepared

_PAUSE_S, _LONGEST_PAUSE_S = 5.0, 60.0
"""How long a worker takes no points after a bundle could not be had; twice as long each time."""
_LOOK_S = 5.0
"""How often at most it is looked whether what lies unpacked is still whole."""
_GONE_S = 3.0
"""How long work is dropped that names a bundle which steering does not have; by then the queue is rid of it."""
_TELL_S = 10.0
"""How often steering is told that this worker still waits."""


class Line(Protocol):
    """How a supply speaks to steering."""

    def want_bundle(self, run: str, bundle: str, parts: list[tuple[int, int]], problem: str) -> None:
        """Says that a bundle is lacking."""

    def collect(self, on: bool) -> None:
        """Has parts of bundles come, or no more."""


@dataclass
class _Fetch:
    """A bundle on its way.

    Attributes:
        work: the point that needs it.
        stage: for people.
        url: where else it lies; None once that was in vain.
        collector: while its parts come from steering.
        problem: why it was not had so far.
        resume_at: when points are taken again after a failure (monotonic); None: it is under way.
        got: bytes so far, and in all, where they are counted.
    """

    work: Work
    stage: str
    url: str | None = None
    collector: Collector | None = None
    problem: str = ""
    resume_at: float | None = None
    got: tuple[int, int | None] | None = None


class Supply:
    """Has the code at hand that points need; while it is on its way, the worker takes none.

    What may take long (reading, unpacking, downloading) happens in a thread of its own, so that the leases of what
    runs meanwhile are renewed. All methods are for the worker's thread.

    Args:
        cache: where bundles lie.
        workshop: makes a runner of one.
        runner: takes that.
        say: told what people should know.
    """

    def __init__(
        self, cache: BundleCache, workshop: Workshop, runner: ShippedRunner, say: Callable[[str], None]
    ) -> None:
        self._cache, self._workshop, self._runner, self._say = cache, workshop, runner, say
        self._ready: dict[str, Prepared] = {}
        self._looked: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._fetch: _Fetch | None = None
        self._failures = 0
        self._told = 0.0
        self._done: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        self._line: Line | None = None

    def open(self, line: Line) -> None:
        """Begins to speak to steering."""
        self._line = line

    def fileno(self) -> int:
        """Readable when `advance` has something to do."""
        return self._wake_read

    @property
    def busy(self) -> bool:
        """Whether no points should be taken now."""
        return self._fetch is not None

    @property
    def heartbeat_s(self) -> float | None:
        """How often the experiment wants a sign of life, as far as its bundle has told."""
        return self._workshop.heartbeat_s

    @property
    def status(self) -> str | None:
        """What it is waiting for, for people; None: nothing."""
        fetch = self._fetch
        if fetch is None:
            return None
        if fetch.resume_at is not None:
            return f"no code: {fetch.problem}"
        got = fetch.got
        if fetch.collector is not None and fetch.collector.size is not None:
            got = (fetch.collector.got, fetch.collector.size)
        name = short(fetch.work.bundle or "")
        if got is None:
            return f"{fetch.stage} bundle {name}"
        total = f" of {mib(got[1])}" if got[1] else " MiB"
        return f"{fetch.stage} bundle {name} {got[0] / MIB:.0f}{total}"

    # ------------------------------------------------------------ points

    def admits(self, work: Work) -> bool:
        """Whether a point's code is at hand."""
        ready = self._ready.get(work.bundle or "")
        if ready is None:
            return False
        now = time.monotonic()
        if now - self._looked.get(ready.bundle, 0.0) < _LOOK_S:
            return True
        self._looked[ready.bundle] = now
        damaged = ready.damage()
        if damaged is None:
            return True
        self._say(
            f"warning: {damaged} is gone or was changed; it is made anew from bundle {short(ready.bundle)}"
        )
        del self._ready[ready.bundle]
        return False

    def useless(self, work: Work) -> bool:
        """Whether steering said just now that it has no such bundle: work that names it is of an earlier session.

        Not for ever: the user may go back to the code of that session.
        """
        return time.monotonic() - self._gone.get(work.bundle or "", -_GONE_S) < _GONE_S

    def fetch(self, work: Work) -> None:
        """Gets the code of a point, unless it is busy with that of another one."""
        if self._fetch is not None:
            return
        self._fetch = _Fetch(work, "looking for", work.bundle_url)
        if work.bundle is None:
            self._fail("steering ships none; set evaluation.ship: true in its config, and start it again")
            return
        self._in_thread(self._prepare, self._on_looked)

    def hear(self, message: BundlePart | BundleGone) -> None:
        """Steering sends a part, or says that there is nothing to send."""
        fetch = self._fetch
        if fetch is None or fetch.collector is None or message.bundle != fetch.work.bundle:
            return
        if not isinstance(message, BundlePart):
            self._gone[message.bundle] = time.monotonic()
            self._say(f"bundle {short(message.bundle)} is no more: {message.reason or 'steering has none'}")
            self._end()
            return
        collector = fetch.collector
        try:
            collector.take(message, time.monotonic())
        except (BundleError, OSError) as exc:
            self._fail(_reason(exc))
            return
        faults.reached("worker.collected")
        if collector.complete:
            self._collecting(on=False)
            fetch.stage = "unpacking"
            self._in_thread(lambda fetch: self._keep(fetch, collector.file), self._on_kept)

    def tick(self, now: float) -> None:
        """What is due; call it several times a second."""
        fetch = self._fetch
        if fetch is None:
            return
        if fetch.resume_at is not None:
            if now >= fetch.resume_at:
                self._end()
            return
        parts: list[tuple[int, int]] = []
        if fetch.collector is not None and not fetch.collector.complete:
            parts = fetch.collector.wanted(now)
        if parts or now - self._told >= _TELL_S:
            self._tell(fetch, parts)

    def advance(self) -> None:
        """Goes on with what the thread has done."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 4096)
        while self._done:
            self._done.popleft()()

    def close(self) -> None:
        """Gives up; a thread that is still busy ends with the process."""
        self._end()
        os.close(self._wake_read)
        os.close(self._wake_write)
        self._wake_write = -1

    # ------------------------------------------------------------ steps of a fetch

    def _prepare(self, fetch: _Fetch) -> tuple[Prepared, Assignment] | None:
        """In the thread: takes the bundle from the cache, if it is there, and looks whether it can be run here."""
        prepared = self._cache.prepare(fetch.work.bundle or "")
        self._cache.prune()
        return None if prepared is None else (prepared, self._workshop.inspect(prepared))

    def _on_looked(self, fetch: _Fetch, found: tuple[Prepared, Assignment] | None) -> None:
        if found is not None:
            self._on_kept(fetch, found)
        elif fetch.url is not None:
            fetch.stage = "downloading"
            self._say(f"downloading bundle {short(fetch.work.bundle or '')} from {_shown(fetch.url)}")
            self._in_thread(self._download, self._on_kept, self._on_no_download)
        else:
            self._collect(fetch)

    def _download(self, fetch: _Fetch) -> tuple[Prepared, Assignment]:
        from hpo_steer.shipping.urls import download

        assert fetch.url is not None  # noqa: S101 - see `_on_looked`

        def progress(got: int, size: int | None) -> None:
            fetch.got = (got, size)

        with self._cache.collect() as file:
            download(fetch.url, file, progress)
            try:
                return self._keep(fetch, file)
            except BundleError as exc:
                raise BundleError(f"{_shown(fetch.url)}: {exc}") from None

    def _on_no_download(self, fetch: _Fetch, error: Exception) -> None:
        """The URL was in vain; steering has the bundle too."""
        fetch.problem, fetch.url, fetch.got = _reason(error), None, None
        self._say(f"warning: {fetch.problem}; asking steering for bundle {short(fetch.work.bundle or '')}")
        self._collect(fetch)

    def _collect(self, fetch: _Fetch) -> None:
        try:
            fetch.collector = Collector(self._cache.collect(), time.monotonic())
        except OSError as exc:
            self._fail(_reason(exc))
            return
        fetch.stage = "fetching"
        self._say(f"fetching bundle {short(fetch.work.bundle or '')} from steering")
        self._collecting(on=True)

    def _keep(self, fetch: _Fetch, file: IO[bytes]) -> tuple[Prepared, Assignment]:
        """In the thread: takes what has come into the cache, and uses it."""
        self._cache.keep(fetch.work.bundle or "", file)
        found = self._prepare(fetch)
        if found is None:
            raise BundleError("it was damaged right after it had come; is the disk sound?")
        return found

    def _on_kept(self, _fetch: _Fetch, found: tuple[Prepared, Assignment]) -> None:
        prepared, inspected = found
        bundle = prepared.bundle
        try:
            self._runner.add(bundle, lambda: self._workshop.make(inspected))
        except (HpoSteerError, OSError) as exc:
            self._fail(_reason(exc))
            return
        if prepared.mended:
            self._say(f"warning: {prepared.mended} damaged files of bundle {short(bundle)} were made anew")
        self._say(f"bundle {short(bundle)} is ready in {prepared.folder}")
        self._ready[bundle], self._looked[bundle] = prepared, time.monotonic()
        self._failures = 0
        self._end()

    def _fail(self, reason: str) -> None:
        """Takes no points for a while."""
        fetch = self._fetch
        assert fetch is not None  # noqa: S101 - it is what fails
        self._let_go(fetch)
        pause_s = min(_PAUSE_S * 2.0**self._failures, _LONGEST_PAUSE_S)
        self._failures = min(self._failures + 1, 10)
        fetch.problem, fetch.resume_at = reason, time.monotonic() + pause_s
        name = f"bundle {short(fetch.work.bundle)}" if fetch.work.bundle else "the code"
        self._say(f"warning: {name} cannot be used: {reason}. Its points wait; trying again in {pause_s:g} s")
        self._tell(fetch, [])

    def _end(self) -> None:
        if self._fetch is not None:
            self._let_go(self._fetch)
            self._fetch = None

    def _let_go(self, fetch: _Fetch) -> None:
        if fetch.collector is not None:
            fetch.collector.close()
            fetch.collector = None
            self._collecting(on=False)

    # ------------------------------------------------------------ steering and the thread

    def _collecting(self, *, on: bool) -> None:
        if self._line is not None:
            self._line.collect(on)

    def _tell(self, fetch: _Fetch, parts: list[tuple[int, int]]) -> None:
        self._told = time.monotonic()
        if self._line is not None and fetch.work.bundle is not None:
            self._line.want_bundle(fetch.work.run, fetch.work.bundle, parts, fetch.problem)

    def _in_thread(
        self,
        work: Callable[[_Fetch], Any],
        then: Callable[[_Fetch, Any], None],
        otherwise: Callable[[_Fetch, Exception], None] | None = None,
    ) -> None:
        """Does something in a thread; what follows happens in `advance`, unless the fetch was given up."""
        fetch = self._fetch
        assert fetch is not None  # noqa: S101 - the callers have it

        def act(step: Callable[[_Fetch, Any], None], outcome: Any) -> None:
            if self._fetch is fetch:
                step(fetch, outcome)

        def run() -> None:
            try:
                outcome = work(fetch)
            except (HpoSteerError, OSError) as exc:
                known = otherwise if isinstance(exc, BundleError | MissingExtra | OSError) else None
                step, outcome = known or (lambda _, error: self._fail(_reason(error))), exc
            except Exception as exc:  # noqa: BLE001 - a defect: it ends the worker, not this thread alone
                step, outcome = _raise, exc
            else:
                step = then
            self._done.append(lambda: act(step, outcome))
            if (wake := self._wake_write) >= 0:
                os.write(wake, b"\0")

        threading.Thread(target=run, name="hpo-evaluate code", daemon=True).start()


def _reason(error: Exception) -> str:
    """An error in one sentence."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{error.strerror}"
    return str(error)


def _raise(_fetch: _Fetch, error: Exception) -> None:
    raise error


def _shown(url: str) -> str:
    from hpo_steer.shipping.urls import shown

    return shown(url)
