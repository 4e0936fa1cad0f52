"""Bundles whose files are closed with the test."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest

from hpo_steer.shipping import Packed, pack

if TYPE_CHECKING:
    from collections.abc import Iterator


class Pack(Protocol):
    """Makes a bundle of a folder."""

    def __call__(
        self,
        folder: Path,
        *,
        manifest: bytes = b"{}",
        max_mib: int = 10,
        never: tuple[Path, ...] = (),
        root: Path | None = None,
    ) -> Packed: ...


@pytest.fixture
def packed() -> Iterator[Pack]:
    with ExitStack() as stack:

        def make(
            folder: Path,
            *,
            manifest: bytes = b"{}",
            max_mib: int = 10,
            never: tuple[Path, ...] = (),
            root: Path | None = None,
        ) -> Packed:
            made = pack(folder, root=root, manifest=manifest, max_mib=max_mib, never=never)
            stack.callback(made.file.close)
            return made

        yield make
