"""Learning curves: what the attempts at a point have reported, as the store has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

    from steering.store.base import PointRecord, ReportRecord, Store

Curve: TypeAlias = tuple[tuple[int, Mapping[str, float]], ...]
"""Steps with their metrics, the steps increasing."""
MOST_STEPS = 1000
"""A longer curve is told thinned out, so that an observation stays a short line."""


def curve_of(reports: Iterable[ReportRecord]) -> Curve:
    """The curve of one point: each step as the newest attempt that reported it has it.

    Args:
        reports: of one point, by attempt.
    """
    newest = {report.step: report.metrics for report in reports}
    return tuple((step, dict(newest[step])) for step in sorted(newest))


def thinned(curve: Curve, most: int = MOST_STEPS) -> Curve:
    """At most so many steps of a curve, evenly spread, the first and the last among them.

    >>> [step for step, _ in thinned(tuple((i, {}) for i in range(7)), 3)]
    [0, 3, 6]
    """
    if len(curve) <= most:
        return curve
    return tuple(curve[i * (len(curve) - 1) // (most - 1)] for i in range(most))


def curves(store: Store, points: Iterable[int]) -> dict[int, Curve]:
    """The curves of points, by id; those without a report are left out."""
    found: dict[int, list[ReportRecord]] = {}
    for report in store.reports(points):
        found.setdefault(report.point, []).append(report)
    return {point: curve_of(reports) for point, reports in found.items()}


def pruned_curves(store: Store, records: Sequence[PointRecord]) -> dict[int, Curve]:
    """The curves that an algorithm is told: of pruned points, and of those that took over a pruned one's fate.

    Args:
        store: whose reports have been committed.
        records: points; the others among them are passed over.

    Returns:
        By the points' ids.
    """
    pruned = {
        record.id: record.duplicate_of or record.id
        for record in records
        if record.failure is not None and record.failure.kind == "pruned"
    }
    found = curves(store, set(pruned.values())) if pruned else {}
    return {point: thinned(found[source]) for point, source in pruned.items() if source in found}
