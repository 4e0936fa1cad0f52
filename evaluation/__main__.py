"""Starts a worker: ``python -P -m evaluation``, or ``python -P PATH/evaluation/__main__.py``.

Started by its path, this file finds our packages beside itself. A folder of the user's that has the name of
one of them, in the working directory or on PYTHONPATH, makes no difference then.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    root = str(Path(__file__).resolve().parent.parent)
    sys.path.insert(0, root)
    from hpo_steer.launcher import evaluate

    sys.path.remove(root)
    evaluate()
