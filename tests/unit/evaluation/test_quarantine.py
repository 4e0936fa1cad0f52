"""Quarantine: after failures in a row nothing is begun for a while, then one point is tried."""

from __future__ import annotations

import random

import pytest

from evaluation.quarantine import LONGEST_S, Quarantine
from hpo_steer.config.worker_life import WorkerLife
from hpo_steer.messages import FailureInfo

ERROR = FailureInfo(kind="error", message="CUDA out of memory\nand more")


def quarantine(slots: int, after: int = 5) -> Quarantine:
    return Quarantine(WorkerLife(quarantine_after=after, quarantine_s=60), slots)


def test_one_slot_is_shut_tried_and_opened_again() -> None:
    made = quarantine(1)
    for _ in range(4):
        assert made.ended(0, ERROR, 0.0) is None
        assert made.usable([0], 0.0, busy=0) == [0]
    said = made.ended(0, ERROR, 0.0)
    assert said == "quarantined: 5 failures in a row (error: CUDA out of memory); one point is tried in 60 s"
    assert made.usable([0], 59.0, busy=0) == []
    assert made.shut([0], 59.0)
    assert made.usable([0], 60.0, busy=0) == [0]
    assert made.ended(0, ERROR, 60.0) is not None  # twice as long now
    assert made.usable([0], 179.0, busy=0) == []
    assert made.ended(0, None, 180.0) == "a point was evaluated: the quarantine is over"
    assert made.reason(180.0) == ""
    assert not made.active


def test_it_never_lasts_longer_than_an_hour() -> None:
    made, now = quarantine(1), 0.0
    for _ in range(20):
        made.ended(0, ERROR, now)
        now += 2 * LONGEST_S
    made.ended(0, ERROR, now)
    assert made.usable([0], now + LONGEST_S - 1, busy=0) == []
    assert made.usable([0], now + LONGEST_S, busy=0) == [0]


@pytest.mark.parametrize("kind", ["invalid", "cancelled"])
def test_what_is_not_the_machines_fault_neither_counts_nor_pardons(kind: str) -> None:
    made = quarantine(1)
    for _ in range(5):
        made.ended(0, FailureInfo.model_validate({"kind": kind, "message": "x"}), 0.0)
    assert not made.active
    for _ in range(4):
        made.ended(0, ERROR, 0.0)
    made.ended(0, FailureInfo.model_validate({"kind": kind, "message": "x"}), 0.0)
    assert made.ended(0, ERROR, 0.0) is not None


@pytest.mark.parametrize("success", [None, FailureInfo(kind="pruned", message="worse than the median")])
def test_a_success_begins_the_count_anew(success: FailureInfo | None) -> None:
    made = quarantine(1)
    for _ in range(3):
        for _ in range(4):
            assert made.ended(0, ERROR, 0.0) is None
        assert made.ended(0, success, 0.0) is None


def test_one_bad_slot_is_shut_and_the_others_go_on() -> None:
    made = quarantine(4)
    for _ in range(4):
        made.ended(2, ERROR, 0.0)
    said = made.ended(2, ERROR, 0.0)
    assert said is not None
    assert said.startswith("slot 2 is quarantined: 5 failures")
    assert made.usable([0, 1, 2, 3], 1.0, busy=0) == [0, 1, 3]
    assert made.ended(1, ERROR, 1.0) is None  # one accident elsewhere does not shut them all
    assert made.usable([0, 1, 2, 3], 1.0, busy=0) == [0, 1, 3]
    assert not made.shut(range(4), 1.0)
    assert made.reason(1.0).startswith("slot 2: 5 failures in a row")
    made.ended(0, None, 2.0)
    assert made.usable([0, 1, 2, 3], 2.0, busy=0) == [0, 1, 3]  # its success says nothing of slot 2
    assert made.ended(2, None, 70.0) == "a point was evaluated in slot 2: its quarantine is over"
    assert made.usable([0, 1, 2, 3], 70.0, busy=0) == [0, 1, 2, 3]


def test_a_pardon_ends_it_and_a_lasting_one_holds_until_a_success() -> None:
    made = quarantine(1, after=2)
    for lasting in (False, True):
        for _ in range(2):
            made.ended(0, ERROR, 0.0)
        assert made.usable([0], 1.0, busy=0) == []
        made.pardon(lasting=lasting)
        assert made.usable([0], 1.0, busy=0) == [0]
    for _ in range(9):
        assert made.ended(0, ERROR, 1.0) is None
    made.ended(0, None, 1.0)
    made.ended(0, ERROR, 1.0)
    assert made.ended(0, ERROR, 1.0) is not None


def test_failures_all_over_the_worker_shut_it_whole_and_one_slot_is_tried() -> None:
    made = quarantine(4)
    said = [made.ended(slot, ERROR, 0.0) for slot in (0, 1, 2, 3, 0)]
    assert said[:4] == [None] * 4
    assert said[4] is not None
    assert said[4].startswith("quarantined: 5 failures")
    assert made.usable([0, 1, 2, 3], 1.0, busy=0) == []
    assert made.usable([0, 1, 2, 3], 61.0, busy=0) == [3]
    assert made.usable([0, 1, 2], 61.0, busy=1) == []
    made.ended(3, None, 62.0)
    assert made.usable([0, 1, 2, 3], 62.0, busy=0) == [0, 1, 2, 3]


def test_where_trainings_often_fail_more_failures_in_a_row_are_needed() -> None:
    """Two of three fail as they like: 500 of them do not shut a healthy worker out; 50 in a row do."""
    made, rng = quarantine(1), random.Random(3)  # noqa: S311 - it draws failures
    for number in range(12):
        made.ended(0, None if number % 3 == 0 else ERROR, 0.0)
    for number in range(500):
        assert made.ended(0, None if rng.random() < 1 / 3 else ERROR, float(number)) is None
    said = [made.ended(0, ERROR, 500.0 + number) for number in range(50)]
    assert any(sentence is not None and "quarantined" in sentence for sentence in said)
