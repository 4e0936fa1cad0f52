"""Logs stay small: their first and last part are kept, whatever a training prints."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from evaluation.attempt import open_log
from evaluation.bounded_log import BoundedLog

if TYPE_CHECKING:
    from pathlib import Path

MOST = 100_000


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_a_small_log_is_left_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * MOST)
    BoundedLog(log, 0, MOST).finish()
    assert log.stat().st_size == MOST
    BoundedLog(tmp_path / "none", 0, MOST).finish()


def test_beginning_and_end_stay_and_a_line_says_what_was_cut(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {n}\n" for n in range(100_000)))
    size = log.stat().st_size
    BoundedLog(log, 0, MOST).finish()
    lines = lines_of(log)
    assert log.stat().st_size <= MOST
    assert (lines[0], lines[-1]) == ("line 0", "line 99999")
    (mark,) = [line for line in lines if line.startswith("[hpo-steer: ")]
    cut = int(mark.split()[1].replace(",", ""))
    assert cut == size - (log.stat().st_size - len(mark) - 1)
    assert all(line.startswith("line ") for line in lines if line != mark)  # no half ones


def test_what_lies_before_the_attempts_part_stays(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"earlier\n" + b"x\n" * MOST)
    BoundedLog(log, 8, MOST).finish()
    assert lines_of(log)[0] == "earlier"
    assert log.stat().st_size <= 8 + MOST


def test_one_endless_line_is_cut_too(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"a" * MOST + b"z" * MOST)
    BoundedLog(log, 0, MOST).finish()
    text = log.read_text()
    assert len(text) <= MOST
    assert text.startswith("a")
    assert text.endswith("z")


@pytest.mark.parametrize("holes", [True, False])
@pytest.mark.parametrize("rounds", [1, 7])
def test_a_writer_that_appends_is_followed(tmp_path: Path, rounds: int, holes: bool) -> None:
    """Cut again and again, the log has one mark in the end, whose figure adds up."""
    log = tmp_path / "log"
    bounded = BoundedLog(log, 0, MOST, holes=holes)
    written = 0
    for _ in range(rounds):
        with log.open("ab") as file:
            written += file.write(b"0123456789\n" * MOST)
        bounded._shorten(running=True)
    bounded.finish()
    (mark,) = [line for line in lines_of(log) if line.startswith("[hpo-steer: ")]
    kept = log.stat().st_size - len(mark) - 1
    assert int(mark.split()[1].replace(",", "")) == written - kept


@pytest.mark.parametrize("holes", [True, False])
def test_a_process_that_prints_without_end_is_bounded_while_it_runs(tmp_path: Path, holes: bool) -> None:
    """It writes 300 MB by itself, as fast as it can, while somebody looks now and then."""
    log, most = tmp_path / "log", 1_000_000
    program = (
        "import os; print('first', flush=True); [os.write(1, b'x' * 999 + b'\\n') for _ in range(300_000)]"
    )
    program += "; print('last')"
    fd = open_log(log)
    process = subprocess.Popen([sys.executable, "-c", program], stdout=fd)
    os.close(fd)
    bounded = BoundedLog(log, 0, most, holes=holes)
    largest = 0
    while process.poll() is None:
        bounded.look(time.monotonic())
        largest = max(largest, log.stat().st_blocks * 512)
        time.sleep(0.005)
    bounded.finish()
    assert process.returncode == 0
    assert largest < 300_000_000
    assert log.stat().st_size <= most
    lines = lines_of(log)
    assert lines[0] == "first"
    assert lines[-1] == "last" or not holes
    assert any("bytes are cut out here" in line for line in lines)
