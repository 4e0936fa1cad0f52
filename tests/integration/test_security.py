"""What the users that `hpo-steer permissions` makes may do on a real broker, and what not."""

from __future__ import annotations

import subprocess
import threading
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pika
import pytest
import yaml
from pika.exceptions import ChannelClosedByBroker

from hpo_steer.messages import Cancel, Result, Work
from hpo_steer.testing.transport import collect, eventually, points
from hpo_steer.transport import BrokerSettings, steering_end, worker_end
from hpo_steer.transport.base import Confirmed, Connected, Delivery
from hpo_steer.transport.rabbitmq_topology import DEAD_LETTERS_BYTES, Topology
from tests.acceptance.program import STEER
from tests.servers.rabbitmq import RabbitNode, run_as_root

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.rabbitmq
VHOST, RUN = "hpo secured", "r"  # a name that a careless script would take for two


@dataclass(frozen=True)
class Site:
    """A virtual host with users of steering and of workers, and another experiment beside ours."""

    node: RabbitNode
    steering: BrokerSettings
    worker: BrokerSettings
    experiment: str
    other: str

    def channel(self, settings: BrokerSettings) -> Any:
        return pika.BlockingConnection(
            pika.ConnectionParameters(
                settings.host,
                settings.port,
                settings.vhost,
                pika.PlainCredentials(settings.user, str(settings.password)),
            )
        ).channel()


def settings_of(node: RabbitNode, folder: Path, user: str) -> BrokerSettings:
    password = (folder / f"{user}.password").read_text().strip()
    return BrokerSettings(
        f"amqp://{user}@127.0.0.1:{node.port}/{VHOST.replace(' ', '%20')}", password, stall_s=5.0
    )


@pytest.fixture(scope="module")
def site(any_rabbitmq: RabbitNode, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """What the command prints, run as it is."""
    folder = tmp_path_factory.mktemp("secured")
    name = f"s.{uuid.uuid4().hex[:8]}"
    config = {
        "name": name,
        "search_space": {"x": {"type": "float", "low": 0, "high": 1}},
        "objectives": {"loss": "minimize"},
        "evaluation": {"command": ["true"], "workers": 0},
        "broker": f"amqp://{name}-head@127.0.0.1:{any_rabbitmq.port}/{VHOST.replace(' ', '%20')}",
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    script = subprocess.run(
        [STEER, "permissions", "--config", "config.yaml"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    said = run_as_root(any_rabbitmq, script, folder)
    assert f"user {name}-head: the password is in" in said
    assert f"user {name}-worker: the password is in" in said
    for password in folder.glob("*.password"):
        assert password.stat().st_mode & 0o077 == 0
        assert len(password.read_text().strip()) == 32
        assert password.read_text().strip() not in script + said
    steering, worker = (settings_of(any_rabbitmq, folder, f"{name}-{role}") for role in ("head", "worker"))
    other = f"{name}.other"  # begins like ours
    any_rabbitmq.ctl("set_permissions", "-p", VHOST, "guest", ".*", ".*", ".*")
    guest = BrokerSettings(f"amqp://guest:guest@127.0.0.1:{any_rabbitmq.port}/{VHOST.replace(' ', '%20')}")
    for experiment in (name, other):
        end = steering_end(guest, experiment, RUN)
        end.open()
        end.close()
    return Site(any_rabbitmq, steering, worker, name, other)


def refused(channel_of: Callable[[], Any], action: Callable[[Any], object]) -> int:
    """The code with which the broker refuses an action; 0 if it does not."""
    channel = channel_of()
    try:
        channel.confirm_delivery()
        action(channel)
        channel.queue_declare(queue="no.such.queue", passive=True)  # an answer to whatever was asked before
    except ChannelClosedByBroker as exc:
        return 0 if "no.such.queue" in str(exc.reply_text) else int(exc.reply_code)
    except pika.exceptions.UnroutableError:
        return 0
    finally:
        channel.connection.close()
    raise AssertionError("unreachable")


def publish(exchange: str, key: str = "") -> Callable[[Any], object]:
    return lambda channel: channel.basic_publish(exchange, key, b"{}")


def _call(method: str, name: str, channel: Any) -> object:
    return getattr(channel, method)(name)


def forbidden_to_workers(own: Topology, other: Topology) -> dict[str, Callable[[Any], object]]:
    mine = f"{own.control}.{uuid.uuid4().hex}"
    dead = {"x-queue-type": "quorum", "x-max-length-bytes": DEAD_LETTERS_BYTES}
    actions: dict[str, Callable[[Any], object]] = {
        "read events": lambda c: c.basic_get(own.events),
        "consume events": lambda c: c.basic_consume(own.events, print),
        "read dead letters": lambda c: c.basic_get(own.dead),
        "publish work": publish(own.work_in),
        "publish work directly": publish("", own.work),
        "publish events directly": publish("", own.events),
        "publish control": publish(own.control),
        "ship code": publish(own.bundles),
        "publish through a standard exchange": publish("amq.fanout"),
        "make a queue": lambda c: c.queue_declare("hpo.mine"),
        "make a queue of another kind": lambda c: c.queue_declare(f"{own.control}.mine"),
        "make the work queue": lambda c: c.queue_declare(own.work, durable=True, arguments=own.arguments()),
        "make the dead letters": lambda c: c.queue_declare(own.dead, durable=True, arguments=dead),
        "make an exchange": lambda c: c.exchange_declare(own.events_in, "fanout", durable=True),
        "spread events": lambda c: c.queue_bind(own.events, own.control),
        "unbind the work queue": lambda c: c.queue_unbind(own.work, own.work_in),
        "bind the work queue": lambda c: c.queue_bind(own.work, own.control),
        "listen to work": lambda c: (
            c.queue_declare(mine, exclusive=True),
            c.queue_bind(mine, own.work_in),
        ),
        "listen to events": lambda c: (
            c.queue_declare(mine, exclusive=True),
            c.queue_bind(mine, own.events_in),
        ),
        "listen to dead letters": lambda c: (
            c.queue_declare(mine, exclusive=True),
            c.queue_bind(mine, own.dead),
        ),
        "join exchanges": lambda c: c.exchange_bind(own.work_in, own.control),
        "read another experiment's work": lambda c: c.basic_get(other.work),
        "send another experiment events": publish(other.events_in),
        "bury for another experiment": publish(other.dead),
        "listen to another experiment": lambda c: (
            c.queue_declare(mine, exclusive=True),
            c.queue_bind(mine, other.control),
        ),
        "collect another experiment's code": lambda c: (
            c.queue_declare(mine, exclusive=True),
            c.queue_bind(mine, other.bundles),
        ),
    }
    for queue in (own.events, own.dead, other.work):
        actions[f"purge {queue}"] = partial(_call, "queue_purge", queue)
    for queue in (own.work, own.events, own.dead, other.work):
        actions[f"delete {queue}"] = partial(_call, "queue_delete", queue)
    for exchange in (*own.exchanges, own.bundles):
        actions[f"delete exchange {exchange}"] = partial(_call, "exchange_delete", exchange)
    return actions


def test_what_a_worker_may_not_do_is_refused(site: Site) -> None:
    own, other = Topology(site.experiment), Topology(site.other)
    actions = forbidden_to_workers(own, other)
    assert {
        name: refused(lambda: site.channel(site.worker), do) for name, do in actions.items()
    } == dict.fromkeys(actions, 403)


def test_what_a_worker_may_do_works(site: Site) -> None:
    own = Topology(site.experiment)
    mine = f"{own.control}.{uuid.uuid4().hex}"
    allowed: dict[str, Callable[[Any], object]] = {
        "read work": lambda c: c.basic_get(own.work),
        "send events": publish(own.events_in),
        "bury": publish(own.dead),
        "listen to control": lambda c: (
            c.queue_declare(mine, exclusive=True, auto_delete=True),
            c.queue_bind(mine, own.control),
            c.basic_get(mine),
        ),
        "collect code": lambda c: (
            c.queue_declare(mine, exclusive=True, auto_delete=True),
            c.queue_bind(mine, own.bundles),
            c.queue_unbind(mine, own.bundles),
        ),
        "empty the work queue": lambda c: c.queue_purge(
            own.work
        ),  # who may read may take all; the page says so
    }
    assert {
        name: refused(lambda: site.channel(site.worker), do) for name, do in allowed.items()
    } == dict.fromkeys(allowed, 0)


def test_a_worker_cannot_reach_the_control_queue_of_another(site: Site) -> None:
    name = f"{Topology(site.experiment).control}.{uuid.uuid4().hex}"
    owner = site.channel(site.worker)
    owner.queue_declare(name, exclusive=True, auto_delete=True)
    for act in (lambda c: c.basic_get(name), lambda c: c.queue_purge(name), lambda c: c.queue_delete(name)):
        assert refused(lambda: site.channel(site.worker), act) == 405
    owner.connection.close()


def test_steering_may_not_touch_another_experiment(site: Site) -> None:
    own, other = Topology(site.experiment), Topology(site.other)
    actions: dict[str, Callable[[Any], object]] = {
        "publish directly": publish("", own.work),
        "publish work": publish(other.work_in),
        "publish control": publish(other.control),
        "ship code": publish(other.bundles),
        "read events": lambda c: c.basic_get(other.events),
        "read dead letters": lambda c: c.basic_get(other.dead),
        "purge": lambda c: c.queue_purge(other.work),
        "delete": lambda c: c.queue_delete(other.events),
        "make a queue": lambda c: c.queue_declare("hpo.mine"),
        "play a worker": publish(other.events_in),
    }
    assert {
        name: refused(lambda: site.channel(site.steering), do) for name, do in actions.items()
    } == dict.fromkeys(actions, 403)


def work(experiment: str, point: int) -> Work:
    return Work(
        experiment=experiment, run=RUN, point=point, attempt=1, model="m", iteration=1, params={"x": 1}
    )


def result(experiment: str, point: int) -> Result:
    return Result(
        experiment=experiment,
        run=RUN,
        worker="w",
        at=0.0,
        point=point,
        attempt=1,
        metrics={"loss": 0.5},
        started_at=0.0,
        duration_s=0.0,
    )


def test_both_users_do_their_part_also_after_the_broker_has_been_restarted(site: Site) -> None:
    """The worker comes first: it may make nothing, so it waits, and says so once."""
    for queue in ("work", "events", "dead"):
        site.node.ctl("delete_queue", "-p", VHOST, f"hpo.{site.experiment}.{queue}")
    said: list[str] = []
    worker = worker_end(site.worker, site.experiment, on_retry=said.append)
    opening = threading.Thread(target=worker.open)
    opening.start()
    eventually(lambda: bool(said), 30.0)
    steering = steering_end(site.steering, site.experiment, RUN)
    try:
        steering.open()
        opening.join(60.0)
        assert not opening.is_alive()
        assert len(said) == 1
        assert f'has not made the queues of experiment "{site.experiment}" yet, and user' in said[0]
        worker.set_credit(1)
        for point in (1, 2):
            steering.publish([work(site.experiment, point)])
            (delivery,) = collect(worker, Delivery, 1)
            worker.publish(result(site.experiment, point), token=point)
            collect(worker, Confirmed, 1)
            worker.settle([delivery])
            found = collect(steering, Delivery, 1)
            assert points(found) == [point]
            steering.settle(found)
            steering.control(Cancel(experiment=site.experiment, run=RUN, points=[point]))
            collect(worker, Cancel, 1)
            if point == 1:
                site.node.stop()
                site.node.start()
                collect(worker, Connected, 1)
                collect(steering, Connected, 1)
        steering.publish([work(site.experiment, 3)])
        worker.reject(collect(worker, Delivery, 1)[0], "of no use")
        dead = f"hpo.{site.experiment}.dead"
        eventually(lambda: f"{dead}\t1" in site.node.ctl("list_queues", "-p", VHOST, "name", "messages"))
    finally:
        worker.close()
        steering.close()
