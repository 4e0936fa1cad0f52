from __future__ import annotations

from pathlib import Path

import pytest

from steering.store.filesystem import network_filesystem

MOUNTS = r"""
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/home /home nfs4 rw,vers=4.2 0 0
/dev/vdb /home/local xfs rw 0 0
mds:/scratch /scratch lustre rw 0 0
//win/share /mnt/with\040blank cifs rw 0 0
host:/x /mnt/ssh fuse.sshfs rw 0 0
/dev/vdc /covered ext4 rw 0 0
tank /covered beegfs rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/runs", None),
        ("/home", "nfs4"),
        ("/home/me/runs/digits", "nfs4"),
        ("/homes/me", None),
        ("/home/local/me", None),
        ("/scratch/me", "lustre"),
        ("/mnt/with blank/me", "cifs"),
        ("/mnt/ssh/me", "fuse.sshfs"),
        ("/covered/me", "beegfs"),
    ],
)
def test_the_mount_a_path_lies_on(tmp_path: Path, path: str, kind: str | None) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(MOUNTS)
    assert network_filesystem(Path(path), mounts) == kind


def test_without_a_list_of_mounts_nothing_is_known(tmp_path: Path) -> None:
    assert network_filesystem(tmp_path, tmp_path / "none") is None


def test_this_machine_has_an_answer() -> None:
    assert network_filesystem(Path("/proc")) is None
