"""Stage `check`: is the submission valid, and what would it score.

The only stage that may see a solution. Nothing else depends on what it writes.
"""

import json

from pipeline.check.score import score_submission
from pipeline.core import paths
from pipeline.core.competition import read_competition
from pipeline.core.files import write_text
from pipeline.core.progress import say
from pipeline.scoring.metrics import metric_named
from pipeline.scoring.submission import check_submission, read_form


def run(name: str, metric_name: str) -> None:
    """Write reports/leaderboard.json for submissions/NAME.csv, by params.yaml's metric.

    Raises SubmissionError; TableError where a solution does not fit.
    """
    submission = paths.submission(name)
    competition = read_competition(paths.COMPETITION)
    metric = metric_named(metric_name, len(competition.classes))
    form = read_form(paths.SAMPLE_SUBMISSION, metric, competition.classes)
    counts = check_submission(submission, form)
    card = json.loads(paths.card(name).read_text(encoding="utf-8"))
    scores = None
    if paths.SOLUTION.is_file():
        scores = score_submission(
            submission, form, paths.SOLUTION, competition.label_column, metric
        )
    report = {
        "submission": str(submission),
        "valid": True,
        "holds": form.holds,
        "labels": counts,
        "expected": {
            metric.name: card["metric"]["value"],
            "interval": card["metric"]["interval"],
            "confidence": card["out_of_fold"]["confidence"],
        },
        "solution": scores,
    }
    write_text(paths.LEADERBOARD, json.dumps(report, indent=2) + "\n")
    say(f"{submission}: columns, ids, order and {form.holds} are as the sample submission asks")
    if scores is None:
        say(f"no solution in {paths.HIDDEN}: the public and private score are Kaggle's to tell")
