"""Mutated messages into every queue of a run, and what becomes of them.

    python -m benchmarks.fuzz --messages 100000 --json

A real RabbitMQ, steering and two workers as a user starts them. While they work, mutated messages go into the work and
the events queue and to the control exchange. Afterwards the books are checked: the run has the points and values of a
run that was left alone, each bad message is a dead letter with a reason, and nothing has grown.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pika
import psutil
import yaml

from benchmarks.judge import Judge, Letter, read_letters
from benchmarks.measuring import rabbitmq, show
from benchmarks.mutations import Mutant, Mutator
from hpo_steer.transport.rabbitmq_topology import Topology

WORKERS = 2
_BACKLOG = 1_000
_BATCH = 100
_QUIET_S = 20.0
_SETTLED_S = 2.0
_PATIENCE_S = 120.0
_TRAIN = """
import time
from pathlib import Path

import hpo_steer

PROGRESS = Path({progress!r})

def train(params):
    x, k = params["x"], params["k"]
    while PROGRESS.exists():
        due, share = hpo_steer.point().id / {points}, float(PROGRESS.read_text())
        time.sleep(min(max(due - share, 0.005), 0.025))
        if due < 1 or share >= 1:
            break
    return {{"loss": (x - 0.3) ** 2 + k / 100}}
"""


class Run:
    """An experiment whose trainings go on as long as the mutants come.

    A training takes 5 ms where the run is behind the mutants, and up to 25 ms where it is ahead of them. The last one
    waits for the last mutant.

    Args:
        folder: of its own.
        name: of the experiment.
        points: how many.
        broker: its URL.
    """

    def __init__(self, folder: Path, name: str, points: int, broker: str) -> None:
        self.folder, self.name, self.points = folder, name, points
        self.progress = folder / "progress"
        folder.mkdir(parents=True)
        (folder / "train.py").write_text(_TRAIN.format(progress=str(self.progress), points=points))
        config = {
            "name": name,
            "seed": 7,
            "search_space": {
                "x": {"type": "float", "low": 0.0, "high": 1.0},
                "k": {"type": "int", "low": 1, "high": 9},
            },
            "objectives": {"loss": "minimize"},
            "algorithm": "random",
            "steering": {"points_per_iteration": 20, "trigger": {"fraction": 0.5}, "max_points": points},
            "evaluation": {
                "function": "train.py:train",
                "workers": WORKERS,
                "reuse": True,
                "worker": {"quarantine_after": 10**6},  # forged points fail one after the other
            },
            "broker": broker,
            "store": str(folder / "runs"),
        }
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        self.out = folder / "out"

    def pace(self, share: float) -> None:
        """Lets this share of the points end."""
        new = self.folder / "progress.new"
        new.write_text(f"{share:.6f}")
        new.replace(self.progress)

    def start(self) -> subprocess.Popen[bytes]:
        """Starts it."""
        program = Path(sys.executable).parent / "hpo-steer"
        with self.out.open("ab") as out:
            return subprocess.Popen(
                [str(program), "--config", "config.yaml"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env={**os.environ, "XDG_CACHE_HOME": str(self.folder / "cache")},
            )

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What its store says; nothing before there is one."""
        path = self.folder / "runs" / self.name / "store.db"
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                return database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []

    def logs(self) -> list[Path]:
        """What its workers have written."""
        return list((self.folder / "runs" / self.name / "logs").glob("worker-*.log"))

    def outcome(self) -> list[tuple[Any, ...]]:
        """Its points and their values."""
        return self.rows("SELECT id, params, state, objectives, attempts FROM hpo_points ORDER BY id")


@dataclass
class Memory:
    """Resident memory of a run's programs over time, in MiB."""

    steering: psutil.Process
    samples: dict[str, list[float]] = field(default_factory=dict)
    _workers: list[psutil.Process] = field(default_factory=list)

    def sample(self) -> None:
        """Takes one sample of each."""
        if len(self._workers) < WORKERS:
            self._workers = [
                child for child in self.steering.children() if "evaluat" in " ".join(child.cmdline())
            ]
        named = [("steering", self.steering)] + [(f"worker {n}", p) for n, p in enumerate(self._workers)]
        for name, process in named:
            self.samples.setdefault(name, []).append(process.memory_info().rss / 2**20)

    def growth(self) -> dict[str, dict[str, float]]:
        """What each had after the first tenth, at most, and at the end."""
        found = {}
        for name, samples in self.samples.items():
            warm = samples[len(samples) // 10 :]
            first, last = statistics.median(warm[:5]), statistics.median(warm[-5:])
            found[name] = {
                "warm_mib": round(first, 1),
                "most_mib": round(max(warm), 1),
                "end_mib": round(last, 1),
                "growth_mib": round(last - first, 1),
            }
        return found


class Broker:
    """The fuzzer's own connection.

    Args:
        url: where it is.
        name: of the experiment.
    """

    def __init__(self, url: str, name: str) -> None:
        self._topology = Topology(name)
        self.connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self.connection.channel()

    def send(self, mutant: Mutant) -> None:
        """Publishes a mutant to its queue."""
        topology = self._topology
        exchange = topology.control if mutant.queue == "control" else ""
        key = {"work": topology.work, "events": topology.events, "control": ""}[mutant.queue]
        self.channel.basic_publish(exchange, key, mutant.body, mutant.properties)

    def depth(self, queue: str) -> int:
        """Messages that wait in a queue."""
        name = getattr(self._topology, queue)
        return int(self.channel.queue_declare(name, passive=True).method.message_count)

    def letters(self) -> list[Letter]:
        """Takes all dead letters."""
        return read_letters(self.channel, self._topology.dead)

    def close(self) -> None:
        """Removes what the experiment has left on the broker."""
        topology = self._topology
        for queue in (topology.work, topology.events, topology.dead):
            self.channel.queue_delete(queue)
        for exchange in (topology.control, topology.dead):
            self.channel.exchange_delete(exchange)
        self.connection.close()


@contextmanager
def _steering(run: Run) -> Iterator[subprocess.Popen[bytes]]:
    process = run.start()
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _await(condition: Any, process: subprocess.Popen[bytes], run: Run, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{what} did not come true: {run.out.read_text()[-3000:]}")
        time.sleep(0.1)


def fuzz(url: str, messages: int, *, seed: int = 1, points: int | None = None) -> dict[str, Any]:
    """Runs it.

    Args:
        url: the broker.
        messages: how many mutants.
        seed: of the mutants.
        points: of the run; None: one for each eight mutants.

    Returns:
        The figures; ``wrong`` lists every sentence that should not be true.
    """
    points = points or max(messages // 8, 40)
    name = f"fuzz-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="hpo-steer-fuzz-") as folder:
        calm = Run(Path(folder) / "calm", "calm", points, "local")
        with _steering(calm) as process:
            if process.wait(300):
                raise RuntimeError(f"the run that was left alone failed: {calm.out.read_text()[-3000:]}")
        run = Run(Path(folder) / "run", name, points, url)
        run.pace(0.0)
        with _steering(run) as process:
            workers = "SELECT DISTINCT worker FROM hpo_attempts"
            _await(lambda: len(run.rows(workers)) == WORKERS, process, run, f"{WORKERS} workers at work")
            [(run_id,)] = run.rows("SELECT run FROM hpo_experiments")
            broker = Broker(url, name)
            judge = Judge(name, run_id, points, WORKERS)
            figures = _flood(broker, judge, run, process, Mutator(name, run_id, seed), messages)
            code = process.wait(5 * _PATIENCE_S)
        letters = broker.letters()
        broker.close()
        return _books(
            judge, letters, calm, run, {**figures, "exit_code": code, "points": points, "seed": seed}
        )


def _flood(
    broker: Broker, judge: Judge, run: Run, process: subprocess.Popen[bytes], mutator: Mutator, messages: int
) -> dict[str, Any]:
    """Sends all mutants, waits until they are disposed of, and lets the run end."""
    memory = Memory(psutil.Process(process.pid))
    sent: Counter[str] = Counter()
    began = time.monotonic()
    backlog = 0
    while sent.total() < messages:
        mutant = mutator.next()
        if not judge.expect(mutant):
            continue  # it would be a true message about a point of this run
        broker.send(mutant)
        sent[mutant.kind] += 1
        if sent.total() % _BATCH == 0:
            memory.sample()
            run.pace(0.98 * sent.total() / messages)
            while (waiting := max(broker.depth("work"), broker.depth("events"))) > _BACKLOG:
                broker.connection.sleep(0.02)
            backlog = max(backlog, waiting)
            if process.poll() is not None:
                raise RuntimeError(f"steering has ended: {run.out.read_text()[-3000:]}")
    [(ended,)] = run.rows("SELECT count(*) FROM hpo_points WHERE ended_at IS NOT NULL")
    seconds = _quiet_since(broker, memory, judge) - began
    memory.sample()
    run.pace(1.0)
    return {
        "messages": messages,
        "seconds": round(seconds, 1),
        "messages_per_s": round(messages / seconds, 1),
        "sent": dict(sorted(sent.items())),
        "most_waiting": backlog,
        "points_ended_before_the_last_mutant": ended,
        "memory": memory.growth(),
    }


def _quiet_since(broker: Broker, memory: Memory, judge: Judge) -> float:
    """Waits until nothing comes to the dead letters any more: some seconds, longer while some are missing."""
    since, before = time.monotonic(), -1
    while True:
        now, waiting = broker.depth("dead"), broker.depth("work") + broker.depth("events")
        quiet_s = time.monotonic() - since
        if now != before or waiting:
            since, before = time.monotonic(), now
        elif quiet_s > _QUIET_S or (quiet_s > _SETTLED_S and now >= judge.letters + judge.forged):
            return since
        memory.sample()
        broker.connection.sleep(0.1)


def _books(
    judge: Judge, letters: list[Letter], calm: Run, run: Run, figures: dict[str, Any]
) -> dict[str, Any]:
    """Compares what came with what had to come."""
    verdict = judge.compare(letters)
    attempts = run.rows("SELECT count(*) FROM hpo_attempts")
    same = calm.outcome() == run.outcome()
    wrong = list(verdict.wrong)
    if figures["exit_code"]:
        wrong.append(f"steering ended with exit code {figures['exit_code']}: {run.out.read_text()[-2000:]}")
    lost = sum(path.read_text(errors="replace").count("disconnected:") for path in run.logs())
    if lost := lost + run.out.read_text(errors="replace").count("to the broker is gone"):
        wrong.append(f"{lost} connections were lost")
    if not same:
        wrong.append("the points or values are not those of the run that was left alone")
    if attempts != [(figures["points"],)]:
        wrong.append(f"{attempts} attempts at {figures['points']} points")
    return {
        "benchmark": "fuzz",
        **figures,
        "dead_letters": len(letters),
        "expected_dead_letters": judge.letters,
        "dead_letters_twice": verdict.twice,
        "taken_as_good": judge.harmless,
        "answers_to_forged_work": verdict.answers,
        "slowest_ms": judge.slowest_ms(),
        "reasons": verdict.reasons,
        "same_as_undisturbed": same,
        "wrong": wrong,
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--points", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with rabbitmq() as node:
        url = f"amqp://guest:guest@127.0.0.1:{node.port}/"
        result = fuzz(url, arguments.messages, seed=arguments.seed, points=arguments.points)
    growth = {name: figures["growth_mib"] for name, figures in result["memory"].items()}
    lines = [
        f"mutated messages      {result['messages']:8,} of {len(result['sent'])} classes",
        f"disposed of           {result['messages_per_s']:8,.0f} a second",
        f"dead letters          {result['dead_letters']:8,} ({result['expected_dead_letters']:,} expected)",
        f"growth of memory, MiB {growth}",
        f"same points and values as undisturbed: {result['same_as_undisturbed']}",
        *(f"WRONG: {sentence}" for sentence in result["wrong"]),
    ]
    show(result, lines, as_json=arguments.json)
    if result["wrong"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
