"""What steering ships, and to whom it sends which part when."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from hpo_steer.config import load_config
from hpo_steer.errors import ConfigError
from hpo_steer.limits import MAX_PART
from hpo_steer.messages import BundleGone, BundlePart, BundleWanted, Control
from hpo_steer.shipping import Manifest, Packed, pack
from hpo_steer.shipping.pack import MANIFEST
from hpo_steer.shipping.unpack import listing, unpack
from steering.shipping import Shipment, Shipping, make_shipment, pack_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def configure(folder: Path, **evaluation: Any) -> Path:
    config = {
        "name": "demo",
        "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
        "objectives": {"loss": "minimize"},
        "models": [{"name": "a", "constants": {"c": 1}}],
        "evaluation": {"function": "train.py:train", "ship": True, **evaluation},
        "broker": {"url": "amqp://me@h/v", "password_file": "broker.password"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.py").write_text("def train(p): return 0.0\n")
    (folder / "broker.password").write_text("opensesame")
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def packed() -> Iterator[Callable[..., Packed]]:
    with ExitStack() as stack:

        def make(path: Path) -> Packed:
            made = pack_config(load_config(path))
            stack.callback(made.file.close)
            return made

        yield make


def test_a_bundle_says_what_is_to_be_run(tmp_path: Path, packed: Callable[..., Packed]) -> None:
    path = configure(tmp_path, env={"A": "b"}, slots=3, timeout_s=60.0, workers=0, heartbeat_s=2.0)
    made = packed(path)
    assert made.names == ("train.py",)
    unpack(made.file, tmp_path / "out")
    manifest = Manifest.decode((tmp_path / "out" / MANIFEST).read_bytes())
    assert (manifest.experiment, manifest.folder) == ("demo", ".")
    assert (manifest.objectives, manifest.parameters) == (["loss"], ["x", "c"])
    assert manifest.evaluation == {
        "function": "train.py:train",
        "env": {"A": "b"},
        "slots": 3,
        "heartbeat_s": 2.0,
    }
    assert manifest.section().env == {"A": "b"}


def test_what_only_steering_needs_leaves_the_bundle_as_it_is(
    tmp_path: Path, packed: Callable[..., Packed]
) -> None:
    first = packed(configure(tmp_path)).bundle
    assert packed(configure(tmp_path, timeout_s=5.0, max_attempts=7, workers=5)).bundle == first
    assert packed(configure(tmp_path, ship={"max_mib": 5})).bundle == first
    assert packed(configure(tmp_path, env={"A": "b"})).bundle != first


@pytest.mark.parametrize(
    ("folder", "names", "place"),
    [
        (".", ["train.py"], "."),
        ("..", ["more.py", "project/train.py"], "project"),
        ("lib", ["lib/a.py"], "."),
        ("../beside", ["beside/b.py"], "project"),
    ],
)
def test_another_folder_keeps_its_place(
    tmp_path: Path, folder: str, names: list[str], place: str, packed: Callable[..., Packed]
) -> None:
    project = tmp_path / "project"
    for name in ("project/lib/a.py", "beside/b.py", "more.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("def train(p): return 0.0\n")
    function = {"lib": "lib/a.py:train", "../beside": "../beside/b.py:train"}.get(folder, "train.py:train")
    made = packed(configure(project, function=function, ship={"folder": folder}))
    assert {*names} <= {*made.names} <= {*names, "beside/b.py", "project/lib/a.py", "lib/a.py"}
    assert "broker.password" not in " ".join(listing(made.file))
    unpack(made.file, tmp_path / "out")
    assert Manifest.decode((tmp_path / "out" / MANIFEST).read_bytes()).folder == place


@pytest.mark.parametrize(
    ("evaluation", "ignore", "words"),
    [
        (
            {},
            "train.py\n",
            r"evaluation\.ship: .*train\.py is not among the files that are shipped: see \.hpoignore",
        ),
        ({"ship": {"folder": "none"}}, "", r"evaluation\.ship\.folder: there is no folder .*none"),
        (
            {"function": "../b.py:f"},
            "",
            r"evaluation\.ship: .*b\.py lies outside of the folder that is shipped",
        ),
        (
            {"ship": {"url": "http://h/x"}},
            "",
            r"evaluation\.ship\.url: is one of file://…, s3://…, got 'http",
        ),
        ({"ship": {"url": "s3:bucket"}}, "", r"evaluation\.ship\.url: is one of"),
        ({"ship": {"download_url": "http://h/x"}}, "", r"download_url goes with url"),
        ({"ship": {"max_mib": 5000}}, "", r"evaluation\.ship\.max_mib"),
        ({"ship": {"fodler": "."}}, "", r'evaluation\.ship\.fodler: unknown key; did you mean "folder"'),
        ({"ship": "yes"}, "", r"evaluation\.ship: expected keys and values"),
    ],
)
def test_a_wrong_config_is_one_sentence(
    tmp_path: Path, evaluation: dict[str, Any], ignore: str, words: str
) -> None:
    path = configure(tmp_path / "p", **evaluation)
    (tmp_path / "b.py").write_text("def f(p): return 0.0\n")
    (tmp_path / "p/.hpoignore").write_text(ignore)
    with pytest.raises(ConfigError, match=words) as caught:
        make_shipment(load_config(path), lambda *_: None)
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------- handing it out


class Counter:
    """A `Shipping` with one large bundle, and what it has sent."""

    def __init__(self, folder: Path) -> None:
        (folder / "code").mkdir()
        (folder / "code/weights.bin").write_bytes(os.urandom(12 * MAX_PART))
        made = pack(folder / "code", manifest=b"{}", max_mib=20)
        self.said: list[str] = []
        self.bundle, self.count = made.bundle, -(-made.size // MAX_PART)
        shipment = Shipment(made, None)
        self.shipping = Shipping("demo", "run-1", folder / "bundles", shipment, self._say)
        shipment.close()
        self.sent: list[Control] = []

    def _say(self, kind: str, text: str) -> None:
        self.said.append(text)

    def ask(self, now: float, *ranges: tuple[int, int], worker: str = "w-1", **more: Any) -> None:
        given: dict[str, Any] = {"bundle": self.bundle, "parts": list(ranges), **more}
        event = BundleWanted(experiment="demo", run="run-1", worker=worker, at=0.0, **given)
        self.shipping.wanted(event, now)

    def send(self, now: float, unconfirmed: int = 0) -> list[int]:
        """Which parts go out."""
        messages = self.shipping.due(now, unconfirmed)
        self.sent += messages
        return [message.number for message in messages if isinstance(message, BundlePart)]


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    made = Counter(tmp_path)
    yield made
    made.shipping.close()


def test_many_that_ask_at_once_get_one_transmission(counter: Counter) -> None:
    for number in range(50):
        counter.ask(0.001 * number, (0, 15), worker=f"w-{number}")
    assert counter.send(0.1) == []  # others may be about to ask
    assert counter.send(0.3) == list(range(8))
    counter.ask(0.35, (0, 15), worker="late")  # what it asks for is on its way
    assert counter.send(0.4) == list(range(8, counter.count))
    assert not counter.shipping.pending


def test_what_was_lost_is_sent_again(counter: Counter) -> None:
    counter.ask(0.0, (0, 3))
    assert counter.send(1.0) == [0, 1, 2, 3]
    counter.ask(1.5, (2, 2))
    assert counter.send(3.0) == []
    counter.ask(3.1, (2, 2), (9, 8000))
    assert counter.send(4.0) == [2, *range(9, counter.count)]


def test_other_messages_need_not_wait_behind_parts(counter: Counter) -> None:
    counter.ask(0.0, (0, 15))
    assert counter.send(1.0, unconfirmed=8) == []
    assert counter.send(1.0, unconfirmed=6) == [0, 1]


def test_a_bundle_that_is_not_there_is_said_to_be_gone(counter: Counter) -> None:
    counter.ask(0.0, (0, 15), bundle="cd" * 32)
    counter.send(1.0)
    [gone] = counter.sent
    assert isinstance(gone, BundleGone)
    assert gone.bundle == "cd" * 32
    assert not counter.shipping.pending


def test_bundles_of_earlier_sessions_are_served_too(counter: Counter, tmp_path: Path) -> None:
    counter.shipping.close()
    counter.shipping = Shipping("demo", "run-1", tmp_path / "bundles", None, counter._say)
    assert counter.shipping.bundle is None
    counter.ask(0.0, (0, 0))
    assert counter.send(1.0) == [0]


def test_it_says_who_waits_for_what(counter: Counter) -> None:
    assert counter.shipping.waiting(0.0) is None
    counter.ask(0.0, (0, 15))
    assert counter.shipping.waiting(0.0) == "waiting: 1 worker fetches the code bundle"
    counter.send(1.0)
    counter.ask(1.0, (0, 15), worker="w-2")
    assert counter.shipping.waiting(1.0) == (
        f"waiting: 2 workers fetch the code bundle {counter.bundle[:8]} (4 of 6.0 MiB)"
    )
    counter.ask(2.0, worker="w-1", problem="disk full")
    counter.ask(2.0, worker="w-1", problem="disk full")
    assert counter.said == ["worker w-1 has not got the code: disk full"]
    counter.shipping.served("w-2")
    assert counter.shipping.waiting(2.0) == "waiting: 1 worker has not got the code: disk full"
    assert counter.shipping.waiting(60.0) is None


def test_the_bundle_of_this_session_is_sent_whatever_becomes_of_the_folder(
    counter: Counter, tmp_path: Path
) -> None:
    for file in (tmp_path / "bundles").iterdir():
        file.unlink()
    counter.ask(0.0, (0, 2))
    assert counter.send(1.0) == [0, 1, 2]
