"""The end of `make run`: what was made, in one small table, and what to try next.

It reads what the stages wrote, and imports nothing heavy.
"""

from pipeline.core import paths
from pipeline.core.errors import PipelineError
from pipeline.core.files import is_there
from pipeline.core.terminal import make_table, print_table
from pipeline.params import Config
from pipeline.scoring.card import Card, read_card
from pipeline.scoring.ceiling import Ceiling
from pipeline.scoring.leaderboard import Leaderboard, read_leaderboard


def run(config: Config) -> None:
    """Print the result. Raises PipelineError before a run, TableError on files that disagree."""
    for path in (paths.LEADERBOARD, paths.card(config.ensemble.name)):
        if not is_there(path):
            raise PipelineError(f"{path}: nothing was made yet. Run: make run")
    card = read_card(paths.card(config.ensemble.name))
    leaderboard = read_leaderboard(paths.LEADERBOARD, card.metric.name)
    lines = _lines(config, card, leaderboard)
    print_table(make_table(["what", "value"], lines, header=False), width=120)


def _lines(config: Config, card: Card, leaderboard: Leaderboard) -> list[tuple[str, str]]:
    """Scores are by the metric of params.yaml."""
    oof, metric = card.out_of_fold, card.metric
    name = metric.name.replace("_", " ")
    known = ""
    if metric.interval is not None:
        low, high = metric.interval
        known = f"{oof.confidence:.0%} interval {low:.4f} to {high:.4f}, "
    lines = [
        ("competition", _describe_source(config)),
        (
            f"cross-validated {name}",
            f"{metric.value:.4f}  ({known}{oof.rows} images in {oof.groups} groups)",
        ),
    ]
    if isinstance(card.ceiling, Ceiling) and card.ceiling.above:
        lines.append(("the labels allow", card.ceiling.sentence))
    if oof.not_trained:
        lines.append(("", f"only {oof.rows} of {oof.of_images} images: see train.folds"))
    if oof.only_trained:
        lines.append(("", oof.only_trained.sentence))
    if card.other_population:
        lines.append(("", card.other_population))
    if solution := leaderboard.solution:
        lines += [
            (f"local {half} {name}", f"{found.scores[metric.name]:.4f}  ({found.rows} images)")
            for half, found in (("public", solution.public), ("private", solution.private))
        ]
    else:
        lines.append(("local public, private", "not known here: there is no solution file"))
    lines += [
        ("submission", leaderboard.submission),
        ("report", str(paths.REPORT)),
        ("next", _next_command(config)),
    ]
    return lines


def _describe_source(config: Config) -> str:
    match config.download.source:
        case "synthetic":
            return f"synthetic {config.download.kind}, seed {config.download.seed}"
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
        return f"git add --all && git commit, then: make submit  ({path}, after a question)"
    return f"python -m pipeline submit {path} --competition SLUG"
