"""Messages gone wrong in many ways, from true ones and a seed.

`Mutator.next` yields one mutant after the other, the same for the same seed. A mutant whose class is in `HOPELESS` can
be no message, whatever chance did to it. The others are judged by `Judge`, which knows what has to become of each
message in them: some mutations leave a message as true as it was.
"""

from __future__ import annotations

import gzip
import json
import pickle
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import pika

from benchmarks.odd_headers import odd_headers
from hpo_steer.messages import (
    BundleWanted,
    Bye,
    Cancel,
    FailureInfo,
    Heartbeat,
    Hello,
    Report,
    Result,
    Started,
    Stop,
    Work,
)

Queue: TypeAlias = Literal["work", "events", "control"]
Fields: TypeAlias = dict[str, Any]

JSON, BUNDLE = "application/json", "application/x-ndjson"
UNKNOWN_POINT = 4_503_599_627_370_001
"""No run gets so far, and no flipped bit brings it near."""
WORK_POINT = 3_000_000_000_000_000
"""Forged work counts on from here, so that workers' answers to it can be told apart."""
_TEXT = "x" * 500_000
_NUMBERS = (
    "1e400",
    "-1e400",
    "9" * 5000,
    "-0.0",
    "NaN",
    "Infinity",
    "-Infinity",
    str(2**63),
    str(2**53 + 1),
    "1e308",
)
_WRONG: tuple[Any, ...] = (None, True, "17", 1.5, [], {}, [[]], "", -1, {"a": {"b": []}})
_TIMES = (-62_135_596_800, 10**18, -1, 253_402_300_800, 1e308, 0, 4)
_KEYS = (
    "__proto__",
    "__class__",
    "constructor",
    "$ref",
    "<script>",
    "../../etc",
    "a b",
    "é",
    "x\u202ey",
    "\u0007",
)
_NAMES = ("experiment", "run", "worker", "host", "model", "reason", "log", "type")


@dataclass(frozen=True)
class Mutant:
    """One message gone wrong.

    Attributes:
        kind: its class.
        queue: where it goes.
        body: its bytes.
        properties: as it is published.
    """

    kind: str
    queue: Queue
    body: bytes
    properties: pika.BasicProperties

    @property
    def content_type(self) -> Any:
        """What a receiver sees; headers that cannot be read hide it."""
        return self.properties.content_type


def dumps(fields: Any) -> bytes:
    """JSON as senders write it, NaN included."""
    return json.dumps(fields, separators=(",", ":")).encode()


class Mutator:
    """Yields mutants.

    Args:
        experiment: name of the experiment.
        run: id of its run.
        seed: of all choices.
    """

    def __init__(self, experiment: str, run: str, seed: int) -> None:
        self._about: dict[str, Any] = {"experiment": experiment, "run": run}
        self._random = random.Random(seed)  # noqa: S311 - no secret
        self._serial = 0
        self._kinds = list(CLASSES)
        self._weights = [weight for weight, _ in CLASSES.values()]

    def next(self) -> Mutant:
        """One more."""
        kind = self._random.choices(self._kinds, self._weights)[0]
        queue: Queue = self._random.choices(("events", "work", "control"), (5, 4, 1))[0]
        made = CLASSES[kind][1](self._random, self.true(queue))
        body, properties = (
            made if isinstance(made, tuple) else (made, pika.BasicProperties(content_type=JSON))
        )
        return Mutant(kind, queue, body, properties)

    def true(self, queue: Queue) -> Fields:
        """A true message for a queue, about nothing that exists."""
        self._serial += 1
        worker = {**self._about, "worker": "fuzz-1-000000", "at": 1_800_000_000.0}
        tried: dict[str, Any] = {"point": UNKNOWN_POINT, "attempt": 1}
        ended = {**worker, **tried, "started_at": 1_800_000_000.0, "duration_s": 0.5}
        point = WORK_POINT + self._serial
        choices: dict[Queue, list[Any]] = {
            "work": [
                Work(
                    **self._about,
                    point=point,
                    attempt=1,
                    model="main",
                    iteration=1,
                    params={"fuzz": 0.5, "n": 3},
                )
            ],
            "control": [
                Stop(**self._about, **tried, reason="no reason"),
                Cancel(**self._about, points=[UNKNOWN_POINT, UNKNOWN_POINT + 10]),
            ],
            "events": [
                Hello(**worker, host="fuzz", slots=1, running=[(UNKNOWN_POINT, 1)]),
                Started(**worker, **tried),
                Heartbeat(**worker, running=[(UNKNOWN_POINT, 1)]),
                BundleWanted(**worker, bundle="ab" * 32, parts=[(0, 3)], problem="no reason"),
                Report(**worker, **tried, step=3, metrics={"loss": 0.5}),
                Result(**ended, metrics={"loss": 0.5, "accuracy": 0.9}, log="fine\nas ever"),
                Result(**ended, failure=FailureInfo(kind="error", message="no")),
                Bye(**worker, reason="drained"),
            ],
        }
        fields: Fields = json.loads(self._random.choice(choices[queue]).encoded())
        return fields


Made: TypeAlias = bytes | tuple[bytes, pika.BasicProperties]
Recipe: TypeAlias = Callable[[random.Random, Fields], Made]


def _as(content_type: Any, encoding: str | None = None) -> pika.BasicProperties:
    return pika.BasicProperties(content_type=content_type, content_encoding=encoding)


def _any_key(rng: random.Random, fields: Fields) -> str:
    return rng.choice(sorted(fields))


def _numeric(rng: random.Random, fields: Fields) -> str:
    return rng.choice([key for key, value in fields.items() if isinstance(value, int | float)])


def _insert(rng: random.Random, body: bytes, what: bytes) -> bytes:
    place = rng.randrange(1, len(body))
    return body[:place] + what + body[place:]


def _raw(fields: Fields, key: str, value: str) -> bytes:
    """The message with a value that `json` would not write."""
    mark = "@@value@@"
    return dumps({**fields, key: mark}).replace(f'"{mark}"'.encode(), value.encode())


def _truncated(rng: random.Random, fields: Fields) -> bytes:
    body = dumps(fields)
    return body[: rng.randrange(len(body))]


def _flipped(rng: random.Random, fields: Fields) -> bytes:
    body = bytearray(dumps(fields))
    for _ in range(rng.choice((1, 1, 2, 8))):
        body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return bytes(body)


def _wrong_type(rng: random.Random, fields: Fields) -> bytes:
    return dumps({**fields, _any_key(rng, fields): rng.choice(_WRONG)})


def _missing(rng: random.Random, fields: Fields) -> bytes:
    left = dict(fields)
    for _ in range(rng.choice((1, 1, 3))):
        left.pop(_any_key(rng, left))
    return dumps(left)


def _extra(rng: random.Random, fields: Fields) -> bytes:
    return dumps({**fields, **{f"extra{n}": rng.choice(_WRONG) for n in range(rng.choice((1, 5, 200)))}})


def _twice(rng: random.Random, fields: Fields) -> bytes:
    key = _any_key(rng, fields)
    again = dumps({key: rng.choice((fields[key], *_WRONG))})[1:-1]
    return dumps(fields)[:-1] + b"," + again + b"}"


def _huge_number(rng: random.Random, fields: Fields) -> bytes:
    key = rng.choice([_numeric(rng, fields), "metrics", "params"])
    number = rng.choice(_NUMBERS)
    return _raw(fields, key, number if key not in ("metrics", "params") else f'{{"loss":{number}}}')


def _huge_text(rng: random.Random, fields: Fields) -> bytes:
    key = rng.choice([key for key in fields if isinstance(fields[key], str)] + ["metrics", "log"])
    return dumps({**fields, key: {_TEXT: 1} if key == "metrics" else _TEXT})


def _huge_list(rng: random.Random, fields: Fields) -> bytes:
    many = rng.choice((20_000, 60_000))
    key, value = rng.choice(
        (
            ("running", [[1, 1]] * many),
            ("running", [0] * many),
            ("points", [UNKNOWN_POINT] * many),
            ("metrics", {str(n): 1 for n in range(many)}),
            ("metrics", {str(n): None for n in range(many)}),
            ("params", {"a": [1] * 5 * many}),
            ("extra", [[]] * many),
        )
    )
    return dumps({**fields, key: value})


def _deep(rng: random.Random, fields: Fields) -> bytes:
    depth, (left, right) = rng.choice((300, 5_000, 100_000)), rng.choice((("[", "]"), ('{"a":', "}")))
    nested = left * depth + "0" + right * depth
    key = rng.choice((*fields, "params", "metrics", "extra", ""))
    return _raw(fields, key, nested) if key else nested.encode()


def _version(rng: random.Random, fields: Fields) -> bytes:
    return dumps({**fields, "v": rng.choice((0, 2, 3, -1, 2**70, "1", 1.5, [1], None, True))})


def _type(rng: random.Random, fields: Fields) -> bytes:
    return dumps(
        {**fields, "type": rng.choice(("", "WORK", "dance", 5, None, ["work"], "x" * 1000, "error"))}
    )


def _other_name(key: str) -> Recipe:
    def recipe(rng: random.Random, fields: Fields) -> bytes:
        return dumps(
            {**fields, key: rng.choice(("other", "*", fields[key] + "x", "é", fields[key].upper() + "-"))}
        )

    return recipe


def _attempt(rng: random.Random, fields: Fields) -> bytes:
    return dumps({**fields, "attempt": rng.choice((2, 99_999, 100_001, 10**9, 2**53 + 1, 0, -1))})


def _negative(rng: random.Random, fields: Fields) -> bytes:
    if "points" in fields:
        return dumps({**fields, "points": [UNKNOWN_POINT, -rng.randrange(1, 2**60)]})
    if "point" in fields:
        return dumps({**fields, rng.choice(("point", "attempt")): -rng.randrange(1, 2**60)})
    return dumps({**fields, "at": -rng.randrange(1, 2**60)})


def _bundle(rng: random.Random, fields: Fields) -> Made:
    bad = rng.choice((b"{", b"\xff", b"null", b"[1]", dumps({**fields, "v": 9}), b"x" * 3000))
    lines = [dumps(fields)] * rng.choice((1, 3))
    lines.insert(rng.randrange(len(lines) + 1), bad)
    return b"\n".join(lines) + rng.choice((b"", b"\n", b"\n\n")), _as(
        rng.choice((BUNDLE, BUNDLE + "; charset=utf-8"))
    )


def _huge_bundle(rng: random.Random, fields: Fields) -> Made:
    body = rng.choice(
        (
            b"\n" * 1_000_000,
            b"{}\n" * 300_000,
            dumps(fields) + b"\n" + b"x" * 2_097_152 + b"\n" + dumps(fields),
            (dumps(fields) + b"\n") * 10_000,
        )
    )
    return body, _as(BUNDLE)


def _content(rng: random.Random, fields: Fields) -> Made:
    types = (
        "text/plain",
        "application/x-python-pickle",
        "APPLICATION/JSON",
        "",
        "x" * 200,
        b"\xff\xfe",
        BUNDLE,
        None,
    )
    return dumps({**fields, "point": UNKNOWN_POINT, "v": rng.choice((1, 1, 7))}), _as(rng.choice(types))


def _bare(_rng: random.Random, fields: Fields) -> Made:
    return dumps({**fields, "v": 7}), pika.BasicProperties()


def _headers(rng: random.Random, fields: Fields) -> Made:
    return dumps({**fields, "v": 7}), odd_headers(rng)


def _surrogates(rng: random.Random, fields: Fields) -> bytes:
    return _raw(
        fields,
        _any_key(rng, fields),
        rng.choice(('"\\ud800"', '"a\\udfff"', '"\\ud83d\\ud83d"', '{"\\udc00":1}')),
    )


def _controls(rng: random.Random, fields: Fields) -> bytes:
    key = rng.choice([key for key in _NAMES if key in fields])
    return dumps({**fields, key: fields[key] + rng.choice(("\0", "\x07", "\x1b[2J", "\r\n", "\x9b", "\x7f"))})


def _odd_keys(rng: random.Random, fields: Fields) -> bytes:
    odd = dict.fromkeys(rng.sample(_KEYS, 3), 1.0)
    key = rng.choice(("metrics", "params", ""))
    return dumps({**fields, key: odd} if key else {**fields, **odd})


def _compressed(rng: random.Random, fields: Fields) -> Made:
    body = dumps(fields)
    return rng.choice(
        (
            (gzip.compress(body, mtime=0), _as(JSON, "gzip")),
            (zlib.compress(body), _as(JSON, "deflate")),
            (gzip.compress(body, mtime=0), _as(BUNDLE)),
        )
    )


def _outcomes(rng: random.Random, fields: Fields) -> bytes:
    both = {"metrics": {"loss": 1.0}, "failure": {"kind": "error", "message": ""}}
    strange = {"metrics": None, "failure": {"kind": rng.choice(("dance", "", 3, None))}}
    neither = {"metrics": None, "failure": None}
    return dumps({**fields, "type": "result", **rng.choice((both, strange, neither))})


def _cases(_rng: random.Random, fields: Fields) -> bytes:
    return dumps({**fields, "metrics": {"loss": 1.0, "Loss": 2.0, "LOSS": 3.0, "l\u00f6ss": 4.0}})


def _times(rng: random.Random, fields: Fields) -> bytes:
    return dumps({**fields, rng.choice(("at", "started_at", "duration_s", "timeout_s")): rng.choice(_TIMES)})


def _crowd(rng: random.Random, fields: Fields) -> bytes:
    return dumps(
        {**fields, rng.choice(("slots", "slot", "spooled")): rng.choice((10**9, -1, 2**31, 0.5, "1", 10**18))}
    )


CLASSES: dict[str, tuple[float, Recipe]] = {
    "truncated": (5, _truncated),
    "random bytes": (4, lambda rng, _: rng.randbytes(rng.choice((1, 20, 300, 3000)))),
    "flipped bits": (8, _flipped),
    "invalid UTF-8": (
        4,
        lambda rng, fields: _insert(rng, dumps(fields), rng.choice((b"\xff", b"\xc3\x28", b"\xed\xa0\x80"))),
    ),
    "byte order mark": (1, lambda _, fields: b"\xef\xbb\xbf" + dumps(fields)),
    "UTF-16": (1, lambda _, fields: dumps(fields).decode().encode("utf-16")),
    "NUL bytes": (2, lambda rng, fields: _insert(rng, dumps(fields), b"\0" * rng.choice((1, 50)))),
    "empty": (1, lambda rng, _: rng.choice((b"", b" ", b"\n", b"\t" * 100))),
    "trailing text": (2, lambda rng, fields: dumps(fields) + rng.choice((b"{}", b",", b"\0", b"]"))),
    "no object": (2, lambda rng, fields: dumps(rng.choice((None, 3, "x", [fields], [[]], True)))),
    "pickle": (1, lambda _, fields: (pickle.dumps(fields), _as("application/x-python-serialize"))),
    "YAML": (1, lambda _, fields: "\n".join(f"{key}: {value}" for key, value in fields.items()).encode()),
    "Python literal": (1, lambda _, fields: repr(fields).encode()),
    "compressed": (2, _compressed),
    "wrong type": (8, _wrong_type),
    "missing field": (6, _missing),
    "extra fields": (3, _extra),
    "key twice": (5, _twice),
    "huge number": (6, _huge_number),
    "huge text": (0.1, _huge_text),
    "huge list": (0.4, _huge_list),
    "deep nesting": (2, _deep),
    "other version": (4, _version),
    "other experiment": (3, _other_name("experiment")),
    "other run": (3, _other_name("run")),
    "unknown type": (4, _type),
    "unknown point": (1, lambda _, fields: dumps(fields)),
    "attempt far ahead": (3, _attempt),
    "negative ids": (3, _negative),
    "oversized": (0.1, lambda _, fields: dumps({**fields, "log": "x" * 2_097_152})),
    "bundle with a bad line": (3, _bundle),
    "huge bundle": (0.1, _huge_bundle),
    "wrong content type": (2, _content),
    "no properties": (1, _bare),
    "odd headers": (3, _headers),
    "lone surrogates": (3, _surrogates),
    "control characters": (3, _controls),
    "odd keys": (3, _odd_keys),
    "metrics and failure": (2, _outcomes),
    "names that differ in case": (1, _cases),
    "odd times": (3, _times),
    "a crowd of slots": (3, _crowd),
}
"""Every class with its weight, and how it is made."""

HOPELESS = frozenset(
    {
        "truncated", "random bytes", "invalid UTF-8", "byte order mark", "UTF-16", "NUL bytes", "empty",
        "trailing text",
        "no object", "pickle", "YAML", "Python literal", "compressed", "deep nesting", "other version",
        "other experiment", "unknown type", "oversized", "huge bundle", "no properties", "odd headers",
        "lone surrogates", "negative ids",
    }
)  # fmt: skip
"""Classes of which no message may be taken as good."""
