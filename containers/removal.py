"""Ends a container whose life does not hang on the process that started it. Standard library only.

As a program: ``python -I -S removal.py CLIENT REMOVAL...``, where CLIENT is the process id of ``podman run`` or
``docker run`` and REMOVAL the argument list that removes the container.

The order matters. A client that is killed while it creates a container may leave one behind that nobody knows of, so
it is asked to end first (podman finishes what it is creating before it does), the container is removed, by which a
client that waits for it ends, and the client is killed last. The engine of docker goes on creating after its client is
gone, so removal is tried again for a moment.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

_CLIENT_S = 3.0
_REMOVAL_S = 60.0
_AGAIN_S = 0.2


def end_container(client: int, removal: Sequence[str]) -> None:
    """Ends a container, the client that runs it, and everything in both.

    Args:
        client: process id of the client, which leads a process group; it may be gone.
        removal: the argument list that kills and removes the container, and succeeds where there is none.
    """
    _signal(client, signal.SIGTERM)
    _remove(removal)
    until = time.monotonic() + _CLIENT_S
    while _alive(client) and time.monotonic() < until:
        time.sleep(0.02)
    if _alive(client):
        _remove(removal)
        _signal(client, signal.SIGKILL)
    for _ in range(2):
        _remove(removal)
        time.sleep(_AGAIN_S)


def _remove(removal: Sequence[str]) -> None:
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            list(removal),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_REMOVAL_S,
            check=False,
        )


def _signal(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(OSError):
        os.killpg(group, number)


def _alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123 - as short as it gets
            return file.read().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        if os.path.isdir("/proc/self"):  # noqa: PTH112
            return False
    except OSError:
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    end_container(int(sys.argv[1]), sys.argv[2:])
