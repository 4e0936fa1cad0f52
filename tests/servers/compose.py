"""The stack of `containers/recipes/compose.yaml`, brought up by podman-compose with servers of this machine."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.containers import podman, require_program
from tests.servers.images import RECIPES, Images
from tests.servers.ports import free_port
from tests.servers.postgresql import require_postgresql
from tests.servers.rabbitmq import require_rabbitmq

if TYPE_CHECKING:
    from collections.abc import Iterator

_HERE = Path(__file__).parents[1] / "payloads" / "compose"
_PROGRAM = Path(sys.executable).parent / "podman-compose"


class Stack:
    """RabbitMQ, PostgreSQL, steering and two workers for the experiment in a folder.

    Args:
        folder: the compose files and their environment are written there.
        experiment: the folder of the config ``my.yaml``.
        images: of both halves.
    """

    def __init__(self, folder: Path, experiment: Path, images: Images) -> None:
        self.folder = folder
        self.name = f"hpo-steer-tests-{os.getpid()}-{time.monotonic_ns()}"
        shutil.copy(RECIPES / "compose.yaml", folder)
        shutil.copytree(_HERE, folder, dirs_exist_ok=True)
        broker, store = free_port(), free_port()
        given = {
            "EXPERIMENT": experiment,
            "CONFIG": "my.yaml",
            "HPO_STEER_BROKER_PASSWORD": "of-the-broker",
            "HPO_STEER_STORE_PASSWORD": "of-the-store",
            "STEERING_IMAGE": images.steering,
            "EVALUATION_IMAGE": images.evaluation,
            "BROKER_URL": f"amqp://steer@127.0.0.1:{broker}/",
            "STORE_URL": f"postgresql://steer@127.0.0.1:{store}/hpo",
            "BASE_IMAGE": images.base,
            "BROKER_PORT": broker,
            "STORE_PORT": store,
            "DIST_PORT": free_port(),
            "EPMD_PORT": free_port(),
        }
        (folder / ".env").write_text("".join(f"{key}={value}\n" for key, value in given.items()))

    def compose(self, *arguments: str) -> str:
        """Runs podman-compose; what it printed."""
        files = ["--file", "compose.yaml", "--file", "here.yaml"]
        done = subprocess.run(
            [str(_PROGRAM), "--project-name", self.name, *files, *arguments],
            cwd=self.folder,
            env={**os.environ, "PATH": f"{_PROGRAM.parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"podman-compose {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def container(self, service: str, number: int = 1) -> str:
        """The name of a container."""
        return f"{self.name}_{service}_{number}"

    def state(self, service: str, number: int = 1) -> dict[str, Any]:
        """How a container stands, as podman says it."""
        found: list[dict[str, Any]] = json.loads(podman("inspect", self.container(service, number)))
        return {**found[0]["State"], "Restarts": found[0]["RestartCount"]}

    def logs(self, service: str, number: int = 1) -> str:
        """All that a container has printed."""
        done = subprocess.run(
            ["podman", "logs", self.container(service, number)], capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    def kill(self, service: str, number: int = 1) -> None:
        """Kills a container's first process behind podman's back, as the kernel does when memory is short."""
        os.kill(self.state(service, number)["Pid"], signal.SIGKILL)


@contextlib.contextmanager
def a_stack(folder: Path, experiment: Path, images: Images) -> Iterator[Stack]:
    """The stack, up for as long as the block lasts; nothing of it is left afterwards."""
    if not _PROGRAM.exists():
        require_program("podman-compose")
    require_program("catatonit")
    require_rabbitmq("3.10")
    require_postgresql()
    stack = Stack(folder, experiment, images)
    try:
        stack.compose("up", "--detach", "--no-build")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--timeout", "1")
        left = podman("ps", "--all", "--filter", f"name={stack.name}", "--format", "{{.Names}}")
        left += podman("volume", "ls", "--filter", f"name={stack.name}", "--format", "{{.Name}}")
        if left:
            pytest.fail(f"left behind: {left}")
