"""What the benchmarks share: servers of their own, medians, and one way to print."""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import tempfile
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers.postgresql import PostgresqlServer, find_binaries
from tests.servers.rabbitmq import RabbitNode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@contextmanager
def rabbitmq() -> Iterator[RabbitNode]:
    """A RabbitMQ node for one benchmark."""
    with tempfile.TemporaryDirectory(prefix="hpo-steer-bench-") as folder:
        Path(folder).chmod(0o755)
        node = RabbitNode(Path(folder))
        node.start()
        try:
            yield node
        finally:
            node.kill()


@contextmanager
def postgresql() -> Iterator[PostgresqlServer]:
    """A PostgreSQL server for one benchmark."""
    with tempfile.TemporaryDirectory(prefix="hpo-steer-bench-") as folder:
        Path(folder).chmod(0o755)
        binaries = find_binaries()
        if binaries is None:
            raise RuntimeError("this benchmark needs PostgreSQL: apt-get install postgresql")
        server = PostgresqlServer(binaries, Path(folder))
        server.start()
        try:
            yield server
        finally:
            server.kill()


def median(values: list[float]) -> float:
    """The median, as every figure is reported."""
    return statistics.median(values)


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    return {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()}


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those packages that are installed."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def show(result: dict[str, Any], lines: list[str], *, as_json: bool) -> None:
    """Prints a benchmark's result: JSON, or a few lines for people."""
    if as_json:
        sys.stdout.write(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    else:
        sys.stdout.write("\n".join(lines) + "\n")
