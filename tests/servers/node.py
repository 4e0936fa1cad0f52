"""The examples in Node: whether they can run here, and how."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES = Path(__file__).parents[2] / "examples"


def require_node(example: str) -> None:
    """Skips the test where Node or the packages of an example are not installed; under ``CI`` it fails."""
    message = None
    if shutil.which("node") is None:
        message = "no node: apt-get install nodejs npm"
    elif not (EXAMPLES / example / "node_modules" / "amqplib").is_dir():
        message = f"no packages of examples/{example}: npm ci --prefix examples/{example}"
    if message is not None:
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


def start_node(
    example: str, program: str, *arguments: str, log: Path, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Starts a program of an example; what it says goes to the log, what it answers to a pipe.

    It ends with the tests, also where these are killed: alone, it would try to connect for ever.
    """
    require_node(example)
    folder = EXAMPLES / example
    leash = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
    with log.open("ab") as stream:
        return subprocess.Popen(
            [*leash, "node", program, *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env={**os.environ, **(env or {})},
        )
