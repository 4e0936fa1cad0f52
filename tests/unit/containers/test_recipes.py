"""The recipes as texts: what cannot be run here, and what must be the same in several of them."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "containers" / "recipes"
HALVES = {"steering": "hpo-steer", "evaluation": "hpo-evaluate"}


def containerfile(half: str) -> str:
    return (RECIPES / f"Containerfile.{half}").read_text(encoding="utf-8")


def arguments(half: str) -> dict[str, str]:
    """The build arguments with their defaults."""
    return dict(re.findall(r"^ARG (\w+)=(.*)$", containerfile(half), re.M))


class Stage:
    """A stage of an Apptainer definition."""

    def __init__(self, text: str) -> None:
        head, *sections = re.split(r"^%(?=[a-z])", text, flags=re.MULTILINE)
        self.header = dict(re.findall(r"^(\w+): (.+)$", head, re.M))
        self.sections = {name: body for name, _, body in (each.partition("\n") for each in sections)}
        lines = self.sections["arguments"].split()
        self.arguments = dict(line.split("=", 1) for line in lines)
        self.used = set(re.findall(r"\{\{ (\w+) \}\}", text))

    def script(self, name: str, **given: str) -> str:
        """A section with its arguments filled in."""
        values = self.arguments | given
        return re.sub(r"\{\{ (\w+) \}\}", lambda found: values[found[1]], self.sections[name])


def definition(half: str) -> list[Stage]:
    text = (RECIPES / f"{half}.def").read_text(encoding="utf-8")
    return [Stage(part) for part in re.split(r"^(?=Bootstrap:)", text, flags=re.MULTILINE)[1:]]


def is_shell(script: str) -> bool:
    return not subprocess.run(["sh", "-n"], input=script, text=True, check=False).returncode


@pytest.mark.parametrize("half", HALVES)
def test_a_recipe_makes_the_version_it_comes_with(half: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert set(re.findall(r"^ARG VERSION=(.*)$", containerfile(half), re.M)) == {version}
    assert {stage.arguments["VERSION"] for stage in definition(half)} == {version}


def test_both_images_are_built_alike() -> None:
    def steps(half: str) -> list[str]:
        text = containerfile(half).replace(HALVES[half], "PROGRAM").replace("hpo-steer/", "")
        return re.findall(r"^RUN set -eu; \\\n((?:    .*\n)+)", text, re.M)

    for one, other in zip(steps("steering"), steps("evaluation"), strict=True):
        same = [line for line in one.splitlines() if line in other.splitlines()]
        assert len(same) >= len(one.splitlines()) - 3, (
            "they differ in the user's home and in how they are tried"
        )
    for half in HALVES:
        for step in re.findall(r"^RUN (set -eu; \\\n(?:    .*\n)+)", containerfile(half), re.M):
            assert is_shell(step)


@pytest.mark.parametrize("half", HALVES)
def test_a_definition_for_apptainer_is_whole(half: str) -> None:
    build, final = definition(half)
    assert (build.header["Stage"], final.header["Stage"]) == ("build", "final")
    for stage in (build, final):
        assert stage.header["Bootstrap"] == "docker"
        assert stage.header["From"] == "{{ BASE_IMAGE }}"
        assert stage.used == set(stage.arguments), "each stage says its own arguments"
    same = {name: text for name, text in arguments(half).items() if name not in ("UID", "SOURCE")}
    assert build.arguments == same
    assert final.sections["files from build"].split() == ["/opt/venv", "/opt/venv"]
    program = HALVES[half]
    for name in ("runscript", "startscript"):
        assert final.sections[name].strip() == f'exec {program} "$@"'
    assert is_shell(build.script("post", EXTRAS="plot,postgres", PACKAGES="torch scikit-learn"))
    assert all(is_shell(final.script(name)) for name in ("post", "environment", "runscript", "test"))
    for line in final.script("labels").strip().splitlines():
        name, text = line.strip().removeprefix("org.opencontainers.image.").split(" ", 1)
        wanted = {"version": arguments(half)["VERSION"], "source": arguments(half)["SOURCE"]}
        assert text == wanted.get(name, text)
        assert f"org.opencontainers.image.{name}=" in containerfile(half)


@pytest.mark.parametrize("half", HALVES)
def test_a_definition_installs_what_the_containerfile_installs(half: str) -> None:
    (step,) = re.findall(r"^RUN set -eu; \\\n((?:    .*\n)+?)\nFROM", containerfile(half), re.M)

    def words(script: str) -> list[str]:
        plain = re.sub(
            r"\{\{ (\w+) \}\}|\$\{(\w+)\}|\$([A-Z_]+)", lambda m: f"<{m[1] or m[2] or m[3]}>", script
        )
        return plain.replace("\\\n", "\n").replace(";", "").split()

    script = definition(half)[0].sections["post"].replace('index="{{ TORCH_INDEX }}"\n', "")
    ours, theirs = words(script.replace("$index", "{{ TORCH_INDEX }}")), words(step)
    assert ours[2:] == theirs[: len(ours) - 2]
    assert theirs[len(ours) - 2 :][0] == f"/opt/venv/bin/{HALVES[half]}", (
        "only the trial is elsewhere: in %test"
    )


def test_both_ignore_files_are_the_same() -> None:
    names = (".dockerignore", ".containerignore")
    assert len({(RECIPES / name).read_text() for name in names}) == 1


def test_the_compose_file() -> None:
    text = (RECIPES / "compose.yaml").read_text(encoding="utf-8")
    stack: dict[str, Any] = yaml.safe_load(text)
    services = stack["services"]
    assert set(services) == {"rabbitmq", "postgres", "steering", "worker"}
    assert services["worker"]["deploy"] == {"mode": "replicated", "replicas": "${WORKERS:-2}"}
    assert services["steering"]["restart"] == "on-failure", "a search that has ended stays ended"
    assert {services[name]["restart"] for name in ("rabbitmq", "postgres", "worker")} == {"unless-stopped"}
    assert services["steering"]["depends_on"] == {
        name: {"condition": "service_healthy"} for name in ("rabbitmq", "postgres")
    }
    for name, service in services.items():
        assert service["healthcheck"]["test"][0] == "CMD", name
        for volume in service["volumes"]:
            source = volume.split(":", 1)[0]
            assert source in stack["volumes"] or source.startswith("${EXPERIMENT"), volume
        for variable, value in service["environment"].items():
            if variable.endswith(("PASS", "PASSWORD")):
                assert re.fullmatch(r"\$\{HPO_STEER_(BROKER|STORE)_PASSWORD:\?.*\}", value), variable
    for half, name in (("steering", "steering"), ("evaluation", "worker")):
        service = services[name]
        assert service["read_only"]
        assert service["init"]
        assert service["cap_drop"] == ["ALL"]
        assert service["build"]["dockerfile"] == f"Containerfile.{half}"
        assert set(service["build"]["args"]) <= set(arguments(half))
        check = re.search(r"HEALTHCHECK .*\\\n +CMD (\[.*\])", containerfile(half))
        assert check is not None
        assert service["healthcheck"]["test"][1:] == yaml.safe_load(check[1])
    used = set(re.findall(r"\$\{(\w+)", text))
    page = (ROOT / "docs/how-to/images.md").read_text(encoding="utf-8")
    assert {name for name in used if not re.search(rf"\b{name}\b", page)} == set()


def test_the_page_has_every_argument() -> None:
    page = (ROOT / "docs/how-to/images.md").read_text(encoding="utf-8")
    for half in HALVES:
        for name in arguments(half):
            assert re.search(rf"^\| `{name}` \|", page, re.M), name


def test_the_command_writes_them_all_and_overwrites_nothing(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from hpo_steer.errors import UserError
    from steering import cli

    cli._register()
    folder = tmp_path / "new" / "recipes"
    done = CliRunner().invoke(cli.app, ["recipes", "--output", str(folder)])
    assert done.exit_code == 0, done.output
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    kept = {str(path.relative_to(RECIPES)) for path in RECIPES.rglob("*") if path.is_file()}
    assert there == {name for name in kept if not name.endswith((".whl", "constraints.txt"))}
    assert f"docker build -f {folder}/Containerfile.evaluation" in done.output
    (folder / "compose.yaml").write_text("mine")
    again = CliRunner().invoke(cli.app, ["recipes", "--output", str(folder)])
    assert isinstance(again.exception, UserError)
    assert "nothing was written" in str(again.exception)
    assert (folder / "compose.yaml").read_text() == "mine"
