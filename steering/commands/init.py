"""``hpo-steer init``: an example to begin with."""

import re
from pathlib import Path
from typing import Annotated

import typer

from steering.commands.options import say

_CONFIG = """\
# An experiment of hpo-steer. It runs as it is:
#
#     hpo-steer --config {file}
#
name: {name}
seed: 1                          # the same seed and the same results give the same search

search_space:                    # what is tuned
  lr:        {{type: float, low: 1e-4, high: 1.0, log: true}}
  layers:    {{type: int, low: 1, high: 6}}
  optimizer: {{type: categorical, choices: [sgd, adam]}}
  momentum:  {{type: float, low: 0.0, high: 0.99, when: {{optimizer: sgd}}}}  # only with sgd

constraints:                     # every point satisfies them
  - "lr * layers <= 2"

objectives:
  {objective}: minimize{pad}# or maximize; or {{direction: minimize, target: 0.01}}

algorithm: {algorithm}{algorithm_pad}# hpo-steer algorithms lists all

steering:
  points_per_iteration: 10
  trigger: {{fraction: 0.75}}      # the next iteration starts when 8 of 10 points have ended
  max_points: 40                 # also max_iterations, max_time_s, target, patience

evaluation:
  function: {module}:train{module_pad}# gets the parameters as a dict, returns a number or a dict of numbers
  workers: 2                     # processes on this machine; 0: only those that connect over a broker
  reuse: true                    # a worker keeps its Python process from point to point
  timeout_s: 60
  max_attempts: 3

broker: local                    # or amqps://user@host/vhost; password: HPO_STEER_BROKER_PASSWORD
store: runs/                     # or postgresql://user@host/database
"""

_TRAIN = '''\
"""A toy in place of a training: put yours here."""

import math


def train(params):
    """Returns the objective; smaller is better."""
    loss = (math.log10(params["lr"]) + 2) ** 2 + 0.1 * abs(params["layers"] - 3)
    if params["optimizer"] == "sgd":
        loss += 0.5 * (params["momentum"] - 0.9) ** 2
    else:
        loss += 0.1
    return {{"{objective}": loss}}
'''


def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The config to write.")] = Path(
        "experiment.yaml"
    ),
    objective: Annotated[
        str, typer.Option(help="The number to minimise, as the training calls it.")
    ] = "loss",
    algorithm: Annotated[str, typer.Option(help="The search method.")] = "bayesian",
) -> None:
    """Writes an example config and a training to go with it; nothing is overwritten.

    Example: hpo-steer init my.yaml
    """
    from hpo_steer.errors import UserError
    from hpo_steer.registry import entry

    entry(algorithm)
    if not re.fullmatch(r"[A-Za-z_]\w*", objective):
        raise UserError(f"--objective takes a name such as loss, got {objective!r}")
    if file.suffix not in (".yaml", ".yml"):
        raise UserError(f"the example is YAML: name it {file.stem or 'experiment'}.yaml, not {file.name}")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", file.stem).strip("-._") or "experiment"
    module = file.with_name(re.sub(r"\W+", "_", f"{name}_train") + ".py")
    for path in (file, module):
        if path.exists():
            raise UserError(
                f"{path} exists; nothing was written. Choose another name: hpo-steer init OTHER.yaml"
            )
    text = _CONFIG.format(
        file=file,
        name=name,
        objective=objective,
        pad=_pad(f"  {objective}: minimize"),
        algorithm=algorithm,
        algorithm_pad=_pad(f"algorithm: {algorithm}"),
        module=module.name,
        module_pad=_pad(f"  function: {module.name}:train"),
    )
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
        with module.open("x", encoding="utf-8") as stream:
            stream.write(_TRAIN.format(objective=objective))
    except OSError as exc:
        raise UserError(f"{exc.filename} cannot be written: {exc.strerror}") from exc
    say(f"wrote {file} and {module}")
    say(f"next: hpo-steer check {file} · hpo-steer --config {file}")


def _pad(text: str) -> str:
    return " " * max(33 - len(text), 1)
