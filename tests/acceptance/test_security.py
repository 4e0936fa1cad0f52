"""The installed programs over TLS with users of few rights, and where their secrets go."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

import pytest

from tests.acceptance.program import EVALUATE, Project, wait_for
from tests.servers.certificates import Authority, Certificate
from tests.servers.ports import free_port
from tests.servers.rabbitmq import VERSIONS, RabbitNode, rabbit_node, run_as_root

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.servers.postgresql import PostgresqlServer

STEERING, WORKER = "hpo-steer-steering", "hpo-steer-worker"
PASSWORD = "HPO_STEER_BROKER_PASSWORD"
TELLTALE = """
import os

def train(params):
    with open("environment-of-training", "w") as file:
        file.write(str(dict(os.environ)))
    return {"loss": params["x"]}
"""
SEARCH = """
import os
import hpo_steer

class Mine(hpo_steer.SearchAlgorithm):
    def __init__(self, space, objectives, seed=0, options=None):
        with open("environment-of-algorithm", "w") as file:
            file.write(str(dict(os.environ)))
        self.asked = 0

    def ask(self, n):
        self.asked += n
        return [{"x": 1 / (self.asked + i), "k": 1 + (self.asked + i) % 9} for i in range(n)]

    def tell(self, observations):
        pass
"""


@dataclass(frozen=True)
class Secured:
    """A node that takes TLS with certificates of its own authority only, and users made by our command."""

    node: RabbitNode
    port: int
    authority: Authority
    client: Certificate
    folder: Path

    def password(self, user: str) -> str:
        return (self.folder / f"{user}.password").read_text().strip()

    def keys(self, user: str = STEERING, **changes: Any) -> dict[str, Any]:
        """The config's section about the broker."""
        return {
            "url": self.url(user),
            "ca_file": str(self.authority.own.cert),
            "cert_file": str(self.client.cert),
            "key_file": str(self.client.key),
            "connect_timeout_s": 20,
            **changes,
        }

    def url(self, user: str) -> str:
        return f"amqps://{user}@127.0.0.1:{self.port}/hpo"


@pytest.fixture(scope="module", params=VERSIONS)
def secured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)  # RabbitMQ may run as a user of its own
    authority, port = Authority(folder, "ca"), free_port()
    server = authority.server("server", host="127.0.0.1")
    server.key.chmod(0o644)
    settings = [
        f"listeners.ssl.default = {port}",
        f"ssl_options.cacertfile = {authority.own.cert}",
        f"ssl_options.certfile = {server.cert}",
        f"ssl_options.keyfile = {server.key}",
        "ssl_options.verify = verify_peer",
        "ssl_options.fail_if_no_peer_cert = true",
    ]
    with rabbit_node(request.param, settings=settings) as node:
        project = Project(folder / "operator", broker="amqp://127.0.0.1/hpo")
        script, _ = project.run("permissions", "--config", "config.yaml", "--all-experiments")
        run_as_root(node, script, folder)
        yield Secured(node, port, authority, authority.client("client"), folder)


def write_password(project: Project, text: str) -> None:
    file = project.folder / "broker.password"
    file.write_text(text)
    file.chmod(0o600)


@pytest.mark.rabbitmq
def test_a_run_over_tls_with_certificates_and_both_users(secured: Secured, tmp_path: Path) -> None:
    keys = secured.keys(password_file="broker.password")
    project = Project(tmp_path, name="tls", broker=keys, evaluation={"workers": 0})
    write_password(project, secured.password(STEERING))
    away = Project(tmp_path / "away", name="tls", broker=secured.keys(WORKER), evaluation={"workers": 0})
    secret = {PASSWORD: secured.password(WORKER), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    worker = away.start("--config", "config.yaml", program=EVALUATE, env=secret)  # before there are queues
    try:
        out, err = project.steer()
        assert "done: 20 points" in out
        assert "warning" not in err
    finally:
        worker.send_signal(signal.SIGTERM)
        out, err = worker.communicate(timeout=60)
    assert worker.returncode == 0, err
    assert out.count("may not; waiting for it") <= 1
    assert "warning" not in out + err


def wrong_ways(secured: Secured, folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    """Changes of a config that works, and what is said about each."""
    other = Authority(folder, "other")
    old, stranger = secured.authority.client("old", expired=True), other.client("stranger")
    (folder / "rubbish.pem").write_text("rubbish")
    here = f"127.0.0.1:{secured.port}"
    plain = f"127.0.0.1:{secured.node.port}"

    def shows(certificate: Certificate) -> dict[str, Any]:
        return {"cert_file": str(certificate.cert), "key_file": str(certificate.key)}

    return {
        "unknown authority": ({"ca_file": str(other.own.cert)}, "certificate is not trusted"),
        "only the system's authorities": ({"ca_file": None}, "set broker.ca_file"),
        "wrong host": (
            {"url": f"amqps://{STEERING}@localhost:{secured.port}/hpo"},
            "not valid for 'localhost'",
        ),
        "no certificate": ({"cert_file": None, "key_file": None}, "asks for a certificate of ours"),
        "expired": (shows(old), "refuses our certificate"),
        "of another authority": (shows(stranger), "refuses our certificate"),
        "no authority's file": ({"ca_file": "nowhere.pem"}, "broker.ca_file: cannot read"),
        "no certificate's file": ({"cert_file": "nowhere.pem"}, "broker.cert_file: cannot read"),
        "no key's file": ({"key_file": "nowhere.pem"}, "broker.key_file: cannot read"),
        "another's key": ({"key_file": str(stranger.key)}, "is not the key of the certificate"),
        "key forgotten": ({"key_file": None}, "name that in broker.key_file"),
        "key alone": ({"cert_file": None}, "goes with the certificate whose key it is"),
        "rubbish": ({"ca_file": str(folder / "rubbish.pem")}, "holds no certificates in PEM format"),
        "plain port": ({"url": f"amqps://{STEERING}@{plain}/hpo"}, "speaks no TLS"),
        "certificates without TLS": (
            {"url": f"amqp://{STEERING}@{plain}/hpo"},
            "is for amqps, but the URL is",
        ),
        "TLS port": (
            {
                "url": f"amqp://{STEERING}@{here}/hpo",
                **dict.fromkeys(("ca_file", "cert_file", "key_file")),
                "connect_timeout_s": 1,
            },
            "a TLS port with amqp://",
        ),
    }


@pytest.mark.rabbitmq
def test_what_is_wrong_with_tls_is_said_in_one_sentence(secured: Secured, tmp_path: Path) -> None:
    """One worker for each case, all at once."""
    started = {}
    secret = {PASSWORD: secured.password(STEERING), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    for name, (changes, said) in wrong_ways(secured, tmp_path).items():
        broker = secured.keys(**changes)
        project = Project(tmp_path / name, name="wrong", broker=broker, evaluation={"workers": 0})
        process = project.start("--config", "config.yaml", program=EVALUATE, env=secret)
        started[name] = (process, said)
    for name, (process, said) in started.items():
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err.count("\n")) == (2, 1), f"{name}: {err}"
        assert said in err, name


@contextmanager
def command_lines() -> Iterator[list[str]]:
    """Collects the command lines of all processes on this machine while the block lasts."""
    seen: set[str] = set()
    found: list[str] = []
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(0.1):
            for entry in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    seen.add(entry.read_bytes().decode(errors="replace"))
                except OSError:
                    continue

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        ended.set()
        thread.join()
        found += seen


def written(folder: Path, *, but: tuple[str, ...] = ()) -> dict[str, bytes]:
    """All that lies in a folder, sockets and the like left out."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name not in but)
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def assert_nowhere(secrets: list[str], texts: dict[str, bytes]) -> None:
    for name, text in texts.items():
        for secret in secrets:
            assert secret.encode() not in text, name


@pytest.mark.rabbitmq
@pytest.mark.postgresql
@pytest.mark.parametrize("secured", ["3.10"], indirect=True)
@pytest.mark.parametrize("way", ["files", "environment", "URL"])
def test_secrets_stay_secret(
    secured: Secured, postgresql: PostgresqlServer, tmp_path: Path, way: str
) -> None:
    """Searches whatever the programs write, print and show to others, in success and in failure."""
    user, password, stored = STEERING, secured.password(STEERING), token_hex(16)
    place = postgresql.create_database(f"secret_{way.lower()}_{secured.node.version.replace('.', '_')}")
    database = place.replace("tests@", f"{add_role(postgresql, stored)}@")
    broker, store = secured.keys(user), {"url": database}
    if way == "files":
        broker, store = (
            {**broker, "password_file": "broker.password"},
            {**store, "password_file": "db.password"},
        )
    env = {PASSWORD: password, "HPO_STEER_STORE_PASSWORD": stored} if way == "environment" else {}
    arguments = []
    if way == "URL":
        arguments = [
            f"--broker={secured.url(f'{user}:{password}')}",
            f"--set=store.url={database.replace('@', f':{stored}@')}",
        ]
    project = Project(
        tmp_path,
        name=f"secret-{way}",
        broker=broker,
        store=store,
        algorithm={"class": "mine.py:Mine"},
        steering={"points_per_iteration": 5, "max_points": 10},
    )
    (tmp_path / "train.py").write_text(TELLTALE)
    (tmp_path / "mine.py").write_text(SEARCH)
    for name, text in {
        "broker.password": password,
        "db.password": stored,
        "wrong.password": f"{password}0",
    }.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o644)
    with command_lines() as lines:
        out, err = project.steer("--json", *arguments, env=env)
        mistaken = ("--set", "broker.password_file=wrong.password") if way == "files" else ()
        refused = f"amqps://{user}:{password}0@127.0.0.1:{secured.port}/hpo"
        failed = [project.steer("--broker", refused, *mistaken, code=2)]
        if way == "URL":  # such as no program can read
            failed.append(project.steer("--set", f"broker.url=amqpz://u:{password}@h", code=2))
            failed.append(project.steer("--broker", f"amqp://{user}:a/{password}@h/", code=2))
        else:
            failed.append(project.run("status", "--config", "config.yaml", "--json", env=env))
    if way == "files":
        assert err.count("others can read") == 2
        assert "chmod 600" in err
    else:
        assert ("holds a password" in err) == (way == "URL")
    assert {"environment-of-training", "environment-of-algorithm"} <= {
        file.name for file in tmp_path.iterdir()
    }
    ours = [line for line in lines if "--broker" not in line and "amqpz://" not in line]
    assert any("evaluation" in line for line in ours)
    texts = written(tmp_path, but=("broker.password", "db.password", "wrong.password"))
    texts |= {"printed": "".join((out, err, *(text for pair in failed for text in pair))).encode()}
    texts |= {"command lines": "\n".join(ours).encode(), "database": dump(postgresql, place).encode()}
    texts |= {"the broker's log": b"".join(written(secured.node.folder / "log").values())}
    assert_nowhere([password, stored], texts)


def add_role(server: PostgresqlServer, password: str) -> str:
    """A user of the database with this password; returns its name."""
    import psycopg

    name = f"role_{token_hex(4)}"
    with psycopg.connect(server.url, password=server.password, autocommit=True) as connection:
        connection.execute(f"create role {name} superuser login password '{password}'".encode())
    return name


def dump(server: PostgresqlServer, url: str) -> str:
    """All rows of a database."""
    import psycopg

    with psycopg.connect(url, password=server.password) as connection:
        tables = connection.execute(
            "select quote_ident(table_schema) || '.' || quote_ident(table_name) from information_schema.tables "
            "where table_schema not in ('pg_catalog', 'information_schema')"
        ).fetchall()
        rows = [connection.execute(f"select t::text from {name} t").fetchall() for (name,) in tables]  # noqa: S608 - the server's own names
    assert any(rows)
    return str(rows)


@pytest.mark.parametrize(
    ("content", "said"), [(None, "no such file"), ("\n", "is empty"), (b"\xff", "UTF-8")]
)
def test_a_password_file_that_is_of_no_use(tmp_path: Path, content: str | bytes | None, said: str) -> None:
    broker = {"url": "amqp://ann@127.0.0.1:1/", "password_file": "broker.password"}
    project = Project(tmp_path, broker=broker)
    if content is not None:
        (tmp_path / "broker.password").write_bytes(content.encode() if isinstance(content, str) else content)
        (tmp_path / "broker.password").chmod(0o600)
    for program in (None, EVALUATE):
        arguments = {} if program is None else {"program": program}
        _, err = project.run("--config", "config.yaml", code=2, **arguments)  # type: ignore[arg-type]
        assert err.count("\n") == 1
        assert "broker.password_file" in err
        assert said in err


def test_what_is_kept_is_private(tmp_path: Path) -> None:
    project = Project(tmp_path)
    (tmp_path / "runs/demo").mkdir(parents=True, mode=0o755)
    umask = os.umask(0)
    try:
        process = project.start("--config", "config.yaml")
        wait_for(lambda: process.poll() is not None or project.ended() > 0, what="a point")
        process.communicate(timeout=60)
    finally:
        os.umask(umask)
    assert (tmp_path / "runs/demo").stat().st_mode & 0o077 == 0
