"""The packages that a notebook needs on Kaggle, where nothing can be installed without internet.

Those of VENDORED are Python alone, and perhaps not there: the dataset brings them, and Python takes
them where the image has none. This module imports nothing else, so that it can say what is missing.
"""

import json
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from pipeline.core.errors import NotebookError

PREDICTION = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "pandas": "pandas",
    "pillow": "PIL",
    "psutil": "psutil",
    "pydantic": "pydantic",
    "rich": "rich",
    "safetensors": "safetensors",
    "scipy": "scipy",
    "soundfile": "soundfile",
    "timm": "timm",
    "torch": "torch",
    "typer": "typer",
    "jaxtyping": "jaxtyping",
    "ruamel.yaml": "ruamel.yaml",
}
"""What a prediction imports: the module of each package."""

TRAINING = PREDICTION | {
    "albumentations": "albumentations",
    "filelock": "filelock",
    "jinja2": "jinja2",
    "markupsafe": "markupsafe",
    "scikit-learn": "sklearn",
    "threadpoolctl": "threadpoolctl",
}
"""What training and its charts import, too."""

VERSIONS = "versions.json"

VENDORED = (
    "annotated-doc",
    "jaxtyping",
    "ruamel.yaml",
    "shellingham",
    "typer",
    "wadler-lindig",
)


def list_versions(needed: dict[str, str]) -> dict[str, str]:
    """The version of each package that is here; "" where another one brings its module."""
    return {name: _version(name) for name in needed}


def check_packages(versions: Path, needed: dict[str, str]) -> str:
    """What is here, in one sentence. Raises NotebookError where a package is missing.

    versions: the file of those with which the notebook was made. Others may give other digits.
    """
    if missing := [name for name, module in needed.items() if not _is_there(module)]:
        raise NotebookError(
            f"this notebook needs {', '.join(needed)}; not here: {', '.join(missing)}. Choose "
            "Kaggle's latest environment in the notebook's settings"
        )
    here, there = list_versions(needed), json.loads(versions.read_text(encoding="utf-8"))
    others = [f"{name} {there[name]}" for name in needed if here[name] != there[name]]
    made = f", but it was made with {', '.join(others)}" if others else ", as where it was made"
    return f"Here are {', '.join(f'{name} {here[name]}'.strip() for name in needed)}{made}."


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of the part before a dot
        return False


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # another build of OpenCV
        return ""
