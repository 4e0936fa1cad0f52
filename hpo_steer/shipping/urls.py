"""Code bundles at fsspec URLs: file, http, https and s3."""

from __future__ import annotations

import contextlib
import shutil
from secrets import token_hex
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hpo_steer.errors import BundleError, MissingExtra
from hpo_steer.shipping.limits import MAX_MIB, MIB
from hpo_steer.transport.settings import conceal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCHEMES = {"file": None, "http": "http", "https": "http", "s3": "s3"}
"""Those that steering writes to or workers read from, and the extra that each needs."""
WRITABLE = ("file", "s3")
_NOT_FOUND = 404
_BLOCK = 1_048_576


def address(prefix: str, bundle: str) -> str:
    """Where a bundle lies below a prefix.

    >>> address("s3://bucket/code/", "ab12")
    's3://bucket/code/ab12.tar.gz'
    """
    return f"{prefix.rstrip('/')}/{bundle}.tar.gz"


def upload(url: str, file: IO[bytes], size: int) -> bool:
    """Puts a bundle to its URL, unless one of its size is there.

    Args:
        url: where to; file or s3.
        file: an open file that holds it.
        size: its bytes.

    Returns:
        Whether it was not there before.

    Raises:
        BundleError: it cannot be written.
        MissingExtra: the package for this kind of URL is not installed.
    """
    with _translated(url, "written to"):
        filesystem, path = _open(url)
        with contextlib.suppress(FileNotFoundError):
            if filesystem.info(path)["size"] == size:
                return False
        file.seek(0)
        if urlsplit(url).scheme == "file":  # an object store shows a file when it is whole, a disk does not
            partial = f"{path}.{token_hex(8)}.partial"
            filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            with filesystem.open(partial, "wb") as target:
                shutil.copyfileobj(file, target, _BLOCK)
            filesystem.mv(partial, path)
        else:
            with filesystem.open(path, "wb") as target:
                shutil.copyfileobj(file, target, _BLOCK)
    return True


def download(url: str, file: IO[bytes], progress: Callable[[int, int | None], None]) -> None:
    """Gets a bundle from its URL.

    Args:
        url: where it lies.
        file: where to put it.
        progress: told the bytes so far and the bytes in all, if they are known.

    Raises:
        BundleError: it cannot be read, or is larger than any bundle.
        MissingExtra: the package for this kind of URL is not installed.
    """
    with _translated(url, "read from"):
        filesystem, path = _open(url)
        got = 0
        with filesystem.open(path, "rb", block_size=0 if url.startswith("http") else None) as source:
            total = getattr(source, "size", None)
            while block := source.read(_BLOCK):
                got += len(block)
                if got > MAX_MIB * MIB:
                    raise BundleError(f"{shown(url)} holds more than {MAX_MIB:,} MiB")
                file.write(block)
                progress(got, total)


def shown(url: str) -> str:
    """A URL for people's eyes, without a password and a signature."""
    return conceal(url).partition("?")[0]


def _open(url: str) -> tuple[Any, str]:
    scheme = urlsplit(url).scheme
    if scheme not in SCHEMES or "::" in url:
        raise BundleError(f"{shown(url)} should begin with one of {', '.join(f'{s}://' for s in SCHEMES)}")
    import fsspec

    try:
        # the file system of an earlier call, or its listing, may be out of date
        filesystem, path = fsspec.core.url_to_fs(url, skip_instance_cache=True, use_listings_cache=False)
    except ImportError:
        raise MissingExtra(f'a code bundle at "{scheme}://…"', SCHEMES[scheme] or "all") from None
    return filesystem, path


@contextlib.contextmanager
def _translated(url: str, what: str) -> Iterator[None]:
    """Each of the file systems has errors of its own, with no common base."""
    try:
        yield
    except (BundleError, MissingExtra):
        raise
    except Exception as caught:  # noqa: BLE001 - as said above
        exc: BaseException = caught
        while exc.__cause__ is not None:  # "not found", says fsspec of a web server that cannot be reached
            exc = exc.__cause__
        if isinstance(exc, FileNotFoundError) or getattr(exc, "status", None) == _NOT_FOUND:
            raise BundleError(f"there is nothing at {shown(url)}") from None
        reason = str(exc).strip().partition("\n")[0] or type(exc).__name__
        raise BundleError(f"{shown(url)} cannot be {what}: {conceal(reason)}") from exc
