"""Messages: they come back as they were sent, and nothing else is let in."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo_steer import limits
from hpo_steer.errors import MalformedMessage
from hpo_steer.message_schema import message_schema
from hpo_steer.messages import (
    BundleGone,
    BundlePart,
    BundleWanted,
    Bye,
    Cancel,
    Control,
    Event,
    FailureInfo,
    Heartbeat,
    Hello,
    Message,
    Report,
    Result,
    Started,
    Stop,
    Work,
    decode_control,
    decode_event,
    decode_work,
)
from hpo_steer.transport.admission import admit_event, corpse
from hpo_steer.transport.bundle import CONTENT_TYPE, pack, unpack

SCHEMA = Path(__file__).parents[2] / "docs/reference/messages.schema.json"
DECODERS = (decode_event, decode_control, decode_work)

names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=20)
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
ids = st.integers(0, limits.MAX_ID)
attempts = st.integers(1, limits.MAX_ATTEMPT)
times = st.floats(0, limits.MAX_TIME)
kinds = st.sampled_from(["invalid", "error", "timeout", "lost", "pruned", "cancelled"])
numbers = st.floats(allow_nan=False, allow_infinity=False)
metrics = st.dictionaries(names, numbers, max_size=5)
running = st.lists(st.tuples(ids, attempts), max_size=5)
whole = st.integers(-limits.MAX_PARAM_INT, limits.MAX_PARAM_INT)
plain = st.none() | st.booleans() | whole | numbers | st.text(st.characters(exclude_categories=["Cs"]))
params = st.dictionaries(
    names, st.recursive(plain, lambda v: st.lists(v, max_size=3) | st.dictionaries(names, v, max_size=3))
)
common = {"experiment": names, "run": names}
of_worker = {**common, "worker": names, "at": times}
attempt = {"point": ids, "attempt": attempts}
outcome = {"slot": st.integers(0, limits.MAX_SLOTS - 1), "log": texts, "started_at": times}
duration = {"duration_s": st.floats(0, limits.MAX_DURATION_S)}
failures = st.builds(FailureInfo, kind=kinds, message=texts)
slots = st.integers(1, limits.MAX_SLOTS)
steps = st.integers(-limits.MAX_STEP, limits.MAX_STEP)

hashes = st.text("0123456789abcdef", min_size=64, max_size=64)
ranges = st.lists(
    st.tuples(st.integers(0, limits.MAX_PARTS - 1), st.integers(0, limits.MAX_PARTS - 1)), max_size=5
)
work = st.builds(
    Work,
    **common,
    **attempt,
    model=names,
    iteration=ids,
    params=params,
    bundle=st.none() | hashes,
    bundle_url=st.none() | names,
)
controls: st.SearchStrategy[Control] = st.builds(
    Stop, **common, **attempt, kind=kinds, reason=texts
) | st.builds(Cancel, **common, points=st.lists(ids, max_size=5))
controls = controls | st.builds(BundleGone, **common, bundle=hashes, reason=texts)
controls = controls | st.binary(min_size=1, max_size=50).flatmap(
    lambda data: st.builds(
        BundlePart,
        **common,
        bundle=hashes,
        number=st.just(0),
        count=st.just(1),
        size=st.just(len(data)),
        data=st.just(base64.b64encode(data).decode()),
    )
)
events = st.one_of(
    st.builds(Hello, **of_worker, host=names, slots=slots, running=running),
    st.builds(Started, **of_worker, **attempt),
    st.builds(Heartbeat, **of_worker, running=running, slots=slots),
    st.builds(Report, **of_worker, **attempt, step=steps, metrics=metrics),
    st.builds(Result, **of_worker, **attempt, **outcome, **duration, metrics=metrics),
    st.builds(Result, **of_worker, **attempt, **outcome, **duration, failure=failures),
    st.builds(BundleWanted, **of_worker, bundle=hashes, parts=ranges, problem=texts),
    st.builds(Bye, **of_worker, reason=texts),
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda value: st.lists(value) | st.dictionaries(st.text(), value),
)


def decoded(decode: Any, body: bytes) -> Message | None:
    """The message, or None if it is refused, with a reason that fits a header and a terminal."""
    try:
        message: Message = decode(body)
    except MalformedMessage as exc:
        reason = str(exc)
        assert 0 < len(reason) <= limits.MAX_REASON
        assert reason.isprintable()
        return None
    return message


def result(**changes: Any) -> dict[str, Any]:
    return {
        "v": 1,
        "experiment": "e",
        "run": "r",
        "type": "result",
        "worker": "w",
        "at": 1.0,
        "point": 1,
        "attempt": 1,
        "metrics": {"loss": 0.5},
        "started_at": 1.0,
        "duration_s": 1.0,
        **changes,
    }


@given(events)
def test_an_event_comes_back_as_it_was(event: Event) -> None:
    assert decode_event(event.encoded()) == event


@given(controls)
def test_a_control_message_comes_back_as_it_was(control: Control) -> None:
    assert decode_control(control.encoded()) == control


@given(work)
def test_work_comes_back_as_it_was(message: Work) -> None:
    assert decode_work(message.encoded()) == message


@given(st.binary())
def test_any_bytes_are_refused_in_one_sentence(body: bytes) -> None:
    for decode in DECODERS:
        assert decoded(decode, body) is None


@given(anything)
def test_any_json_is_refused_in_one_sentence(value: Any) -> None:
    for decode in DECODERS:
        assert decoded(decode, json.dumps(value).encode()) is None


@settings(max_examples=300)
@given(events | controls | work, st.data())
def test_a_message_with_any_value_anywhere_is_taken_or_refused(message: Message, data: st.DataObject) -> None:
    fields = json.loads(message.encoded())
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(anything)
    body = json.dumps(fields).encode()
    for decode in DECODERS:
        if (read := decoded(decode, body)) is not None:
            assert decode(read.encoded()) == read  # what was let in can be passed on


@given(events, st.integers(0, 2000), st.integers(0, 7))
def test_a_bit_that_flips_does_no_more_harm(event: Event, place: int, bit: int) -> None:
    body = bytearray(event.encoded())
    body[place % len(body)] ^= 1 << bit
    decoded(decode_event, bytes(body))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"v": 2}, "result.v: protocol version 2, this is version 1"),
        ({"v": True}, "result.v: protocol version something else, this is version 1"),
        ({"v": None}, "result.v: protocol version something else, this is version 1"),
        (
            {"type": "x" * 5000},
            "type: none of 'hello', 'started', 'heartbeat', 'report', 'result', 'bundle_wanted', 'bye', 'echo'",
        ),
        (
            {"type": "work"},
            "type: none of 'hello', 'started', 'heartbeat', 'report', 'result', 'bundle_wanted', 'bye', 'echo'",
        ),
        ({"point": "17"}, "result.point: Input should be a valid integer"),
        ({"point": True}, "result.point: Input should be a valid integer"),
        ({"point": -1}, "result.point: Input should be greater than or equal to 0"),
        ({"point": 2**53 + 1}, "result.point: Input should be less than or equal to 9007199254740992"),
        ({"attempt": 0}, "result.attempt: Input should be greater than or equal to 1"),
        ({"attempt": 100_001}, "result.attempt: Input should be less than or equal to 100000"),
        ({"slot": 2**31}, "result.slot: Input should be less than 10000"),
        ({"at": float("nan")}, "result.at: Input should be a finite number"),
        ({"at": 10**18}, "result.at: Input should be less than or equal to 253402300799"),
        ({"started_at": -62135596800}, "result.started_at: Input should be greater than or equal to 0"),
        ({"duration_s": float("inf")}, "result.duration_s: Input should be a finite number"),
        ({"worker": "a\nb"}, "result.worker: holds control characters"),
        ({"worker": "w" * 201}, "result.worker: String should have at most 200 characters"),
        (
            {"metrics": {"a\x1b[31m": 1}},
            "result.metrics.(a long or strange key).[key]: holds control characters",
        ),
        ({"metrics": {"a": "1"}}, "result.metrics.a: Input should be a valid number"),
        (
            {"metrics": {str(n): 1 for n in range(10_001)}},
            "result.metrics: 10,001 metrics; 10,000 are allowed",
        ),
        ({"failure": {"kind": "error"}}, "result: a result has either metrics or a failure"),
        ({"metrics": None}, "result: a result has either metrics or a failure"),
        ({"log": "x" * 32_769}, "result.log: String should have at most 32768 characters"),
    ],
)
def test_what_is_beyond_a_limit_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode_event(json.dumps(result(**changes)).encode())
    assert str(caught.value) == reason


@pytest.mark.parametrize("key", ["v", "type", "run", "point", "at"])
def test_what_is_missing_is_named(key: str) -> None:
    fields = result()
    del fields[key]
    with pytest.raises(MalformedMessage, match=rf"\b{key}: Field required$"):
        decode_event(json.dumps(fields).encode())


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ('{"x": NaN}', "params: a number is not finite"),
        ('{"x": 1e400}', "params: a number is not finite"),
        ('{"x": [' + "[" * 40 + "]" * 40 + "]}", "params: more than 32 levels deep"),
        ('{"x": ' + "9" * 40 + "}", "params: a whole number is beyond 64 bits"),
        ('{"x": [' + "1," * 100_000 + "1]}", "params: more than 100,000 values"),
        ('{"x": {"a\\u0007": 1}}', "params: a name is empty, longer than 1,000 or holds control characters"),
    ],
)
def test_parameters_have_limits(params: str, reason: str) -> None:
    body = Work(experiment="e", run="r", point=1, attempt=1, model="m", iteration=1, params={}).encoded()
    with pytest.raises(MalformedMessage) as caught:
        decode_work(body.replace(b'"params":{}', f'"params":{params}'.encode()))
    assert str(caught.value) == reason


def test_a_nul_in_a_log_loses_no_result() -> None:
    read = decode_event(json.dumps(result(log="a\0b")).encode())
    assert isinstance(read, Result)
    assert read.log == "a\ufffdb"  # no database holds a NUL


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    body = json.dumps(result()).encode().replace(b'"point": 1', b'"point": 1, "point": 2')
    read = decode_event(body)
    assert isinstance(read, Result)
    assert read.point == 2


def test_a_foreign_name_is_shown_and_does_no_harm() -> None:
    with pytest.raises(MalformedMessage, match=r"^of experiment e\?, this is experiment digits$"):
        admit_event(json.dumps(result(experiment="e\u202e")).encode(), "digits", "r")


@given(
    st.lists(st.binary(min_size=1).filter(lambda line: b"\n" not in line and not line.isspace()), min_size=1)
)
def test_a_bundle_comes_apart_as_it_was_packed(bodies: list[bytes]) -> None:
    assert unpack(pack(bodies), CONTENT_TYPE) == bodies
    assert unpack(pack(bodies), "application/json") == [pack(bodies)]


@pytest.mark.parametrize(
    ("body", "members"),
    [
        (b"", 1),
        (b"\n\n", 1),
        (b"a\n\nb\n", 2),
        (b"\n" * 1_000_000, 1),
        (b"a\n" * 1_000, 1_000),
        (b"a\n" * 1_001, 1),
        (b"x" * 2_097_152 + b"\n{}", 1),
    ],
)
def test_a_bundle_is_never_a_million_messages_and_never_none(body: bytes, members: int) -> None:
    assert len(unpack(body, CONTENT_TYPE)) == members
    assert len(unpack(body, "Application/X-NDJSON; charset=utf-8")) == members


def test_the_dead_letter_of_a_huge_message_is_small() -> None:
    assert corpse(b"x" * 1_048_576) == b"x" * 1_048_576
    assert corpse(b"x" * 1_048_577) == b"x" * 65_536


def test_the_schema_in_the_docs_is_the_one_of_the_messages() -> None:
    command = "python -m hpo_steer.message_schema > docs/reference/messages.schema.json"
    assert json.loads(SCHEMA.read_text(encoding="utf-8")) == message_schema(), f"write it anew: {command}"


def test_the_schema_has_every_message_and_its_limits() -> None:
    schema = message_schema()
    kinds = [Work, *get_args(Control), *get_args(Event)]
    assert {part["$ref"] for part in schema["oneOf"]} == {f"#/$defs/{kind.__name__}" for kind in kinds}
    for kind in kinds:
        definition = schema["$defs"][kind.__name__]
        assert set(definition["required"]) >= {"v", "type", "experiment", "run"}
        assert set(definition["properties"]) == set(kind.model_fields)
    assert schema["$defs"]["Result"]["properties"]["attempt"] == {
        "minimum": 1,
        "maximum": limits.MAX_ATTEMPT,
        "type": "integer",
    }


def part(**changes: Any) -> bytes:
    """A part of a code bundle: the last of two."""
    fields = {"v": 1, "experiment": "e", "run": "r", "type": "bundle_part", "bundle": "ab" * 32, "number": 1}
    fields |= {"count": 2, "size": limits.MAX_PART + 3, "data": base64.b64encode(b"end").decode()}
    return json.dumps({**fields, **changes}).encode()


def test_the_largest_part_fits_a_message() -> None:
    data = base64.b64encode(b"\xff" * limits.MAX_PART).decode()
    body = part(number=0, data=data, experiment="e" * 100, run="r" * limits.MAX_NAME)
    assert len(body) <= limits.MAX_BYTES
    message = decode_control(body)
    assert isinstance(message, BundlePart)
    assert message.content == b"\xff" * limits.MAX_PART


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"bundle": "ab"}, "bundle_part.bundle: no SHA-256 in 64 hexadecimal digits"),
        ({"bundle": "AB" * 32}, "bundle_part.bundle: no SHA-256 in 64 hexadecimal digits"),
        ({"bundle": "../" + "a" * 61}, "bundle_part.bundle: no SHA-256 in 64 hexadecimal digits"),
        ({"bundle": "ab" * 32 + "\n"}, "bundle_part.bundle: no SHA-256 in 64 hexadecimal digits"),
        ({"number": 2}, "bundle_part: a part that is none of its bundle"),
        ({"count": 3}, "bundle_part: a part that is none of its bundle"),
        ({"size": 2**50}, "bundle_part.size: Input should be less than or equal to 4294967296"),
        ({"data": ""}, "bundle_part: a part of the wrong length"),
        ({"data": "ZW5kZW5k"}, "bundle_part: a part of the wrong length"),
        ({"data": "ZW5k!"}, "bundle_part.data: is no base64"),
        ({"data": "\u00e9"}, "bundle_part.data: is no base64"),
        ({"data": "A" * 699_056}, "bundle_part.data: String should have at most 699052 characters"),
    ],
)
def test_a_part_that_is_none_is_refused(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        decode_control(part(**changes))
    assert str(caught.value) == reason
