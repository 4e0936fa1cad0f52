"""A writer that is killed, and one that is told to wait."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from hpo_steer.errors import RunLocked
from steering.store.base import ModelRecord
from steering.store.contract import RUN
from steering.store.opening import FILE_NAME, open_store

if TYPE_CHECKING:
    from pathlib import Path

WRITER = """
import itertools, sys
from pathlib import Path
from steering.store.contract import iteration, point
from steering.store.opening import open_store
store = open_store(Path(sys.argv[1]), "digits", create=False)
store.lock("the other, process 7")
print("locked", flush=True)
first = store.counts().total // 200
for number in itertools.count(first):
    points = [point(200 * number + n, iteration=number + 1) for n in range(1, 201)]
    with store.transaction() as transaction:
        transaction.add_iteration(iteration(200, number=number + 1), points)
    print(number + 1, flush=True)
"""


def test_a_killed_writer_leaves_a_whole_store_and_a_free_lock(tmp_path: Path) -> None:
    with closing(open_store(tmp_path, "digits", create=True)) as store:
        store.create(RUN, [ModelRecord("m0", 0)])
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True)
        with writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "locked\n"
            for _ in range(5):
                acknowledged = int(writer.stdout.readline())
            second = open_store(tmp_path, "digits", create=False)
            with closing(second), pytest.raises(RunLocked, match="by the other, process 7, since"):
                second.lock("me")
            writer.send_signal(signal.SIGKILL)
            said = writer.stdout.read().split()
        acknowledged = int(said[-1]) if said else acknowledged
        with closing(open_store(tmp_path, "digits", create=False)) as store:
            store.lock("me")
            iterations, total = store.iterations(), store.counts().total
            assert total == 200 * len(iterations)
            assert len(iterations) in {acknowledged, acknowledged + 1}
        with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
