"""Asks of the algorithms of all models: who owes an answer, since when, and what is done when none comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from steering.book import Ended, observation, steps
from steering.curves import pruned_curves
from steering.hosts import AlgorithmHost, HostFailure, Opening, ProcessHost, Proposal
from steering.stand_in import stand_in
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from steering.clock import Clock
    from steering.ledger import Ledger, Notify
    from steering.store.base import IterationRecord, Origin
    from steering.tuned import Tuned

_REVIVALS = 3


class Asks:
    """The hosts of the models' algorithms, and what they were asked.

    Args:
        models: by name.
        openings: what each of their algorithms was made from.
        timeout_s: how long an ask may take.
        ledger: written out before the store is read.
        clock: the time.
        notify: hears what happens.
        watch: told of each host that replies through a descriptor, and of the one it replaces.
        proposed: takes the points that were chosen, and by whom.

    Attributes:
        hosts: where the algorithms live.
    """

    def __init__(
        self,
        models: Mapping[str, Tuned],
        openings: Mapping[str, Opening],
        timeout_s: float,
        *,
        ledger: Ledger,
        clock: Clock,
        notify: Notify,
        watch: Callable[[AlgorithmHost, AlgorithmHost | None], None],
        proposed: Callable[[Proposal, Origin], None],
    ) -> None:
        self._models, self._openings, self._timeout_s = models, openings, timeout_s
        self._ledger, self._clock, self._notify = ledger, clock, notify
        self._watch, self._proposed = watch, proposed
        self.hosts = list({id(tuned.host): tuned.host for tuned in models.values()}.values())
        for host in self.hosts:
            watch(host, None)
        self._thinking: dict[int, float] = {}
        """Since when each host that owes an answer has had nothing else to do, by the monotonic clock."""
        self._revivals = 0

    def ask(self, tuned: Tuned, n: int) -> None:
        """Asks for `n` points of a model; an algorithm in our own process has answered when this returns."""
        tuned.search.begin_ask(n)
        self._begin(tuned)
        tuned.host.ask(tuned.model.name, n)
        if tuned.host.fileno() is None:
            self.answers(tuned.host)

    def _begin(self, tuned: Tuned) -> None:
        tuned.ask_began = self._clock.monotonic()
        self._thinking.setdefault(id(tuned.host), tuned.ask_began)

    def answers(self, host: AlgorithmHost) -> None:
        """Takes in what a host has answered.

        Raises:
            AlgorithmError: an algorithm failed; the run can be resumed.
        """
        for reply in host.replies():
            if isinstance(reply, Proposal):
                self._proposed(reply, "algorithm")
                self._went_on(host)
            elif isinstance(reply, HostFailure):
                if not reply.died:
                    raise reply.error
                self._revive(host, reply)

    def mind(self, now: float) -> None:
        """Ends the process of an algorithm that takes too long; other points stand in for those it owes.

        The time counts from when the process could begin with the ask: an ask of another of its models may come first.
        """
        for host in list(self.hosts):
            since = self._thinking.get(id(host))
            if since is not None and now - since > self._timeout_s and isinstance(host, ProcessHost):
                self._stand_in(host)

    def _went_on(self, host: AlgorithmHost) -> None:
        """A host has answered: it begins with the next ask, if there is one."""
        if any(tuned.host is host and tuned.search.asking for tuned in self._models.values()):
            self._thinking[id(host)] = self._clock.monotonic()
        else:
            self._thinking.pop(id(host), None)

    def _stand_in(self, host: ProcessHost) -> None:
        limit = self._timeout_s
        late = [tuned for tuned in self._models.values() if tuned.host is host and tuned.search.asking]
        tuned = min(late, key=lambda each: each.ask_began)
        name, n = tuned.model.name, tuned.search.wanted_at_ask
        self._ledger.commit()
        points, ended = stand_in(self._openings[name], n, self._ledger.store.points(model=name))
        note = (
            f"{self._openings[name].method} has not chosen {plural(n, 'point')} within {limit:g} s "
            "(steering.ask_timeout_s): points of a Sobol sequence stand in for them"
        )
        self._proposed(Proposal(name, points, ended, limit, note), "stand-in")
        self._restart(host)

    def _revive(self, host: AlgorithmHost, failure: HostFailure) -> None:
        """Starts a new process for the algorithms of one that died, and repeats their histories."""
        self._revivals += 1
        if self._revivals > _REVIVALS or not isinstance(host, ProcessHost):
            raise failure.error
        self._notify("algorithm", f"{failure.error}; starting it again ({self._revivals} of {_REVIVALS})")
        self._restart(host)

    def _restart(self, host: ProcessHost) -> None:
        fresh = host.again()
        self._watch(fresh, host)
        host.close()
        self.hosts[self.hosts.index(host)] = fresh
        self._thinking.pop(id(host), None)
        self._ledger.commit()
        for name, tuned in self._models.items():
            if tuned.host is host:
                tuned.host = fresh
                self.repeat(tuned, name)

    def repeat(self, tuned: Tuned, name: str) -> None:
        """Takes an algorithm through its history again, and repeats the ask it owes."""
        points = self._ledger.store.points(model=name)
        iterations = self._ledger.store.iterations(name)
        search, ended = tuned.search, Ended(points)
        curves = pruned_curves(self._ledger.store, points)
        tuned.host.open(self._openings[name])
        tuned.host.restore(name, [step for step, _ in steps(iterations, points, curves)])
        told = _told_before(iterations)
        for record in ended.between(told, search.told_at_ask if search.asking else None):
            tuned.host.tell(name, [observation(record, curves.get(record.id))])
        if search.asking:
            self._begin(tuned)
            tuned.host.ask(name, search.wanted_at_ask)
            for record in ended.between(search.told_at_ask):
                tuned.host.tell(name, [observation(record, curves.get(record.id))])


def _told_before(iterations: Sequence[IterationRecord]) -> int:
    """The place of the newest observation that a repeated history holds."""
    if not iterations:
        return 0
    last = iterations[-1]
    return last.size if last.origin == "known" else last.told
