"""Which points keep the outcome constraints, and what to say while none does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpo_steer.outcomes import broken_outcome
from steering.words import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hpo_steer.outcomes import OutcomeConstraint
    from steering.store.base import PointRecord


def feasible(outcomes: Sequence[OutcomeConstraint], point: PointRecord) -> bool:
    """Whether a point is done and keeps all outcome constraints."""
    return point.state == "done" and broken_outcome(outcomes, point.values or {}) is None


def feasibility(outcomes: Sequence[OutcomeConstraint], point: PointRecord) -> bool | None:
    """The same of a done point; None of one that has no values."""
    return feasible(outcomes, point) if point.state == "done" else None


def none_feasible(outcomes: Sequence[OutcomeConstraint], points: Sequence[PointRecord]) -> str | None:
    """A sentence for a run whose done points all break an outcome constraint; None for any other run."""
    done = [p for p in points if p.state == "done"]
    if not done or any(feasible(outcomes, p) for p in done):
        return None
    broken = {str(each): sum(not each.holds(p.values or {}) for p in done) for each in outcomes}
    if len(broken) == 1:
        return f'no point keeps the outcome constraint "{outcomes[0]}" yet, of {len(done)} done'
    counts = ", ".join(f'"{text}" is broken by {n}' for text, n in broken.items() if n)
    return f"no point keeps all outcome constraints yet: of {plural(len(done), 'done point')} {counts}"
