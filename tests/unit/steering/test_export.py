from __future__ import annotations

import csv
import json
import sys
from typing import TYPE_CHECKING

import pytest

from hpo_steer.errors import MissingExtra, UserError
from steering.export import export_points, table
from steering.run_view import open_view
from tests.unit.steering.recorded import SPACE, config, record_run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    record_run(tmp_path / "runs")
    return tmp_path / "runs"


def test_csv_has_a_row_a_point_that_reads_back(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    with open_view("digits", store=runs) as view:
        assert export_points(view, "csv", file) == 40
        points = view.points
    with file.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["id"]) for row in rows] == [p.id for p in points]
    for row, point in zip(rows, points, strict=True):
        assert float(row["params.eta"]) == point.params["eta"]
        assert row["params.booster"] == point.params["booster"]
        assert row["params.rate_drop"] == str(point.params.get("rate_drop", ""))
        assert row["values.loss"] == (str(point.values["loss"]) if point.values else "")
        assert row["failure.kind"] == (point.failure.kind if point.failure else "")


def test_json_is_a_list_of_the_same_rows(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "points.json"
    with open_view("digits", store=runs) as view:
        export_points(view, "json", file)
        columns, rows = table(view)
    assert json.loads(file.read_text()) == rows
    assert list(rows[0]) == columns


def test_parquet_keeps_types(runs: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    file = tmp_path / "points.parquet"
    with open_view("digits", store=runs) as view:
        export_points(view, "parquet", file)
    found = parquet.read_table(file)
    assert found.num_rows == 40
    assert str(found.schema.field("params.max_depth").type) == "int64"
    assert str(found.schema.field("params.eta").type) == "double"
    assert str(found.schema.field("params.booster").type) == "string"
    assert found.column("params.rate_drop").null_count > 0


def test_choices_of_any_kind_survive(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    space = {**SPACE, "layers": {"type": "categorical", "choices": [[8, 8], "auto", 3, None]}}
    record_run(tmp_path / "runs", config(search_space=space))
    with open_view("digits", store=tmp_path / "runs") as view:
        for kind in ("csv", "json", "parquet"):
            assert export_points(view, kind, tmp_path / f"points.{kind}") == 40


def test_nothing_is_overwritten_unless_forced(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("precious")
    with open_view("digits", store=runs) as view:
        with pytest.raises(UserError, match="--force"):
            export_points(view, "csv", file)
        assert file.read_text() == "precious"
        export_points(view, "csv", file, force=True)
    assert file.read_text().startswith("id,model,")


def test_a_missing_folder_is_one_sentence_and_leaves_nothing(runs: Path, tmp_path: Path) -> None:
    with open_view("digits", store=runs) as view, pytest.raises(UserError, match="cannot be written"):
        export_points(view, "csv", tmp_path / "none" / "points.csv")


def test_parquet_without_pyarrow_names_the_extra(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with open_view("digits", store=runs) as view, pytest.raises(MissingExtra, match=r"hpo-steer\[parquet\]"):
        export_points(view, "parquet", tmp_path / "points.parquet")


def test_one_model_alone(tmp_path: Path) -> None:
    record_run(tmp_path / "runs", config(models=[{"name": "a"}, {"name": "b"}]))
    with open_view("digits", store=tmp_path / "runs") as view:
        _, rows = table(view, "b")
    assert {row["model"] for row in rows} == {"b"}
