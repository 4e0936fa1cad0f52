"""Where the programs hpo-steer and hpo-evaluate begin.

Their packages have names that users' folders have as well. So they are loaded from beside this file, whatever a
folder on PYTHONPATH holds.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path

_HOUSE = ("containers", "algorithms", "evaluation", "steering")


def pin(name: str) -> None:
    """Loads one of our packages from beside hpo_steer."""
    folder = Path(__file__).resolve().parent.parent / name
    if name in sys.modules or not (folder / "__init__.py").is_file():
        return
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


def _start(program: str) -> None:
    for name in _HOUSE:
        pin(name)
    importlib.import_module(program).main()


def steer() -> None:
    """The program hpo-steer."""
    _start("steering.cli")


def outside() -> None:
    """The process that runs users' steering programs."""
    _start("steering.outside.host")


def feed() -> None:
    """The process that feeds a logger."""
    _start("steering.loggers.feed")


def evaluate() -> None:
    """The program hpo-evaluate."""
    _start("evaluation.cli")


def trial() -> None:
    """The process that tries an evaluation for hpo-steer check."""
    _start("evaluation.trial.main")
