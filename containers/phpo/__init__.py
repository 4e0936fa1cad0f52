"""PanDA's HPO program `phpo`: the files that commands written for it read and write, and its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def config_of(data: Mapping[str, Any], path: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The config that phpo's JSON stands for.

    Args:
        data: what the JSON says.
        path: its file; the files it names are looked for beside it.

    Returns:
        The config, and a sentence for each thing that was assumed or left out.

    Raises:
        HpoSteerError: it makes no sense.
    """
    from containers.phpo.importing import imported
    from containers.phpo.options import from_json

    made = imported(from_json(data), path.resolve().parent, name=path.stem)
    first = (
        f"{path.name} is phpo's and is translated, its loss minimised; hpo-steer import-phpo {path} shows how"
    )
    return made.config, (first, *made.caveats)
