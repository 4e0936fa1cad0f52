"""What `hpo-steer check --evaluation` finds: good trainings pass, and each defect has a line of its own."""

from __future__ import annotations

import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest

from evaluation.trial.bench import still_running
from evaluation.trial.main import trial
from hpo_steer.config.evaluation import Evaluation
from hpo_steer.errors import ConfigError
from hpo_steer.space import SearchSpace
from steering.contract.evaluation import plan

if TYPE_CHECKING:
    from pathlib import Path

    from hpo_steer.findings import Finding

SPACE = SearchSpace.from_dict({"x": {"type": "float", "low": 0.25, "high": 0.75}})
POINT, OTHER, AGAIN, END = "a point", "another point", "the first point again", "asked to end"
LOW, HIGH, EXTRAS = "the lowest corner", "the highest corner", "reports and checkpoints"
FOLDER, LEFT = "your folder", "nothing left behind"
FILES = [
    "evaluation",
    POINT,
    OTHER,
    AGAIN,
    END,
    LOW,
    HIGH,
    EXTRAS,
    "input.json",
    "input_ds.json",
    FOLDER,
    LEFT,
]


def run(
    folder: Path, evaluation: dict[str, Any], *, points: int = 6, timeout_s: float = 30.0
) -> list[Finding]:
    request = {
        "evaluation": Evaluation.model_validate(evaluation).model_dump(),
        "folder": str(folder),
        "objectives": ["loss"],
        "parameters": ["x"],
        "data": {"main": ["a.root", "b.root"]},
        "model": "main",
        "timeout_s": timeout_s,
        "plan": plan(SPACE, {"epochs": 2}, points),
    }
    return list(trial(request))


def files(folder: Path, code: str, **options: Any) -> list[Finding]:
    """A command of the file contract; it has the point ``p`` and the data files, and leaves ``out``."""
    (folder / "train.py").write_text(
        "import json, os, signal, subprocess, sys, time\n"
        "p = json.load(open('input.json')); data = json.load(open('input_ds.json'))\n"
        "out = {'status': 0, 'loss': p['x'] * p['epochs']}\n"
        + textwrap.dedent(code)
        + "\njson.dump(out, open('output.json', 'w'))\n"
    )
    return run(folder, {"command": [sys.executable, "train.py"], "files": {}}, **options)


def failed(found: list[Finding]) -> dict[str, str]:
    return {each.subject: f"{each.text}\n{each.quote}" for each in found if each.ok is False}


def notes(found: list[Finding]) -> dict[str, str]:
    return {each.subject: each.text for each in found if each.ok is None}


def test_a_good_command(tmp_path: Path) -> None:
    found = files(tmp_path, "time.sleep(0.5)")
    assert [each.subject for each in found] == FILES
    assert failed(found) == {}
    assert notes(found)[AGAIN].endswith("the same result")
    texts = {each.subject: each.text for each in found}
    assert texts[LOW].startswith("loss 0.5 (")
    assert texts[HIGH].startswith("loss 1.5 (")
    assert "after SIGTERM" in texts[END]


@pytest.mark.parametrize(
    ("code", "where", "says"),
    [
        ("if p['x'] == 0.25: print('too small'); sys.exit(4)", LOW, '(?s)exit code 4, with {"x": 0.25.*too small'),
        ("if p['x'] > 0.74: out['loss'] = float('nan')", HIGH, 'metric "loss" is nan'),
        ("if p['x'] == 0.25: del out['status']", LOW, "has no status"),
        ("if p['x'] == 0.25: del out['loss']", LOW, 'no metric "loss"'),
        ("if p['x'] == 0.25: out = {'status': 3, 'message': 'no data'}", LOW, "gave status 3: no data"),
        ("if p['x'] == 0.25: open('output.json', 'w').write('{\"status\": 0, \"lo'); sys.exit()", LOW,
         'no JSON.*"lo'),
        ("if p['x'] == 0.25: sys.exit()", LOW, "is not there: the command has not written it"),
        ("time.sleep(20 if p['x'] == 0.25 else 0)", LOW, r"has not ended within 2 s \(--timeout\)"),
        ("open(os.path.join(os.environ['HOME_FOLDER'], 'left.txt'), 'a').write('x')", FOLDER,
         "(?s)1 file changed.*left.txt"),
        ("subprocess.Popen(['sleep', '300'], start_new_session=True)", LEFT,
         "(?s)went on after its training.*sleep 300"),
    ],
)  # fmt: skip
def test_each_defect_of_a_command_has_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, where: str, says: str
) -> None:
    monkeypatch.setenv("HOME_FOLDER", str(tmp_path))
    found = failed(files(tmp_path, code, timeout_s=2.0 if "--timeout" in says else 30.0))
    assert [*found] == [where], found
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(found[where])


def test_one_that_does_not_end_when_it_is_asked_to(tmp_path: Path) -> None:
    found = failed(files(tmp_path, "signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(6)", points=4))
    assert [*found] == [END]
    assert "had not ended 5 s after SIGTERM, and was killed" in found[END]


def test_one_that_cannot_be_trained_at_all_gets_a_single_line(tmp_path: Path) -> None:
    found = files(tmp_path, "raise KeyError('model')")
    assert [each.subject for each in found] == ["evaluation", POINT, LEFT]
    assert "KeyError: 'model'" in failed(found)[POINT]


def test_what_is_noted(tmp_path: Path) -> None:
    found = notes(files(tmp_path, "out['loss'] = 1.0"))
    assert "Does it read its point?" in found[OTHER]
    found = notes(files(tmp_path, "out['loss'] += time.time() % 1", points=3))
    assert "before, so results are noisy" in found[AGAIN]


def test_one_that_reads_neither_its_point_nor_its_data(tmp_path: Path) -> None:
    (tmp_path / "train.sh").write_text('echo \'{"status": 0, "loss": 1}\' > output.json\n')
    found = run(tmp_path, {"command": ["sh", "train.sh"], "files": {}}, points=2)
    texts = {each.subject: each.text for each in found}
    if "does not tell" in texts["input.json"]:
        pytest.skip("this file system keeps no access times")
    assert [*failed(found)] == ["input.json"]
    assert "was never read" in notes(found)["input_ds.json"]


def test_a_function_that_reports(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(
        "import hpo_steer, pathlib, time\n"
        "def train(p):\n"
        "    for step in range(3): hpo_steer.report(step=step, loss=p['x'])\n"
        "    pathlib.Path(hpo_steer.checkpoint_dir(), 'c').write_text('x')\n"
        "    if p['x'] == 0.25: raise hpo_steer.InvalidPoint('too small')\n"
        "    time.sleep(0.3)\n"
        "    return {'loss': p['x'], 'acc': 0.5}\n"
    )
    found = run(tmp_path, {"function": "train.py:train", "reuse": True})
    assert failed(found) == {}
    assert notes(found)[EXTRAS] == "reports at steps 0 to 2, checkpoints"
    assert "says that it cannot be evaluated: too small" in notes(found)[LOW]
    assert "acc 0.5" in next(each.text for each in found if each.subject == POINT)


def test_a_service_with_a_bad_answer(tmp_path: Path) -> None:
    (tmp_path / "serve.py").write_text(
        "import json, sys\n"
        "for line in sys.stdin:\n"
        "    r = json.loads(line); x = r['params']['x']\n"
        "    answer = {'loss': x} if x == 0.25 else {'metrics': {'loss': x}}\n"
        "    print(json.dumps({'key': r['key'], **answer}), flush=True)\n"
    )
    found = run(tmp_path, {"service": [sys.executable, "serve.py"]})
    assert [*failed(found)] == [LOW]
    assert 'answered {"loss": 0.25}; expected' in failed(found)[LOW]


def test_a_command_with_placeholders(tmp_path: Path) -> None:
    code = "import sys, time; time.sleep(0.4); print(float(sys.argv[1]))"
    found = run(tmp_path, {"command": [sys.executable, "-c", code, "{x}", "{y}"]})
    assert failed(found) == {}
    assert "{y} is no parameter" in found[1].text


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no program"):
        run(tmp_path, {"command": ["nosuchprogram"], "files": {}})


@pytest.mark.parametrize("n", [1, 3, 6, 9])
def test_the_plan_has_no_more_trainings_than_wanted(n: int) -> None:
    planned = plan(SPACE, {"epochs": 2}, n)
    assert len(planned) == n
    assert all(SPACE.validate({"x": params["x"]}) and params["epochs"] == 2 for _, _, params in planned)


def test_corners_that_break_a_constraint_are_left_out() -> None:
    space = SearchSpace.from_dict({n: {"type": "int", "low": 1, "high": 9} for n in "ab"}, ["a + b <= 12"])
    assert [name for name, _, _ in plan(space, {}, 6)] == [POINT, OTHER, AGAIN, END, LOW, "one more point"]


def test_nothing_is_running_of_a_mark_that_nobody_has() -> None:
    assert still_running("no-such-mark", 0.0) == []
