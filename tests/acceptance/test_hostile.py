"""Text from a message or a store is data: it never becomes a path, a command, a page's code or a terminal's command."""

from __future__ import annotations

import json
import re
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.messages import Result, Work
from hpo_steer.transport import BrokerSettings, steering_end
from hpo_steer.transport.base import Delivery
from tests.acceptance.program import EVALUATE, Project

if TYPE_CHECKING:
    from pathlib import Path

    from hpo_steer.transport.base import SteeringEnd
    from tests.servers.rabbitmq import RabbitNode

SHOW = """
import json, os, sys
from pathlib import Path

shown = {"argv": sys.argv[1:], "names": sorted(os.environ), "params": json.loads(Path(sys.argv[1]).read_text())}
with open("shown.jsonl", "a") as file:
    file.write(json.dumps(shown) + "\\n")
print(0.5)
"""
VALUES: list[Any] = [
    "$(touch pwned)",
    "; touch pwned; #",
    "`touch pwned`",
    "../../../pwned",
    "{output}",
    "{other}",
    "a\nb\x1b]0;t\x07",
    "é\u202e\U0001f600",
    "x" * 100_000,
    {"deep": [{"er": "{output}"}]},
    1e308,
    2**63,
    -0.0,
    True,
    None,
]
NAMES = [
    "../../pwned",
    "/tmp/pwned",
    "__class__",
    "LD_PRELOAD",
    "PATH",
    "HPO_STEER_POINT",
    "input",
    "output",
    "a b",
    "-x",
]
BAD = "\x1b]0;gone\x07\x1b[2J\x9b31m<script>alert(1)</script>"
FAILS = f"""
def train(params):
    if params["k"] > 4:
        raise ValueError({BAD!r})
    return {{"loss": params["x"]}}
"""
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def results(steering: SteeringEnd, n: int, timeout_s: float = 90.0) -> dict[int, Result]:
    found: dict[int, Result] = {}
    deadline = time.monotonic() + timeout_s
    while len(found) < n:
        assert time.monotonic() < deadline, f"{len(found)} of {n} results"
        time.sleep(0.05)
        for item in steering.receive():
            if isinstance(item, Delivery):
                if isinstance(item.message, Result):
                    found[item.message.point] = item.message
                steering.settle([item])
    return found


@pytest.mark.rabbitmq
def test_a_hostile_steering_gets_nothing_but_its_parameters_through(
    tmp_path: Path, rabbitmq: RabbitNode
) -> None:
    """Whatever a message holds, the worker runs its own command, and each value stays within its argument."""
    home = tmp_path / "home"
    project = Project(home, plots=True)
    (home / "show.py").write_text(SHOW)
    settings = BrokerSettings(rabbitmq.url)
    run = "../../../pwned"  # it names files in the spool
    cases = [{"a": value, "other": "no"} for value in VALUES] + [
        {"a": 1, name: "touch pwned"} for name in NAMES
    ]
    cases.append({f"p{i}": i for i in range(20_000)})
    with_path = [*cases, {"a": 1}]
    steering = steering_end(settings, "hostile", run)
    steering.open()
    worker = project.start(
        *("--broker", settings.url, "--experiment", "hostile", "--objective", "loss", "--slots", "2"),
        *("--work-dir", str(tmp_path / "work"), "--command", "python3 show.py {input} --a={a}"),
        program=EVALUATE,
        env={"HPO_STEER_BROKER_PASSWORD": "guest"},
    )
    try:
        steering.publish(
            [
                Work(
                    experiment="hostile",
                    run=run,
                    point=n,
                    attempt=1,
                    model="../../pwned" if n == len(cases) else "<b>\u202e",
                    iteration=1,
                    params=params,
                )
                for n, params in enumerate(with_path)
            ]
        )
        found = results(steering, len(with_path))
    finally:
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate(timeout=60)
        steering.close()
    assert worker.returncode == 0, err
    assert (tmp_path / "work/hostile").stat().st_mode & 0o077 == 0
    assert not CONTROLS.search(out + err)
    shown = [json.loads(line) for line in (home / "shown.jsonl").read_text().splitlines()]
    assert all(result.metrics == {"loss": 0.5} for result in found.values())
    assert len(shown) == len(with_path)
    names = {tuple(one["names"]) for one in shown}
    assert len(names) == 1  # no parameter has become a variable
    for one in shown:
        params = one["params"]
        if "a" in params:
            value = params["a"] if isinstance(params["a"], str) else json.dumps(params["a"])
            assert one["argv"][1:] == [f"--a={value}"]
        assert one["argv"][0].startswith(str(tmp_path / "work"))
    assert [
        file for file in tmp_path.rglob("*") if "pwned" in file.name and not file.name.startswith("..%2F")
    ] == []


def test_what_a_training_says_reaches_no_terminal_and_no_page(tmp_path: Path) -> None:
    project = Project(tmp_path, plots=True, evaluation={"max_attempts": 1})
    (tmp_path / "train.py").write_text(FAILS)
    out, err = project.steer()
    printed = {"run": out + err}
    failed = [p["id"] for p in project.points() if p["state"] == "failed"]
    assert failed
    for command in (("status", "demo"), ("points", "demo"), ("logs", str(failed[0]), "demo")):
        printed[command[0]] = "".join(project.run(*command))
    printed["json"] = "".join(project.run("points", "demo", "--json"))
    assert "gone" in printed["run"] + printed["status"]
    assert {name for name, text in printed.items() if CONTROLS.search(text)} == set()
    pages = list((tmp_path / "runs/demo").glob("*.html"))
    assert pages
    for page in pages:
        text = page.read_text()
        assert "alert(1)" in text
        assert "<script>alert" not in text
        assert "\x1b" not in text
