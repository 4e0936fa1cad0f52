"""Users' steering programs: commands and services, good ones and bad ones."""

from __future__ import annotations

import json
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from hpo_steer.algorithm import Asked, Failure, Observation, Point, Told
from hpo_steer.errors import AlgorithmError, ConfigError
from hpo_steer.free_space import search_space
from hpo_steer.guests import Guest
from hpo_steer.objectives import parse_objectives
from hpo_steer.space import SearchSpace
from steering.outside.host import outside_search

if TYPE_CHECKING:
    from pathlib import Path

SPACE = SearchSpace.from_dict({"x": {"type": "float", "low": 0, "high": 1}})


def guest(folder: Path, spec: dict[str, Any], **keywords: Any) -> Guest:
    space = keywords.pop("space", SPACE)
    goals = parse_objectives(keywords.pop("objectives", {"loss": "minimize"}))
    return Guest(spec, space, goals, 7, folder, outside=outside_search, **keywords)


def command(folder: Path, code: str, **options: Any) -> dict[str, Any]:
    """A steering command whose body is `code`; it has ``asked`` (the input) and ``n``, and leaves ``new``."""
    (folder / "steer.py").write_text(
        "import json, os, sys, time\n"
        "infile, outfile, n, most = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])\n"
        "asked = json.load(open(infile)); points = asked['points']\n"
        + textwrap.dedent(code)
        + "\njson.dump(new, open(outfile, 'w'))\n"
    )
    return {"command": [sys.executable, "steer.py", "%IN", "%OUT", "%NUM_POINTS", "%MAX_POINTS"], **options}


def params(points: list[Point]) -> list[float]:
    return [point.params["x"] for point in points]


COUNTING = "new = [{'x': (len(points) + i) / 100} for i in range(n)]"


# ---------------------------------------------------------------- commands


def test_a_command_sees_every_point_and_what_came_of_it(tmp_path: Path) -> None:
    spec = command(
        tmp_path,
        """
        json.dump([asked, n, most], open(os.environ["SEEN"], "w"))
        new = [{'x': (len(points) + i) / 100} for i in range(n)]
        """,
        env={"SEEN": str(tmp_path / "seen.json")},
        max_points=50,
    )
    search = guest(tmp_path, spec)
    assert params(search.ask(3)) == [0.0, 0.01, 0.02]
    search.tell([Observation(1, {"loss": 0.0}), Observation(2, failure=Failure("timeout", "late"))])
    assert params(search.ask(2)) == [0.03, 0.04]
    asked, n, most = json.loads((tmp_path / "seen.json").read_text())
    assert (n, most) == (2, 50)
    assert asked == {
        "points": [[{"x": 0.0}, None], [{"x": 0.01}, 0.0], [{"x": 0.02}, None]],
        "opt_space": {"x": {"type": "float", "low": 0, "high": 1}},
        "failed": [{"point": 2, "kind": "timeout", "message": "late"}],
    }
    assert search.note is None


def test_smaller_is_better_in_the_file(tmp_path: Path) -> None:
    spec = command(tmp_path, "new = [{'x': 0.5 if not points else -points[0][1]}]")
    search = guest(tmp_path, spec, objectives={"auc": "maximize"})
    search.ask(1)
    search.tell([Observation(0, {"auc": 0.75})])
    assert params(search.ask(1)) == [0.75]


def test_the_segmented_form(tmp_path: Path) -> None:
    (tmp_path / "space.json").write_text(json.dumps({"mine": [1, 2]}))
    spec = command(
        tmp_path,
        """
        assert asked["opt_space"] == [{"model_id": 4, "search_space": {"mine": [1, 2]}}], asked
        new = [[4, {"x": len(points) / 10}]]
        """,
        segmented=True,
        segment=4,
        opt_space="space.json",
    )
    assert params(guest(tmp_path, spec).ask(2)) == [0.0, 0.1]


def test_a_restored_command_is_shown_the_recorded_points_and_not_run(tmp_path: Path) -> None:
    spec = command(tmp_path, "open('ran', 'w')\n" + COUNTING)
    search = guest(tmp_path, spec)
    search.restore(
        [
            Asked(2, [Point(0, {"x": 0.9}), Point(1, {"x": 0.8})]),
            Told([Observation(0, {"loss": 1.0})]),
        ]
    )
    (point,) = search.ask(1)
    assert (point.id, point.params) == (2, {"x": 0.02})


def test_fewer_points_are_asked_for_again_and_more_are_cut(tmp_path: Path) -> None:
    search = guest(tmp_path, command(tmp_path, "new = [{'x': len(points) / 100}]"))
    assert params(search.ask(3)) == [0.0, 0.01, 0.02]
    search = guest(tmp_path, command(tmp_path, "new = [{'x': i / 100} for i in range(9)]"))
    assert params(search.ask(3)) == [0.0, 0.01, 0.02]
    assert (
        search.note == "the steering command returned 9 points where 3 were asked for; the first 3 are taken"
    )


def test_no_points_end_the_search_unless_some_are_being_evaluated(tmp_path: Path) -> None:
    search = guest(tmp_path, command(tmp_path, "new = [{'x': 0.5}] if not points else []"))
    assert params(search.ask(2)) == [0.5]
    assert (search.ended, search.note) == (None, "the steering command returned 1 of 2 points")
    assert search.ask(2) == []
    assert search.ended is None
    assert search.note == "the steering command returned no points while 1 are not evaluated yet"
    search.tell([Observation(0, {"loss": 0.0})])
    assert search.ask(2) == []
    assert search.ended == "the steering command returned no points, which ends the search"


def test_duplicates_where_they_are_forbidden(tmp_path: Path) -> None:
    code = """
    with open(os.environ['CALLS'], 'a') as file: file.write('.')
    calls = os.path.getsize(os.environ['CALLS'])
    new = [{'x': sum(loss or 0 for _, loss in points) or calls // 3 / 10}]
    """
    spec = command(tmp_path, code, env={"CALLS": str(tmp_path / "calls")})
    search = guest(tmp_path, spec, forbid=True)
    assert [(point.id, point.params["x"]) for point in search.ask(2)] == [(0, 0.0), (1, 0.1)]
    search.tell([Observation(1, {"loss": 0.75}), Observation(0, {"loss": 0.125})])
    assert [(point.id, point.params["x"]) for point in search.ask(1)] == [(2, 0.875)], "each has its own loss"
    search = guest(tmp_path, command(tmp_path, "new = [{'x': 0.5}]"), forbid=True)
    assert params(search.ask(2)) == [0.5]
    assert "proposed nothing new" in (search.ended or "")


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("print('on its way'); sys.exit(3)", r"ended with exit code 3. It printed last:\non its way"),
        ("new = [{'x': 7}]", r'proposed {"x": 7}: .*It printed nothing'),
        ("new = [{'y': 1}]", r'there is no parameter "y"'),
        ("new = {'x': 1}", "holds no list"),
        ("open(outfile, 'w').write('[{\"x\": 0.'); sys.exit(0)", "no JSON"),
        ("sys.exit(0)", "idds_output.json is not there|there is no"),
        ("json.dump([{'x': 0.5}], open(outfile, 'w')); sys.exit(9)", "ended with exit code 9"),
        ("os.kill(os.getpid(), 9)", "SIGKILL"),
        ("open(outfile, 'wb').truncate(2**30); sys.exit(0)", "1,073,741,824 bytes"),
        ("print('x' * 50_000_000); sys.exit(1)", "ended with exit code 1"),
    ],
)
def test_a_command_that_fails(tmp_path: Path, code: str, says: str) -> None:
    spec = command(
        tmp_path,
        "open(os.environ['CALLS'], 'a').write('.')\n" + code + "\n",
        env={"CALLS": str(tmp_path / "calls")},
    )
    search = guest(tmp_path, spec)
    with pytest.raises(AlgorithmError, match=says) as caught:
        search.ask(2)
    assert str(caught.value).endswith("(tried 3 times)")
    assert (tmp_path / "calls").read_text() == "..."
    assert len(str(caught.value)) < 10_000


def test_a_command_that_fails_once(tmp_path: Path) -> None:
    spec = command(
        tmp_path,
        "if not os.path.exists(os.environ['M']): open(os.environ['M'], 'w'); sys.exit(1)\n" + COUNTING,
        env={"M": str(tmp_path / "m")},
    )
    assert params(guest(tmp_path, spec).ask(2)) == [0.0, 0.01]


def test_a_command_that_hangs(tmp_path: Path) -> None:
    spec = command(
        tmp_path,
        "import subprocess; subprocess.Popen(['sleep', '1000']); print('hm', flush=True); time.sleep(1000)",
        timeout_s=0.5,
        retries=0,
    )
    with pytest.raises(
        AlgorithmError, match=r"has not ended within 0.5 s \(timeout_s\). It printed last:\nhm$"
    ):
        guest(tmp_path, spec).ask(1)


def test_nothing_that_a_command_does_changes_the_users_folder(tmp_path: Path) -> None:
    spec = command(tmp_path, "open('steer.py', 'a').write('boom'); open('new', 'w')\n" + COUNTING)
    before = (tmp_path / "steer.py").read_text()
    search = guest(tmp_path, spec)
    search.ask(1)
    search.ask(1)
    assert (tmp_path / "steer.py").read_text() == before
    assert [path.name for path in tmp_path.iterdir()] == ["steer.py"]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"command": "python steer.py"}, "algorithm.command: lacks %OUT"),
        (
            {"command": "nosuchprogram %OUT"},
            'algorithm.command: there is no program "nosuchprogram" on the PATH',
        ),
        ({"command": ""}, "algorithm.command: is a program and its arguments"),
        ({"command": "python '%OUT"}, "algorithm.command: cannot be split into words"),
        ({"command": "true %OUT", "retrys": 3}, 'algorithm.retrys: .* did you mean "retries"'),
        ({"command": "true %OUT", "retries": -1}, "algorithm.retries: is a number above"),
        ({"command": "true %OUT", "failed": "so"}, "algorithm.failed: is null, omit, or a number"),
        ({"command": "true %OUT", "env": {"A": 1}}, "algorithm.env: is a mapping of text to text"),
        (
            {"command": "true %OUT", "opt_space": "no.json"},
            "algorithm.opt_space: .*no.json cannot be read as JSON",
        ),
        (
            {"command": "true %OUT", "container": {"imag": "x"}},
            'algorithm.container.imag: unknown key; did you mean "image"',
        ),
        ({"service": "nosuchprogram"}, 'algorithm.service: there is no program "nosuchprogram" on the PATH'),
        ({"container": {"runtime": "none"}}, "algorithm.service: is empty"),
    ],
)
def test_wrong_options(tmp_path: Path, spec: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        guest(tmp_path, spec)


def test_a_command_has_one_objective(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="goes with one objective, not 2"):
        guest(tmp_path, {"command": "true %OUT"}, objectives={"a": "minimize", "b": "minimize"})


def test_a_free_space(tmp_path: Path) -> None:
    spec = command(tmp_path, "assert asked['opt_space'] is None; new = [{'layers': [64, n], 'name': 'a'}]")
    (point,) = guest(tmp_path, spec, space=search_space({})).ask(1)
    assert point.params == {"layers": [64, 1], "name": "a"}


# ---------------------------------------------------------------- services


def service(folder: Path, code: str = "", *, answer: str = "", **options: Any) -> dict[str, Any]:
    """A service; `code` runs for every request ``r``, `answer` in place of the usual answer to an ask."""
    (folder / "serve.py").write_text(
        "import json, os, sys, time\n"
        "def say(**message): print(json.dumps(message), flush=True)\n"
        "seen = []; count = 0\n"
        "for line in sys.stdin:\n"
        "    r = json.loads(line); seen.append(r); part = os.environ['SEEN'] + '.part'\n"
        "    with open(part, 'w') as file: json.dump(seen, file)\n"
        "    os.replace(part, os.environ['SEEN'])\n"
        + textwrap.indent(textwrap.dedent(code), "    ")
        + "\n    if r['op'] == 'open': say(op='opened', model=r['model'], restore=bool(os.environ.get('RESTORES')))\n"
        "    elif r['op'] == 'ask':\n"
        + textwrap.indent(
            textwrap.dedent(answer)
            or "points = [{'params': {'x': (count + i) / 100}} for i in range(r['n'])]\n"
            "count += r['n']; say(op='points', model=r['model'], points=points, ended=None)",
            "        ",
        )
        + "\n"
    )
    env = {"SEEN": str(folder / "seen.json"), **options.pop("env", {})}
    return {"service": [sys.executable, "serve.py"], "env": env, **options}


def seen(folder: Path) -> list[dict[str, Any]]:
    """What a service was told, once it has been asked once more."""
    found: list[dict[str, Any]] = json.loads((folder / "seen.json").read_text())
    return found


def test_a_service_stays_up_and_hears_of_everything(tmp_path: Path) -> None:
    spec = service(tmp_path, model="m", max_points=9, options={"depth": 3})
    search = guest(tmp_path, spec)
    assert params(search.ask(2)) == [0.0, 0.01]
    search.tell(
        [
            Observation(0, {"loss": 0.0}),
        ]
    )
    search.tell([Observation(1, failure=Failure("error", "no"))])
    assert params(search.ask(1)) == [0.02]
    assert params(search.ask(1)) == [0.03]
    opened, first, *told, second = seen(tmp_path)[:5]
    assert opened["seed"] == 7
    assert opened["options"] == {"depth": 3}
    assert opened["search_space"] == {"x": {"type": "float", "low": 0, "high": 1}}
    assert opened["objectives"]["loss"]["direction"] == "minimize"
    assert (first["n"], first["pending"]) == (2, [])
    assert [each["observations"] for each in told] == [
        [{"id": 0, "params": {"x": 0.0}, "values": {"loss": 0.0}}],
        [{"id": 1, "params": {"x": 0.01}, "failure": {"kind": "error", "message": "no"}}],
    ]
    assert second["pending"] == []
    assert json.loads((tmp_path / "seen.json").read_text())[-1]["pending"] == [
        {"id": 2, "params": {"x": 0.02}}
    ]


@pytest.mark.parametrize("restores", [False, True])
def test_a_service_that_dies_is_started_again_and_told_what_was(tmp_path: Path, restores: bool) -> None:
    spec = service(
        tmp_path,
        """
        if r['op'] == 'ask' and r['n'] == 3 and not os.path.exists(os.environ['DIED']):
            open(os.environ['DIED'], 'w')
            os.kill(os.getpid(), 9)
        """,
        env={"RESTORES": "1" if restores else "", "DIED": str(tmp_path / "died")},
    )
    search = guest(tmp_path, spec)
    search.ask(2)
    search.tell([Observation(1, {"loss": 0.5})])
    assert [point.id for point in search.ask(3)] == [2, 3, 4]
    _, again, ask = seen(tmp_path)
    if restores:
        assert again["op"] == "restore"
        assert [*again["history"][0]] == ["asked", "points", "given"]
    else:
        assert again["observations"] == [{"id": 1, "params": {"x": 0.01}, "values": {"loss": 0.5}}]
    assert ask["pending"] == [{"id": 0, "params": {"x": 0.0}}]


def test_duplicates_of_a_service_where_they_are_forbidden(tmp_path: Path) -> None:
    answer = (
        "say(op='points', model='main', points=[{'params': {'x': len(seen) // 2 / 10}}] * r['n'], ended=None)"
    )
    search = guest(tmp_path, service(tmp_path, answer=answer), forbid=True)
    assert [(point.id, point.params["x"]) for point in search.ask(2)] == [(0, 0.1), (1, 0.2)]
    search.tell([Observation(1, {"loss": 0.5})])
    search.ask(1)
    told = [each["observations"] for each in seen(tmp_path) if each["op"] == "tell"]
    assert told == [[{"id": 1, "params": {"x": 0.2}, "values": {"loss": 0.5}}]]


def test_models_share_a_service(tmp_path: Path) -> None:
    spec = service(tmp_path)
    first, second = (guest(tmp_path, {**spec, "model": name}) for name in "ab")
    first.ask(1)
    second.ask(1)
    first.ask(1)
    assert [each["model"] for each in seen(tmp_path)] == ["a", "b", "a", "b", "a"]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (
            "say(op='points', model='main', points=[{'x': 1}], ended=None)",
            r'answered a point {"x": 1}; expected',
        ),
        ("say(op='points', model='main', points=[{'params': {'x': 5}}], ended=None)", r'proposed {"x": 5}: '),
        ("say(op='points', model='main')", "expected"),
        ("say(op='what')", 'where "points" of "main" was due'),
        ("say(op='error', message='no idea')", "the steering service says: no idea"),
        (
            "say(op='points', model='main', points=[], ended=None)",
            "returned 0 of 2 points, while none is being",
        ),
        ("sys.exit(4)", "ended with exit code 4"),
        ("os.close(1); time.sleep(100)", "closed its standard output"),
        ("time.sleep(100)", r"has not answered within 0.5 s \(timeout_s\)"),
        ("while True: print('noise')", "has printed 10,000 lines that are no answers, such as noise"),
        ("sys.stdout.write('x' * 80_000_000); sys.stdout.flush()", "a line of more than 67,108,864 bytes"),
    ],
)
def test_a_service_that_fails(tmp_path: Path, answer: str, says: str) -> None:
    slow: dict[str, Any] = {"timeout_s": 0.5} if "sleep(100)" in answer and "close" not in answer else {}
    search = guest(tmp_path, service(tmp_path, answer=answer, retries=1, **slow))
    with pytest.raises(AlgorithmError, match=says):
        search.ask(2)


def test_a_service_may_end_the_search_and_may_wait(tmp_path: Path) -> None:
    answer = """
    points = [{'params': {'x': 0.5}}] if len(seen) == 2 else []
    say(op='points', model='main', points=points, ended='converged' if len(seen) > 4 else None, note='so be it')
    """
    search = guest(tmp_path, service(tmp_path, answer=answer))
    assert params(search.ask(2)) == [0.5]
    assert search.note == "so be it; the steering service returned 1 of 2 points"
    assert search.ask(2) == []
    assert search.ended is None
    search.tell([Observation(0, {"loss": 1.0})])
    assert search.ask(2) == []
    assert search.ended == "converged"


def test_a_service_that_refuses_a_config_says_why(tmp_path: Path) -> None:
    code = """
    if r['op'] == 'open':
        say(op='error', message='no floats please', user=True, key='search_space.x'); continue
    """
    with pytest.raises(ConfigError, match=r"search_space.x: the steering service says: no floats please"):
        guest(tmp_path, service(tmp_path, code))
