"""What our sources must not do, lest a message, a store or a file of somebody else's run code in our processes."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hpo_steer

if TYPE_CHECKING:
    from collections.abc import Iterator

HOME = Path(hpo_steer.__file__).parent.parent
PACKAGES = ("hpo_steer", "steering", "evaluation", "algorithms", "containers")
MODULES = {
    "pickle",
    "cPickle",
    "dill",
    "cloudpickle",
    "joblib",
    "marshal",
    "shelve",
    "jsonpickle",
    "dbm",
    "xmlrpc",
}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    ("yaml", "load"): "runs constructors",
    ("yaml", "unsafe_load"): "runs constructors",
    ("yaml", "full_load"): "runs constructors",
    ("torch", "load"): "unpickles",
    ("np", "load"): "may unpickle",
    ("numpy", "load"): "may unpickle",
    ("pd", "read_pickle"): "unpickles",
    ("os", "system"): "runs a shell",
    ("os", "popen"): "runs a shell",
    ("subprocess", "getoutput"): "runs a shell",
    ("tempfile", "mktemp"): "can be overtaken",
}
ALLOWED = {
    ("hpo_steer/constraints.py", "eval"): "expressions of the config, of which only checked nodes get there",
    ("hpo_steer/constraints.py", "compile"): "the same",
    ("hpo_steer/config/load.py", "yaml.load"): "with a loader that derives from SafeLoader",
    ("algorithms/scrambled.py", "np.load"): "a table of SciPy's own package, without unpickling",
}


def dangers(file: Path) -> Iterator[str]:
    """What a file does that needs a reason."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in MODULES:
            yield node.module
        elif isinstance(node, ast.Call):
            called = node.func
            if isinstance(called, ast.Name) and called.id in CALLS:
                yield called.id
            elif isinstance(called, ast.Attribute) and isinstance(called.value, ast.Name):
                name = (called.value.id, called.attr)
                if name in METHODS:
                    yield ".".join(name)
            if any(k.arg == "shell" and getattr(k.value, "value", True) for k in node.keywords):
                yield "shell=True"


@pytest.mark.parametrize("package", PACKAGES)
def test_nothing_runs_what_it_was_sent(package: str) -> None:
    files = sorted((HOME / package).rglob("*.py"))
    assert files
    found = {(file.relative_to(HOME).as_posix(), danger) for file in files for danger in dangers(file)}
    assert found - set(ALLOWED) == set()


def test_what_is_allowed_is_there() -> None:
    """A reason for what is no longer done would hide its return."""
    assert {key for key in ALLOWED if key[1] not in set(dangers(HOME / key[0]))} == set()


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from shelve import open",
        "import joblib.parallel",
        "eval(x)",
        "torch.load(f)",
        "subprocess.run(x, shell=True)",
        "subprocess.run(x, shell=asked)",
        "yaml.load(x)",
    ],
)
def test_the_search_finds(source: str, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(source)
    assert list(dangers(tmp_path / "a.py"))
