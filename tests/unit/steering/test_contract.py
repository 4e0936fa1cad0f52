"""What `hpo-steer check --steering` finds: good programs pass, and each defect has a line of its own."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import yaml

from hpo_steer.config import load_config
from hpo_steer.errors import ConfigError
from hpo_steer.findings import Finding, quoted
from steering.contract.making import Alone, checks_alone, checks_of

if TYPE_CHECKING:
    from pathlib import Path

FIRST, LOSSES, ONE = "first call, no history", "history of losses", "asked for one"
PENDING, COUNTED = "history with a pending point", "pending points are not counted"
ZERO, FAILED, FEWER, FULL = (
    "a loss of 0.0",
    "a failed point",
    "fewer left than asked for",
    "every point known",
)
FILES = [FIRST, LOSSES, "the same input twice", ONE, PENDING, COUNTED, ZERO, FAILED, FEWER, FULL]
SERVICE = [*FILES, "stays up", "two models at once", "a restored history", "standard output"]

STEER = """
import json, os, random, sys, time
infile, outfile, n, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
asked = json.load(open(infile))
points, space, failed = asked["points"], asked["opt_space"], asked.get("failed", [])
lost = {each["point"] for each in failed}
pending = [p for i, (p, loss) in enumerate(points) if loss is None and i not in lost]
rng = random.Random(repr([space, points]))
def draw():
    return {
        name: rng.choice(p["choices"]) if p["type"] == "categorical"
        else rng.randint(p["low"], p["high"]) if p["type"] == "int"
        else rng.uniform(p["low"], p["high"])
        for name, p in space.items()
    }
def new(k, known=None):
    found, known = [], [p for p, _ in points] if known is None else known
    for _ in range(1000):
        point = draw()
        if len(found) < k and point not in known and point not in found:
            found.append(point)
    return found
k = min(n, most - len(points))
out = new(k)
"""
WRITE = "\njson.dump(out, open(outfile, 'w'))\n"


def lines(folder: Path, alone: Alone, *, timeout_s: float = 30.0, points: int | None = 3) -> list[Finding]:
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return list(checks_alone(alone, scratch, points=points, timeout_s=timeout_s).run())


def steer(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str = "",
    *,
    arguments: str = "",
    timeout_s: float = 30.0,
) -> list[Finding]:
    monkeypatch.chdir(folder)
    (folder / "steer.py").write_text(STEER + textwrap.dedent(code) + WRITE)
    command = f"{sys.executable} steer.py %IN %OUT %NUM_POINTS {arguments or '%MAX_POINTS'}"
    return lines(folder, Alone(command), timeout_s=timeout_s)


def failed(found: list[Finding]) -> dict[str, str]:
    return {each.subject: f"{each.text}\n{each.quote}" for each in found if each.ok is False}


def test_a_good_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = steer(tmp_path, monkeypatch)
    assert [each.subject for each in found] == FILES
    assert failed(found) == {}
    texts = {each.subject: each.text for each in found}
    assert texts[FIRST].startswith("3 points of 3, all in the space (")
    assert texts["the same input twice"] == "gives the same points"
    assert texts[FULL] == "ends the search, with all 6 known"
    assert [path.name for path in tmp_path.iterdir() if path.name != "scratch"] == ["steer.py"]


@pytest.mark.parametrize(
    ("code", "where", "says"),
    [
        ("out = (pending + new(k))[:k]", PENDING, "came back: null is a point that is being evaluated"),
        ("out = ([p for p, loss in points if loss == 0.0] + new(k))[:k]", ZERO, "came back"),
        ("if any(loss == 0.0 for _, loss in points): sys.exit('a loss of zero')", ZERO, "(?s)exit code 1.*of zero"),
        ("out = new(k - len(pending))", COUNTED, "returned 2 of 3 points with one pending: it counts points on"),
        ("out = new(k - len(failed))", FAILED, "returned 2 of 3 points with one failed: .*failed: omit"),
        ("if failed: sys.exit('cannot do that')", FAILED, "(?s)ended with exit code 1.*cannot do that"),
        ("out = new(n)", FEWER, "asked for 3 with 2 left of 5: returned 3"),
        ("out = new(3 if points and n == 1 else k)", ONE, "returned 3 points where one was asked for"),
        ("out = new(k)\nif not points: out = out[:2]", FIRST, "returned 2 points where 3 were asked for"),
        ("if n == len(points) == 3 and most > 9 and all(loss for _, loss in points): out = out[:2]", LOSSES,
         "returned 2 of 3 points with 3 results"),
        ("if len(points) == 6: raise ValueError('nothing left')", FULL, "(?s)exit code 1.*nothing left"),
        ("if space.keys() > {'lr'}: out = [{**p, 'lr': 7} for p in out]", FIRST,
         '(?s)3 of 3 points not in the space.*"lr": 7'),
        ("if pending: open(outfile, 'w').write('[{\"lr\": 0.0'); sys.exit()", PENDING, "no JSON.*0.0"),
        ("if pending: sys.exit(0)", PENDING, "is not there: the command has not written it"),
        ("if pending: open(outfile, 'wb').truncate(2**30); sys.exit()", PENDING, "1,073,741,824 bytes"),
        ("if pending: time.sleep(100)", PENDING, r"has not ended within 2 s \(timeout_s\)"),
        ("if pending: print('dying', flush=True); os.kill(os.getpid(), 9)", PENDING, "(?s)SIGKILL.*dying"),
    ],
)  # fmt: skip
def test_each_defect_of_a_command_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, where: str, says: str | None
) -> None:
    late = "sleep" in code
    found = failed(steer(tmp_path, monkeypatch, code, timeout_s=2.0 if late else 30.0))
    assert [*found] == [where], found
    if says is not None:
        with pytest.raises(AssertionError, match=says):
            raise AssertionError(found[where])


def test_a_loss_of_zero_that_is_false(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The built-in scripts of iDDS register a loss with ``if loss:``; nothing but their points shows it."""
    code = "rng = random.Random(repr([(p, l) for p, l in points if l])); out = new(k)"
    found = failed(steer(tmp_path, monkeypatch, code))
    assert [*found] == [ZERO]
    assert "the very points that it gives with that point pending" in found[ZERO]


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('no such module'); sys.exit(3)", "(?s)exit code 3.*no such module"),
        ("open(outfile, 'w').write('{\"points\": [1, 2'); sys.exit()", "no JSON.*'.*\\[1, 2"),
        ("out = {'lr': 1}", 'holds no list.*{"lr": 1}'),
        ("out = [[0, p] for p in out]", "segmented form"),
        ("time.sleep(100)", "has not ended within 2 s"),
    ],
)
def test_one_that_cannot_be_asked_at_all_gets_a_single_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    (only,) = steer(tmp_path, monkeypatch, code, timeout_s=2.0 if "sleep" in code else 30.0)
    assert (only.subject, only.ok) == (FIRST, False)
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(only.text + only.quote)


def test_remarks_are_no_failures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
    rng = random.Random()
    print("x" * 5_000_000)
    out = new(3) if not points or n != 1 else new(1)
    out = [{**p, "lr": rng.uniform(4e-3, 6e-3)} for p in out]
    """
    found = steer(tmp_path, monkeypatch, code, arguments="9")
    notes = {each.subject: each.text for each in found if each.ok is None}
    assert "gives other points" in notes["the same input twice"]
    assert "has no %MAX_POINTS" in notes[FEWER]
    assert "not tried: the points do not come from the search space" in notes[FULL]
    assert failed(found) == {}


def test_a_space_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "steer.py").write_text(
        STEER.partition("rng =")[0] + "out = [{'layers': [64, len(points) + i]} for i in range(n)]" + WRITE
    )
    command = f"{sys.executable} steer.py %IN %OUT %NUM_POINTS %MAX_POINTS"
    assert [*failed(lines(tmp_path, Alone(command, free=True)))] == [FEWER]
    assert [*failed(lines(tmp_path, Alone(command)))] == [
        FIRST,
        FEWER,
    ]  # outside of the built-in space, said once


@pytest.mark.parametrize(
    ("alone", "points", "says"),
    [
        (Alone("nosuchprogram %OUT"), None, "no program"),
        (Alone("python3 steer.py"), None, "lacks %OUT"),
        (Alone("true %OUT"), 1, "is at least 2"),
        (Alone("nosuchprogram", service=True), None, None),
    ],
)
def test_wrong_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alone: Alone, points: int | None, says: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if says is None:  # known only once it is started
        (only,) = lines(tmp_path, alone, points=points)
        assert (only.ok, only.text) == (
            False,
            'algorithm.service: there is no program "nosuchprogram" on the PATH',
        )
        return
    with pytest.raises(ConfigError, match=says):
        lines(tmp_path, alone, points=points)


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "{}"])
def test_a_file_that_holds_no_space(tmp_path: Path, text: str) -> None:
    (tmp_path / "space.yaml").write_text(text)
    with pytest.raises(ConfigError, match="--space"):
        lines(tmp_path, Alone("true %OUT", space=tmp_path / "space.yaml"))


# ---------------------------------------------------------------- services

SERVE = """
import json, os, random, sys, time
def say(**message): print(json.dumps(message), flush=True)
known, rngs, spaces, told, limits = {}, {}, {}, {}, {}
def draw(m):
    rng = rngs[m]
    return {
        name: rng.choice(p["choices"]) if p["type"] == "categorical"
        else rng.randint(p["low"], p["high"]) if p["type"] == "int"
        else rng.uniform(p["low"], p["high"])
        for name, p in spaces[m].items()
    }
def new(m, k):
    found = []
    for _ in range(1000):
        point = draw(m)
        if len(found) < k and point not in known[m] and point not in found:
            found.append(point)
    return found
for line in sys.stdin:
    r = json.loads(line)
    m = r["model"]
    {code}
    if r["op"] == "open":
        known[m], told[m], rngs[m], spaces[m] = [], [], random.Random(r["seed"]), r["search_space"]
        limits[m] = r["max_points"]
        say(op="opened", model=m, restore=True)
    elif r["op"] == "restore":
        known[m] += [p["params"] for step in r["history"] for p in step.get("points", [])]
    elif r["op"] == "tell":
        told[m] += r["observations"]
        known[m] += [each["params"] for each in r["observations"] if each["params"] not in known[m]]
    elif r["op"] == "ask":
        known[m] += [each["params"] for each in r["pending"] if each["params"] not in known[m]]
        left = r["n"] if limits[m] is None else min(r["n"], limits[m] - len(known[m]))
        points = new(m, left)
        {asked}
        known[m] += points
        say(op="points", model=m, points=[{{"params": p}} for p in points],
            ended=None if len(points) == left else "all are known")
"""


def serve(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: str = "pass",
    asked: str = "pass",
    timeout_s: float = 30.0,
) -> list[Finding]:
    monkeypatch.chdir(folder)
    body = SERVE.replace("{code}", code).replace("{asked}", asked).replace("{{", "{").replace("}}", "}")
    (folder / "serve.py").write_text(body)
    return lines(folder, Alone(f"{sys.executable} serve.py", service=True), timeout_s=timeout_s)


def test_a_good_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = serve(tmp_path, monkeypatch)
    assert [each.subject for each in found] == SERVICE
    assert failed(found) == {}
    texts = {each.subject: each.text for each in found}
    assert texts[FULL] == "ends the search, with all 6 known: all are known"
    assert texts["a restored history"] == "it goes on from there with 3 points"


@pytest.mark.parametrize(
    ("code", "asked", "where", "says"),
    [
        ("print('loading \\xff\\x07 weights', flush=True)", "pass", "standard output", r"loading .*x07 weights"),
        ("pass", "points = ([e['params'] for e in r['pending']] + points)[:left]", PENDING, "came back"),
        ("pass", "points = points[:left - len(r['pending'])]", COUNTED, "returned 2 of 3"),
        ("pass", "points = ([o['params'] for o in told[m] if o.get('values') == {'loss': 0}] + points)[:left]", ZERO,
         "came back"),
        ("[1 / o['values']['loss'] for o in r.get('observations', []) if 'values' in o]", "pass", ZERO,
         "(?s)ended with exit code 1.*ZeroDivisionError"),
        ("[o['values'] for o in r.get('observations', [])]", "pass", FAILED, "(?s)exit code 1.*KeyError"),
        ("pass", "points = new(m, r['n']); left = r['n']", FEWER, "asked for 3 with 2 left of 5: returned 3"),
        ("if m == 'b': sys.exit(5)", "pass", "two models at once", "ended with exit code 5"),
        ("if r['op'] == 'restore': sys.exit(6)", "pass", "a restored history", "ended with exit code 6"),
        ("pass", "if [o['values']['loss'] for o in told[m] if 'values' in o] == [1, 2, 3]: sys.exit(7)", "stays up",
         "ended with exit code 7"),
    ],
)  # fmt: skip
def test_each_defect_of_a_service_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, asked: str, where: str, says: str
) -> None:
    found = failed(serve(tmp_path, monkeypatch, code, asked))
    assert [*found] == [where], found
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(found[where])


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('[WARN] no GPU', flush=True); time.sleep(50)", "not answered within 1 s.*held b'.WARN. no GPU'"),
        ("sys.exit('no licence')", "(?s)ended with exit code 1.*no licence"),
        ("say(op='opened', model=m) if r['op'] == 'open' else say(op='points', model=m, points=[{'lr': 1}])",
         'answered a point {"lr": 1}; expected'),
        ("say(op='opened', model=m) if r['op'] == 'open' else print('{\"op\": [NaN]}', flush=True)",
         r"not answered.*\[NaN\]"),
    ],
)  # fmt: skip
def test_a_service_that_cannot_be_asked_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, says: str
) -> None:
    timeout_s = 1.0 if "not answered" in says else 30.0
    (only,) = serve(tmp_path, monkeypatch, code + "; continue", timeout_s=timeout_s)
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(only.text + "\n" + only.quote)


# ---------------------------------------------------------------- the halves of a config

CLASS = """
import numpy as np
from hpo_steer import SearchAlgorithm

class Mine(SearchAlgorithm):
    def __init__(self, space, objectives, seed=0):
        super().__init__(space, objectives, seed)
        self.rng = np.random.default_rng(seed)
    def ask(self, n):
        return self.space.sample(n, self.rng)
    def tell(self, observations):
        for each in observations:
            CODE
"""


def own(folder: Path, algorithm: object, **changes: object) -> list[Finding]:
    config = {
        "name": "demo",
        "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
        "objectives": {"auc": "maximize"},
        "algorithm": algorithm,
        "evaluation": {"command": "true"},
        **changes,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "scratch").mkdir(exist_ok=True)
    checks, _ = checks_of(load_config(folder / "config.yaml"), folder / "scratch", points=3, timeout_s=60.0)
    return list(checks.run())


@pytest.mark.parametrize(
    ("code", "where"),
    [("pass", []), ("each.values['auc']", [FAILED]), ("1 / (each.values or {'auc': 1})['auc']", [ZERO])],
)
def test_a_class(tmp_path: Path, code: str, where: list[str]) -> None:
    (tmp_path / "mine.py").write_text(CLASS.replace("CODE", code))
    found = failed(own(tmp_path, {"class": "mine.py:Mine"}))
    assert [*found] == where


def test_a_method_of_ours_on_a_finite_space(tmp_path: Path) -> None:
    found = own(
        tmp_path,
        "grid",
        search_space={"k": {"type": "int", "low": 1, "high": 9}},
        objectives={"a": "minimize", "b": "maximize"},
    )
    assert failed(found) == {}
    assert found[-1].text.startswith("ends the search, with all 9 known")


def test_the_command_of_a_config_with_its_options(tmp_path: Path) -> None:
    (tmp_path / "steer.py").write_text(
        STEER.replace("for p, _ in points", "for (_, p), _ in points")
        .replace("(p, loss) in enumerate", "((_, p), loss) in enumerate")
        .replace("if loss is None and i not in lost", "if loss is None")
        .replace('asked["opt_space"]', 'asked["opt_space"][0]["search_space"]')
        + "assert 1e5 in [loss for _, loss in points] or not failed\nout = [[0, p] for p in out]"
        + WRITE
    )
    spec = {
        "command": [sys.executable, "steer.py", "%IN", "%OUT", "%NUM_POINTS", "%MAX_POINTS"],
        "segmented": True,
    }
    assert failed(own(tmp_path, {**spec, "failed": 1e5})) == {}
    assert [*failed(own(tmp_path, spec))] == [FAILED]


def test_findings_travel_and_are_shown() -> None:
    finding = Finding("a point", False, "holds NaN", "loss: NaN\nbye")
    assert Finding.from_json(finding.to_json()) == finding
    assert str(finding) == "FAIL  a point: holds NaN\n      | loss: NaN\n      | bye"
    assert quoted(b"x" * 1000).endswith("… (1,000 bytes)")
