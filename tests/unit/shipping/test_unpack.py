"""Hostile and damaged archives, none of which may write a byte outside of the folder."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from hpo_steer.errors import BundleError
from hpo_steer.shipping.unpack import Bounds, listing, unpack
from tests.unit.shipping.conftest import Pack


def archive(*members: tuple[str, Any]) -> io.BytesIO:
    """An archive; a member's second half is its content, or attributes of its header."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for name, what in members:
            info = tarfile.TarInfo(name)
            content = what if isinstance(what, bytes) else b""
            info.size = len(content)
            if isinstance(what, dict):
                for key, value in what.items():
                    setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    return file


def link(target: str, kind: bytes = tarfile.SYMTYPE) -> dict[str, Any]:
    return {"type": kind, "linkname": target}


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([("/etc/evil", b"x")], "no name in a folder"),
        ([("../evil", b"x")], "no name in a folder"),
        ([("a/../../evil", b"x")], "no name in a folder"),
        ([(".", b"x")], "no name in a folder"),
        ([("a\\..\\evil", b"x")], "no name in a folder"),
        ([("l", link("/etc"))], "a link out of the folder"),
        ([("l", link("../evil"))], "a link out of the folder"),
        ([("a/b/l", link("../../../evil"))], "a link out of the folder"),
        ([("l", link("a/../../evil"))], "a link out of the folder"),
        ([("l", link("a")), ("l/evil", b"x")], "in a place that is no folder"),
        ([("a", b"x"), ("a", b"y")], "twice"),
        ([("a", b"x"), ("a/b", b"y")], "in a place that is no folder"),
        ([("h", link("a", tarfile.LNKTYPE))], "no file, folder or link"),
        ([("d", {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 3})], "no file, folder or link"),
        ([("p", {"type": tarfile.FIFOTYPE})], "no file, folder or link"),
    ],
)
def test_what_would_leave_the_folder_is_refused(
    tmp_path: Path, members: list[tuple[str, Any]], words: str
) -> None:
    with pytest.raises(BundleError, match=words):
        unpack(archive(("good.py", b"fine"), *members), tmp_path / "in")
    assert files(tmp_path) <= {"in", "in/good.py", "in/a"}


def test_nothing_is_written_through_a_link_that_is_there(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "in"
    outside.mkdir()
    folder.mkdir()
    (outside / "b.py").write_text("mine")
    (folder / "a").symlink_to(outside)
    (folder / "c.py").symlink_to(outside / "b.py")
    unpack(archive(("a/b.py", b"theirs"), ("c.py", b"theirs")), folder)
    assert (outside / "b.py").read_text() == "mine"
    assert (folder / "a/b.py").read_text() == (folder / "c.py").read_text() == "theirs"
    assert not (folder / "a").is_symlink()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no archive",
        gzip.compress(b"no archive" * 100, mtime=0),
        gzip.compress(b"\0" * 700, mtime=0)[:-9],
        os.urandom(2000),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(BundleError, match="no archive of ours"):
        unpack(io.BytesIO(data), tmp_path / "in")


def test_half_an_archive_is_refused(tmp_path: Path) -> None:
    whole = archive(("a.bin", os.urandom(100_000)), ("b.py", b"x")).getvalue()
    for length in (len(whole) // 2, len(whole) - 30, 300):
        with pytest.raises(BundleError):
            unpack(io.BytesIO(whole[:length]), tmp_path / str(length))


def test_bombs_are_bounded(tmp_path: Path) -> None:
    bounds = Bounds(size=1_000_000, files=10)
    many = archive(*((f"{n}.py", b"") for n in range(11)))
    large = archive(("large", b"\0" * 1_000_001))
    several = archive(("a", b"\0" * 600_000), ("b", b"\0" * 600_000))
    header = io.BytesIO()
    with tarfile.open(fileobj=header, mode="w:gz", format=tarfile.PAX_FORMAT) as tar:
        info = tarfile.TarInfo("a")
        info.pax_headers = {"comment": "x" * 3_000_000}
        tar.addfile(info)
    lies = tarfile.TarInfo("a")
    lies.size = 2**60
    claim = io.BytesIO(gzip.compress(lies.tobuf(), mtime=0))
    for bomb in (many, large, several, header, claim):
        assert len(bomb.getvalue()) < 20_000
        with pytest.raises(BundleError, match=r"holds|unpacks to"):
            unpack(bomb, tmp_path / "in", bounds)
    assert sum(path.stat().st_size for path in (tmp_path / "in").rglob("*") if path.is_file()) <= 1_000_000


def test_what_was_packed_is_unpacked(tmp_path: Path, packed: Pack) -> None:
    source = tmp_path / "source"
    (source / "lib/empty").mkdir(parents=True)
    (source / "lib/a.py").write_bytes(b"x = 1\n")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o700)
    (source / "latest").symlink_to("lib")
    made = packed(source)
    folder = tmp_path / "in"
    unpack(made.file, folder)
    assert files(folder) == {*files(source), ".hpo-steer", ".hpo-steer/experiment.json"}
    assert (folder / "latest/a.py").read_bytes() == b"x = 1\n"
    assert (folder / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (folder / "lib/a.py").stat().st_mode & 0o777 == 0o644
    assert listing(made.file)[0] == ".hpo-steer/experiment.json"


def test_what_was_damaged_is_mended_and_the_rest_is_left_alone(tmp_path: Path) -> None:
    file = archive(("a.py", b"a"), ("b.py", b"b"), ("c.py", b"c"), ("d/e.py", b"e"), ("l", link("a.py")))
    unpack(file, tmp_path)
    (tmp_path / "a.py").write_text("A")
    (tmp_path / "b.py").unlink()
    (tmp_path / "c.py").unlink()
    (tmp_path / "c.py").mkdir()
    (tmp_path / "c.py" / "inside").touch()
    (tmp_path / "d/e.py").chmod(0o777)
    (tmp_path / "l").unlink()
    (tmp_path / "output.txt").write_text("of a training")
    untouched = (tmp_path / "d/e.py").stat().st_ino
    unpack(file, tmp_path)
    assert [(tmp_path / name).read_text() for name in ("a.py", "b.py", "c.py", "d/e.py", "l")] == list(
        "abcea"
    )
    assert (tmp_path / "output.txt").read_text() == "of a training"
    assert (tmp_path / "d/e.py").stat().st_ino == untouched
    assert (tmp_path / "d/e.py").stat().st_mode & 0o777 == 0o644
