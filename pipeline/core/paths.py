"""Where everything lies, relative to the repository's root, where every command runs."""

from pathlib import Path

PARAMS = Path("params.yaml")
DVC_LOCK = Path("dvc.lock")
REQUIREMENTS = Path("requirements.lock")

RAW = Path("data/raw")
"""The competition's files as they came. Immutable."""

HIDDEN = Path("data/hidden")
"""Hidden from competitors: only `check` may read it."""

SOLUTION = HIDDEN / "solution.csv"

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

LIVE = Path("live")
"""Metrics of the runs in progress, for `dvc plots` and `make run`. Not an output."""

ENSEMBLE_OOF = Path("ensemble/oof.csv")
LEADERBOARD = Path("reports/leaderboard.json")
REPORT = Path("reports/index.html")

LEDGER = Path("submissions/ledger.csv")
"""What became of each file that was submitted. Not an output."""


def model_folder(member: str, fold: int) -> Path:
    """Outputs of one model trained without one fold."""
    return Path("models") / member / f"fold{fold}"


def live_table(member: str, fold: int) -> Path:
    """The progress of one training."""
    return LIVE / f"{member}-fold{fold}.csv"


def submission(name: str) -> Path:
    return Path("submissions") / f"{name}.csv"


def card(name: str) -> Path:
    return Path("submissions") / f"{name}.json"
