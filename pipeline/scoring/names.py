"""The names in params.yaml that are about scores and submissions; without NumPy, for --help."""

import re
from pathlib import Path
from typing import Literal

Holds = Literal["labels", "flags", "probability", "probabilities", "chances", "best", "numbers"]
"""What a row of a submission holds: scoring/forms.py has the list."""

Asked = Literal["auto"] | Holds
"""ensemble.form: what a row shall hold; auto: what the metric and the sample submission ask for."""

OWN_METRICS = Path("metrics")
"""The folder of metrics of the user's own, which DVC watches."""

_OWN = re.compile(r"(?P<file>[A-Za-z_][A-Za-z0-9_]*):(?P<function>[A-Za-z_][A-Za-z0-9_]*)")


def file_of(metric: str) -> Path | None:
    """The file of a metric called NAME:FUNCTION; None of another name."""
    match = _OWN.fullmatch(metric)
    return OWN_METRICS / f"{match['file']}.py" if match else None
