"""What has to become of each mutant, and whether it did."""

from __future__ import annotations

import hashlib
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from benchmarks.mutations import HOPELESS, Mutant
from hpo_steer.errors import MalformedMessage
from hpo_steer.limits import MAX_REASON
from hpo_steer.messages import Message, Report, Result, Started, Work
from hpo_steer.transport.admission import admit_control, admit_event, admit_work, corpse
from hpo_steer.transport.bundle import unpack

_SHOWN = 5


@dataclass(frozen=True)
class Letter:
    """A dead letter.

    Attributes:
        queue: where the message was.
        digest: of its body.
        reason: why it is here.
        point: what it is about, if it can be read.
    """

    queue: str
    digest: str
    reason: str
    point: int | None


@dataclass
class Verdict:
    """How the letters compare.

    Attributes:
        wrong: sentences that should not be true.
        twice: letters that came once more than they had to; messages may arrive twice.
        answers: letters that workers wrote about forged work.
        reasons: how often which, without numbers.
    """

    wrong: list[str] = field(default_factory=list)
    twice: int = 0
    answers: int = 0
    reasons: dict[str, int] = field(default_factory=dict)


def digest(body: bytes) -> str:
    """Enough to tell bodies apart."""
    return hashlib.sha1(body, usedforsecurity=False).hexdigest()


class Judge:
    """Keeps the account of what must come.

    Args:
        experiment: its name.
        run: its id.
        points: ids up to this are the run's own.
        workers: how many hear control messages.
    """

    def __init__(self, experiment: str, run: str, points: int, workers: int) -> None:
        self._experiment, self._run, self._points, self._workers = experiment, run, points, workers
        self._expected: Counter[tuple[str, str]] = Counter()
        self._kinds: dict[tuple[str, str], str] = {}
        self._forged: set[int] = set()
        self._times: defaultdict[str, float] = defaultdict(float)
        self._queues = {queue: f"hpo.{experiment}.{queue}" for queue in ("work", "events", "control")}
        self.harmless = 0
        """Messages that are as true as before, and change nothing."""

    @property
    def letters(self) -> int:
        """Dead letters that have to come, beside the answers to forged work."""
        return self._expected.total()

    @property
    def forged(self) -> int:
        """Works that are true but for their point; each is answered at least once."""
        return len(self._forged)

    def expect(self, mutant: Mutant) -> bool:
        """Notes what has to become of a mutant.

        Returns:
            Whether it may be sent; not if it is a true message about a point of the run.

        Raises:
            AssertionError: a message of a hopeless class would be taken as good.
        """
        bodies = [mutant.body] if mutant.queue == "control" else unpack(mutant.body, mutant.content_type)
        read = [(body, self._read(mutant, body)) for body in bodies]
        messages = [message for _, message in read if message is not None]
        assert not (messages and mutant.kind in HOPELESS), (
            f"{mutant.kind}: {mutant.body[:300]!r} is taken as good"
        )
        if any(self._of_the_run(message) for message in messages):
            return False
        for body, message in read:
            if message is None:
                self._bury(mutant, corpse(body))
            elif isinstance(message, Started | Report | Result):
                self._bury(mutant, message.encoded())  # there is no such point
            elif isinstance(message, Work):
                self._forged.add(message.point)
            else:
                self.harmless += 1
        return True

    def compare(self, letters: list[Letter]) -> Verdict:
        """Compares the letters that came with those that had to."""
        verdict = Verdict(reasons=_count_reasons(letters))
        found = Counter((letter.queue, letter.digest) for letter in letters)
        answered = {letter.point for letter in letters}
        missing, more = self._expected - found, found - self._expected
        by_kind: Counter[str] = Counter()
        for key, count in missing.items():
            by_kind[self._kinds[key]] += count
        verdict.wrong += [f"{n} of class {kind} vanished" for kind, n in by_kind.items()]
        if unanswered := self._forged - answered:
            verdict.wrong.append(f"{len(unanswered)} forged works vanished: {sorted(unanswered)[:_SHOWN]}")
        for letter in letters:
            key = (letter.queue, letter.digest)
            if not 0 < len(letter.reason) <= MAX_REASON or not letter.reason.isprintable():
                verdict.wrong.append(f"a reason of {len(letter.reason)} characters: {letter.reason[:100]!r}")
            if not more[key]:
                continue
            more[key] -= 1
            if key in self._expected:
                verdict.twice += 1
            elif letter.point in self._forged:
                verdict.answers += 1
            else:
                verdict.wrong.append(f"a dead letter that nobody sent, of {letter.queue}: {letter.reason}")
        return verdict

    def slowest_ms(self) -> dict[str, float]:
        """The longest that reading one message of each class took, the slowest class first."""
        slowest = sorted(self._times.items(), key=lambda item: -item[1])
        return {kind: round(1e3 * seconds, 3) for kind, seconds in slowest}

    def _read(self, mutant: Mutant, body: bytes) -> Message | None:
        began = time.perf_counter()
        try:
            match mutant.queue:
                case "events":
                    return admit_event(body, self._experiment, self._run)
                case "work":
                    return admit_work(body, self._experiment, self._run)
                case "control":
                    return admit_control(body, self._experiment, self._run)
        except MalformedMessage:
            return None
        finally:
            self._times[mutant.kind] = max(self._times[mutant.kind], time.perf_counter() - began)

    def _of_the_run(self, message: Message) -> bool:
        about = [getattr(message, "point", None), *getattr(message, "points", ())]
        about += [point for point, _ in getattr(message, "running", ())]
        return any(point is not None and point <= self._points for point in about)

    def _bury(self, mutant: Mutant, body: bytes) -> None:
        key = (self._queues[mutant.queue], digest(body))
        self._expected[key] += self._workers if mutant.queue == "control" else 1
        self._kinds[key] = mutant.kind


def read_letters(channel: Any, queue: str) -> list[Letter]:
    """Takes all messages of the dead-letter queue."""
    left = int(channel.queue_declare(queue, passive=True).method.message_count)
    letters: list[Letter] = []
    if not left:
        return letters
    channel.basic_qos(prefetch_count=500)
    for method, properties, body in channel.consume(queue):
        headers = properties.headers or {}
        letters.append(Letter(headers["x-queue"], digest(body), headers["x-reason"], _point(body)))
        left -= 1
        if left == 0 or len(letters) % 200 == 0:
            channel.basic_ack(method.delivery_tag, multiple=True)
        if left == 0:
            break
    channel.cancel()
    return letters


def _point(body: bytes) -> int | None:
    from hpo_steer.messages import decode_event

    if len(body) > 65_536:
        return None
    try:
        return getattr(decode_event(body), "point", None)
    except MalformedMessage:
        return None


def _count_reasons(letters: list[Letter]) -> dict[str, int]:
    def alike(reason: str) -> str:
        return "".join("#" if c.isdigit() else c for c in reason)[:60]

    return dict(Counter(alike(letter.reason) for letter in letters).most_common(40))
