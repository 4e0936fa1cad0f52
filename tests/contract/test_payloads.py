"""What was written by earlier programs of a protocol version is still read, and fits the schemas of that version."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest

from containers.phpo.evaluation_files import read_evaluation_output, write_point
from containers.phpo.evaluation_files import write_training_data as write_data
from containers.phpo.steering_files import read_steering_output, write_steering_input
from evaluation.attempt import AttemptFolder
from evaluation.link import link_package
from evaluation.runners.base import read_answer
from hpo_steer.child import BOOTSTRAP, check_metrics
from hpo_steer.errors import AlgorithmError, MalformedMessage
from hpo_steer.host import Host
from hpo_steer.jsonlines import read_reply
from hpo_steer.messages import decode_control, decode_event, decode_work
from hpo_steer.protocol.__main__ import documents
from hpo_steer.protocol.schemas import DOCUMENTS, schema_of
from hpo_steer.transport.bundle import CONTENT_TYPE, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
RECORDED = Path(__file__).parent / "payloads" / "v1"
PAYLOADS = sorted(RECORDED.rglob("*.json"))
MALFORMED = (MalformedMessage, AlgorithmError)

recorded = pytest.mark.parametrize("path", PAYLOADS, ids=lambda path: str(path.relative_to(RECORDED)))


def kind_of(path: Path) -> str:
    return f"{path.parent.name}/{path.name.partition('.')[0]}"


def fits(kind: str, value: Any) -> bool:
    return bool(jsonschema.Draft7Validator(schema_of(kind)).is_valid(value))


# --- the documents ---


def test_the_documents_in_the_docs_are_what_the_code_makes() -> None:
    for name, text in documents().items():
        command = "write it anew: python -m hpo_steer.protocol docs/reference"
        assert (REFERENCE / name).read_text(encoding="utf-8") == text, f"{name}; {command}"
    there = {str(path.relative_to(REFERENCE)) for path in REFERENCE.rglob("schemas/**/*.json")}
    assert there == {name for name in documents() if name.startswith("schemas/")}


def test_the_program_writes_the_documents_into_a_folder(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "hpo_steer.protocol"]
    subprocess.run([*program, str(tmp_path)], check=True)
    written = {str(p.relative_to(tmp_path)): p.read_text("utf-8") for p in tmp_path.rglob("*") if p.is_file()}
    assert written == documents()
    without = subprocess.run(program, capture_output=True, text=True, check=False)
    assert without.returncode == 1
    assert without.stderr == "usage: python -m hpo_steer.protocol FOLDER\n"


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_schema_is_one_of_draft_7_and_complete_in_itself(kind: str) -> None:
    schema = schema_of(kind)
    jsonschema.Draft7Validator.check_schema(schema)
    assert schema["$id"] == f"{kind.partition('/')[2]}.json"
    assert "protocol version 1" in schema["title"]
    assert schema["description"]
    for reference in references(schema):
        assert reference.removeprefix("#/definitions/") in schema["definitions"]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for entry in value.values():
            yield from references(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from references(entry)


# --- the recorded payloads ---


def test_every_kind_was_recorded() -> None:
    assert {kind_of(path) for path in PAYLOADS} == set(DOCUMENTS)


def test_recorded_payloads_are_never_edited() -> None:
    lines = (RECORDED / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    there = {path for path in RECORDED.rglob("*") if path.is_file() and path.name != "SHA256SUMS"}
    assert {str(path.relative_to(RECORDED)) for path in there} == set(sums)
    for path in there:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        assert digest == sums[str(path.relative_to(RECORDED))], (
            f"{path.name} was recorded, and is not to be changed"
        )


@recorded
def test_a_recorded_payload_fits_its_schema(path: Path) -> None:
    jsonschema.Draft7Validator(schema_of(kind_of(path))).validate(json.loads(path.read_bytes()))


@recorded
def test_a_recorded_payload_fits_with_fields_of_a_newer_sender(path: Path) -> None:
    value = json.loads(path.read_bytes())
    if isinstance(value, dict):
        assert fits(kind_of(path), {**value, "from_the_future": {"a": [1]}})


@recorded
def test_a_payload_without_a_required_key_does_not_fit(path: Path) -> None:
    kind, value = kind_of(path), json.loads(path.read_bytes())
    for key in schema_of(kind).get("required", ()):
        assert not fits(kind, {name: given for name, given in value.items() if name != key})


# --- today's readers ---


def read_request(body: bytes, _folder: Path) -> None:
    """A line for an algorithm's process, after the one that opens the model."""
    if json.loads(body)["op"] == "open" and "algorithm" not in json.loads(body):
        return  # to a service of the user's: nothing of ours reads it
    replies = io.BytesIO()
    host = Host(replies)
    if json.loads(body)["op"] != "open":
        host.read((RECORDED / "ask-tell" / "open.json").read_bytes())
    if json.loads(body)["op"] == "tell":
        host.read((RECORDED / "ask-tell" / "ask.json").read_bytes())
    host.read(body)
    errors = [reply for reply in map(json.loads, replies.getvalue().splitlines()) if reply["op"] == "error"]
    if errors:
        raise MalformedMessage(errors[0]["message"])


def serve_request(body: bytes, folder: Path) -> None:
    """A line for a service, read by our own one: the child that runs a function."""
    request = {**json.loads(body), "dir": str(folder)}
    train = folder / "train.py"
    train.write_text(
        'import hpo_steer\n\ndef train(p):\n    return {"loss": p["x"] + hpo_steer.point().id}\n'
    )
    setup = {"file": str(train), "module": "train", "name": "train", "path": [], "objectives": ["loss"]}
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = [sys.executable, "-c", BOOTSTRAP, str(link_package(folder))]
        child = subprocess.Popen(
            [*argv, json.dumps({**setup, "fd": theirs.fileno(), "once": True})], pass_fds=[theirs.fileno()]
        )
        ours.sendall(json.dumps(request).encode() + b"\n")
        with ours.makefile("rb") as answers:
            answer = json.loads(answers.readline())
        assert child.wait(30) == 0
    assert answer["key"] == request["key"]
    assert answer["metrics"] == {"loss": request["params"]["x"] + request["point"]["id"]}


def read_report(body: bytes, folder: Path) -> None:
    (folder / "reports.jsonl").write_bytes(body)
    attempt = AttemptFolder(str(folder))
    (report,) = attempt.new_reports()
    assert {"step": report.step, "metrics": report.metrics} == json.loads(body)


def read_service_answer(body: bytes, _folder: Path) -> None:
    answer = json.loads(body)
    outcome = read_answer(answer)
    assert outcome.metrics == answer.get("metrics")
    assert (outcome.failure is None) == ("failure" not in answer)


def read_steering_out(body: bytes, folder: Path, segment: int | None = None) -> None:
    (folder / "out.json").write_bytes(body)
    points = read_steering_output(folder / "out.json", segment)
    assert points == [entry if segment is None else entry[1] for entry in json.loads(body)]


def read_evaluation_out(body: bytes, folder: Path) -> None:
    (folder / "output.json").write_bytes(body)
    answer = read_evaluation_output(folder / "output.json", ["loss"])
    assert ("metrics" in answer) == (json.loads(body)["status"] == 0)


def write_steering_in(body: bytes, folder: Path, segment: int | None = None) -> None:
    """Commands of users read it: what we write for the same points must stay the same."""
    from hpo_steer.algorithm import Failure

    given = json.loads(body)
    failed = {entry["point"]: Failure(entry["kind"], entry["message"]) for entry in given.get("failed", ())}
    points = [
        (point if segment is None else point[1], failed.get(place, loss))
        for place, (point, loss) in enumerate(given["points"])
    ]
    write_steering_input(folder / "in.json", points, given["opt_space"], segment)
    assert (folder / "in.json").read_bytes() == body


def write_evaluation_in(body: bytes, folder: Path) -> None:
    write_point(folder / "input.json", json.loads(body))
    assert json.loads((folder / "input.json").read_bytes()) == json.loads(body)


def write_training_data(body: bytes, folder: Path) -> None:
    write_data(folder / "input_ds.json", json.loads(body))
    assert json.loads((folder / "input_ds.json").read_bytes()) == json.loads(body)


def read_metrics(body: bytes, _folder: Path) -> None:
    metrics = {name: value for name, value in json.loads(body).items() if name not in ("status", "message")}
    assert check_metrics(metrics, ["loss"], "the output file") == {"metrics": metrics}


CONTROLS = ("stop", "cancel", "pardon", "bundle_part", "bundle_gone")
READERS: dict[str, Callable[[bytes, Path], object]] = {
    "messages/work": lambda body, _: decode_work(body),
    **dict.fromkeys((f"messages/{name}" for name in CONTROLS), lambda body, _: decode_control(body)),
    **{
        f"messages/{name}": lambda body, _: decode_event(body)
        for name in ("hello", "started", "heartbeat", "report", "result", "bundle_wanted", "bye", "echo")
    },
    **{f"ask-tell/{name}": read_request for name in ("open", "restore", "tell", "ask")},
    **{f"ask-tell/{name}": lambda body, _: read_reply(body) for name in ("opened", "points", "error")},
    "evaluation/request": serve_request,
    "evaluation/answer": read_service_answer,
    "evaluation/report": read_report,
    "files/steering-in": write_steering_in,
    "files/steering-in-segmented": lambda body, folder: write_steering_in(body, folder, 0),
    "files/steering-out": read_steering_out,
    "files/steering-out-segmented": lambda body, folder: read_steering_out(body, folder, 0),
    "files/evaluation-in": write_evaluation_in,
    "files/evaluation-out": read_evaluation_out,
    "files/training-data": write_training_data,
    "files/metrics": read_metrics,
}
STRICT = [kind for kind in DOCUMENTS if kind.startswith("messages/") and kind != "messages/bundle_part"]
"""No schema can say that a part has the length of its place."""
STRICT += ["ask-tell/opened", "ask-tell/points", "ask-tell/error"]
"""Kinds whose readers refuse whatever their schema refuses."""


@recorded
def test_a_recorded_payload_is_read_today(path: Path, tmp_path: Path) -> None:
    READERS[kind_of(path)](path.read_bytes(), tmp_path)


def test_a_recorded_bundle_is_taken_apart_today() -> None:
    members = unpack((RECORDED / "messages" / "events.ndjson").read_bytes(), CONTENT_TYPE)
    assert [json.loads(member)["type"] for member in members] == ["started", "report", "result"]
    assert all(decode_event(member) for member in members)


@recorded
def test_readers_ignore_fields_of_a_newer_sender(path: Path, tmp_path: Path) -> None:
    value, kind = json.loads(path.read_bytes()), kind_of(path)
    if kind.startswith("files/") or kind == "evaluation/report":
        return  # a further key of these is a metric, a parameter, or read by commands of users
    READERS[kind](json.dumps({**value, "from_the_future": {"a": [1]}}).encode(), tmp_path)


@pytest.mark.parametrize("path", [path for path in PAYLOADS if kind_of(path) in STRICT], ids=lambda p: p.name)
def test_schema_and_reader_refuse_the_same(path: Path, tmp_path: Path) -> None:
    """Every key left out, and of every other type."""
    kind, value = kind_of(path), json.loads(path.read_bytes())
    changed: list[dict[str, Any]] = [{k: v for k, v in value.items() if k != key} for key in value]
    changed += [
        {**value, key: odd}
        for key in value
        for odd in (None, "17", 17, 0.5, -1, True, [], [3], {}, {"a": "b"})
    ]
    for candidate in changed:
        try:
            READERS[kind](json.dumps(candidate).encode(), tmp_path)
        except MALFORMED:
            read = False
        else:
            read = True
        assert fits(kind, candidate) == read, candidate


@pytest.mark.parametrize("version", [2, None, "1"])
def test_an_algorithm_s_process_refuses_another_protocol_version(version: object, tmp_path: Path) -> None:
    opening = json.loads((RECORDED / "ask-tell" / "open.json").read_bytes())
    with pytest.raises(MalformedMessage, match=r"protocol version .*, this is version 1"):
        read_request(json.dumps({**opening, "v": version}).encode(), tmp_path)
