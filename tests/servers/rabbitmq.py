"""A RabbitMQ node of the tests' own, to be killed and started again at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_START_S = 60.0
_LEASHED = '("$1" </dev/null; kill -9 -$$) & cat >/dev/null; kill -9 -$$'
"""Runs the server until it or our end of the pipe ends: a test run that is killed leaves none behind."""


class RabbitNode:
    """One private node in a folder of its own, on free ports, under a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._dist_port = _free_port()
        self._name = f"hpo-steer-{os.getpid()}-{self.port}@localhost"
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "HOME": os.environ.get("HOME", "/root"),
            "RABBITMQ_NODENAME": self._name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._dist_port),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        (folder / "enabled_plugins").write_text("[].\n")
        (folder / "rabbitmq.conf").write_text("loopback_users = none\nlog.file.level = warning\n")

    @property
    def url(self) -> str:
        """Where it is, with its password."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Starts it in its folder, as it was left there."""
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _LEASHED, "sh", str(SERVER)],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"RabbitMQ did not start: {(self.folder / 'out').read_text()[-2000:]}")
            time.sleep(0.1)

    def kill(self) -> None:
        """Ends it as a power cut would: SIGKILL to the node and its helpers."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._ended()

    def stop(self) -> None:
        """Ends it in an orderly way."""
        if self._process is not None:
            self.ctl("stop")
            self._ended()

    def _ended(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.wait(_START_S)
            if process.stdin is not None:
                process.stdin.close()

    def ctl(self, *arguments: str) -> str:
        """Runs rabbitmqctl on it."""
        done = subprocess.run(
            ["/usr/lib/rabbitmq/bin/rabbitmqctl", "-q", "-n", self._name, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_START_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _answers(self) -> bool:
        """Whether it speaks AMQP: a wrong greeting is answered with the right one."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as sock:
                sock.sendall(b"AMQP\x09\x09\x09\x09")
                return sock.recv(8).startswith(b"AMQP")
        except OSError:
            return False


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitNode]:
    """A running node, shared by the tests of a session; whoever kills it starts it again."""
    if not SERVER.exists():
        message = f"no RabbitMQ server at {SERVER}: apt-get install --no-install-recommends rabbitmq-server"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    folder = Path(tempfile.mkdtemp(prefix="hpo-steer-rabbitmq-"))
    folder.chmod(0o755)
    node = RabbitNode(folder)
    try:
        node.start()
        yield node
    finally:
        node.kill()
        shutil.rmtree(folder, ignore_errors=True)
