"""What the README tells a newcomer to type is typed here."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.acceptance.program import BIN, wait_for
from tests.servers.rabbitmq import RabbitNode

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(language: str, text: str = README) -> list[str]:
    """The README's code blocks in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def section(title: str) -> str:
    return README.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def commands(text: str) -> list[list[str]]:
    lines = [line.partition("#")[0].strip() for block in blocks("sh", text) for line in block.splitlines()]
    return [shlex.split(line.replace(".venv/bin/", "")) for line in lines if line]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What a newcomer has: the repository's configs, and nothing of ours beside them."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def run(command: list[str], folder: Path) -> str:
    command = [str(BIN / command[0]), *command[1:]]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_two_commands_are_there() -> None:
    first, second = [command[0] for command in commands(section("Two commands"))]
    assert (first, second) == ("scripts/quickstart", "scripts/test")
    for name in (first, second):
        assert os.access(ROOT / name, os.X_OK)
        subprocess.run(["sh", "-n", str(ROOT / name)], check=True)
    assert "exec scripts/test" in (ROOT / ".ci/run").read_text()


def test_the_quickstart_beats_its_first_iteration(checkout: Path) -> None:
    out = run(["hpo-steer", "--config", "configs/quickstart.yaml"], checkout)
    found = re.search(r"^best loss (\S+)  .*first iteration's best (\S+)$", out, flags=re.MULTILINE)
    assert found
    assert float(found[1]) < 0.95 * float(found[2])
    assert (checkout / "runs/digits/report.html").stat().st_size > 20_000
    for name in ("progress", "importance", "parallel", "timeline"):
        run(["hpo-steer", "plot", "digits", "--kind", name], checkout)
        assert (checkout / f"runs/digits/plots/{name}.png").exists()
    assert len(json.loads(run(["hpo-steer", "points", "digits", "--json"], checkout))) == 60
    assert "60 points reproduced" in run(["hpo-steer", "replay", "digits"], checkout)


def test_an_own_training(checkout: Path) -> None:
    text = section("Your own training")
    (python,) = blocks("python", text)
    (config,) = blocks("yaml", text)
    body = python.replace(
        "    ...\n", "    loss, accuracy = (params['lr'] - 0.01) ** 2 + 1 / params['width'], 0.5\n"
    )
    (checkout / "train.py").write_text(body)
    (checkout / "my.yaml").write_text(config.replace("max_points: 100", "max_points: 20"))
    for command in commands(text):
        run(command, checkout)
    (best,) = json.loads(run(["hpo-steer", "best", "my", "-n", "1", "--json"], checkout))
    assert set(best["params"]) == {"lr", "width"}


@pytest.mark.rabbitmq
def test_over_rabbitmq_with_two_workers(checkout: Path, rabbitmq: RabbitNode) -> None:
    typed = commands(section("Over RabbitMQ"))
    assert typed[0] == typed[2] == ["export", "HPO_STEER_BROKER_PASSWORD=guest"]
    steer, evaluate = typed[1], typed[3]
    environment = {
        **os.environ,
        "HPO_STEER_BROKER_PASSWORD": "guest",
        "XDG_CACHE_HOME": str(checkout / "cache"),
    }
    url = f"amqp://guest@127.0.0.1:{rabbitmq.port}/"
    programs = [
        subprocess.Popen(
            [str(BIN / command[0]), *command[1:], "--broker", url],
            cwd=checkout,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for command in (steer, evaluate, evaluate)
    ]
    try:
        out, _ = programs[0].communicate(timeout=200)
        assert programs[0].returncode == 0, out
        assert "done: 60 points" in out
        points = json.loads(run(["hpo-steer", "points", "digits-rabbitmq", "--json"], checkout))
        assert len({point["worker"] for point in points}) == 2
    finally:
        for program in programs[1:]:
            program.send_signal(signal.SIGTERM)
        wait_for(lambda: all(p.poll() is not None for p in programs), 30, "the end of both workers")
        for program in programs:
            if program.stdout is not None:
                program.stdout.close()
