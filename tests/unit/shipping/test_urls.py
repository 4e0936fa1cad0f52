"""Bundles at file, http and S3 URLs: real servers, and what is wrong in one sentence."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hpo_steer.errors import BundleError
from hpo_steer.shipping import urls
from hpo_steer.shipping.urls import address, download, shown, upload

if TYPE_CHECKING:
    from tests.servers.objects import S3Server, WebFolder

DATA = os.urandom(3_000_000)


def get(url: str) -> tuple[bytes, list[tuple[int, int | None]]]:
    file, progress = io.BytesIO(), list[tuple[int, int | None]]()
    download(url, file, lambda got, size: progress.append((got, size)))
    return file.getvalue(), progress


def put(url: str, data: bytes = DATA) -> bool:
    return upload(url, io.BytesIO(data), len(data))


def test_a_folder(tmp_path: Path) -> None:
    url = address(f"file://{tmp_path}/shared/code", "ab12")
    assert put(url)
    assert not put(url)
    data, progress = get(url)
    assert data == DATA
    assert progress[-1] == (len(DATA), len(DATA))
    assert [path.name for path in (tmp_path / "shared/code").iterdir()] == ["ab12.tar.gz"]
    (tmp_path / "shared/code/ab12.tar.gz").write_bytes(DATA[:100])  # half of it, by another program
    assert put(url)
    assert get(url)[0] == DATA


def test_a_web_server(web_folder: WebFolder) -> None:
    put(address(f"file://{web_folder.folder}", "ab12"))
    data, progress = get(address(web_folder.url, "ab12"))
    assert data == DATA
    assert progress[-1][0] == len(DATA)
    with pytest.raises(BundleError, match=rf"^there is nothing at {web_folder.url}/cd34.tar.gz$"):
        get(address(web_folder.url, "cd34"))


@pytest.fixture
def bucket(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    pytest.importorskip("s3fs")
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{s3_server.bucket}"


def test_s3(bucket: str, s3_server: S3Server) -> None:
    url = address(f"{bucket}/some/prefix", "ab12")
    assert put(url)
    assert not put(url)
    assert s3_server.get("some/prefix/ab12.tar.gz") == DATA
    data, progress = get(url)
    assert data == DATA
    assert progress[-1] == (len(DATA), len(DATA))
    s3_server.put("some/prefix/ab12.tar.gz", b"something else")
    assert get(url)[0] == b"something else"
    assert put(url)
    assert s3_server.get("some/prefix/ab12.tar.gz") == DATA
    with pytest.raises(BundleError, match=r"^there is nothing at s3://code/none\.tar\.gz$"):
        get(address(bucket, "none"))
    with pytest.raises(
        BundleError, match=r"^s3://no-such-bucket/ab12\.tar\.gz cannot be written to: "
    ) as caught:
        put(address("s3://no-such-bucket", "ab12"))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_reached_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BundleError, match=r"cannot be written to: ") as caught:
        put(f"file://{tmp_path}/file/ab.tar.gz")
    assert "\n" not in str(caught.value)
    with pytest.raises(BundleError, match=r"^http://127\.0\.0\.1:1/ab\.tar\.gz cannot be read from: "):
        get("http://127.0.0.1:1/ab.tar.gz")
    with pytest.raises(BundleError, match=r"^there is nothing at file:///"):
        get(f"file://{tmp_path}/none.tar.gz")


@pytest.mark.parametrize(
    "url", ["ssh://h/x", "github://a:b@main/x", "simplecache::file:///etc/passwd", "/etc/passwd"]
)
def test_other_kinds_of_urls_are_refused(url: str) -> None:
    with pytest.raises(BundleError, match="should begin with one of file://, http://, https://, s3://"):
        get(url)


@pytest.mark.parametrize(
    ("url", "module", "extra"), [("s3://bucket/x", "s3fs", "s3"), ("https://h/x", "aiohttp", "http")]
)
def test_a_missing_package_is_said_with_its_pip_line(url: str, module: str, extra: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; "
    code += f"from hpo_steer.shipping.urls import download; download({url!r}, None, None)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "MissingExtra: " in done.stderr
    assert f'pip install "hpo-steer[{extra}]"' in done.stderr


def test_a_flood_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urls, "MAX_MIB", 2)
    put(f"file://{tmp_path}/large")
    with pytest.raises(BundleError, match="holds more than 2 MiB"):
        get(f"file://{tmp_path}/large")


def test_secrets_of_a_url_are_not_shown() -> None:
    assert shown("https://ann:secret@h/x.tar.gz?X-Amz-Signature=ab") == "https://ann@h/x.tar.gz"
