"""An experiment whose trainings save checkpoints, which travel to a place that all workers reach."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def with_checkpoints(folder: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Has each training of an arena leave a checkpoint at its end.

    Args:
        folder: of the arena.
        settings: of its config.

    Returns:
        The settings with those that say so.
    """
    saves = {"checkpoint": f"file://{folder}/shared", "env": {"ARENA_SAVES": "1"}}
    return {**settings, "evaluation": {**settings.get("evaluation", {}), **saves}}
