"""What every section of params.yaml shares: frozen, strict, no unknown keys."""

from pydantic import AfterValidator, BaseModel, ConfigDict


class Section(BaseModel):
    """A part of params.yaml. Values live there only: the one default that a field may have is to
    find out what the competition's files say (`auto`)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


_DEVICES = {
    "aux",
    "con",
    "nul",
    "prn",
    *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)),
}


def _name_a_file(name: str) -> str:
    if name.partition(".")[0].lower() in _DEVICES or name.endswith("."):
        raise ValueError(f"expected a name that every system can give a file, found {name!r}")
    return name


NAMES_A_FILE = AfterValidator(_name_a_file)
"""For a text that files or folders are called; Windows keeps some names for devices."""
