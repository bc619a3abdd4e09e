"""The texts and scripts of a winner's package, as Kaggle's guidelines ask for them.

The guidelines: kaggle.com/WinningModelDocumentationGuidelines, section B. Each function is a file.
"""

import json
from dataclasses import dataclass

from pipeline.download.config import DownloadConfig
from pipeline.winner.run import CODE, DEFAULTS

SCRIPT = """\
\"\"\"{purpose}\"\"\"

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "{code}"))

from pipeline.winner.run import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main("{step}", ROOT, sys.argv[1:]))
"""

PURPOSES = {
    "prepare_data": "Prepare the competition's data: python prepare_data.py",
    "train": "Train all networks anew: python train.py",
    "predict": "Make the submission, or score other images: python predict.py [FOLDER|ZIP]",
}


@dataclass(frozen=True)
class Facts:
    """What a README tells of one package."""

    name: str
    commit: str
    competition: DownloadConfig
    raw_files: list[dict[str, str | int]]
    """Name, bytes and sha256 of each of the competition's files."""
    networks: list[str]
    device: str
    machine: dict[str, str]


def write_script(step: str) -> str:
    """prepare_data.py, train.py, predict.py: all they do is in the code, where it is tested."""
    return SCRIPT.format(purpose=PURPOSES[step], code=CODE, step=step)


def write_settings() -> str:
    """SETTINGS.json: all paths, relative to itself."""
    return json.dumps(DEFAULTS.model_dump(), indent=2) + "\n"


def write_entry_points(name: str) -> str:
    """entry_points.md: the three commands, each with what it reads and writes."""
    return f"""\
# Entry points

Run in this folder, in the environment of `requirements.txt` (README.md: Installation). All paths
are those of `SETTINGS.json`.

1. `python prepare_data.py`
   - reads the competition's files from `RAW_DATA_DIR`, and never writes there
   - decodes and checks them, and finds duplicates
   - replaces `CLEAN_DATA_DIR`
2. `python train.py`
   - reads `CLEAN_DATA_DIR`
   - trains every network from the start; half-trained ones wait in `CHECKPOINT_DIR`, so that the
     same command goes on where it was stopped
   - replaces the networks in `MODEL_DIR`, and {name}.csv and {name}.json in `SUBMISSION_DIR`
3. `python predict.py`
   - reads the sample submission and the test images from `RAW_DATA_DIR` (`CLEAN_DATA_DIR` is not
     needed), and the networks from `MODEL_DIR`
   - writes `{name}.predicted.csv` to `SUBMISSION_DIR`, and says whether it is `{name}.csv`

   `python predict.py FOLDER|ZIP`
   - scores any other images, into `predictions.csv` in `SUBMISSION_DIR`: id, one probability a
     class, label; images that cannot be read are listed in `predictions.broken.csv`

To repeat the submission from the delivered networks, the third command is enough.
"""


def write_readme(facts: Facts) -> str:
    """README.md: what it takes to run the package, and what it does."""
    machine = "\n".join(f"- {name}: {value}" for name, value in facts.machine.items())
    networks = "\n".join(f"- `{path}`" for path in facts.networks)
    return f"""\
# {facts.name}

The solution behind `submissions/{facts.name}.csv`: code, trained networks, and the commands that
repeat it. `submissions/{facts.name}.json` is the submission's card: its cross-validated score, its
members and their hashes. Licence: see `LICENSE`.

Commit: {facts.commit}

## Contents

- `entry_points.md`: the commands to prepare the data, to train, and to predict
- `SETTINGS.json`: where data, networks and submissions lie; nothing else says so
- `requirements.txt`: every package with its exact version and hashes
- `directory_structure.txt`: every file of this package
- `models/`: the trained networks
- `submissions/`: the submission and its card
- `{CODE}/`: the repository at the commit. `params.yaml` holds every setting of the training,
  `dvc.yaml` the stages, `dvc.lock` the hashes of all that went in and came out

## Hardware and software

As found on the machine that made this package:

{machine}

`train.device` in `{CODE}/params.yaml` is `{facts.device}`; auto takes a GPU where there is one,
else the CPU. No other programs are needed; `make run` (below) also needs make.

## Installation

```
python3 -m venv .venv
source .venv/bin/activate
pip install --require-hashes -r requirements.txt
```

## Data

{_data(facts)}

## Predict

```
python predict.py
```
makes `submissions/{facts.name}.predicted.csv` from the delivered networks, without training, and
compares it with `submissions/{facts.name}.csv`. On the hardware above the bytes are the same. Other
hardware rounds otherwise in the last digits, which can turn a label that is nearly a tie, and
changes the last digits of submitted probabilities; the command says how many rows differ. For a
new test set put its sample submission and its test images in the place of the old ones; for images
without a sample submission: `python predict.py FOLDER|ZIP`.

The networks:

{networks}

## Train

```
python prepare_data.py
python train.py
```
replaces the networks and the submission in `models/` and `submissions/`; the delivered submission
stays in `{CODE}/submissions/`. The seeds are fixed: on the same hardware the bytes are the same.

`cd {CODE} && make run` is the same with DVC, from download to score, in that folder alone: it makes
its own environment, fetches the data as `params.yaml` says, and leaves `SETTINGS.json` aside.

## Side effects and assumptions

- `RAW_DATA_DIR` is only read. `CLEAN_DATA_DIR` is replaced whole; a folder with other files in it
  is refused. `train.py` replaces the networks in `MODEL_DIR`.
- Nothing is fetched from a network, but pretrained weights where `params.yaml` asks for them
  (`pretrained: true`), and only to train.
- `predict.py` stops at a test image that cannot be read: no row is ever guessed.
"""


def write_structure(paths: list[str]) -> str:
    """directory_structure.txt: every folder and file, one a line."""
    folders = {
        "/".join(parts[:depth]) + "/"
        for parts in (path.split("/") for path in paths)
        for depth in range(1, len(parts))
    }
    return "".join(f"./{path}\n" for path in sorted([*paths, *folders]))


def _data(facts: Facts) -> str:
    files = "\n".join(f"{file['sha256']}  {file['name']}" for file in facts.raw_files)
    return f"""\
The competition's images are not in this package: their licence is the competition's. Of its data,
`{CODE}/folds/` and `submissions/` hold ids, labels and groups.

{_source(facts.competition)}
Put the files, as they came, into `data/raw`, or set `RAW_DATA_DIR` in `SETTINGS.json` to their
folder. These were used (`sha256sum --check` reads this list):

```
{files}
```
`predict.py` reads only the sample submission and the test images of them."""


def _source(config: DownloadConfig) -> str:
    match config.source:
        case "kaggle":
            return (
                f"They are Kaggle's: `kaggle competitions download -c {config.competition}`, after "
                "accepting its rules."
            )
        case "rebuild":
            return (
                f"They were rebuilt from Kaggle's dataset {config.dataset}: "
                f"`cd {CODE} && python -m pipeline download` leaves them in `{CODE}/data/raw`."
            )
        case "synthetic":
            return (
                f"They are drawn: `cd {CODE} && python -m pipeline download` leaves them in "
                f"`{CODE}/data/raw`."
            )
        case "local":
            return "They came from a local folder."
