"""Stage `check`: is the submission valid, and what would it score.

The only stage that may read a solution. Nothing but the report depends on what it writes.
"""

from pipeline.check.score import score_submission
from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.files import is_there
from pipeline.core.progress import say
from pipeline.core.record import write_record
from pipeline.scoring.card import read_card
from pipeline.scoring.leaderboard import ExpectedScore, Leaderboard
from pipeline.scoring.metrics import metric_for
from pipeline.scoring.names import Asked
from pipeline.scoring.submission import check_submission
from pipeline.scoring.which_form import read_form


def run(name: str, metric_name: str, asked: Asked = "auto") -> None:
    """Write reports/leaderboard.json for submissions/NAME.csv, by params.yaml's metric and form.

    Raises SubmissionError; TableError where the card or a solution does not fit.
    """
    submission = paths.submission(name)
    competition = read_competition(paths.COMPETITION)
    metric = metric_for(metric_name, competition.task)
    form = read_form(paths.SAMPLE_SUBMISSION, metric, competition.task, asked)
    counts = check_submission(submission, form)
    card = read_card(paths.card(name))
    solution = None
    if is_there(paths.SOLUTION):
        solution = score_submission(
            submission, form, paths.SOLUTION, competition.label_column, metric
        )
    leaderboard = Leaderboard(
        submission=str(submission),
        holds=form.holds,
        labels=counts,
        metric=metric.name,
        expected=ExpectedScore(
            value=card.metric.value,
            interval=card.metric.interval,
            confidence=card.out_of_fold.confidence,
        ),
        solution=solution,
    )
    write_record(paths.LEADERBOARD, leaderboard)
    say(f"{submission}: columns, ids, order and {form.holds} are as the sample submission asks")
    if solution is None:
        say(f"no solution in {paths.HIDDEN}: the public and private score are Kaggle's to tell")
