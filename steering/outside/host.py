"""The process that runs users' steering programs: ``hpo_steer.host`` with two more kinds of algorithm.

It ends as soon as steering has gone, even in the middle of a call: its warden then ends the program and its container.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from hpo_steer import faults
from hpo_steer.algorithm import SearchAlgorithm
from hpo_steer.host import Host
from hpo_steer.registry import algorithm_form
from steering.outside.command import CommandSearch
from steering.outside.service import ServiceSearch


def outside_search(spec: Mapping[str, Any], folder: Path) -> type[SearchAlgorithm]:
    """The class of an algorithm that is a program of the user's, bound to the config's folder."""
    if algorithm_form(spec) == "command":
        return type("CommandSearch", (CommandSearch,), {"folder": folder})
    return type("ServiceSearch", (ServiceSearch,), {"folder": folder})


def main() -> None:
    """Serves requests until standard input ends."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    host = Host(replies, outside_search)
    faults.arm(os.environ)
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        host.read(lines.get())


def _read(lines: SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        lines.put(line)
    os._exit(0)  # nobody waits for an answer any more
