"""`dvc repro` without the hints that DVC gives to somebody who types its commands.

Those (`git add …`, `dvc config core.autostage true`, `dvc push`) stand in no setting of DVC, and
its --quiet hides its errors too. So DVC runs here as a library: its command line's hints are
never printed, and of its own lines only those that say what runs.
"""

import logging

from pipeline.core.errors import PipelineError
from pipeline.core.progress import say


def reproduce(stages: list[str]) -> None:
    """Rebuild what is out of date of these stages and of those before them; of none: everything.

    Another DVC at work in this repository is waited for. Raises PipelineError where DVC fails.
    """
    from dvc.exceptions import DvcException  # 1 s
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.WARNING)
    for runs in ("dvc.stage.run", "dvc.stage.cache"):  # "Running stage …", "… is cached"
        logging.getLogger(runs).setLevel(logging.INFO)
    try:
        with Repo(_wait_for_lock=True) as repo:
            rebuilt = repo.reproduce(stages or None)
    except DvcException as error:
        reasons = [str(error)]
        while error.__cause__ is not None:
            error = error.__cause__
            reasons.append(str(error))
        raise PipelineError(f"dvc repro: {': '.join(reasons)}") from error
    if not rebuilt:
        say("Data and pipelines are up to date.")
