"""For the PYTHONPATH of a program: makes its machine one that lacks the extra `plot`."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType


class _WithoutPlots(PathFinder):
    @classmethod
    def find_spec(
        cls, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return None if fullname == "matplotlib" else super().find_spec(fullname, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = _WithoutPlots
