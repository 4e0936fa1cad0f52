from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpo_steer.pulse import FILE, STALE_S, Pulse, verdict


def check(file: Path | None) -> subprocess.CompletedProcess[str]:
    environment = {name: text for name, text in os.environ.items() if name != FILE}
    if file is not None:
        environment[FILE] = str(file)
    command = [sys.executable, "-m", "hpo_steer.pulse"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_a_beat_is_seen_by_the_check(tmp_path: Path) -> None:
    file = tmp_path / "pulse"
    Pulse.named_in({FILE: str(file)}).beat(lambda: "1/1 busy · 3 done")
    done = check(file)
    assert (done.returncode, done.stdout, done.stderr) == (0, "1/1 busy · 3 done\n", "")
    assert list(tmp_path.iterdir()) == [file]


def test_an_old_one_is_no_sign_of_life(tmp_path: Path) -> None:
    file = tmp_path / "pulse"
    Pulse(file).beat(lambda: "waiting")
    beat = file.stat().st_mtime
    assert verdict({FILE: str(file)}, beat + STALE_S - 1) == (True, "waiting")
    text = f"no sign of life for {STALE_S + 1:.0f} s; the last one was: waiting"
    assert verdict({FILE: str(file)}, beat + STALE_S + 1) == (False, text)
    assert not verdict({FILE: str(file)}, beat - STALE_S - 1)[0], "from a clock that was wrong"
    os.utime(file, (beat - 200, beat - 200))
    assert check(file).returncode == 1


def test_none_is_no_sign_of_life(tmp_path: Path) -> None:
    done = check(tmp_path / "none")
    assert done.returncode == 1
    assert done.stdout == f"no sign of life: {tmp_path / 'none'}: No such file or directory\n"
    done = check(None)
    assert (done.returncode, done.stdout) == (1, f"{FILE} names no file\n")


def test_nothing_is_written_where_no_file_is_named() -> None:
    Pulse.named_in({}).beat(lambda: pytest.fail("nobody reads this"))


def test_beats_are_few_and_a_full_disk_does_no_harm(tmp_path: Path) -> None:
    file, beats = tmp_path / "pulse", list[str]()

    def words() -> str:
        beats.append("beat")
        return "well"

    pulse = Pulse(file)
    for _ in range(100):
        pulse.beat(words)
    assert len(beats) == 1
    Pulse(tmp_path / "no such folder" / "pulse").beat(lambda: "lost")
