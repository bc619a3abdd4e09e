"""Tables of predictions with more outputs than anybody reads as a CSV: float32 as safetensors.

A network's predictions are float32, so that nothing is lost; 3,000 rows of 15,000 classes are
180 MB instead of 540 MB of text, which as a table of text would need gigabytes of memory.
"""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pipeline.core.errors import TableError
from pipeline.core.files import new_file
from pipeline.core.shapes import Outputs

SUFFIX = ".safetensors"


def write_wide(path: Path, image_ids: list[str], columns: list[str], values: Outputs) -> None:
    """Write a table whole or not at all."""
    named = json.dumps({"image_id": image_ids, "columns": columns})  # one key: its order is fixed
    tensor = np.ascontiguousarray(values, np.float32)
    with new_file(path) as partial:
        save_file({"values": tensor}, partial, metadata={"table": named})


def read_wide(path: Path) -> tuple[list[str], list[str], Float32[ndarray, "rows outputs"]]:
    """Ids, columns and values. Raises TableError where the file is missing or damaged."""
    try:
        with safe_open(path, framework="np") as file:
            named = json.loads(file.metadata()["table"])
            ids, columns = named["image_id"], named["columns"]
            values = file.get_tensor("values")
        if values.shape != (len(ids), len(columns)) or values.dtype != np.float32:
            raise ValueError(f"{values.dtype} of {values.shape}, {len(ids)} ids")
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        found = f"a damaged file ({error})" if path.exists() else "no such file"
        raise TableError(f"{path}: expected a table of predictions, found {found}") from error
    return ids, columns, values
