"""A network of its own for a program, whose one cable can be pulled."""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Island:
    """A network namespace with one cable to this machine.

    Attributes:
        name: of the namespace.
        mainland: this machine's address, seen from inside.
    """

    def __init__(self, name: str, cable: str, mainland: str) -> None:
        self.name, self._cable, self.mainland = name, cable, mainland

    @property
    def command(self) -> list[str]:
        """What goes in front of a command that is to run inside."""
        return ["ip", "netns", "exec", self.name]

    def cut_off(self) -> None:
        """Pulls the cable: packets vanish, and nobody is told."""
        _ip("link", "set", self._cable, "down")

    def connect(self) -> None:
        """Plugs it in."""
        _ip("link", "set", self._cable, "up")


@contextmanager
def island() -> Iterator[Island]:
    """Makes a namespace and its cable, and removes both in the end.

    Without the right to do that, the test is skipped; in CI it fails.
    """
    number = os.getpid() % 16_384
    name = f"hpo-steer-{os.getpid()}"
    outside, inside = f"hpo{os.getpid()}", f"hpi{os.getpid()}"
    net = f"10.213.{number // 64}.{number % 64 * 4}"
    base, last = net.rsplit(".", 1)
    mainland, shore = f"{base}.{int(last) + 1}", f"{base}.{int(last) + 2}"
    try:
        if shutil.which("ip") is None:
            raise FileNotFoundError("ip is not installed (apt-get install iproute2)")
        _ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as exc:
        message = f"no network namespace can be made: {getattr(exc, 'stderr', None) or exc}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    try:
        _ip("link", "add", outside, "type", "veth", "peer", "name", inside, "netns", name)
        _ip("address", "add", f"{mainland}/30", "dev", outside)
        _ip("link", "set", outside, "up")
        _ip("-n", name, "address", "add", f"{shore}/30", "dev", inside)
        _ip("-n", name, "link", "set", inside, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield Island(name, outside, mainland)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
