"""The images that `containers/recipes` describes, built on the local base image from wheels that are fetched once."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.servers.containers import CACHE, podman, require_program

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "containers" / "recipes"
EXTRAS = {"steering": "postgres", "evaluation": "quickstart"}
_BASE_PYTHON = "3.11"


@dataclass(frozen=True)
class Images:
    """Names of the images, and of the one that they are built on."""

    steering: str
    evaluation: str
    base: str


def _pip(*arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"pip {' '.join(arguments)}: {done.stderr}"


def _own_wheel(folder: Path) -> Path:
    """This checkout as a wheel."""
    _pip("wheel", "--no-deps", "--wheel-dir", str(folder), ".")
    (wheel,) = folder.glob("hpo_steer-*.whl")
    return wheel


def _wheelhouse(own: Path) -> Path:
    """All that is installed into the images but ourselves; kept in the cache until the pinned versions change."""
    said = [(ROOT / name).read_bytes() for name in ("pyproject.toml", "constraints.txt")]
    key = hashlib.sha256(b"\0".join([*said, repr(EXTRAS).encode(), _BASE_PYTHON.encode()])).hexdigest()[:16]
    folder = CACHE / "wheels" / key
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        half = Path(tempfile.mkdtemp(dir=folder.parent))
        machine = platform.machine()
        kinds = [f"manylinux2014_{machine}", f"manylinux_2_28_{machine}"]
        options = ["--only-binary=:all:", "--python-version", _BASE_PYTHON, "--implementation", "cp"]
        options += [part for kind in kinds for part in ("--platform", kind)]
        wanted = f"{own}[{','.join(EXTRAS.values())}]"
        _pip("download", "--constraint", "constraints.txt", *options, "--dest", str(half), wanted, "pip")
        (half / own.name).unlink()
        half.replace(folder)
    return folder


def build(context: Path, recipe: str, image: str, **arguments: str) -> None:
    """Builds an image from a folder with recipes."""
    options = [part for name, value in arguments.items() for part in ("--build-arg", f"{name}={value}")]
    command = ["buildah", "bud", "--isolation", "chroot", "--network", "host", "--format", "docker", *options]
    command += ["--file", str(context / f"Containerfile.{recipe}"), "--tag", image, str(context)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-3000:]}{done.stderr[-3000:]}"


@pytest.fixture(scope="session")
def recipes_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recipes as a user has them, and all wheels that a build without internet needs."""
    place = tmp_path_factory.mktemp("recipes")
    own = _own_wheel(place)
    with zipfile.ZipFile(own) as wheel:
        wheel.extractall(place, [name for name in wheel.namelist() if name.startswith("containers/recipes/")])
    folder = place / "containers" / "recipes"
    wheels = folder / "wheels"
    own.rename(wheels / own.name)
    for each in _wheelhouse(wheels / own.name).iterdir():
        shutil.copy(each, wheels)
    return folder


@pytest.fixture(scope="session")
def images(podman_image: str, recipes_folder: Path) -> Iterator[Images]:
    """Both images, built without the internet and removed in the end."""
    require_program("buildah")
    names = {name: f"localhost/hpo-steer-tests/{name}-{os.getpid()}:1" for name in EXTRAS}
    try:
        for name, extras in EXTRAS.items():
            build(
                recipes_folder,
                name,
                names[name],
                BASE_IMAGE=podman_image,
                EXTRAS=extras,
                PIP_OPTIONS="--no-index",
            )
        yield Images(**names, base=podman_image)
    finally:
        podman("rmi", "--force", "--ignore", *names.values())
