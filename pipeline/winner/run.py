"""What prepare_data.py, train.py and predict.py of a winner's package run (stages/winner.py).

SETTINGS.json is the only place that says where things lie; here it moves pipeline.paths, before
any stage runs. The code itself is the commit's, in the package's folder `code`.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pydantic

from pipeline.core import paths
from pipeline.core.errors import CompetitionError, ConfigError, ImageError, PipelineError, examples
from pipeline.core.progress import say
from pipeline.core.tables import read_csv
from pipeline.params import Config, read_config
from pipeline.raw.archive import ImageArchive
from pipeline.raw.roles import RawFolder
from pipeline.scoring.metrics import metric_named
from pipeline.scoring.submission import read_form, write_submission

Step = Literal["prepare_data", "train", "predict"]
Folder = Annotated[str, pydantic.Field(min_length=1)]

SETTINGS = "SETTINGS.json"
CODE = "code"

_HELP = {
    "prepare_data": "Read the competition's files in RAW_DATA_DIR, write CLEAN_DATA_DIR.",
    "train": "Train every network on CLEAN_DATA_DIR into MODEL_DIR; a new submission, and its "
    "card, in SUBMISSION_DIR.",
    "predict": "Score the test images in RAW_DATA_DIR, or other images, with the networks in "
    "MODEL_DIR, into SUBMISSION_DIR.",
}


class Settings(pydantic.BaseModel):
    """SETTINGS.json: folders, absolute or relative to the file's own."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)

    RAW_DATA_DIR: Folder
    """The competition's files as they came; never written to."""
    CLEAN_DATA_DIR: Folder
    """Decoded images and tables; replaced whole by prepare_data.py."""
    MODEL_DIR: Folder
    CHECKPOINT_DIR: Folder
    """Half-trained networks, so that a broken training goes on."""
    SUBMISSION_DIR: Folder


DEFAULTS = Settings(
    RAW_DATA_DIR="data/raw",
    CLEAN_DATA_DIR="data/clean",
    MODEL_DIR="models",
    CHECKPOINT_DIR="checkpoints",
    SUBMISSION_DIR="submissions",
)


def main(step: Step, root: Path, arguments: list[str]) -> int:
    """Run a step in a package and return its exit code, as the command line does."""
    parser = argparse.ArgumentParser(prog=f"{step}.py", description=_HELP[step])
    if step == "predict":
        parser.add_argument("images", nargs="?", help="a folder or a zip of other images")
    images = vars(parser.parse_args(arguments)).get("images")
    source = Path(images).resolve() if images else None
    try:
        _enter(root)
        config = read_config(paths.PARAMS)
        match step:
            case "prepare_data":
                _prepare_data(config)
            case "train":
                _train(config)
            case "predict":
                _predict(config, source)
    except (PipelineError, OSError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on where it was", file=sys.stderr)
        return 130
    return 0


def read_settings(path: Path) -> Settings:
    """Read SETTINGS.json. Raises ConfigError on anything but the five folders, apart."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. Unpack the package again")
    try:
        settings = Settings.model_validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "the file"
        raise ConfigError(
            f"{path}: expected the folders {', '.join(Settings.model_fields)}, found {place} "
            f"wrong: {first['msg']}. Mend it"
        ) from error
    clean = _folder(path.parent, settings.CLEAN_DATA_DIR)
    for name, value in settings.model_dump().items():
        if name != "CLEAN_DATA_DIR" and _folder(path.parent, value).is_relative_to(clean):
            raise ConfigError(
                f"{path}: {name} lies in CLEAN_DATA_DIR ({clean}), which prepare_data.py replaces "
                "whole. Name another folder"
            )
    return settings


def _enter(root: Path) -> None:
    """Move the paths to where SETTINGS.json has them, and go to where all others start."""
    settings = read_settings(root / SETTINGS)
    moved = {
        paths.RAW: _folder(root, settings.RAW_DATA_DIR),
        paths.STORE: _folder(root, settings.CLEAN_DATA_DIR),
        paths.RESUME: _folder(root, settings.CHECKPOINT_DIR),
        Path("models"): _folder(root, settings.MODEL_DIR),
        Path("submissions"): _folder(root, settings.SUBMISSION_DIR),
    }
    for name, value in list(vars(paths).items()):
        if isinstance(value, Path):
            setattr(paths, name, _move(value, moved))
    for function in (paths.model_folder, paths.submission, paths.card):
        setattr(paths, function.__name__, _moving(function, moved))
    os.chdir(root / CODE)


def _moving(function: Callable[..., Path], moved: dict[Path, Path]) -> Callable[..., Path]:
    return lambda *arguments: _move(function(*arguments), moved)


def _move(path: Path, moved: dict[Path, Path]) -> Path:
    for old, new in moved.items():
        if path.is_relative_to(old):
            return new / path.relative_to(old)
    return path


def _folder(root: Path, value: str) -> Path:
    return (root / value).resolve()


def _prepare_data(config: Config) -> None:
    from pipeline.prepare import stage as prepare

    _check_raw()
    clean = paths.STORE
    if clean.exists() and not clean.is_dir():
        raise ConfigError(f"{SETTINGS}: CLEAN_DATA_DIR: {clean} is no folder")
    if clean.is_dir() and any(clean.iterdir()) and not paths.AUDIT.is_file():
        raise ConfigError(
            f"{SETTINGS}: CLEAN_DATA_DIR: {clean} holds other files, and would be replaced whole. "
            "Name a new folder"
        )
    prepare.run(config.prepare)


def _train(config: Config) -> None:
    from pipeline.ensemble import stage as ensemble
    from pipeline.split import stage as split
    from pipeline.train import stage as train

    split.run(config.split)
    for model in config.train.members:
        for fold in config.train.folds:
            train.run(config.train, model, fold)
    ensemble.run(config.ensemble, config.train.members, config.train.folds)
    name = config.ensemble.name
    _compare(paths.submission(name), Path("submissions") / f"{name}.csv")


def _predict(config: Config, source: Path | None) -> None:
    if source is None:
        _check_raw()
    from pipeline.predict import command as predict  # 3 s

    made = paths.submission(config.ensemble.name)
    if source is not None:
        predict.run(config, source, made.with_name("predictions.csv"))
        return
    folder = RawFolder.of(paths.RAW)
    sample = folder.sample_submission(config.prepare.sample_submission)
    ensemble = predict.load_ensemble(config)
    metric = metric_named(config.ensemble.metric, len(ensemble.classes))
    form = read_form(sample, metric, ensemble.classes)
    image_ids = form.ids
    found = []
    with ImageArchive(*folder.images(config.prepare.test_images, "test")) as archive:
        members = archive.match_ids(image_ids)
        if missing := [image_id for image_id in image_ids if image_id not in members]:
            raise CompetitionError(
                f"{archive.place}: expected an image for each id of {sample.name}, found none for "
                f"{len(missing)} of {len(image_ids)} {examples(missing)}"
            )
        files = [members[image_id] for image_id in image_ids]
        for batch in predict.score(ensemble, archive, files, image_ids, config.prepare):
            if batch.broken:
                raise ImageError(
                    f"{archive.place}: {batch.broken[0].file}: {batch.broken[0].reason}. A "
                    "submission needs every test image: get the archive from its source again"
                )
            found.append(batch.prediction)
    again = made.with_name(f"{made.stem}.predicted.csv")
    write_submission(
        again,
        form,
        image_ids,
        np.concatenate([each.probabilities for each in found]),
        np.concatenate([each.predicted for each in found]),
    )
    say(f"{again}: {len(image_ids)} rows")
    _compare(again, made)


def _check_raw() -> None:
    if not paths.RAW.is_dir() or not any(paths.RAW.iterdir()):
        raise CompetitionError(
            f"{paths.RAW}: expected the competition's files, found none. Put them there, or set "
            f"RAW_DATA_DIR in {SETTINGS} to their folder (README.md: Data)"
        )


def _compare(found: Path, delivered: Path) -> None:
    """Say whether a submission is the one that was delivered."""
    if found.read_bytes() == delivered.read_bytes():
        say(f"{found}: identical to {delivered}, byte for byte")
        return
    rows, wanted = (
        {row[0]: row[1:] for row in read_csv(path).itertuples(index=False, name=None)}
        for path in (found, delivered)
    )
    if rows.keys() != wanted.keys():
        say(f"{found}: other images than those of {delivered}")
        return
    different = [name for name in wanted if rows[name] != wanted[name]]
    say(
        f"{found}: {len(different)} of {len(wanted)} rows differ from {delivered} "
        f"{examples(different)}"
    )
