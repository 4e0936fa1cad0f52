"""Places for code bundles: an S3 server, and a web server that shows a folder to read."""

from __future__ import annotations

import contextlib
import functools
import http.server
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_START_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """A server that speaks S3, with one bucket.

    Attributes:
        bucket: its name.
        environment: what a program needs to find it and to be let in.
    """

    bucket: str
    environment: Mapping[str, str]

    def get(self, key: str) -> bytes:
        """An object's content."""
        content: bytes = self._client().get_object(Bucket=self.bucket, Key=key)["Body"].read()
        return content

    def put(self, key: str, data: bytes) -> None:
        """Puts another object in the place of one."""
        self._client().put_object(Bucket=self.bucket, Key=key, Body=data)

    def _client(self) -> Any:
        import boto3

        given = self.environment
        return boto3.client(
            "s3",
            endpoint_url=given["AWS_ENDPOINT_URL"],
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
            region_name=given["AWS_DEFAULT_REGION"],
        )


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """An S3 server of the tests' own."""
    pytest.importorskip("moto.server")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with (tmp_path_factory.mktemp("s3") / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + _START_S
        while True:
            assert process.poll() is None, "the S3 server has ended"
            assert time.monotonic() < deadline, "the S3 server does not answer"
            with contextlib.suppress(OSError):
                bucket = urllib.request.Request(f"{url}/code", method="PUT")  # noqa: S310
                urllib.request.urlopen(bucket).close()  # noqa: S310
                break
            time.sleep(0.1)
        secrets = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield S3Server("code", {"AWS_ENDPOINT_URL": url, **secrets})
    finally:
        process.kill()
        process.wait()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        pass


@dataclass(frozen=True)
class WebFolder:
    """A folder that can be read over http.

    Attributes:
        folder: it.
        url: its address.
    """

    folder: Path
    url: str


@pytest.fixture
def web_folder(tmp_path: Path) -> Iterator[WebFolder]:
    """A web server that shows a folder, to read only."""
    folder = tmp_path / "web"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield WebFolder(folder, f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
        thread.join()
