"""The program `hpogrid` of PanDA's users, in an environment of its own that the tests make once and keep."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = (
    *("hpogrid==1.3.3", "click==8.5.1", "numpy==2.4.6", "pandas==3.1.1", "psutil==7.2.2", "tabulate==0.10.0"),
    *("tqdm==4.70.1", "PyYAML==6.0.4", "nevergrad==1.0.12", "bayesian-optimization==1.4.0", "cma==4.5.0"),
    *("directsearch==1.1", "scikit-learn==1.9.1", "scipy==1.17.1", "python-dateutil==4.0.0"),
)
"""hpogrid needs PyYAML, though it does not say so, and nevergrad for its default search."""
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hpo-steer-servers"
_INSTALL_S = 280.0


def environment() -> Path:
    """The folder of the environment, named for what is in it."""
    content = " ".join((*PACKAGES, sys.version)).encode()
    return _CACHE / f"hpogrid-{hashlib.sha256(content).hexdigest()[:12]}"


@pytest.fixture(scope="session")
def hpogrid() -> Path:
    """The folder that the program lies in; skips where it cannot be installed, and fails there under ``CI``."""
    folder = environment()
    ready = folder / "ready"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run side by side
        if not ready.exists():
            shutil.rmtree(folder, ignore_errors=True)
            if problem := _install(folder):
                message = f"hpogrid cannot be installed: {problem}"
                if os.environ.get("CI"):
                    pytest.fail(message)
                pytest.skip(message)
            ready.touch()
    return folder / "bin"


def _install(folder: Path) -> str:
    """Makes the environment; says what went wrong, if anything did."""
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in ([sys.executable, "-m", "venv", str(folder)], [*pip, *PACKAGES]):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_INSTALL_S)
        except (OSError, subprocess.TimeoutExpired) as exc:
            return str(exc)
        if done.returncode != 0:
            return (done.stderr or done.stdout).strip()[-500:] or f"exit code {done.returncode}"
    return ""
