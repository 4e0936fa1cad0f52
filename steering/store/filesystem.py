"""Tells whether a folder lies on a network file system, where SQLite's locks can't be trusted."""

from __future__ import annotations

import re
from pathlib import Path

NETWORK_TYPES = frozenset(
    {
        *(
            "9p",
            "afs",
            "beegfs",
            "ceph",
            "cifs",
            "glusterfs",
            "gpfs",
            "lustre",
            "nfs",
            "nfs4",
            "smb3",
            "smbfs",
            "sshfs",
        ),
        *("fuse.ceph", "fuse.glusterfs", "fuse.sshfs"),
    }
)
MOUNTS = Path("/proc/mounts")


def network_filesystem(path: Path, mounts: Path = MOUNTS) -> str | None:
    """The type of the network file system that a path lies on, such as ``nfs4``; None on a local disk.

    Args:
        path: a file or folder, which need not exist yet.
        mounts: the system's list of mounts; where there is none, nothing is known and None comes back.
    """
    try:
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return None
    place = path.resolve()
    best, found = -1, None
    for line in lines:
        _, folder, kind, *_ = [*line.split(), "", "", ""]
        mount = Path(_unescaped(folder))
        # The last of two mounts on one folder covers the first.
        if len(mount.parts) >= best and place.is_relative_to(mount):
            best, found = len(mount.parts), kind
    return found if found in NETWORK_TYPES else None


def _unescaped(text: str) -> str:
    r"""Blanks and the like stand as octal numbers there: ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
