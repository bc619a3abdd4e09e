"""What every section of params.yaml shares: frozen, strict, no unknown keys, no defaults."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of params.yaml. Values live there only: no field here has a default."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
