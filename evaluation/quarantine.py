"""Takes slots, or a whole worker, out of service where one training after the other fails.

A sick GPU, a full disk or a broken installation fails points in seconds that others would train for hours, and so
attracts one after the other. After some failures in a row nothing is begun there for a while; then one point is tried.
Its success ends the quarantine, its failure doubles it. So a healthy machine that had bad luck is back after a
minute, and a sick one costs a point an hour.

Some searches lead through places where trainings fail anyway. So where successes and failures alternate, more of the
latter have to follow each other before they speak against the machine.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from hpo_steer.config.worker_life import WorkerLife
    from hpo_steer.messages import FailureInfo

LONGEST_S = 3600.0
_RARE = 0.15
"""Up to this share of failures among its trainings, the config's number of them in a row is no accident."""
_REMEMBERED = 100
_ASSUMED = 5
"""Successes that are taken to have come before the first training."""
_COUNTED = ("error", "timeout")
_NEUTRAL = ("invalid", "cancelled", "released", "lost")
"""Neither the machine's fault nor a proof of its health. A pruned training is one: it had something to report."""
_SHOWN_CHARS = 100


@dataclass
class _Ward:
    """One slot, or the whole worker.

    Attributes:
        failures: in a row.
        pause_s: how long the next quarantine lasts.
        until: when the present one ends, and a point is tried; None: there is none.
        why: the last failure.
    """

    pause_s: float
    failures: int = 0
    until: float | None = None
    why: str = ""

    def shut(self, now: float) -> bool:
        return self.until is not None and now < self.until

    def on_trial(self, now: float) -> bool:
        return self.until is not None and now >= self.until

    def fail(self, now: float, after: int, why: str) -> bool:
        """One more failure; whether a quarantine begins with it."""
        self.failures += 1
        self.why = why
        if self.shut(now) or (self.until is None and self.failures < after):
            return False
        self.until = now + self.pause_s
        self.pause_s = min(2 * self.pause_s, LONGEST_S)
        return True


class Quarantine:
    """Counts failures in a row.

    Args:
        rules: after how many, and for how long.
        slots: how many slots there are.
    """

    def __init__(self, rules: WorkerLife, slots: int) -> None:
        self._rules, self._slots = rules, slots
        self._wards: dict[int, _Ward] = {}
        self._whole = _Ward(rules.quarantine_s)
        self._streak: dict[int, int] = {}
        self._past: deque[bool] = deque([True] * _ASSUMED, maxlen=_REMEMBERED)
        self._exempt = False

    @property
    def _after(self) -> int:
        """How many failures in a row are no accident: the config's number, or more where failures are common."""
        share = self._past.count(False) / len(self._past)
        if share <= _RARE:
            return self._rules.quarantine_after
        return math.ceil(self._rules.quarantine_after * math.log(_RARE) / math.log(share))

    def ended(self, slot: int, failure: FailureInfo | None, now: float) -> str | None:
        """An attempt has ended.

        Args:
            slot: where it ran.
            failure: why it has no result; None: it has one.
            now: monotonic seconds.

        Returns:
            A sentence if a quarantine begins or ends with it.
        """
        kind = None if failure is None else failure.kind
        if kind in _NEUTRAL:
            return None
        if failure is None or kind not in _COUNTED:
            return self._well(slot)
        if self._exempt:
            return None
        why = f"{kind}: {failure.message.strip().partition(chr(10))[0][:_SHOWN_CHARS] or 'no message'}"
        self._streak[slot] = self._streak.get(slot, 0) + 1
        ward = self._wards.setdefault(slot, _Ward(self._rules.quarantine_s))
        slot_news = self._slots > 1 and ward.fail(now, self._after, why)
        if self._whole.fail(now, 1 if self._everywhere else 2**62, why):
            return f"quarantined: {self._told(self._whole, now)}"
        return f"slot {slot} is quarantined: {self._told(ward, now)}" if slot_news else None

    @property
    def _everywhere(self) -> bool:
        """Whether the failures speak against the whole worker.

        One bad slot does not speak against others, which may be busy with long trainings: no slot counts for more
        than half of the failures that are needed.
        """
        after = self._after
        if self._slots == 1:
            return sum(self._streak.values()) >= after
        counted = sum(min(count, (after + 1) // 2) for count in self._streak.values())
        return counted >= after and len(self._streak) > 1

    @property
    def active(self) -> bool:
        """Whether something is in quarantine, or on trial after one."""
        return self._whole.until is not None or any(w.until is not None for w in self._wards.values())

    def usable(self, free: Sequence[int], now: float, *, busy: int) -> list[int]:
        """Those of the free slots in which a point may be begun, in their order.

        Args:
            free: slots.
            now: monotonic seconds.
            busy: how many others are in use.
        """
        if not self.active:
            return list(free)
        if self._whole.shut(now):
            return []
        fit = [slot for slot in free if slot not in self._wards or not self._wards[slot].shut(now)]
        if self._whole.on_trial(now):
            return [] if busy else fit[-1:]
        return fit

    def shut(self, slots: Collection[int], now: float) -> bool:
        """Whether no point is begun in any slot at present."""
        return self._whole.until is not None or (
            bool(self._wards) and all(s in self._wards and self._wards[s].shut(now) for s in slots)
        )

    def reason(self, now: float) -> str:
        """Why something is in quarantine, as a sentence; empty: nothing is."""
        if self._whole.until is not None:
            return self._told(self._whole, now)
        shut = sorted(slot for slot, ward in self._wards.items() if ward.until is not None)
        if not shut:
            return ""
        named = ", ".join(map(str, shut[:8])) + ("…" if len(shut) > 8 else "")
        return f"slot{'s' * (len(shut) > 1)} {named}: {self._told(self._wards[shut[0]], now)}"

    def pardon(self, *, lasting: bool) -> None:
        """Ends every quarantine.

        Args:
            lasting: none begins before a point has been evaluated.
        """
        self._whole = _Ward(self._rules.quarantine_s)
        self._wards.clear()
        self._streak.clear()
        self._exempt = lasting

    def _well(self, slot: int) -> str | None:
        self._exempt = False
        self._past += [False] * sum(self._streak.values()) + [True]
        if not self._streak and slot not in self._wards:
            return None
        shut = self._whole.until is not None
        bad = self._wards.pop(slot, None)
        self._whole = _Ward(self._rules.quarantine_s)
        self._streak.clear()
        if shut:
            self._wards.clear()
            return "a point was evaluated: the quarantine is over"
        if bad is not None and bad.until is not None:
            return f"a point was evaluated in slot {slot}: its quarantine is over"
        return None

    def _told(self, ward: _Ward, now: float) -> str:
        left_s = max((ward.until or now) - now, 0.0)
        when = f"in {left_s / 60:.0f} min" if left_s >= 90 else f"in {left_s:.0f} s" if left_s >= 1 else "now"
        return f"{ward.failures} failures in a row ({ward.why}); one point is tried {when}"
