"""The experiment's config: its schema, its file formats, its errors."""

from hpo_steer.config.load import LoadedConfig, load_config, validate
from hpo_steer.config.pruning import Pruning
from hpo_steer.config.schema import Broker, Evaluation, Experiment, Model, Steering, Store, Trigger
from hpo_steer.config.section import Section

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
