"""Bundles on a worker's disk: taken in, used, found damaged, and thrown away."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from hpo_steer.errors import BundleError
from hpo_steer.shipping import BundleCache, Manifest, Packed, Prepared
from tests.unit.shipping.conftest import Pack

Bundle: TypeAlias = Callable[..., Packed]


def manifest() -> bytes:
    return Manifest(
        experiment="demo",
        evaluation={"function": "train.py:train"},
        objectives=["loss"],
        parameters=["x"],
    ).encoded()


@pytest.fixture
def bundle(packed: Pack) -> Bundle:
    def make(folder: Path, text: str = "x = 1\n") -> Packed:
        folder.mkdir(exist_ok=True)
        (folder / "train.py").write_text(text)
        (folder / "helper.py").write_text("y = 2\n")
        return packed(folder, manifest=manifest())

    return make


def ready(cache: BundleCache, made: Packed) -> Prepared:
    found = cache.prepare(made.bundle)
    assert found is not None
    return found


def test_a_bundle_is_kept_and_laid_out(tmp_path: Path, bundle: Bundle) -> None:
    cache, made = BundleCache(tmp_path / "cache"), bundle(tmp_path / "code")
    assert cache.prepare(made.bundle) is None
    cache.keep(made.bundle, made.file)
    found = ready(cache, made)
    assert found.folder == tmp_path / "cache" / made.bundle
    assert (found.folder / "train.py").read_text() == "x = 1\n"
    assert (found.manifest.experiment, found.mended) == ("demo", 0)
    assert found.manifest.section().function == "train.py:train"
    assert found.damage() is None
    again = ready(BundleCache(tmp_path / "cache"), made)
    assert (again.mended, again.damage()) == (0, None)


def test_what_came_with_another_hash_is_not_kept(tmp_path: Path, bundle: Bundle) -> None:
    cache, made = BundleCache(tmp_path / "cache"), bundle(tmp_path / "code")
    data = (made.file.seek(0), made.file.read())[1]
    for wrong in (data[:-1], data + b"\0", bytes([data[0] ^ 1]) + data[1:], b""):
        with pytest.raises(BundleError, match="what came has the SHA-256"):
            cache.keep(made.bundle, io.BytesIO(wrong))
    assert cache.prepare(made.bundle) is None
    assert not cache.folder.exists()


def test_a_damaged_archive_counts_as_none(tmp_path: Path, bundle: Bundle) -> None:
    cache, made = BundleCache(tmp_path / "cache"), bundle(tmp_path / "code")
    cache.keep(made.bundle, made.file)
    archive = cache.archive(made.bundle)
    data = archive.read_bytes()
    archive.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert cache.prepare(made.bundle) is None
    assert not archive.exists()
    cache.keep(made.bundle, made.file)
    assert ready(cache, made).damage() is None


@pytest.mark.parametrize("how", ["changed", "removed", "same length"])
def test_damage_is_seen_and_mended(tmp_path: Path, bundle: Bundle, how: str) -> None:
    cache, made = BundleCache(tmp_path / "cache"), bundle(tmp_path / "code")
    cache.keep(made.bundle, made.file)
    found = ready(cache, made)
    file = found.folder / "train.py"
    match how:
        case "changed":
            file.write_text("import os; os.abort()\n")
        case "same length":
            file.write_text("x = 9\n")
            os.utime(file, (1, 1))
        case _:
            file.unlink()
    assert found.damage() == file
    mended = ready(cache, made)
    assert file.read_text() == "x = 1\n"
    assert (mended.mended, mended.damage()) == (1, None)


def test_files_of_trainings_stay_and_are_no_damage(tmp_path: Path, bundle: Bundle) -> None:
    cache, made = BundleCache(tmp_path / "cache"), bundle(tmp_path / "code")
    cache.keep(made.bundle, made.file)
    found = ready(cache, made)
    (found.folder / "model.bin").write_text("weights")
    assert found.damage() is None
    assert ready(cache, made).mended == 0
    assert (found.folder / "model.bin").exists()


def test_several_processes_may_lay_out_the_same_bundle_at_once(tmp_path: Path, bundle: Bundle) -> None:
    made = bundle(tmp_path / "code")
    BundleCache(tmp_path / "cache").keep(made.bundle, made.file)
    found: list[Prepared | None] = []
    threads = [
        threading.Thread(target=lambda: found.append(BundleCache(tmp_path / "cache").prepare(made.bundle)))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert all(each is not None and each.damage() is None for each in found)
    assert {path.name for path in (tmp_path / "cache").iterdir()} == {made.bundle, f"{made.bundle}.tar.gz"}


def test_what_is_collected_vanishes_with_its_process(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path / "cache")
    with cache.collect() as file:
        file.write(b"half a bundle")
        assert list(cache.folder.iterdir()) == []


def test_those_used_last_stay(tmp_path: Path, bundle: Bundle) -> None:
    cache = BundleCache(tmp_path / "cache")
    made = [bundle(tmp_path / "code", f"x = {n}\n") for n in range(4)]
    for age, each in enumerate(made):
        cache.keep(each.bundle, each.file)
        ready(cache, each)
        os.utime(cache.archive(each.bundle), (1e9 - age, 1e9 - age))
    ready(cache, made[3])  # which is the last one used now
    (cache.folder / ".ab.partial").mkdir()
    (cache.folder / ".cd.partial").touch()
    os.utime(cache.folder / ".ab.partial", (1, 1))
    cache.prune(keep=2)
    assert {path.name for path in cache.folder.iterdir()} == {
        ".cd.partial",
        *(made[n].bundle for n in (0, 3)),
        *(f"{made[n].bundle}.tar.gz" for n in (0, 3)),
    }


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"{}", "manifest cannot be read: "),
        (b"\xff", "manifest cannot be read"),
        (manifest().replace(b'"."', b'"../.."'), "leads out of the bundle"),
        (manifest().replace(b'"."', b'"/etc"'), "leads out of the bundle"),
    ],
)
def test_a_bad_manifest_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        Manifest.decode(data)


def test_a_manifest_of_another_version_is_said_to_be() -> None:
    text = Manifest(experiment="demo", evaluation={"fonction": "x"}, objectives=[], parameters=[])
    with pytest.raises(BundleError, match="install the version that steering has"):
        text.section()
