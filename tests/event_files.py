"""Event files as TensorBoard itself reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Any


def _values(folder: Path) -> Iterator[tuple[int, Any]]:
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for event in EventFileLoader(str(file)).Load():
            for value in event.summary.value:
                yield event.step, value


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by tag, all that were written, in their order."""
    found: dict[str, list[tuple[int, float]]] = {}
    for step, value in _values(folder):
        if value.metadata.plugin_data.plugin_name == "scalars":
            number = value.tensor.float_val[0]
            found.setdefault(value.tag, []).append((step, round(number, 6)))
    return found


def texts(folder: Path) -> dict[str, str]:
    """Texts by tag."""
    return {
        value.tag.removesuffix("/text_summary"): value.tensor.string_val[0].decode()
        for _, value in _values(folder)
        if value.metadata.plugin_data.plugin_name == "text"
    }


def hyperparameters(folder: Path) -> dict[str, Any]:
    """What the tab HParams shows of a point."""
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    for _, value in _values(folder):
        if value.tag == "_hparams_/session_start_info":
            data = HParamsPluginData.FromString(value.metadata.plugin_data.content)
            return {
                name: getattr(each, each.WhichOneof("kind"))
                for name, each in data.session_start_info.hparams.items()
            }
    return {}
