"""A folder that holds nothing but a link to `hpo_steer`, for the path of the user's interpreters."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

import hpo_steer


def link_package(work_dir: Path) -> Path:
    """Makes the folder below `work_dir`, or finds it there.

    Returns:
        The folder; on its path, an interpreter finds `hpo_steer` and none of our other packages.
    """
    package = Path(hpo_steer.__file__).resolve().parent
    mark = hashlib.sha256(os.fsencode(package)).hexdigest()[:12]
    folder = work_dir / "import" / mark
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        link = folder / "hpo_steer"
        with contextlib.suppress(FileExistsError):
            link.symlink_to(package, target_is_directory=True)
        if link.resolve() == package:
            return folder
    folder = Path(
        tempfile.mkdtemp(prefix="hpo-steer-import-")
    )  # a file system without links, or without space
    (folder / "hpo_steer").symlink_to(package, target_is_directory=True)
    return folder
