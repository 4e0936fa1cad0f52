"""How a worker puts a bundle together, and what it asks for when."""

from __future__ import annotations

import base64
import io
import os
import random
from itertools import pairwise

import pytest

from evaluation.collector import WINDOW, Collector
from hpo_steer.errors import BundleError
from hpo_steer.limits import MAX_PART
from hpo_steer.messages import BundlePart

CONTENT = os.urandom(1000) * ((20 * MAX_PART + 5) // 1000)
COUNT = -(-len(CONTENT) // MAX_PART)


def part(number: int, content: bytes = CONTENT) -> BundlePart:
    return BundlePart(
        experiment="e",
        run="r",
        bundle="ab" * 32,
        number=number,
        count=-(-len(content) // MAX_PART),
        size=len(content),
        data=base64.b64encode(content[number * MAX_PART :][:MAX_PART]).decode(),
    )


def test_parts_in_any_order_make_the_whole() -> None:
    collector = Collector(io.BytesIO(), 0.0)
    numbers = [*range(COUNT), *range(COUNT)]
    random.Random(1).shuffle(numbers)  # noqa: S311 - any order will do
    for number in numbers:
        collector.take(part(number), 1.0)
    assert collector.complete
    assert collector.got == collector.size == len(CONTENT)
    assert (collector.file.seek(0), collector.file.read())[1] == CONTENT
    assert collector.wanted(100.0) == []


def test_it_asks_for_a_window_at_a_time() -> None:
    collector = Collector(io.BytesIO(), 0.0)
    assert collector.wanted(0.0) == []  # the way for parts is not open yet
    assert collector.wanted(0.2) == [(0, WINDOW - 1)]
    for number in range(WINDOW - 1):
        collector.take(part(number), 0.3)
        assert collector.wanted(0.3) == []
    collector.take(part(WINDOW - 1), 0.4)
    assert collector.wanted(0.4) == [(WINDOW, COUNT - 1)]


def test_what_was_lost_is_asked_for_again_ever_more_seldom() -> None:
    collector = Collector(io.BytesIO(), 0.0)
    asked = [now / 10 for now in range(1000) if collector.wanted(now / 10)]
    gaps = [after - before for before, after in pairwise(asked)]
    assert gaps[0] == pytest.approx(2.0)
    assert gaps[-1] == pytest.approx(10.0)
    for number in {*range(WINDOW)} - {3, 4, 9}:
        collector.take(part(number), 200.0)
    assert collector.wanted(201.9) == []
    [*others, last] = collector.wanted(202.1)
    assert others == [(3, 4), (9, 9)]
    assert last[0] == WINDOW


def test_parts_that_others_asked_for_are_welcome() -> None:
    collector = Collector(io.BytesIO(), 0.0)
    for number in range(5, COUNT):
        collector.take(part(number), 0.0)
    assert collector.wanted(2.1) == [(0, 4)]


def test_parts_of_two_sizes_are_refused() -> None:
    collector = Collector(io.BytesIO(), 0.0)
    collector.take(part(0), 0.0)
    with pytest.raises(BundleError, match="one part says"):
        collector.take(part(1, CONTENT[:-1]), 0.0)
