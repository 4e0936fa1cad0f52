"""What goes into a code bundle, and that it is the same as long as the files are."""

from __future__ import annotations

import os
import socket
import tarfile
import time
from pathlib import Path

import pytest

from hpo_steer.errors import ConfigError
from hpo_steer.shipping.pack import MANIFEST
from tests.unit.shipping.conftest import Pack


def make(folder: Path, *names: str, content: str = "x = 1\n") -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return folder


def test_the_same_files_make_the_same_bundle(tmp_path: Path, packed: Pack) -> None:
    first = make(tmp_path / "a", "train.py", "lib/é.py", "lib/deep/" + "n" * 150 + ".py")
    second = make(tmp_path / "b", "lib/deep/" + "n" * 150 + ".py", "lib/é.py", "train.py")
    for path in second.rglob("*"):
        os.utime(path, (time.time() - 1e6, time.time() - 1e6))
    (second / "train.py").chmod(0o600)
    one, two = packed(first), packed(second)
    assert one.bundle == two.bundle
    assert one.file.seek(0) == 0
    assert one.file.read() == (two.file.seek(0), two.file.read())[1]
    assert one.size == os.fstat(one.file.fileno()).st_size


@pytest.mark.parametrize("change", ["content", "name", "right to execute", "manifest", "empty folder"])
def test_whatever_matters_changes_the_bundle(tmp_path: Path, packed: Pack, change: str) -> None:
    folder = make(tmp_path, "train.py", "run.sh")
    before = packed(folder).bundle
    manifest = b"{}"
    match change:
        case "content":
            (folder / "train.py").write_text("x = 2\n")
        case "name":
            (folder / "train.py").rename(folder / "fit.py")
        case "right to execute":
            (folder / "run.sh").chmod(0o755)
        case "empty folder":
            (folder / "out").mkdir()
        case _:
            manifest = b"{ }"
    assert packed(folder, manifest=manifest).bundle != before


def test_what_is_nobodys_code_is_left_out(tmp_path: Path, packed: Pack) -> None:
    make(
        tmp_path,
        "train.py",
        ".git/config",
        "__pycache__/train.cpython-311.pyc",
        "old.pyc",
        "runs/demo/run.json",
    )
    make(tmp_path, ".venv/bin/python", "env/pyvenv.cfg", "env/bin/python", ".mypy_cache/x", ".env", ".ssh/id")
    make(
        tmp_path, "lib/__init__.py", "lib/__pycache__/a.pyc", ".hpo-steer/experiment.json", "lib/.hidden.toml"
    )
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "s"))
    assert list(packed(tmp_path).names) == ["lib/.hidden.toml", "lib/__init__.py", "train.py"]


def test_hpoignore_is_a_gitignore(tmp_path: Path, packed: Pack) -> None:
    make(
        tmp_path,
        "train.py",
        "data/big.root",
        "data/small.csv",
        "notes.md",
        "lib/notes.md",
        "lib/a.log",
        "keep.log",
    )
    make(tmp_path, "lib/data/x.py", "runs/keep/me.py", "a b.txt")
    rules = "# data\n/data/*\n!/data/small.csv\n*.log\n!keep.log\n/notes.md\na\\ b.txt\n!runs/\n"
    make(tmp_path, ".hpoignore", content=rules)
    assert list(packed(tmp_path).names) == [
        ".hpoignore",
        "data/small.csv",
        "keep.log",
        "lib/data/x.py",
        "lib/notes.md",
        "runs/keep/me.py",
        "train.py",
    ]


def test_a_deeper_hpoignore_has_the_last_word(tmp_path: Path, packed: Pack) -> None:
    make(tmp_path, "a.txt", "lib/a.txt", "lib/b.txt", "lib/deep/b.txt", "gone/a.py")
    make(tmp_path, ".hpoignore", content="*.txt\ngone/\n")
    make(tmp_path, "lib/.hpoignore", content="!b.txt\n/deep/\n")
    make(tmp_path, "gone/.hpoignore", content="!a.py\n")
    assert list(packed(tmp_path).names) == [".hpoignore", "lib/.hpoignore", "lib/b.txt"]


def test_passwords_stay_whatever_hpoignore_says(tmp_path: Path, packed: Pack) -> None:
    make(tmp_path, "train.py", "broker.password", "keys/me.key")
    make(tmp_path, ".hpoignore", content="!broker.password\n!keys/\n")
    never = (tmp_path / "broker.password", tmp_path / "keys/../keys/me.key")
    assert list(packed(tmp_path, never=never).names) == [".hpoignore", "train.py"]


def test_links_within_the_folder_go_along(tmp_path: Path, packed: Pack) -> None:
    folder = make(tmp_path / "p", "lib/a.py")
    (folder / "a.py").symlink_to(folder / "lib/a.py")  # an absolute path that means nothing elsewhere
    (folder / "lib/up").symlink_to("..")
    made = packed(folder)
    made.file.seek(0)
    with tarfile.open(fileobj=made.file) as archive:
        links = {info.name: info.linkname for info in archive if info.issym()}
    assert links == {"a.py": "lib/a.py", "lib/up": ".."}


@pytest.mark.parametrize(
    ("target", "words"), [("/etc/passwd", "link out of the folder"), ("nothing", "link to nothing")]
)
def test_a_link_that_leads_nowhere_is_an_error_that_names_it(
    tmp_path: Path, packed: Pack, target: str, words: str
) -> None:
    make(tmp_path, "train.py")
    (tmp_path / "data").symlink_to(target)
    with pytest.raises(ConfigError, match=rf"^evaluation.ship: {tmp_path}/data is a {words}.*\.hpoignore"):
        packed(tmp_path)
    make(tmp_path, ".hpoignore", content="data\n")
    assert list(packed(tmp_path).names) == [".hpoignore", "train.py"]


def test_too_much_is_an_error_that_names_the_largest(tmp_path: Path, packed: Pack) -> None:
    make(tmp_path, "train.py")
    for number in range(1, 8):
        make(tmp_path, f"data/{number}.bin", content="x" * number * 100_000)
    with pytest.raises(ConfigError) as caught:
        packed(tmp_path, max_mib=1)
    text = str(caught.value)
    assert text.startswith(f"evaluation.ship: {tmp_path} holds 2.7 MiB in 8 files, more than max_mib (1 MiB)")
    assert "the largest are data/7.bin (684 KiB), data/6.bin (586 KiB)" in text
    assert "2.bin" not in text
    assert ".hpoignore" in text
    make(tmp_path, ".hpoignore", content="data/\n")
    assert list(packed(tmp_path).names) == [".hpoignore", "train.py"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, packed: Pack) -> None:
    make(tmp_path, "train.py", "secret.py")
    (tmp_path / "secret.py").chmod(0)
    with pytest.raises(
        ConfigError, match=r"cannot read .*secret\.py: Permission denied; list it in \.hpoignore"
    ):
        packed(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"!\n"])
def test_a_hpoignore_that_cannot_be_read_is_named(tmp_path: Path, packed: Pack, content: bytes) -> None:
    (tmp_path / ".hpoignore").write_bytes(content)
    with pytest.raises(ConfigError, match=r"^evaluation.ship: .*\.hpoignore"):
        packed(tmp_path)


def test_names_are_relative_to_the_root(tmp_path: Path, packed: Pack) -> None:
    make(tmp_path, "code/train.py", "other.py")
    made = packed(tmp_path / "code", root=tmp_path)
    made.file.seek(0)
    with tarfile.open(fileobj=made.file) as archive:
        assert archive.getnames() == [MANIFEST, "code/train.py"]
