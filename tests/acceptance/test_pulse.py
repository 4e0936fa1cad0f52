"""The signs of life of programs that run."""

from __future__ import annotations

import re
from pathlib import Path

from tests.acceptance.program import Project, wait_for


def test_steering_says_how_it_stands_and_its_workers_leave_that_to_it(tmp_path: Path) -> None:
    project = Project(tmp_path, gated=True)
    file = tmp_path / "pulse"
    process = project.start("--config", "config.yaml", env={"HPO_STEER_PULSE": str(file)})
    try:
        wait_for(lambda: file.exists() and "1 running" in file.read_text(), what="a running point")
        project.let_through(1)
        heard = set()

        def next_beat() -> bool:
            heard.add(file.read_text())
            return any(text.startswith("1 of 20") for text in heard)

        wait_for(next_beat, what="the next beat")
        assert all(re.fullmatch(r"[01] of 20 points ended, [01] running(; .*)?\n", text) for text in heard), (
            heard
        )
        project.open_gate()
        assert process.wait(timeout=120) == 0
    finally:
        process.kill()
        process.communicate()
