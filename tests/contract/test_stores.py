"""Every store against the one contract."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
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
        return Place(lambda name, **options: open_store("memory", name, **options), shared=False)


class TestSqliteFile(SharedStoreContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        return Place(lambda name, **options: open_store(tmp_path / f"räume & 100%?#{name}", name, **options))

    def take_over(self, place: Place) -> None:
        store = place.open("digits", create=False, read_only=True)
        store.close()
        with contextlib.closing(sqlite3.connect(self.file)) as connection, connection:
            connection.execute(TAKE_OVER)

    @pytest.fixture(autouse=True)
    def _file(self, tmp_path: Path) -> None:
        self.file = tmp_path / "räume & 100%?#digits" / FILE_NAME


@pytest.mark.postgresql
class TestPostgresql(SharedStoreContract):
    @pytest.fixture
    def place(self, postgresql: PostgresqlServer) -> Place:
        self.url = postgresql.create_database(f"contract_{next(_numbers)}")
        self.password = postgresql.password
        location = StoreLocation(url=self.url, password=postgresql.password)
        return Place(lambda name, **options: open_store(location, name, **options))

    def take_over(self, place: Place) -> None:
        with psycopg.connect(self.url, password=self.password) as connection:
            connection.execute(TAKE_OVER)
