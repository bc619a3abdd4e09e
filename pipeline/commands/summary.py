"""The end of `make run`: a small table of the result, and what to try next.

It reads the outputs of the stages, and imports nothing heavy.
"""

from rich.console import Console
from rich.table import Table

from pipeline.core import paths
from pipeline.core.errors import PipelineError
from pipeline.core.record import read_record
from pipeline.params import Config
from pipeline.report.records import Leaderboard
from pipeline.scoring.card import Card, read_card


def run(config: Config) -> None:
    """Print the result on standard output.

    Raises PipelineError before the first run, and where card and leaderboard are of different runs.
    """
    path = paths.card(config.ensemble.name)
    if not paths.LEADERBOARD.is_file() or not path.is_file():
        raise PipelineError(f"{paths.LEADERBOARD}: nothing was made yet. Run: make run")
    card = read_card(path)
    leaderboard = read_record(paths.LEADERBOARD, Leaderboard, "check")
    if card.metric.name not in leaderboard.expected:
        raise PipelineError(
            f"{paths.LEADERBOARD}: expected scores by the metric {card.metric.name} of {path}, "
            "found those of another run. Run: make run"
        )
    table = Table(show_header=False, box=None, pad_edge=False)
    for what, value in _lines(config, card, leaderboard):
        table.add_row(what, value)
    Console(highlight=False, width=None if Console().is_terminal else 120).print(table)


def _lines(config: Config, card: Card, leaderboard: Leaderboard) -> list[tuple[str, str]]:
    """All scores are by the card's metric."""
    oof, metric = card.out_of_fold, card.metric
    name = metric.name.replace("_", " ")
    low, high = metric.interval
    lines = [
        ("competition", _describe_source(config)),
        (
            f"cross-validated {name}",
            f"{metric.value:.4f}  ({oof.confidence:.0%} interval {low:.4f} to {high:.4f}, "
            f"{oof.rows} images in {oof.groups} groups)",
        ),
    ]
    if oof.rows < oof.of_images:
        lines.append(("", f"only {oof.rows} of {oof.of_images} images: see train.folds"))
    if leaderboard.solution is None:
        lines.append(("local public, private", "not known here: there is no solution file"))
    else:
        lines += [
            (f"local {half} {name}", f"{scores[metric.name]:.4f}  ({scores['rows']:.0f} images)")
            for half, scores in leaderboard.solution.items()
        ]
    return [
        *lines,
        ("submission", leaderboard.submission),
        ("report", str(paths.REPORT)),
        ("next", _next_command(config)),
    ]


def _describe_source(config: Config) -> str:
    match config.download.source:
        case "synthetic":
            return f"synthetic, seed {config.download.seed}"
        case "local":
            return f"local files of {config.download.folder}"
        case "kaggle":
            return f"Kaggle's {config.download.competition}"
        case "rebuild":
            return f"rebuilt from Kaggle's dataset {config.download.dataset}"


def _next_command(config: Config) -> str:
    if config.download.source == "synthetic":
        return (
            "make use PROFILE=malaria-rebuild, then make run  (real cells, with a Kaggle account)"
        )
    path = paths.submission(config.ensemble.name)
    if config.download.source == "kaggle":
        return f"git commit -a, then: make submit  ({path}, after a confirmation)"
    return f"python -m pipeline submit {path} --competition SLUG"
