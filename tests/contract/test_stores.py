"""Every store against the one contract."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
from functools import partial
from typing import TYPE_CHECKING

import psycopg
import pytest

from steering.store.contract import Place, SharedStoreContract, StoreContract
from steering.store.opening import FILE_NAME, StoreLocation, open_store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.postgresql import PostgresqlServer

TAKE_OVER = "UPDATE hpo_experiments SET fence = fence + 1"
_numbers = itertools.count()


class TestMemory(StoreContract):
    @pytest.fixture
    def place(self) -> Place:
        return Place(partial(open_store, "memory"))


class TestSqliteFile(SharedStoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        folder = tmp_path / "räume & 100%?#1"

        def take_over() -> None:
            with contextlib.closing(sqlite3.connect(folder / FILE_NAME)) as connection, connection:
                connection.execute(TAKE_OVER)

        return Place(partial(open_store, folder), take_over)


@pytest.mark.postgresql
class TestPostgresql(SharedStoreContract):
    @pytest.fixture
    def place(self, postgresql: PostgresqlServer) -> Place:
        url = postgresql.create_database(f"contract_{next(_numbers)}")

        def take_over() -> None:
            with psycopg.connect(url, password=postgresql.password) as connection:
                connection.execute(TAKE_OVER)

        return Place(partial(open_store, StoreLocation(url=url, password=postgresql.password)), take_over)
