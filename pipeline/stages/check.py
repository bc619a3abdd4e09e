"""Stage `check`: is the submission valid, and what would it score.

The only stage that may see a solution. Nothing else depends on what it writes.
"""

import json

from pipeline import paths
from pipeline.competition import read_competition
from pipeline.files import write_text
from pipeline.leaderboard.score import score_submission
from pipeline.leaderboard.submission import check_submission
from pipeline.progress import say


def run(name: str) -> None:
    """Write reports/leaderboard.json for submissions/NAME.csv. Raises SubmissionError."""
    submission = paths.submission(name)
    classes = read_competition(paths.COMPETITION).classes
    labels = check_submission(submission, paths.SAMPLE_SUBMISSION, classes)
    card = json.loads(paths.card(name).read_text(encoding="utf-8"))
    expected = {key: card["out_of_fold"][key] for key in ("accuracy", "interval", "confidence")}
    scores = score_submission(submission, paths.SOLUTION) if paths.SOLUTION.is_file() else None
    report = {
        "submission": str(submission),
        "valid": True,
        "labels": labels,
        "expected": expected,
        "solution": scores,
    }
    write_text(paths.LEADERBOARD, json.dumps(report, indent=2) + "\n")
    say(f"{submission}: columns, ids, order and labels are those of the sample submission")
    if scores is None:
        say(f"no solution in {paths.HIDDEN}: the public and private score are Kaggle's to tell")
