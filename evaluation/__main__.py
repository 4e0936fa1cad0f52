"""Starts a worker: ``python -P -m evaluation``, or ``python -P PATH/evaluation/__main__.py``.

Started by its path, this file finds our packages beside itself. A folder of the user's that has the name of
one of them, in the working directory or on PYTHONPATH, makes no difference then.
"""

import importlib.util
import sys
from pathlib import Path

_OURS = ("hpo_steer", "containers", "algorithms", "evaluation")


def _pin(name: str, root: Path) -> None:
    """Loads a package from beside this file, whatever else has its name."""
    if name in sys.modules:
        return
    folder = root / name
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    if spec is None or spec.loader is None or not folder.is_dir():
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    for _name in _OURS:
        _pin(_name, Path(__file__).resolve().parent.parent)
    from evaluation.cli import main

    main()
