"""Container runtimes of this machine, with storage and settings of the tests' own, and a base image for them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpo-steer-servers"
BASE = CACHE / "debian-12-python"
"""Debian 12 with Python, unpacked: an image for charliecloud (scripts/debian-12 makes it)."""
IMAGE = "localhost/hpo-steer-tests/python:1"
"""The same for podman."""

_SETTINGS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]
netns = "host"
cgroupns = "host"
[engine]
cgroup_manager = "cgroupfs"
runtime = "runc"
events_logger = "file"
"""
_STORAGE = """\
[storage]
driver = "overlay"
graphroot = "{storage}"
runroot = "/run/hpo-steer-tests/containers"
"""


_HPOGRID = """\
FROM {base}
COPY site-packages /opt/site-packages
ENV PYTHONPATH=/opt/site-packages
COPY hpogrid /usr/local/bin/
"""


def _missing(what: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def require_base() -> Path:
    """The unpacked base image; skips the test where it is missing, and fails it under ``CI``."""
    if not BASE.is_dir():
        _missing("there is no base image (scripts/debian-12 makes it)")
    return BASE


def require_program(name: str) -> str:
    """Where a program lies; skips the test where it does not, and fails it under ``CI``."""
    found = shutil.which(name)
    if found is None:
        _missing(f"{name} is not installed")
    return str(found)


def podman(*arguments: str) -> str:
    """Runs podman; what it printed."""
    done = subprocess.run(["podman", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
    return done.stdout


def containers_here() -> list[str]:
    """Names of our containers, running or not."""
    return podman("ps", "--all", "--filter", "label=hpo-steer", "--format", "{{.Names}}").split()


@pytest.fixture(scope="session")
def podman_image() -> str:
    """The base image in podman."""
    require_program("podman")
    require_base()
    return set_up_podman()


def set_up_podman() -> str:
    """Sets podman up for a machine that may itself be a container, and imports the base image; its name."""
    if os.geteuid() == 0:
        settings = CACHE / "podman"
        settings.mkdir(parents=True, exist_ok=True)
        (settings / "containers.conf").write_text(_SETTINGS)
        (settings / "storage.conf").write_text(_STORAGE.format(storage=CACHE / "podman" / "storage"))
        os.environ["CONTAINERS_CONF"] = str(settings / "containers.conf")
        os.environ["CONTAINERS_STORAGE_CONF"] = str(settings / "storage.conf")
    with (CACHE / "podman.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = subprocess.run(["podman", "image", "exists", IMAGE], check=False)
        if known.returncode:
            command = ["podman", "import", "--quiet", "-", IMAGE]
            with subprocess.Popen(["tar", "-C", str(BASE), "-c", "."], stdout=subprocess.PIPE) as tar:
                subprocess.run(command, stdin=tar.stdout, check=True, capture_output=True)
            assert tar.returncode == 0
    return IMAGE


@pytest.fixture(scope="session")
def hpogrid_image(podman_image: str, hpogrid: Path) -> str:
    """An image with the real hpogrid, as PanDA's steering containers have it."""
    environment = hpogrid.parent
    name = f"localhost/hpo-steer-tests/{environment.name}:1"
    with (CACHE / "podman.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if subprocess.run(["podman", "image", "exists", name], check=False).returncode == 0:
            return name
        (packages,) = environment.glob("lib/python3*/site-packages")
        program = (hpogrid / "hpogrid").read_text().splitlines(keepends=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            context = Path(folder)
            (context / "hpogrid").write_text("#!/usr/bin/python3\n" + "".join(program[1:]))
            (context / "hpogrid").chmod(0o755)
            (context / "Containerfile").write_text(_HPOGRID.format(base=podman_image))
            shutil.copytree(packages, context / "site-packages", copy_function=os.link)
            podman("build", "--quiet", "--tag", name, str(context))
    return name
