"""The documentation says what the code does: keys, options, messages, links and snippets."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
import typer
import yaml

from containers.phpo.options import OPTIONS, Option
from hpo_steer import messages
from hpo_steer.algorithm import FAILURE_KINDS
from hpo_steer.config.schema import Experiment
from hpo_steer.config.section import Section
from hpo_steer.config.steering import Steering
from hpo_steer.constraints import FUNCTIONS
from hpo_steer.errors import MissingExtra
from hpo_steer.protocol.schemas import DOCUMENTS
from hpo_steer.registry import algorithm_class, registered
from hpo_steer.transport.bundle import CONTENT_TYPE
from hpo_steer.transport.rabbitmq_topology import Topology

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BUILTIN = [name for name, entry in registered().items() if entry.path.startswith("algorithms.")]


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def keys(section: type[BaseModel] = Experiment, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every key of the config, dotted, with its field."""
    for name, field in section.model_fields.items():
        parts = [field.annotation, *get_args(field.annotation)]
        inner = next((p for p in parts if isinstance(p, type) and issubclass(p, Section)), None)
        yield f"{prefix}{name}", field
        if inner is not None and inner is not section:
            yield from keys(inner, "models[]." if name == "models" else f"{prefix}{name}.")


@pytest.mark.parametrize(("key", "field"), list(keys()))
def test_the_config_page_has_every_key_and_its_default(key: str, field: Any) -> None:
    last = key.removeprefix("models[].")
    text = page("reference/config.md")
    part = text.split("## `models`")[1].split("\n## ")[0] if key.startswith("models[]") else text
    rows = [line for line in part.splitlines() if line.startswith(f"| `{last}` |")]
    assert rows, f"docs/reference/config.md has no row for {key}"
    default = rows[0].split("|")[3].strip()
    if field.is_required():
        assert default == "required"
    elif field.default is None:
        assert default.startswith("none")
    elif isinstance(field.default, bool):
        assert default == f"`{str(field.default).lower()}`"
    elif isinstance(field.default, (int, float, str)):
        assert default.split(":")[0] == f"`{field.default}`"


def test_the_config_page_has_no_key_that_is_not_there() -> None:
    known = {key for key, _ in keys()}
    named = re.findall(
        r"^\| `((?:steering|evaluation|broker|store|loggers)\.[\w.]+)` \|", page("reference/config.md"), re.M
    )
    assert set(named) <= known
    assert Steering().trigger.fraction == 0.75
    assert "`{fraction: 0.75}` | when the next iteration" in page("reference/config.md")


def test_the_config_page_has_every_function_of_constraints() -> None:
    text = page("reference/config.md").split("## `constraints`")[1].split("\n## ")[0]
    assert all(f"`{name}`" in text for name in FUNCTIONS)


@pytest.mark.parametrize("name", BUILTIN)
def test_the_algorithms_page_has_every_algorithm_and_option(name: str) -> None:
    text = page("reference/algorithms.md")
    assert f"\n## {name}\n" in text
    part = text.split(f"\n## {name}\n")[1].split("\n## ")[0]
    entry = registered()[name]
    assert re.search(rf"^{name} +{re.escape(entry.summary)}$", text, re.M), "the listing is out of date"
    if entry.extra:
        assert f"extra `{entry.extra}`" in part
    try:
        accepted = inspect.signature(algorithm_class(name)).parameters
    except MissingExtra:
        pytest.skip(f"{name} is not installed")
    for option in set(accepted) - {"space", "objectives", "seed", "outcome_constraints"}:
        assert f"| `{option}` |" in part, f"{name} has the option {option}"
    assert "outcome_constraints" not in accepted or "utcome constraints" in part


@pytest.mark.parametrize("kind", FAILURE_KINDS)
def test_the_failures_page_has_every_kind(kind: str) -> None:
    assert f"| `{kind}` |" in page("reference/failures.md")


@pytest.mark.parametrize("message", [messages.Work, *get_args(messages.Control), *get_args(messages.Event)])
def test_the_messages_page_has_every_message_and_field(message: type[messages.Message]) -> None:
    text = page("reference/messages.md")
    name = message.model_fields["type"].default
    part = re.split(rf"\n### `{name}`.*\n", text)[1].split("\n### ")[0]
    common = {*messages.Message.model_fields, *messages.WorkerEvent.model_fields, "type"}
    for field in set(message.model_fields) - common:
        assert re.search(rf"^\| [^|]*`{field}`", part, re.M), f"{name} has the field {field}"
    assert all(re.search(rf"^\| [^|]*`{field}`", text, re.M) for field in common)


def test_the_messages_page_has_the_queues_as_they_are_declared() -> None:
    text = page("reference/messages.md")
    topology = Topology("NAME")
    for name in (topology.work, topology.events, topology.control, topology.dead):
        assert f"| `{name}` |" in text
    for key, value in topology.arguments().items():
        assert f"`{key}: {value}`" in text
    assert f"{messages.MAX_BYTES:,} bytes" in text
    assert f"`{CONTENT_TYPE}`" in text


def test_the_schemas_page_has_every_schema() -> None:
    linked = re.findall(r"\]\(schemas/v1/([\w/-]+)\.json\)", page("reference/schemas.md"))
    assert sorted(linked) == sorted(DOCUMENTS)


def test_the_commands_page_has_every_command_and_option() -> None:
    from evaluation.cli import app as worker
    from steering import cli

    text = page("reference/commands.md")
    steer: Any = typer.main.get_command(cli.app)
    programs = [steer, typer.main.get_command(worker)]
    for name in cli._COMMANDS:
        assert f"\n### {name}\n" in text
    options = {o for program in programs for p in program.params for o in p.opts if o.startswith("--")}
    for option in options - {"--help", "--install-completion", "--show-completion"}:
        assert re.search(rf"`[^`]*{option}\b", text), f"docs/reference/commands.md has no {option}"


def test_the_commands_page_has_every_option_of_check() -> None:
    from steering.commands.check import check

    program = typer.Typer()
    program.command()(check)
    part = page("reference/commands.md").split("\n### check\n")[1].split("\n### ")[0]
    found: Any = typer.main.get_command(program)
    options = {o for p in found.params for o in p.opts if o.startswith("--")}
    for option in options - {"--help", "--install-completion", "--show-completion"}:
        assert re.search(rf"^\| `{option}\b", part, re.M), option


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: str(option.name))
def test_the_phpo_page_has_every_option(option: Option) -> None:
    rows = page("how-to/from-phpo.md").split("## Every option")[1].split("\n## ")[0]
    assert re.search(rf"^\| [^|]*`{option.name}`", rows, re.M), f"phpo has the option {option.name}"


def test_the_navigation_and_the_files_are_the_same() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    listed = set(re.findall(r": ([\w/-]+\.md)$", text, re.M))
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert listed == there


def test_internal_links_resolve(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--strict",
            "--quiet",
            "--site-dir",
            str(tmp_path / "site"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for source in DOCS.rglob("*.md"):
        for target, anchor in re.findall(r"\]\(([^)\s:#]*)#([^)\s]+)\)", source.read_text(encoding="utf-8")):
            file = (source.parent / target).resolve() if target else source
            html = tmp_path / "site" / file.relative_to(DOCS).with_suffix("")
            shown = (html.parent if html.name == "index" else html) / "index.html"
            assert f'id="{anchor}"' in shown.read_text(encoding="utf-8"), f"{source.name}: {target}#{anchor}"


def snippets(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page(name), re.M | re.S)


def test_the_snippets_of_an_own_algorithm_run(tmp_path: Path) -> None:
    named, plain = {}, []
    for code in snippets("how-to/own-algorithm.md", "python"):
        if found := re.match(r"# (\w+\.py)\n", code):
            named[found[1]] = code
        else:
            plain.append(code)
    assert set(named) == {"halving.py", "test_halving.py"}
    assert len(plain) == 1
    for file, code in named.items():
        (tmp_path / file).write_text(code, encoding="utf-8")
    (tmp_path / "by_hand.py").write_text(plain[0], encoding="utf-8")
    for command in (["by_hand.py"], ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_halving.py"]):
        done = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("source", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_yaml_snippets_are_yaml(source: Path) -> None:
    for code in snippets(str(source.relative_to(DOCS)), "yaml"):
        assert isinstance(yaml.safe_load(code), dict)


@pytest.mark.parametrize("name", ["index.md", "tutorial.md"])
def test_whole_configs_are_valid(name: str) -> None:
    from hpo_steer.config import validate

    whole = [code for code in snippets(name, "yaml") if code.startswith("name:")]
    assert whole
    for code in whole:
        validate(yaml.safe_load(code.replace("1e-5", "1.0e-5")))
