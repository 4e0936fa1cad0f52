"""Work in a worker's hands that no slot has begun."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from evaluation.outbox import Key, key_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hpo_steer.messages import Cancel, Work
    from hpo_steer.transport.base import Delivery

_REMEMBERED = 10_000


class Backlog:
    """Points that wait for a slot, in the order they came; and what is remembered of those that do not any more."""

    def __init__(self) -> None:
        self._waiting: deque[Delivery[Work]] = deque()
        self._cancelled: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._given_back: set[Key] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Delivery[Work]]:
        return iter(self._waiting)

    def add(self, delivery: Delivery[Work]) -> None:
        """One more."""
        self._waiting.append(delivery)

    def next(self) -> Delivery[Work]:
        """Takes the first."""
        return self._waiting.popleft()

    def clear(self) -> None:
        """Forgets those that wait: the connection they came by is gone."""
        self._waiting.clear()

    def unwanted(self, work: Work) -> bool:
        """Whether a point needs no evaluation any more."""
        return (work.run, work.point) in self._cancelled

    def cancel(self, cancel: Cancel) -> list[Delivery[Work]]:
        """Points that need no evaluation any more.

        Returns:
            Those that waited, to be settled.
        """
        for point in cancel.points:
            self._cancelled[cancel.run, point] = None
        while len(self._cancelled) > _REMEMBERED:
            self._cancelled.popitem(last=False)
        dropped = [each for each in self._waiting if self.unwanted(each.message)]
        if dropped:
            self._waiting = deque(each for each in self._waiting if not self.unwanted(each.message))
        return dropped

    def suspicious(self, delivery: Delivery[Work]) -> bool:
        """Whether work that comes once more may have killed another worker."""
        return delivery.redelivered and key_of(delivery.message) not in self._given_back

    def giving_back(self, delivery: Delivery[Work]) -> None:
        """Work goes back: when it comes once more, no other worker has died of it."""
        if len(self._given_back) > _REMEMBERED:
            self._given_back.clear()
        self._given_back.add(key_of(delivery.message))

    def give_back(self) -> list[Delivery[Work]]:
        """Takes out all that wait, to be given back."""
        waiting = list(self._waiting)
        self._waiting.clear()
        for delivery in waiting:
            self.giving_back(delivery)
        return waiting
