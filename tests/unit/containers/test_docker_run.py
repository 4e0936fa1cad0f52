from __future__ import annotations

from typing import Any

import pytest

from containers.phpo.docker import docker_run
from hpo_steer.config.container import Container
from hpo_steer.errors import ConfigError

HPOGRID = (
    'run --rm -v "$(pwd)":/HPOiDDS IMAGE /bin/bash -c "hpogrid generate -n %NUM_POINTS -i /HPOiDDS/%IN" '
)


def test_the_line_that_hpogrid_makes() -> None:
    run = docker_run(HPOGRID)
    assert run.container == {"image": "IMAGE", "workdir": "/HPOiDDS"}
    assert run.command == ["/bin/bash", "-c", "hpogrid generate -n %NUM_POINTS -i /HPOiDDS/%IN"]
    assert run.notes == ["the command starts in /HPOiDDS, not in the image's own folder"]


@pytest.mark.parametrize("here", ['"$(pwd)"', "$(pwd)", "$PWD", "${PWD}/", '"`pwd`"', "."])
@pytest.mark.parametrize("form", ["-v {}:/w", "-v={}:/w", "--volume {}:/w", "--volume={}:/w/", "-v {}:/w:rw"])
def test_the_mount_of_the_current_folder_is_the_working_folder(here: str, form: str) -> None:
    run = docker_run(f"run {form.format(here)} -w /w img python steer.py")
    assert run.container == {"image": "img", "workdir": "/w"}
    assert run.command == ["python", "steer.py"]
    assert run.notes == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("--rm -it -i -t --name x --sig-proxy=false", {}),
        ("-v /a:/b -v /c:/d:ro", {"mounts": ["/a:/b", "/c:/d:ro"]}),
        ("-v/a:/b", {"mounts": ["/a:/b"]}),
        ("-itv /a:/b", {"mounts": ["/a:/b"]}),
        ("-v /a:/b:ro,z", {"mounts": ["/a:/b:ro"]}),
        ("-v $PWD/data:/data:ro", {"mounts": ["data:/data:ro"]}),
        ("--mount type=bind,source=/a,target=/b,readonly", {"mounts": ["/a:/b:ro"]}),
        ("--mount type=bind,src=/a,dst=/b", {"mounts": ["/a:/b"]}),
        ("-e A=1 --env B='x y' -e C=", {"env": {"A": "1", "B": "x y", "C": ""}}),
        ("--network none", {"network": False}),
        ("--net=bridge", {}),
        ("-u 1000:1000", {"user": "1000:1000"}),
        ("--gpus all", {"gpus": True}),
        ("-m 2g", {"memory_mib": 2048}),
        ("--memory=512M --cpus 1.5", {"memory_mib": 512, "cores": 1.5}),
    ],
)
def test_options_with_a_word_of_ours(options: str, expected: dict[str, Any]) -> None:
    run = docker_run(f"run {options} img prog --flag x")
    assert run.container == {"image": "img", **expected}
    assert run.command == ["prog", "--flag", "x"]
    assert run.notes == []
    Container.read(run.container, "container")


@pytest.mark.parametrize(
    ("options", "expected", "note"),
    [
        ("--shm-size 1g", {"options": ["--shm-size=1g"]}, "--shm-size is passed on"),
        ("--privileged", {"options": ["--privileged"]}, "--privileged is passed on"),
        ("--net host", {"options": ["--network=host"]}, "--network is passed on"),
        ("--mount type=tmpfs,dst=/t", {"options": ["--mount=type=tmpfs,dst=/t"]}, "--mount is passed on"),
        ("--gpus device=0", {"gpus": True}, "all GPUs are handed in"),
        ("-e HOME", {}, "-e HOME takes a variable over from outside"),
        ("-u root", {}, "--user root is left out"),
        ("-v $HOME/x:/y", {}, "the mount $HOME/x:/y is left out"),
        ("-v ~/x:/y", {}, "the mount ~/x:/y is left out"),
        ("-w /x", {"workdir": "/x"}, "the working folder appears at /x"),
    ],
)
def test_options_without_one_are_passed_on_or_named(
    options: str, expected: dict[str, Any], note: str
) -> None:
    run = docker_run(f"run {options} img prog")
    assert run.container == {"image": "img", **expected}
    assert len(run.notes) == 1
    assert note in run.notes[0]
    Container.read(run.container, "container")


def test_a_command_that_starts_elsewhere_goes_there_first() -> None:
    run = docker_run(
        "docker run -v $(pwd):/data -w '/opt/my code' --entrypoint python docker://img s.py '%IN x'"
    )
    assert run.container == {"image": "img", "workdir": "/data"}
    assert run.command[:3] == ["/bin/sh", "-c", "cd '/opt/my code' && exec \"$@\""]
    assert run.command[3:] == ["sh", "python", "s.py", "%IN x"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("python steer.py", "it is the arguments of docker, which begin with \"run\"; got 'python steer.py'"),
        ("", 'begin with "run"'),
        ("run --rm -v", "docker's option -v has no value"),
        ("run --rm", "names no image"),
        ("run --rm img", "names no command behind the image img"),
        ("run -v /a img x", "-v /a is no HOST:CONTAINER"),
        ("run img 'python", "cannot be split into words: no closing quotation"),
    ],
)
def test_what_is_no_docker_run_is_told(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        docker_run(text)
    assert caught.value.key == "steeringExec"
    assert sentence in caught.value.message
