"""A model in the loop: its search and its algorithm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hpo_steer.config import Model
    from hpo_steer.space import SearchSpace
    from steering.hosts import AlgorithmHost
    from steering.search import ModelSearch


@dataclass
class Tuned:
    """A model in the loop.

    Attributes:
        model: as configured.
        space: its search space.
        host: where its algorithm lives.
        search: its iterations and stop rules.
        ended: why it is over; None while it goes on.
        last_ask_s: how long its last ask took.
        ask_began: when the ask under way began, by the monotonic clock.
    """

    model: Model
    space: SearchSpace
    host: AlgorithmHost
    search: ModelSearch
    ended: str | None = None
    last_ask_s: float | None = None
    ask_began: float = 0.0
