"""`dvc repro` without the hints that DVC gives to somebody who types its commands.

No setting of DVC turns them off (`git add …`, `dvc config core.autostage true`, `dvc push`), and
its --quiet hides its errors too. So DVC is used as a library here, with its loggers set to say
what runs, and what fails.
"""

import logging

from pipeline.core.errors import PipelineError
from pipeline.core.progress import say
from pipeline.ledger.stages import explain_refusal


def reproduce(stages: list[str]) -> None:
    """Rebuild what is out of date of these stages and those before them; without any, of all.

    It waits for another DVC that works in this repository. Raises PipelineError where DVC fails.
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
        if str(error.__cause__).endswith("exited with 130"):  # Ctrl-C, which the stage has told
            raise SystemExit(130) from error
        explain_refusal(error)
        reason = f": {error.__cause__}" if error.__cause__ else ""
        raise PipelineError(f"dvc repro: {error}{reason}") from error
    if not rebuilt:
        say("Data and pipelines are up to date.")
