"""RabbitMQ nodes of the tests' own, of either major version, to be killed, paused and started again at will."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import pytest

from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Version: TypeAlias = Literal["3.10", "4"]
VERSIONS: tuple[Version, ...] = ("3.10", "4")
SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
DEBIAN_13 = _CACHE / "hpo-steer-servers" / "debian-13"
"""Where `scripts/rabbitmq-4` puts a system with RabbitMQ 4 in it."""
_INSTALL: dict[Version, str] = {
    "3.10": "apt-get install --no-install-recommends rabbitmq-server",
    "4": "scripts/rabbitmq-4",
}
_DEPRECATED: dict[Version, tuple[str, ...]] = {"3.10": (), "4": ("transient_nonexcl_queues", "global_qos")}
"""What later versions do without: it is switched off, so that nothing comes to rest upon it."""
_START_S, _STARTS = 60.0, 2
"""How long a start may take; a node that was killed in the middle of a start may need a second one."""
_LEASHED = """
(
    epmd -port "$ERL_EPMD_PORT" </dev/null &
    until epmd -port "$ERL_EPMD_PORT" -names >/dev/null 2>&1; do sleep 0.05; done
    "$@" </dev/null
    kill -9 -$$
) &
cat >/dev/null
kill -9 -$$
"""
"""Runs the server until it or our end of the pipe ends: a test run that is killed leaves none behind.

The port mapper that Erlang needs is the node's own, so that none stays behind either.
"""
_INSIDE = 'mount --bind "$1/usr" /usr && mount --bind "$1/etc" /etc && shift && exec "$@"'
"""Puts the programs of another system in the place of ours; in a mount namespace, so for one process tree only.

All other folders stay what they are, and with them the names of files; nothing is left mounted when the tree ends.
"""


class RabbitNode:
    """One private node in a folder of its own, on free ports, under a name of its own.

    Args:
        folder: where it keeps all it has.
        version: of RabbitMQ.
        settings: further lines for its ``rabbitmq.conf``.
        plugins: those to switch on.
    """

    def __init__(
        self,
        folder: Path,
        *,
        version: Version = "3.10",
        settings: Sequence[str] = (),
        plugins: Sequence[str] = (),
    ) -> None:
        self.folder, self.version = folder, version
        self.port = free_port()
        self._dist_port, epmd_port = free_port(), free_port()
        self._name = f"hpo-steer-{os.getpid()}-{self.port}@localhost"
        self._process: subprocess.Popen[bytes] | None = None
        self._environment = {
            **os.environ,
            "HOME": str(folder),  # and with it the cookie that admits rabbitmqctl
            "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/bin:/sbin:/bin",
            "ERL_EPMD_PORT": str(epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
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
        cookie = folder / ".erlang.cookie"
        if not cookie.exists():
            cookie.write_text(secrets.token_hex(16))
            cookie.chmod(0o400)
        (folder / "enabled_plugins").write_text(f"[{','.join(plugins)}].\n")
        lines = ["loopback_users = none", "log.file.level = warning", *settings]
        lines += [f"deprecated_features.permit.{name} = false" for name in _DEPRECATED[version]]
        (folder / "rabbitmq.conf").write_text("\n".join(lines) + "\n")

    @property
    def url(self) -> str:
        """Where it is, with its password."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    def start(self) -> None:
        """Starts it in its folder, as it was left there."""
        for _ in range(_STARTS):
            self._launch()
            deadline = time.monotonic() + _START_S
            while self._process is not None and self._process.poll() is None:
                if self._answers():
                    return
                if time.monotonic() > deadline:
                    break
                time.sleep(0.1)
            self.kill()
        raise RuntimeError(f"RabbitMQ did not start: {(self.folder / 'out').read_text()[-2000:]}")

    def _launch(self) -> None:
        with (self.folder / "out").open("ab") as out:
            self._process = subprocess.Popen(
                [*self._system(), "/bin/sh", "-c", _LEASHED, "sh", str(SERVER)],
                env=self._environment,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

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

    def pause(self) -> None:
        """Freezes it: connections stay, and nothing answers any more."""
        os.kill(self._pid(), signal.SIGSTOP)

    def resume(self) -> None:
        """Lets a paused one go on."""
        os.kill(self._pid(), signal.SIGCONT)

    def _pid(self) -> int:
        return int((self.folder / "pid").read_text())

    def _ended(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.wait(_START_S)
            if process.stdin is not None:
                process.stdin.close()

    def ctl(self, *arguments: str) -> str:
        """Runs rabbitmqctl on it."""
        done = subprocess.run(
            [*self._system(), "/usr/lib/rabbitmq/bin/rabbitmqctl", "-q", "-n", self._name, *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=_START_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"rabbitmqctl {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def _system(self) -> list[str]:
        """What goes before a command, so that it runs among the programs of its own system."""
        if self.version == "3.10":
            return []
        user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
        unshare = ["unshare", *user, "--mount", "--propagation", "private"]
        return [*unshare, "/bin/sh", "-c", _INSIDE, "sh", str(DEBIAN_13)]

    def _answers(self) -> bool:
        """Whether it speaks AMQP: a wrong greeting is answered with the right one."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2.0) as sock:
                sock.sendall(b"AMQP\x09\x09\x09\x09")
                return sock.recv(8).startswith(b"AMQP")
        except OSError:
            return False


def require_rabbitmq(version: Version) -> None:
    """Skips the test where this version is not installed; under ``CI`` it fails."""
    server = SERVER if version == "3.10" else DEBIAN_13 / SERVER.relative_to("/")
    if not server.exists():
        message = f"no RabbitMQ {version} at {server}: {_INSTALL[version]}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)


@contextlib.contextmanager
def rabbit_node(
    version: Version = "3.10", *, settings: Sequence[str] = (), plugins: Sequence[str] = ()
) -> Iterator[RabbitNode]:
    """A running node for as long as the block lasts; see `RabbitNode`."""
    require_rabbitmq(version)
    folder = Path(tempfile.mkdtemp(prefix="hpo-steer-rabbitmq-"))
    folder.chmod(0o755)
    node = RabbitNode(folder, version=version, settings=settings, plugins=plugins)
    try:
        node.start()
        yield node
    finally:
        node.kill()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def rabbitmq() -> Iterator[RabbitNode]:
    """A running node of 3.10, shared by the tests of a session; whoever kills it starts it again."""
    with rabbit_node("3.10") as node:
        yield node


@pytest.fixture(scope="session")
def _rabbitmq_4() -> Iterator[RabbitNode]:
    with rabbit_node("4") as node:
        yield node


@pytest.fixture(scope="session", params=VERSIONS)
def any_rabbitmq(request: pytest.FixtureRequest) -> RabbitNode:
    """A running node, shared like `rabbitmq`; each version in its turn."""
    node = request.getfixturevalue("rabbitmq" if request.param == "3.10" else "_rabbitmq_4")
    assert isinstance(node, RabbitNode)
    return node


def run_as_root(node: RabbitNode, script: str, folder: Path) -> str:
    """Runs a shell script in a folder as an operator would on the node's machine.

    Returns:
        What it printed.
    """
    path = f"/usr/lib/rabbitmq/bin:{node._environment['PATH']}"
    done = subprocess.run(
        [*node._system(), "/bin/sh"],
        input=script,
        env={**node._environment, "PATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_START_S,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the script failed: {done.stdout}{done.stderr}")
    return done.stdout
