"""The lines of an algorithm's process: what is no answer is one error, and takes no memory."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo_steer.errors import AlgorithmError, MalformedMessage
from hpo_steer.jsonlines import loads, read_lines, read_reply

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda value: st.lists(value) | st.dictionaries(st.text(), value),
)
POINTS = {"op": "points", "id": "m", "model": "m", "points": [{"id": 0, "params": {"x": 1}}], "ended": None}


@pytest.mark.parametrize(
    "reply",
    [{"op": "opened", "model": "m"}, POINTS, {"op": "error", "message": "no", "user": True, "key": None}],
)
def test_an_answer_is_read(reply: dict[str, Any]) -> None:
    assert read_reply(json.dumps(reply).encode() + b"\n") == reply


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"epoch 1: loss 0.3", "no JSON: Expecting value: line 1 column 1 (char 0)"),
        (b"", "no JSON: Expecting value: line 1 column 1 (char 0)"),
        (
            b'{"op": "points", "model": "m',
            "no JSON: Unterminated string starting at: line 1 column 27 (char 26)",
        ),
        (b"\xff\xfe\x00", "no JSON: "),
        (b"[1, 2]", 'no JSON object with an "op"'),
        (b'{"op": 3}', 'no JSON object with an "op"'),
        (b'{"op": "dance"}', 'its "op" is none of: opened, points, error'),
        (b'{"op": "opened"}', "opened: a key is missing, or of another type"),
        (b'{"op": "points", "model": "m", "points": 3, "ended": null}', "points: a key is missing, or of"),
        (b'{"op": "points", "model": "m", "points": [3], "ended": null}', 'points: one is no {"id": number'),
        (
            b'{"op": "points", "model": "m", "points": [{"id": true, "params": {}}], "ended": null}',
            "points: one",
        ),
        (
            b'{"op": "points", "model": "m", "points": [{"id": 0, "params": {"x": NaN}}]}',
            "no JSON: NaN is no",
        ),
        (b"[" * 100_000, "no JSON: "),
        (b'{"op": ' + b"9" * 10_000 + b"}", "no JSON: "),
    ],
)
def test_what_is_no_answer_is_said(line: bytes, reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        read_reply(line)
    assert str(caught.value).startswith(reason)
    assert str(caught.value).isprintable()


@given(anything)
def test_any_json_is_read_or_refused(value: Any) -> None:
    with pytest.raises(MalformedMessage):
        read_reply(json.dumps(value).encode())


@given(
    st.dictionaries(st.sampled_from([*POINTS, "message", "user", "key"]), anything), st.sampled_from("aeo")
)
def test_any_object_is_read_or_refused(fields: dict[str, Any], kind: str) -> None:
    op = {"a": "points", "e": "error", "o": "opened"}[kind]
    try:
        reply = read_reply(json.dumps({**fields, "op": op}).encode())
    except MalformedMessage:
        return
    assert reply["op"] == op


@given(st.binary())
def test_any_bytes_are_refused(line: bytes) -> None:
    with pytest.raises(MalformedMessage):
        loads(line)


def test_half_a_line_at_the_end_is_left_out() -> None:
    assert list(read_lines(io.BytesIO(b"one\ntwo\nthr"))) == [b"one\n", b"two\n"]


def test_a_line_without_end_takes_no_memory() -> None:
    with Path("/dev/zero").open("rb") as endless:
        tracemalloc.start()
        try:
            with pytest.raises(MalformedMessage, match="a line of more than 1,000,000 bytes"):
                list(read_lines(endless, most=1_000_000))
            assert tracemalloc.get_traced_memory()[1] < 10_000_000
        finally:
            tracemalloc.stop()


def test_a_process_answers_garbage_with_an_error() -> None:
    garbage = b"hello\n" + b"[" * 5000 + b'\n{"op": "dance"}\n{"op": "ask", "model": "m", "n": NaN}\n'
    done = subprocess.run(
        [sys.executable, "-m", "hpo_steer.host"],
        input=garbage,
        capture_output=True,
        check=True,
        timeout=60,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    replies = [read_reply(line) for line in done.stdout.splitlines(keepends=True)]
    assert [reply["op"] for reply in replies] == ["error"] * 4
    assert replies[0]["message"].startswith("no request: no JSON")


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (b"garbage\\n", "gave no answer: no JSON: Expecting value"),
        (
            b'{"op":"points","model":"m","points":[],"ended":null}\\n',
            "gave no answer: points that nobody asked for",
        ),
        (b'{"op":"opened"', "ended with exit code 0"),
    ],
)
def test_steering_says_what_a_process_printed_instead_of_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: bytes, reason: str
) -> None:
    from steering.hosts import HostFailure, ProcessHost

    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nprintf '{printed.decode()}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    host = ProcessHost(tmp_path / "log")
    try:
        reply = _first(host)
        assert isinstance(reply, HostFailure)
        assert isinstance(reply.error, AlgorithmError)
        assert reason in str(reply.error)
    finally:
        host.close()


def _first(host: Any) -> Any:
    import select

    assert select.select([host.fileno()], [], [], 30)[0]
    return host.replies()[0]
