"""What was decided and is not written down yet: changes for the store, and messages that wait for their commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from hpo_steer import faults
from hpo_steer.errors import StoreError
from steering.store.base import Counts, Store, Transaction

if TYPE_CHECKING:
    from hpo_steer.messages import Control, Event
    from hpo_steer.transport.base import Delivery
    from steering.book import LivePoint
    from steering.clock import Clock

Notify = Callable[[str, str], None]
"""Told of what happens: a kind (``iteration``, ``failed``, ``worker``, ``broker``, ``lost``, ``ended``) and a text."""

_RETRIES_S = (0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0)


class Ledger:
    """Gathers changes and commits them together.

    Args:
        store: locked by this process.
        clock: the time.
        notify: hears of commits that have to be tried again.

    Attributes:
        store: to read what was committed.
        counts: what the store will count after the next commit.
        committed: when the last commit ended, by the monotonic clock.
        settle: events that are acknowledged after the commit.
        controls: messages to workers that go out after it.
        publish: points that go to the work queue after it, by id.
    """

    def __init__(self, store: Store, clock: Clock, notify: Notify) -> None:
        self.store, self._clock, self._notify = store, clock, notify
        self.counts = Counts()
        self.committed = 0.0
        self.settle: list[Delivery[Event]] = []
        self.controls: list[Control] = []
        self.publish: dict[int, LivePoint] = {}
        self._changes: list[Callable[[Transaction], None]] = []

    def add(self, change: Callable[[Transaction], None]) -> None:
        """Notes a change; it must be repeatable, since a failed commit is tried again."""
        self._changes.append(change)

    def commit(self) -> bool:
        """Writes all changes in one transaction.

        Returns:
            Whether there were any.

        Raises:
            StoreError: the store failed for good; nothing of this transaction was written.
        """
        if not self._changes:
            return False
        for pause_s in (*_RETRIES_S, None):
            try:
                with self.store.transaction() as transaction:
                    for change in self._changes:
                        change(transaction)
                    faults.reached("steering.writing")
                break
            except StoreError as exc:
                if pause_s is None or not exc.transient:
                    raise
                self._notify("store", f"{exc}; trying again in {pause_s:g} s")
                self._clock.sleep(pause_s)
        self._changes = []
        self.committed = self._clock.monotonic()
        return True

    def reopen(self, kind: str) -> None:
        """As `count`: a point that had failed is queued again."""
        counts = self.counts
        failed = {k: n - (k == kind) for k, n in counts.failed.items()}
        left = {k: n for k, n in failed.items() if n}
        self.counts = Counts(counts.queued + 1, counts.running, counts.done, left, counts.duplicates)

    def count(
        self,
        *,
        queued: int = 0,
        running: int = 0,
        done: int = 0,
        failed: str | None = None,
        duplicates: int = 0,
    ) -> None:
        """Keeps `counts` equal to what the store will say after the commit."""
        counts = self.counts
        kinds = (
            counts.failed if failed is None else {**counts.failed, failed: counts.failed.get(failed, 0) + 1}
        )
        self.counts = Counts(
            counts.queued + queued,
            counts.running + running,
            counts.done + done,
            kinds,
            counts.duplicates + duplicates,
        )
