"""The experiment's config: its schema, its file formats, its errors."""

from hpo_steer.config.evaluation import Evaluation
from hpo_steer.config.load import LoadedConfig, load_config, validate
from hpo_steer.config.pruning import Pruning
from hpo_steer.config.schema import Broker, Experiment, Model, Store
from hpo_steer.config.section import Section
from hpo_steer.config.steering import Steering, Trigger

__all__ = [
    "Broker",
    "Evaluation",
    "Experiment",
    "LoadedConfig",
    "Model",
    "Pruning",
    "Section",
    "Steering",
    "Store",
    "Trigger",
    "load_config",
    "validate",
]
