"""Where everything lies, relative to the repository's root, where every command runs."""

from collections.abc import Sequence
from pathlib import Path

PARAMS = Path("params.yaml")
DVC_YAML = Path("dvc.yaml")
DVC_LOCK = Path("dvc.lock")
REQUIREMENTS = Path("requirements.lock")

RAW = Path("data/raw")
"""The competition's files as they came. Immutable."""

DOWNLOADED = Path("data/.download")
"""The complete files of an interrupted download, on the disk where they will be. Not an output."""

HIDDEN = Path("data/hidden")
"""Hidden from competitors: only `check` may read it."""

SOLUTION = HIDDEN / "solution.csv"

CHECKED = Path("data/params.txt")
"""Says that params.yaml was checked; every stage comes after it."""

STORE = Path("data/store")
TRAIN_IMAGES = STORE / "train.npy"
TEST_IMAGES = STORE / "test.npy"
TRAIN_TABLE = STORE / "train.csv"
TEST_TABLE = STORE / "test.csv"
COMPETITION = STORE / "competition.json"
DECODING = STORE / "decoding.json"
SAMPLE_SUBMISSION = STORE / "sample_submission.csv"
AUDIT = Path("data/audit.json")

FOLDS = Path("folds/folds.csv")
FOLDS_SUMMARY = Path("folds/summary.json")

RESUME = Path(".resume")
"""Half-trained networks, in folders named after a hash of their inputs. Not an output."""

WEIGHTS = Path("weights")
"""Published weights that `weights` fetched. Not an output; not in git."""

LIVE = Path("live")
"""Metrics of the runs in progress, for `dvc plots` and `make run`. Not an output."""

ENSEMBLE_OOF = Path("ensemble/oof.csv")
"""The only file of its folder; tables.predictions_file says what it is called with many classes."""

LEADERBOARD = Path("reports/leaderboard.json")
REPORT = Path("reports/index.html")
FIGURES = Path("reports/metrics.json")
CONFUSION = Path("reports/confusion.csv")
RELIABILITY = Path("reports/reliability.csv")

LEDGER = Path("submissions/ledger.csv")
"""What became of each file that was submitted. Not an output."""

OWN_FILES = (PARAMS, DVC_YAML, DVC_LOCK, REQUIREMENTS, LEDGER)
"""Outside of pipeline/; no stage makes them."""


def model_folder(member: str, fold: int) -> Path:
    """Outputs of one model trained without one fold."""
    return Path("models") / member / f"fold{fold}"


def explained(member: str) -> Path:
    """Outputs of stage `explain`."""
    return Path("explain") / member


def explained_page(member: str, fold: int) -> Path:
    """What command `explain` shows of one network. Not an output."""
    return Path("reports/explain") / f"{member}-fold{fold}.html"


def live_table(member: str, fold: int) -> Path:
    """The progress of one training."""
    return LIVE / f"{member}-fold{fold}.csv"


def submission(name: str) -> Path:
    return Path("submissions") / f"{name}.csv"


def card(name: str) -> Path:
    return Path("submissions") / f"{name}.json"


def leak(name: str) -> Path:
    """What command `leak` found. Not an output; in git."""
    return Path("leaks") / f"{name}.json"


def outputs(name: str, members: Sequence[str], folds: Sequence[int]) -> list[Path]:
    """What the stages remove or replace: their outputs in dvc.yaml, and the folders of progress."""
    models = [model_folder(member, fold) for member in members for fold in folds]
    models += map(explained, members)
    ensemble = [submission(name), card(name), ENSEMBLE_OOF.parent]
    report = [LEADERBOARD, REPORT, FIGURES, CONFUSION, RELIABILITY]
    data = [RAW, HIDDEN, STORE, AUDIT, CHECKED, FOLDS, FOLDS_SUMMARY]
    return [*data, *models, *ensemble, *report, DOWNLOADED, RESUME, LIVE]
