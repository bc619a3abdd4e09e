"""What Kaggle's client uploads: a notebook, and the dataset of code and networks that it reads.

NAME-kaggle/ or NAME-kaggle-train/
  kernel/   kernel-metadata.json, the notebook
  dataset/  dataset-metadata.json
    code/         pipeline/, params.yaml and what it names, versions.json
    packages/     Python packages that Kaggle's image may lack
    models/MODEL/foldK/weights.safetensors, submissions/NAME.csv and .json  (not to train)
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import KaggleError, NotebookError
from pipeline.core.files import new_folder, write_text
from pipeline.core.ours import refuse_others, remember
from pipeline.core.progress import say
from pipeline.ensemble.saved import read_blend
from pipeline.kaggle.credentials import find_credentials
from pipeline.notebook.cells import to_text, write_cells
from pipeline.notebook.needs import PREDICTION, TRAINING, VENDORED, VERSIONS, list_versions
from pipeline.notebook.there import CODE, PACKAGES
from pipeline.params import Config
from pipeline.predict.command import find_weights
from pipeline.winner.build import copy, list_starts

_OF_INSTALLER = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}


@dataclass(frozen=True)
class Publication:
    """Whose notebook it is, what it is called, and the competition whose files it reads."""

    user: str
    kernel: str
    dataset: str
    competition: str
    trains: bool
    gpu: bool


def run(config: Config, output: Path, user: str, competition: str, trains: bool) -> None:
    """Write OUTPUT/kernel and OUTPUT/dataset, whole or not at all.

    Raises EnsembleError as find_weights does, NotebookError for what cannot be trained there,
    OutputError where other files are in its place.
    """
    refuse_others(output, reserved=[*paths.OWN_FILES, *config.outputs()])
    name = config.ensemble.name
    stem = re.sub(r"[^a-z0-9]+", "-", name.lower())[:36].strip("-")
    published = Publication(
        user=user,
        kernel=f"{stem}-training" if trains else f"{stem}-submission",
        dataset=f"{stem}-code" if trains else f"{stem}-networks",
        competition=competition,
        trains=trains,
        gpu=config.train.device != "cpu",
    )
    networks = [] if trains else _find_networks(config)
    starts = _find_starts(config) if trains else []
    needed = TRAINING if trains else PREDICTION
    facts = {"needed": list(needed), "code": CODE, "packages": PACKAGES, "name": name}
    facts["row"] = config.prepare.kind.removesuffix("s")
    notebook = write_cells("kaggle.md.j2", published=published, **facts)
    with new_folder(output) as partial:
        kernel, dataset = partial / "kernel", partial / "dataset"
        write_text(kernel / f"{published.kernel}.ipynb", to_text(notebook))
        _write_json(kernel / "kernel-metadata.json", describe_kernel(published))
        _write_json(dataset / "dataset-metadata.json", describe_dataset(published))
        _copy_code(dataset / CODE, starts)
        _write_json(dataset / CODE / VERSIONS, list_versions(needed))
        _copy_packages(dataset / PACKAGES)
        for file in networks:
            copy(file, dataset / file)
    remember(output)
    size = sum(file.stat().st_size for file in output.rglob("*") if file.is_file())
    say(f"{output}: {size / 1e6:.1f} MB. To publish it, privately at first:")
    say(f"kaggle datasets create -p {output / 'dataset'} --dir-mode zip")
    say(f"kaggle kernels push -p {output / 'kernel'}")


def find_user(asked: str | None) -> str:
    """The name of the user on Kaggle. Raises KaggleError where nothing says it."""
    found = find_credentials(os.environ, Path.home()).used
    user = asked or (found.user if found else "")
    if not re.fullmatch(r"[A-Za-z0-9_-]+", user):
        raise KaggleError(
            f"expected your user name on Kaggle, found {user!r}. Add --user NAME, which stands in "
            "the address of your profile there"
        )
    return user


def describe_kernel(of: Publication) -> dict[str, object]:
    """kernel-metadata.json, as Kaggle's client checks it."""
    return {
        "id": f"{of.user}/{of.kernel}",
        "title": of.kernel.replace("-", " "),
        "code_file": f"{of.kernel}.ipynb",
        "language": "python",
        "kernel_type": "notebook",
        "is_private": True,
        "enable_gpu": of.gpu,
        "enable_tpu": False,
        "enable_internet": False,
        "dataset_sources": [f"{of.user}/{of.dataset}"],
        "competition_sources": [of.competition],
        "kernel_sources": [],
        "model_sources": [],
    }


def describe_dataset(of: Publication) -> dict[str, object]:
    """dataset-metadata.json, as Kaggle's client checks it; the code's own licence is MIT."""
    return {
        "id": f"{of.user}/{of.dataset}",
        "title": of.dataset.replace("-", " "),
        "licenses": [{"name": "other"}],
    }


def _find_networks(config: Config) -> list[Path]:
    """The submission's networks, its card and itself, by the hashes of the card."""
    name = config.ensemble.name
    card, weights = find_weights(config)
    read_blend(paths.card(name), card.blend.fitted, len(weights))
    networks = [file for files in weights.values() for file in files]
    return [*networks, paths.submission(name), paths.card(name)]


def _find_starts(config: Config) -> list[Path]:
    """The files that trainings read besides the competition's: weights to start from, corrections.

    Raises NotebookError for what is not at hand there.
    """
    for member in config.train.members:
        if getattr(config.train.models[member].network, "pretrained", False):
            raise NotebookError(
                f"{paths.PARAMS}: train.models.{member}.network: pretrained: true fetches weights, "
                "and the notebook has no internet. Run: make weights NAME=NETWORK, and set "
                "`weights` to the file"
            )
    if config.ensemble.external:
        raise NotebookError(
            f"{paths.PARAMS}: ensemble.external: {config.ensemble.external[0].name} comes from "
            "elsewhere and is not trained there. Take it out"
        )
    corrections = config.prepare.corrections  # in this folder, as list_starts asks of weights
    return [*list_starts(config), *([] if corrections is None else [Path(corrections)])]


def _copy_code(folder: Path, more: list[Path]) -> None:
    """The pipeline as it is here, its parameters, and metrics of the user's own."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", "*.partial")
    for tree in (Path("pipeline"), Path("metrics")):
        if tree.is_dir():
            shutil.copytree(tree, folder / tree, ignore=ignored)
    for file in (paths.PARAMS, *more):
        copy(file, folder / file)


def _copy_packages(folder: Path) -> None:
    for name in VENDORED:
        for file in distribution(name).files or []:
            if ".." in file.parts or file.suffix == ".pyc" or file.name in _OF_INSTALLER:
                continue
            copy(Path(str(file.locate())), folder / file)


def _write_json(path: Path, content: Mapping[str, object]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")
