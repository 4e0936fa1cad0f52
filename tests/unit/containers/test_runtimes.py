"""The argument lists of every runtime, as values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from containers.errors import ContainerError
from containers.launch import Launch, Mount, mounts_of
from containers.runtimes import RUNTIMES, find_runtime
from containers.runtimes.apptainer import named
from hpo_steer.config.container import Container

MOUNTS = (Mount("/data", "/data", writable=False), Mount("/home/me/work", "/srv/workDir"))


def argv(runtime: str, **changes: Any) -> list[str]:
    given: dict[str, Any] = {
        "image": "user/train:1",
        "argv": ("python", "train.py"),
        "name": "hpo-steer-1",
        "workdir": "/srv/workDir",
        "mounts": MOUNTS,
        "env": {"A": "1 2"},
    }
    return RUNTIMES[runtime](runtime, {}).command(Launch(**(given | changes)))


@pytest.fixture
def a_plain_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(os, "getgid", lambda: 1001)


@pytest.mark.usefixtures("a_plain_user")
@pytest.mark.parametrize(
    ("runtime", "user"), [("docker", ["--user", "1000:1001"]), ("podman", ["--userns", "keep-id"])]
)
def test_docker_and_podman(runtime: str, user: list[str]) -> None:
    assert argv(runtime) == [
        *(runtime, "run", "--rm", "--name", "hpo-steer-1", "--label", "hpo-steer", "--log-driver", "none"),
        *("--security-opt", "label=disable", *user, "--workdir", "/srv/workDir"),
        *("--volume", "/data:/data:ro", "--volume", "/home/me/work:/srv/workDir", "--env", "A=1 2"),
        *("--entrypoint", "", "user/train:1", "python", "train.py"),
    ]


@pytest.mark.usefixtures("a_plain_user")
@pytest.mark.parametrize(
    ("runtime", "gpus"), [("docker", ["--gpus", "all"]), ("podman", ["--device", "nvidia.com/gpu=all"])]
)
def test_everything_that_docker_and_podman_can_do(runtime: str, gpus: list[str]) -> None:
    found = argv(
        runtime,
        argv=(),
        network=False,
        user="5:6",
        gpus=True,
        memory_mib=512,
        cores=1.5,
        options=("--shm-size=1g",),
        interactive=True,
    )
    assert found[found.index("--env") + 2 :] == [
        *("--network", "none", *gpus, "--memory", "512m", "--cpus", "1.5", "--shm-size=1g", "user/train:1")
    ]
    assert "--interactive" in found
    assert found[found.index("--user") + 1] == "5:6"
    assert "keep-id" not in found


def test_the_entry_point_of_an_image() -> None:
    for runtime in ("docker", "podman"):
        assert "--entrypoint" not in argv(runtime, entrypoint=True)
        assert "--entrypoint" not in argv(runtime, argv=())
    assert argv("apptainer", entrypoint=True)[1] == "run"
    assert argv("apptainer", argv=())[1] == "run"


def test_root_stays_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    for runtime in ("docker", "podman"):
        assert not {"--user", "--userns"} & set(argv(runtime))


@pytest.mark.parametrize("runtime", ["apptainer", "singularity"])
def test_apptainer(runtime: str) -> None:
    found = argv(runtime, network=False, gpus=True, memory_mib=512, cores=2.0, options=("--writable-tmpfs",))
    assert found == [
        *(runtime, "exec", "--cleanenv", "--no-home", "--pid", "--pwd", "/srv/workDir"),
        *("--bind", "/data:/data:ro", "--bind", "/home/me/work:/srv/workDir", "--env", "A=1 2"),
        *("--net", "--network", "none", "--nv", "--memory", "512m", "--cpus", "2", "--writable-tmpfs"),
        *("docker://user/train:1", "python", "train.py"),
    ]
    assert argv(runtime, argv=(), image="/images/train.sif")[1:3] == ["run", "--cleanenv"]
    assert argv(runtime, argv=(), image="/images/train.sif")[-1] == "/images/train.sif"


def test_charliecloud() -> None:
    assert argv("charliecloud", image="/images/train", user="5:6") == [
        *("ch-run", "--env-no-expand", "--unset-env=*"),
        *("--set-env=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "--set-env=A=1 2"),
        *("--bind", "/data:/data", "--bind", "/home/me/work:/srv/workDir", "--cd", "/srv/workDir"),
        *("--uid=5", "--gid=6", "/images/train", "--", "python", "train.py"),
    ]


def test_a_plain_process() -> None:
    same = (Mount("/data", "/data"),)
    assert argv("none", mounts=same, options=("nice",)) == ["nice", "python", "train.py"]


@pytest.mark.parametrize(
    ("runtime", "changes", "key"),
    [
        ("apptainer", {"user": "5"}, "container.user"),
        ("charliecloud", {"network": False}, "container.network: false"),
        ("charliecloud", {"memory_mib": 5}, "container.memory_mib"),
        ("charliecloud", {"cores": 1.0}, "container.cores"),
        ("charliecloud", {"argv": ()}, "no entry points"),
        ("none", {"network": False, "mounts": ()}, "container.network: false"),
        ("none", {"user": "5", "mounts": ()}, "container.user"),
        ("none", {"argv": (), "mounts": ()}, "no image with an entry point"),
        ("none", {}, "cannot be seen at /srv/workDir"),
        ("podman", {"mounts": (Mount("/a:b", "/c"),)}, "a colon in /a:b"),
        ("apptainer", {"mounts": (Mount("/a:b", "/c"),)}, "a colon in /a:b"),
    ],
)
def test_nothing_that_is_asked_for_is_ignored(runtime: str, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ContainerError, match=key):
        argv(runtime, **changes)


def test_what_ends_a_container() -> None:
    assert RUNTIMES["docker"]("docker", {}).removal("c") == ["docker", "rm", "--force", "c"]
    assert RUNTIMES["podman"]("podman", {}).removal("c") == [
        "podman",
        "rm",
        "--force",
        "--ignore",
        "--time",
        "0",
        "c",
    ]
    for runtime in ("apptainer", "singularity", "charliecloud", "none"):
        assert RUNTIMES[runtime](runtime, {}).removal("c") is None


def test_mounts_are_relative_to_the_configs_folder() -> None:
    container = Container(image="x", mounts=["data:/data:ro", "/scratch:/scratch"])
    assert mounts_of(container, Path("/home/me")) == (
        Mount("/home/me/data", "/data", writable=False),
        Mount("/scratch", "/scratch"),
    )


def test_images_of_apptainer(tmp_path: Path) -> None:
    assert named("user/train:1") == "docker://user/train:1"
    assert named("oras://host/train") == "oras://host/train"
    assert named(str(tmp_path)) == str(tmp_path)


# ---------------------------------------------------------------- what the machine has


def machine(folder: Path, **programs: str) -> dict[str, str]:
    """An environment whose PATH has these shell scripts only."""
    for name, text in programs.items():
        path = folder / name.replace("_", "-")
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
    return {"PATH": str(folder), "USER": "me"}


def test_auto_takes_the_first_that_works(tmp_path: Path) -> None:
    down = "echo 'Cannot connect to the Docker daemon. Is the docker daemon running?' >&2; exit 1"
    env = machine(tmp_path, docker=down, apptainer="echo apptainer version 1.3")
    assert find_runtime("auto", "x", env).name == "apptainer"
    env = machine(tmp_path, podman="echo 4.3.1")
    assert find_runtime("auto", "x", env).name == "podman"
    assert find_runtime("auto", "/images/x.sif", env).name == "apptainer", "podman runs no files"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "echo 'permission denied while trying to connect' >&2; exit 1",
            "no permission on its socket: join the group",
        ),
        ("echo 'Cannot connect to the Docker daemon' >&2; exit 1", "the engine does not run: start it"),
        ("echo 'something else' >&2; exit 1", "something else"),
    ],
)
def test_docker_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ContainerError, match=f"runtime: docker does not work here: {says}"):
        find_runtime("docker", "x", machine(tmp_path, docker=text))


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(ContainerError) as caught:
        find_runtime("auto", "x", machine(tmp_path))
    said = str(caught.value)
    assert said.startswith(
        "no container runtime works here (podman: is not installed; docker: is not installed;"
    )
    assert said.endswith("runtime: none runs a plain process without an image")


def test_an_image_that_cannot_be_pulled(tmp_path: Path) -> None:
    text = 'case "$1" in version) echo 20;; *) echo "manifest unknown" >&2; exit 1;; esac'
    runtime = find_runtime("docker", "x", machine(tmp_path, docker=text))
    said: list[str] = []
    with pytest.raises(
        ContainerError, match='there is no image "x:1" here, and docker cannot pull it: manifest unknown'
    ):
        runtime.provide("x:1", said.append)
    assert said == ["pulling x:1 with docker"]
    with pytest.raises(ContainerError, match=r"/x.sif is a path; docker runs images by name"):
        runtime.provide("/x.sif", said.append)
