"""An experiment whose code steering ships to its workers, in so many parts that some are on the way at any fault."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from hpo_steer.limits import MAX_PART

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_PARTS = 20


def with_shipping(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Makes the code of an arena large, and nothing but the code part of its bundle.

    Args:
        folder: of the arena.
        settings: of its config.

    Returns:
        The settings with those that ship it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "weights.bin").write_bytes(os.urandom(_PARTS * MAX_PART))
    (folder / ".hpoignore").write_text("/*\n!/train.py\n!/weights.bin\n")
    return {**settings, "evaluation": {**settings.get("evaluation", {}), "ship": True}}
