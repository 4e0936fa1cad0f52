from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from containers.phpo.steering_files import MAX_BYTES, read_steering_output, write_steering_input
from hpo_steer.algorithm import Failure
from hpo_steer.errors import AlgorithmError

if TYPE_CHECKING:
    from pathlib import Path

SPACE = {"A": {"type": "Choice", "params": {"choices": [1, 4]}}, "B": {"type": "Scalar", "bounds": [0, 5]}}
LOST = Failure("lost", "the worker vanished")


def written(folder: Path, *arguments: Any, **options: Any) -> Any:
    write_steering_input(folder / "in.json", *arguments, **options)
    return json.loads((folder / "in.json").read_text())


def test_the_plain_form_is_that_of_idds(tmp_path: Path) -> None:
    points = [({"A": 1, "B": 2}, 0.3), ({"A": 1, "B": 3}, None)]
    expected = {"points": [[{"A": 1, "B": 2}, 0.3], [{"A": 1, "B": 3}, None]], "opt_space": SPACE}
    assert written(tmp_path, points, SPACE) == expected


def test_a_loss_of_zero_is_a_loss(tmp_path: Path) -> None:
    assert written(tmp_path, [({"A": 1}, 0.0)], None) == {"points": [[{"A": 1}, 0.0]], "opt_space": None}


def test_the_segmented_form_has_the_segment_in_points_and_space(tmp_path: Path) -> None:
    data = written(tmp_path, [({"A": 1}, 0.5)], SPACE, 3)
    assert data["points"] == [[[3, {"A": 1}], 0.5]]
    assert data["opt_space"] == [{"model_id": 3, "search_space": SPACE}]


def test_of_several_segments_spaces_only_the_own_one_is_written(tmp_path: Path) -> None:
    spaces = [{"model_id": i, "search_space": {"x": [0, i]}} for i in range(3)]
    assert written(tmp_path, [], spaces, 1)["opt_space"] == [spaces[1]]
    with pytest.raises(ValueError, match="opt_space has no model_id 7; it has 0, 1, 2"):
        written(tmp_path, [], spaces, 7)


def test_a_failed_point_is_null_and_named_as_failed(tmp_path: Path) -> None:
    data = written(tmp_path, [({"A": 1}, 0.5), ({"A": 2}, LOST), ({"A": 3}, None)], None)
    assert data["points"] == [[{"A": 1}, 0.5], [{"A": 2}, None], [{"A": 3}, None]]
    assert data["failed"] == [{"point": 1, "kind": "lost", "message": "the worker vanished"}]


def test_failed_points_can_be_left_out_or_given_a_loss_of_the_users_choosing(tmp_path: Path) -> None:
    points = [({"A": 2}, LOST), ({"A": 3}, 1.0)]
    assert written(tmp_path, points, None, failed="omit") == {"points": [[{"A": 3}, 1.0]], "opt_space": None}
    data = written(tmp_path, points, None, failed=1e5)
    assert data["points"] == [[{"A": 2}, 1e5], [{"A": 3}, 1.0]]
    assert [entry["point"] for entry in data["failed"]] == [0]


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_refused(tmp_path: Path, loss: float) -> None:
    with pytest.raises(ValueError, match=r'the loss of \{"A": 1\} is (nan|inf)'):
        written(tmp_path, [({"A": 1}, loss)], None)


def output(folder: Path, text: str | bytes, segment: int | None = None) -> Any:
    (folder / "out.json").write_bytes(text.encode() if isinstance(text, str) else text)
    return read_steering_output(folder / "out.json", segment)


def test_new_points_are_read_in_both_forms(tmp_path: Path) -> None:
    assert output(tmp_path, '[{"A": 4, "B": 1.7}]') == [{"A": 4, "B": 1.7}]
    assert output(tmp_path, b'\xef\xbb\xbf[[2, {"A": 4}], [2, {"A": 1}]]\n', 2) == [{"A": 4}, {"A": 1}]


@pytest.mark.parametrize("segment", [None, 0])
def test_an_empty_list_is_an_answer(tmp_path: Path, segment: int | None) -> None:
    assert output(tmp_path, "[]", segment) == []


@pytest.mark.parametrize(
    ("text", "segment", "sentence"),
    [
        ("", None, "the steering output out.json is empty"),
        ("  \n", None, "is empty"),
        ('[{"A": 1},\n {"B": ', None, "line 2 column 8"),
        ('[{"A": 1}\n {"B": 2}]', None, r"""line 2 column 2, near '\[\{"A": 1\}\\n \{"B": 2\}\]'"""),
        (b"\x80\x04K\x01.", None, r"byte 0 is not UTF-8, near b'\\x80"),
        ('{"A": 1}', None, r'holds no list; expected \[\{"name": value, …\}, …\], got \{"A": 1\}'),
        ("null", None, "holds no list"),
        ("[1]", None, "entry 0 is 1, no object of parameters"),
        ('[{"A": 1}, "B"]', None, 'entry 1 is "B", no object'),
        ('[[0, {"A": 1}]]', None, "segmented: true"),
        ('[{"A": NaN}]', None, "holds NaN, which is no JSON number"),
        ('[{"A": -Infinity}]', None, "holds -Infinity"),
        ('[{"A": 1e999}]', None, "the number 1e999, which is too large"),
        ('[{"A": 1, "A": 2}]', None, 'the key "A" twice'),
        ("9" * 5000, None, "a whole number of 5,000 digits"),
        ("[" * 100_000, None, "nested too deeply"),
        ('[{"A": 1}]', 0, "has no segment"),
        ('[[1, {"A": 1}]]', 0, "a point of segment 1, where only segment 0 was asked for"),
        ('[["0", {"A": 1}]]', 0, 'a point of segment "0"'),
        ('[[false, {"A": 1}]]', 0, "a point of segment false"),
        ('[[0, {"A": 1}, 2]]', 0, "no pair of a segment and an object"),
        ("[[0, 1]]", 0, "no pair"),
    ],
)
def test_a_bad_output_gives_one_sentence(
    tmp_path: Path, text: str | bytes, segment: int | None, sentence: str
) -> None:
    with pytest.raises(AlgorithmError, match=sentence) as caught:
        output(tmp_path, text, segment)
    assert str(caught.value).startswith("the steering output out.json")
    assert "\n" not in str(caught.value)


def test_no_output_and_no_file_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(AlgorithmError, match=r"out\.json is not there: the command has not written it"):
        read_steering_output(tmp_path / "out.json")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe"):
        with pytest.raises(AlgorithmError, match=f"{name} is no file"):
            read_steering_output(tmp_path / name)


def test_a_huge_output_is_refused_unread(tmp_path: Path) -> None:
    file = tmp_path / "out.json"
    with file.open("wb") as stream:
        stream.truncate(1 << 40)  # more than any machine could hold
    with pytest.raises(AlgorithmError, match=f"1,099,511,627,776 bytes; at most {MAX_BYTES:,} are read"):
        read_steering_output(file)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.lists(st.dictionaries(st.text(), _VALUES, max_size=4), max_size=5),
    st.one_of(st.none(), st.integers(0, 99)),
)
def test_what_a_command_writes_back_is_what_it_was_given(
    tmp_path_factory: pytest.TempPathFactory, points: list[dict[str, Any]], segment: int | None
) -> None:
    folder = tmp_path_factory.mktemp("files")
    data = written(folder, [(point, None) for point in points], None, segment)
    assert output(folder, json.dumps([row[0] for row in data["points"]]), segment) == points


@given(st.binary(max_size=60))
def test_any_bytes_give_points_or_one_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("files")
    try:
        points = output(folder, data)
    except AlgorithmError:
        return
    assert all(isinstance(point, dict) for point in points)
