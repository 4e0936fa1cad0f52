"""What every section of a config is made from."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A part of a config: unknown keys are errors, values keep their types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
