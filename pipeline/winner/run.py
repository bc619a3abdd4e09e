"""What prepare_data.py, train.py and predict.py of a winner's package run.

SETTINGS.json is the only file that names the folders of data, networks and submissions. The
scripts make a working folder, `work`. It holds links to these folders, under the names that the
stages use (pipeline/core/paths.py), and links to the files of the commit. The stages run there,
unchanged.
"""

import argparse
import os
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from pipeline.core import paths
from pipeline.core.errors import CompetitionError, ConfigError, ImageError, PipelineError, examples
from pipeline.core.ours import refuse_others, remember
from pipeline.core.progress import say
from pipeline.core.section import Section
from pipeline.core.tables import read_csv
from pipeline.params import Config, parse_config
from pipeline.prepare.layout import understand_test
from pipeline.scoring.metrics import metric_for, metric_named
from pipeline.scoring.submission import write_submission
from pipeline.scoring.which_form import read_form

Step = Literal["prepare_data", "train", "predict"]
Folder = Annotated[str, pydantic.Field(min_length=1)]

STEPS: dict[Step, str] = {
    "prepare_data": "Read the competition's files in RAW_DATA_DIR, write CLEAN_DATA_DIR.",
    "train": "Train every network into MODEL_DIR; a new submission into SUBMISSION_DIR.",
    "predict": "Score the test rows, or a file, folder or zip of others, into SUBMISSION_DIR.",
}
SETTINGS = "SETTINGS.json"
CODE = "code"
WORK = "work"

_NOT_LINKED = {
    ".resume",
    "data",
    "ensemble",
    "explain",
    "folds",
    "live",
    "models",
    "reports",
    "submissions",
}
"""What the stages write; `make run` in CODE makes these folders."""


class Settings(Section):
    """SETTINGS.json: folders, absolute or relative to the file's own."""

    RAW_DATA_DIR: Folder
    """The competition's files, unchanged; never written to."""
    CLEAN_DATA_DIR: Folder
    """The folder `store` of decoded images and tables, and audit.json, which prepare_data.py
    replaces, and `raw`, a link to RAW_DATA_DIR."""
    MODEL_DIR: Folder
    CHECKPOINT_DIR: Folder
    """Half-trained networks, from which an interrupted training continues."""
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
    parser = argparse.ArgumentParser(prog=f"{step}.py", description=STEPS[step])
    if step == "predict":
        parser.add_argument(
            "images", nargs="?", help="a folder or a zip of other images, or a file of signals"
        )
    images = vars(parser.parse_args(arguments)).get("images")
    source = Path(images).resolve() if images else None
    try:
        settings = read_settings(root / SETTINGS)
        raw = Path(settings.RAW_DATA_DIR)
        if source is None and step != "train" and not (raw.is_dir() and any(raw.iterdir())):
            raise CompetitionError(
                f"{raw}: expected the competition's files, found none. Put them there, or set "
                f"RAW_DATA_DIR in {SETTINGS} to their folder (README.md: Data)"
            )
        enter(root / CODE, root / WORK, settings)
        config = parse_config(paths.PARAMS)  # no stage here removes what the source of data names
        match step:
            case "prepare_data":
                prepare_data(config)
            case "train":
                train_networks(config)
                submission = paths.submission(config.ensemble.name)
                compare(submission, root / CODE / submission)
            case "predict":
                _predict(config, source)
    except (PipelineError, OSError) as error:
        say(f"{type(error).__name__}: {error}")
        return 1
    except KeyboardInterrupt:
        say("interrupted: the same command continues from there")
        return 130
    return 0


def read_settings(path: Path) -> Settings:
    """SETTINGS.json, made absolute. Raises ConfigError on other folders, or in CLEAN_DATA_DIR."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such file. Unpack the package again")
    try:
        written = Settings.model_validate_json(path.read_bytes())
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"]) or "the file"
        raise ConfigError(
            f"{path}: expected the folders {', '.join(Settings.model_fields)}, found {place} "
            f"invalid: {first['msg']}. Correct it"
        ) from error
    folders = {
        name: (path.parent / folder).resolve() for name, folder in written.model_dump().items()
    }
    clean = folders["CLEAN_DATA_DIR"]
    for name, folder in folders.items():
        if name != "CLEAN_DATA_DIR" and folder.is_relative_to(clean):
            raise ConfigError(
                f"{path}: {name} is in CLEAN_DATA_DIR ({clean}), where prepare_data.py replaces "
                "files. Name another folder"
            )
    return Settings.model_validate({name: str(folder) for name, folder in folders.items()})


def enter(code: Path, work: Path, settings: Settings) -> None:
    """Make the working folder, or bring its links up to date, and go there.

    code: the folder of pipeline/ and params.yaml. settings: absolute folders.
    """
    links = {
        paths.STORE.parent: settings.CLEAN_DATA_DIR,
        paths.RAW: settings.RAW_DATA_DIR,  # in the one above
        paths.RESUME: settings.CHECKPOINT_DIR,
        Path("models"): settings.MODEL_DIR,
        Path("submissions"): settings.SUBMISSION_DIR,
    }
    for name, folder in links.items():
        if name != paths.RAW:
            Path(folder).mkdir(parents=True, exist_ok=True)
        _link(work / name, Path(folder))
    for entry in code.iterdir():
        if entry.name not in _NOT_LINKED:
            _link(work / entry.name, entry)
    os.chdir(work)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    link.symlink_to(target)


def prepare_data(config: Config) -> None:
    """Stage `prepare`, as `python -m pipeline prepare` runs it."""
    from pipeline.prepare import stage as prepare

    if paths.STORE.exists() and not paths.COMPETITION.is_file():
        raise ConfigError(
            f"{SETTINGS}: CLEAN_DATA_DIR: {paths.STORE.resolve()} holds other files, and would be "
            "replaced. Name a new folder"
        )
    ensemble = config.ensemble
    prepare.run(config.prepare, ensemble.metric, config.split, ensemble.choices)


def train_networks(config: Config) -> None:
    """The stages `split`, `train` and `ensemble`, as `python -m pipeline` runs them."""
    from pipeline.ensemble import stage as ensemble
    from pipeline.split import stage as split
    from pipeline.train import stage as train

    split.run(config.split)
    for model in config.train.members:
        for fold in config.train.folds:
            train.run(config.train, model, fold)
    ensemble.run(config.ensemble, config.train.members, config.train.folds)


def _predict(config: Config, source: Path | None) -> None:
    """Score the images of `source`, or make the submission again from RAW_DATA_DIR."""
    from pipeline.predict import command as predict

    made = paths.submission(config.ensemble.name)
    if source is not None:
        predict.run(config, source, made.with_name("predictions.csv").resolve())
        return
    again = made.with_name(f"{made.stem}.predicted.csv")
    predict_test(config, again)
    compare(again, made)


def predict_test(config: Config, output: Path) -> None:
    """Score the test images in RAW_DATA_DIR, as its sample submission asks, with the networks in
    MODEL_DIR. Raises ImageError where one of them cannot be read, OutputError for another file."""
    from pipeline.predict import command as predict

    refuse_others(output)
    ensemble = predict.load_ensemble(config)
    name = config.ensemble.metric
    with understand_test(paths.RAW, config.prepare, metric_named(name)) as (sample, test):
        metric = metric_for(name, ensemble.task)
        asked = config.ensemble.form
        form = read_form(sample.place, metric, ensemble.task, asked, sample.table)
        pictures = [picture for picture in test.pictures if picture]
        found = predict.score(ensemble, test.images, pictures, test.row_ids, config.prepare)
    if found.broken:
        raise ImageError(
            f"{test.place}: {found.broken[0].file}: {found.broken[0].reason}. A submission "
            "needs every test image: get the archive from its source again"
        )
    prediction = found.prediction
    write_submission(output, form, found.image_ids, prediction.values, prediction.decided)
    remember(output)
    say(f"{output.resolve()}: {len(form.ids)} rows")


def compare(found: Path, delivered: Path) -> None:
    """Say whether a submission is the one that was delivered."""
    place, other = found.resolve(), delivered.resolve()
    if found.read_bytes() == delivered.read_bytes():
        say(f"{place}: identical to {other}, byte for byte")
        return
    rows, wanted = (
        {
            row[0] if len(row) > 1 else str(place): row
            for place, row in enumerate(read_csv(path).itertuples(index=False, name=None), 1)
        }
        for path in (found, delivered)
    )
    if rows.keys() != wanted.keys():
        say(f"{place}: its rows are not those of {other}")
        return
    different = [name for name in wanted if rows[name] != wanted[name]]
    say(
        f"{place}: {len(different)} of {len(wanted)} rows differ from {other} {examples(different)}"
    )
