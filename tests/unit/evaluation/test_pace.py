from __future__ import annotations

from evaluation.pace import MAX_AHEAD, Pace


def test_the_first_evaluation_counts_as_long() -> None:
    pace = Pace(4)
    assert not pace.short
    assert pace.ahead == 0


def test_short_ones_let_work_wait_ahead() -> None:
    pace = Pace(1)
    pace.ended(0.05)
    assert pace.short
    assert pace.ahead == 4
    for _ in range(50):
        pace.ended(0.0001)
    assert pace.ahead == MAX_AHEAD


def test_an_overrun_ends_it_until_short_ones_come_again() -> None:
    pace = Pace(1)
    pace.ended(0.01)
    pace.overran()
    assert not pace.short
    assert pace.ahead == 0
    for _ in range(4):
        pace.ended(0.01)
    assert pace.short
