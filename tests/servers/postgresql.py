"""A PostgreSQL server of the tests' own, in a folder and on a port of its own."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "of the tests"
START_TIMEOUT_S = 60.0


class PostgresqlServer:
    """A server that can be stopped, killed and started again.

    Attributes:
        url: of its database, without the password.
        password: of its user.
    """

    def __init__(self, binaries: Path, folder: Path) -> None:
        self._binaries, self._data = binaries, folder / "data"
        self._log = folder / "log"
        # initdb refuses to run as root.
        self._user = pwd.getpwnam("postgres") if os.geteuid() == 0 else None
        if self._user:
            os.chown(folder, self._user.pw_uid, self._user.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.password = PASSWORD
        self.url = self.database("postgres")
        passwords = folder / "password"
        passwords.write_text(PASSWORD)
        passwords.chmod(0o644)
        self._run(
            "initdb", "--pgdata", str(self._data), "--username=tests", f"--pwfile={passwords}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
        )  # fmt: skip

    def database(self, name: str) -> str:
        """The URL of one of its databases."""
        return f"postgresql://tests@127.0.0.1:{self.port}/{name}"

    def create_database(self, name: str) -> str:
        """Makes an empty database; returns its URL."""
        self._run("createdb", "--host=127.0.0.1", f"--port={self.port}", "--username=tests", name)
        return self.database(name)

    def start(self) -> None:
        """Starts it and waits until it answers."""
        settings = {
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "on",
            "shared_buffers": "32MB",
            "max_connections": 50,
        }
        arguments = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binaries / "postgres"), "-D", str(self._data), *arguments],
                stdout=log, stderr=log, cwd="/", start_new_session=True, **self._as_user(),
            )  # fmt: skip
        until = time.monotonic() + START_TIMEOUT_S
        ready = [str(self._binaries / "pg_isready"), "--host=127.0.0.1", f"--port={self.port}", "--quiet"]
        while subprocess.run(ready, check=False).returncode:
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.1)

    def stop(self, *, at_once: bool = False) -> None:
        """Ends it, clients or not: in order, or without writing what it has in memory."""
        self._end(signal.SIGQUIT if at_once else signal.SIGINT)

    def kill(self) -> None:
        """Ends it and its children at once, as a power cut would."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGSTOP)
            children = (
                Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            )
            for child in children:
                os.kill(int(child), signal.SIGKILL)
            self._end(signal.SIGKILL)
            (self._data / "postmaster.pid").unlink(missing_ok=True)

    def restart(self) -> None:
        """Ends it in order and starts it again."""
        self.stop()
        self.start()

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=60)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._binaries / program), *arguments]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd="/", **self._as_user()
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed: {done.stderr}")

    def _as_user(self) -> dict[str, Any]:
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        if self._user is None:
            return {"env": environment}
        environment["HOME"] = "/tmp"
        return {
            "env": environment,
            "user": self._user.pw_uid,
            "group": self._user.pw_gid,
            "extra_groups": [],
        }


def find_binaries() -> Path | None:
    """Where the server's programs lie, the newest version first."""
    places = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name), reverse=True
    )
    found = shutil.which("initdb")
    places += [Path(found).resolve().parent] if found else []
    return next((place for place in places if (place / "postgres").exists()), None)


def require_postgresql() -> Path:
    """Where the server's programs lie; skips the test where they do not, and fails it under ``CI``."""
    if (binaries := find_binaries()) is not None:
        return binaries
    message = "PostgreSQL is not installed (apt-get install postgresql)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A running server for the whole session; a test that ends it starts it again."""
    binaries = require_postgresql()
    folder = Path(tempfile.mkdtemp(prefix="hpo-postgresql-"))
    server = PostgresqlServer(binaries, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop(at_once=True)
        shutil.rmtree(folder)
