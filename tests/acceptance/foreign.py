"""What the tests of foreign halves start: programs in Node and ours, around one broker."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pika

from tests.acceptance.program import EVALUATE, wait_for, without_plots
from tests.servers.node import start_node

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.rabbitmq import RabbitNode


class Stage:
    """What a test has started; all of it ends with the test.

    Args:
        folder: for logs and the config.
        broker: a running one.
        experiment: its name.
    """

    def __init__(self, folder: Path, broker: RabbitNode, experiment: str) -> None:
        self.folder, self.broker, self.experiment = folder, broker, experiment
        self.steering_url = self.worker_url = broker.url
        self._started: list[subprocess.Popen[str]] = []

    def worker(self, *arguments: str, seconds: float = 0.02) -> subprocess.Popen[str]:
        """Starts a worker in Node, whose trainings take so long."""
        env = {"TRAIN_SECONDS": str(seconds)}
        common = ["--broker", self.worker_url, "--experiment", self.experiment, "--heartbeat-s", "0.5"]
        return self.keep(
            start_node(
                "foreign-worker",
                "worker.mjs",
                *common,
                *arguments,
                log=self.folder / f"worker-{len(self._started)}.log",
                env=env,
            )
        )

    def steering(self, *arguments: str) -> subprocess.Popen[str]:
        """Starts steering in Node."""
        common = ["--broker", self.steering_url, "--experiment", self.experiment]
        quick = ["--heartbeat-s", "0.5", "--lease-s", "3"]
        log = self.folder / "steering.log"
        return self.keep(start_node("foreign-steering", "steering.mjs", *common, *quick, *arguments, log=log))

    def evaluate(self, function: Path, work_dir: str = "work") -> subprocess.Popen[str]:
        """Starts a worker of ours."""
        whose = ["--broker", self.broker.url, "--experiment", self.experiment]
        what = ["--function", f"{function}:train", "--objective", "loss"]
        return self.run(EVALUATE, *whose, *what, "--work-dir", str(self.folder / work_dir))

    def run(self, program: str, *arguments: str) -> subprocess.Popen[str]:
        """Starts a program of ours."""
        return self.keep(
            subprocess.Popen(
                [program, *arguments],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env={**os.environ, **without_plots(), "HPO_STEER_BROKER_PASSWORD": "guest"},
            )
        )

    def keep(self, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """Ends it with the test."""
        self._started.append(process)
        return process

    def log(self) -> str:
        """All that the programs in Node have said."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("*.log")))

    def wait_for_queues(self) -> None:
        """Waits until steering in Node has made them."""
        wait_for(lambda: "connected: experiment" in self.log(), what="steering's connection")

    def put(self, queue: str, body: bytes) -> None:
        """Puts bytes on the way to ``work``, ``events`` or all ``control`` queues."""
        exchange = f"hpo.{self.experiment}.{queue}" + (".in" if queue != "control" else "")
        with pika.BlockingConnection(pika.URLParameters(self.broker.url)) as connection:
            connection.channel().basic_publish(exchange, "", body)

    def dead_letters(self) -> list[tuple[str, str, bytes]]:
        """Takes those that are there: where they were, why they are there, and what they hold."""
        found: list[tuple[str, str, bytes]] = []
        with pika.BlockingConnection(pika.URLParameters(self.broker.url)) as connection:
            channel: Any = connection.channel()
            while True:
                method, properties, body = channel.basic_get(f"hpo.{self.experiment}.dead", auto_ack=True)
                if method is None:
                    return found
                origin = properties.headers["x-queue"].removeprefix(f"hpo.{self.experiment}.")
                found.append((origin, properties.headers["x-reason"], body))

    def wait_for_dead_letters(self, n: int) -> list[tuple[str, str, bytes]]:
        """Takes them until there were so many."""
        found: list[tuple[str, str, bytes]] = []

        def there() -> bool:
            found.extend(self.dead_letters())
            return len(found) >= n

        wait_for(there, what=f"{n} dead letters")
        return found

    def close(self) -> None:
        """Ends what still runs."""
        for process in self._started:
            process.kill()
            with contextlib.suppress(ValueError):  # its answer was read already
                process.communicate()

    def finish(self, process: subprocess.Popen[str]) -> str:
        """Waits until a program has ended well; what it answered."""
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, f"{out}\n{err}\n{self.log()}"
        return out

    def bow_out(self, process: subprocess.Popen[str]) -> None:
        """Ends a worker in order."""
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
        assert process.returncode == 0, f"{out}\n{self.log()}"
