"""Takes apart the arguments of ``docker run`` that phpo calls a steering command without a steering container."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from hpo_steer.errors import ConfigError

_HERE = re.compile(r"\$\(pwd\)|`pwd`|\$PWD\b|\$\{PWD\}|\.(?=/|$)")
_FLAGS = frozenset(
    {"d", "detach", "disable-content-trust", "i", "interactive", "t", "tty", "init", "no-healthcheck"}
    | {"oom-kill-disable", "privileged", "P", "publish-all", "q", "quiet", "read-only", "rm", "sig-proxy"}
    | {"use-api-socket"}
)
_NEEDLESS = frozenset(
    {"detach", "interactive", "tty", "rm", "sig-proxy", "quiet", "name", "cidfile", "attach"}
)
"""About how docker is used from a terminal; a run here does all of it in its own way."""
_SHORT = {
    "v": "volume",
    "w": "workdir",
    "e": "env",
    "u": "user",
    "m": "memory",
    "net": "network",
    "d": "detach",
    "i": "interactive",
    "t": "tty",
    "a": "attach",
    "q": "quiet",
    "c": "cpu-shares",
    "h": "hostname",
    "l": "label",
    "p": "publish",
}
_UNITS = {"b": 1, "": 1, "k": 1024, "m": 1024**2, "g": 1024**3}


@dataclass
class DockerRun:
    """A ``docker run``, in our words.

    Attributes:
        container: the keys of a config's container.
        command: what runs in it.
        notes: what the translation leaves out or changes, a sentence each.
    """

    container: dict[str, Any] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def docker_run(text: str, key: str = "steeringExec") -> DockerRun:
    """Takes a line apart.

    Args:
        text: the arguments of docker, such as ``run --rm -v "$(pwd)":/data IMAGE python steer.py %IN %OUT``.
        key: what errors call it.

    Raises:
        ConfigError: it is no ``docker run`` with an image and a command.
    """
    try:
        words = shlex.split(text)
    except ValueError as exc:
        raise ConfigError(key, f"cannot be split into words: {str(exc)[:1].lower()}{str(exc)[1:]}") from None
    if words and words[0].rpartition("/")[2] in ("docker", "podman"):
        words = words[1:]
    if not words or words[0] != "run":
        raise ConfigError(
            key,
            f'without a steeringContainer it is the arguments of docker, which begin with "run"; got {text[:60]!r}',
        )
    made, entrypoint = DockerRun(), ""
    rest = iter(words[1:])
    for word in rest:
        if not word.startswith("-") or word == "-":
            made.container["image"] = image_name(word)
            break
        for name, value in _options(word, rest, key):
            if name == "entrypoint":
                entrypoint = value
            else:
                _take(made, name, value, key)
    if "image" not in made.container:
        raise ConfigError(key, "names no image behind the options of docker run")
    made.command = [*([entrypoint] if entrypoint else []), *rest]
    if not made.command:
        raise ConfigError(
            key, f"names no command behind the image {made.container['image']}; say what is to run in it"
        )
    _place(made)
    made.container = {name: made.container[name] for name in _ORDER if name in made.container}
    return made


def image_name(text: str) -> str:
    """An image as runtimes name it, without ``docker://``."""
    return text.removeprefix("docker://")


_ORDER = ("image", "mounts", "env", "network", "user", "gpus", "memory_mib", "cores", "workdir", "options")


def _options(word: str, rest: Iterator[str], key: str) -> list[tuple[str, str]]:
    """The options in a word: one, or several flags as in ``-it``; a value may be the next word."""
    dashes = 2 if word.startswith("--") else 1
    name, equals, value = word[dashes:].partition("=")
    if dashes == 1 and len(name) > 1 and name not in _SHORT:
        flags = []
        for place, letter in enumerate(word[1:], 2):
            if letter in _FLAGS:
                flags.append((_SHORT.get(letter, letter), "true"))
            else:  # the rest of the word is its value, as in -v/a:/b
                value = word[place:].removeprefix("=") or _next(rest, f"-{letter}", key)
                return [*flags, (_SHORT.get(letter, letter), value)]
        return flags
    if name in _FLAGS:
        return [(_SHORT.get(name, name), value if equals else "true")]
    return [(_SHORT.get(name, name), value if equals else _next(rest, word, key))]


def _next(rest: Iterator[str], word: str, key: str) -> str:
    try:
        return str(next(rest))
    except StopIteration:
        raise ConfigError(key, f"docker's option {word} has no value") from None


def _take(made: DockerRun, name: str, value: str, key: str) -> None:
    """Notes one option of docker run."""
    if name in _NEEDLESS:
        return
    if name == "volume":
        _mount(made, *_parts(value, key))
    elif name not in _TAKERS or not _TAKERS[name](made, value):
        _pass_on(made, name, value)


def _workdir(made: DockerRun, value: str) -> bool:
    made.container["workdir"] = value
    return True


def _env(made: DockerRun, value: str) -> bool:
    variable, equals, content = value.partition("=")
    if equals:
        made.container.setdefault("env", {})[variable] = content
    else:
        made.notes.append(f"-e {value} takes a variable over from outside: write its value into env")
    return True


def _network(made: DockerRun, value: str) -> bool:
    if value == "none":
        made.container["network"] = False
    return value in ("none", "bridge", "default")


def _user(made: DockerRun, value: str) -> bool:
    if re.fullmatch(r"\d+(:\d+)?", value):
        made.container["user"] = value
    else:
        made.notes.append(f"--user {value} is left out: user takes numbers, UID or UID:GID")
    return True


def _gpus(made: DockerRun, value: str) -> bool:
    made.container["gpus"] = True
    if value != "all":
        made.notes.append(f"--gpus {value}: all GPUs are handed in")
    return True


def _memory(made: DockerRun, value: str) -> bool:
    found = re.fullmatch(r"(\d+)([bkmg]?)", value.lower())
    if found:
        made.container["memory_mib"] = max(int(found[1]) * _UNITS[found[2]] // 1024**2, 1)
    return found is not None


def _cpus(made: DockerRun, value: str) -> bool:
    if not re.fullmatch(r"\d+(\.\d+)?", value) or float(value) <= 0:
        return False
    made.container["cores"] = float(value)
    return True


def _long_mount(made: DockerRun, value: str) -> bool:
    """``--mount type=bind,source=/a,target=/b,readonly``."""
    pairs = dict(part.partition("=")[::2] for part in value.split(","))
    host = pairs.get("source", pairs.get("src", ""))
    inside = pairs.get("target", pairs.get("destination", pairs.get("dst", "")))
    if pairs.get("type", "volume") != "bind" or not host or not inside:
        return False
    read_only = any(pairs.get(word, "no") in ("", "true", "1") for word in ("readonly", "ro"))
    _mount(made, host, inside, "ro" if read_only else "")
    return True


_TAKERS: dict[str, Callable[[DockerRun, str], bool]] = {
    "mount": _long_mount,
    "workdir": _workdir,
    "env": _env,
    "network": _network,
    "user": _user,
    "gpus": _gpus,
    "memory": _memory,
    "cpus": _cpus,
}
"""What takes which option; each says whether it could."""


def _pass_on(made: DockerRun, name: str, value: str) -> None:
    flag = f"-{name}" if len(name) == 1 else f"--{name}"
    made.container.setdefault("options", []).append(
        flag if name in _FLAGS and value == "true" else f"{flag}={value}"
    )
    made.notes.append(f"{flag} is passed on as one of the container's options, which docker and podman know")


def _parts(value: str, key: str) -> tuple[str, str, str]:
    host, _, rest = value.partition(":")
    inside, _, mode = rest.partition(":")
    if not inside:
        raise ConfigError(key, f"-v {value} is no HOST:CONTAINER")
    return host, inside, mode


def _mount(made: DockerRun, host: str, inside: str, mode: str) -> None:
    container = made.container
    if _HERE.fullmatch(host.rstrip("/")):
        container["here"] = inside.rstrip("/") or "/"
        return
    if re.search(r"[$`~]", _HERE.sub("", host, count=1)):
        made.notes.append(
            f"the mount {host}:{inside} is left out: write its path, without variables, into mounts"
        )
        return
    if found := _HERE.match(host):
        host = host[found.end() :].lstrip("/")
    modes = [part for part in mode.split(",") if part]
    kept = next((part for part in modes if part in ("ro", "rw")), "")
    container.setdefault("mounts", []).append(":".join(part for part in (host, inside, kept) if part))


def _place(made: DockerRun) -> None:
    """Where the working folder appears: the mount of the current folder, and there the command starts."""
    here, start = made.container.pop("here", None), made.container.get("workdir")
    if here is None:
        if start is not None:
            made.notes.append(
                f"the working folder appears at {start}: nothing says where %IN and %OUT would be"
            )
        return
    made.container["workdir"] = here
    if start is None:
        made.notes.append(f"the command starts in {here}, not in the image's own folder")
    elif start.rstrip("/") != here:
        made.command = ["/bin/sh", "-c", f'cd {shlex.quote(start)} && exec "$@"', "sh", *made.command]
