"""What keeps a commit's code, which may be anybody's, from what it need not have.

The user is asked about a commit that is not their own. What a remote has is fetched by this
repository's DVC and configuration, so that no credentials of a remote go into the worktree. The
code gets none of Kaggle's, unless it is asked for. That is no sandbox: it runs with all rights of
the user.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.core.progress import say
from pipeline.ledger.git import git


def introduce(commit: str) -> str:
    """Say whose commit it is; returns why it may be somebody else's, or ""."""
    form = "--format=%an%x00%ae%x00%ad%x00%s"
    facts = git("log", "-1", "--no-show-signature", "--date=short", form, commit).split("\0")
    name, email, date, subject = ["".join(filter(str.isprintable, fact)) for fact in facts]
    listed = ["--contains", commit, "--format=%(refname:short)", "refs/heads", "refs/remotes"]
    branches = git("for-each-ref", *listed).splitlines()
    found = f"in {', '.join(branches[:3])}" if branches else "in no branch"
    say(f"the commit is by {name} <{email}>, {date}, {found}: {subject}")
    own = git("config", "--default", "", "--get", "user.email")
    doubts = [f"is by {email}, not by {own or 'you: git has no user.email'}"] * (email != own)
    return " and ".join(doubts + ["is in no branch of this repository"] * (not branches))


@contextlib.contextmanager
def environment_for_code(kaggle: bool) -> Iterator[dict[str, str]]:
    """The variables for the commit's code; without those of Kaggle, and with another home folder.

    That one has links to everything of the user's but .kaggle.
    """
    environment = dict(os.environ)
    if kaggle:
        yield environment
        return
    with TemporaryDirectory(prefix="home-") as folder:
        home = Path(folder)
        for entry in Path.home().iterdir() if Path.home().is_dir() else []:
            if entry.name != ".kaggle":
                (home / entry.name).symlink_to(entry)
        (home / ".kaggle").mkdir()
        yield {
            **{name: text for name, text in environment.items() if not name.startswith("KAGGLE_")},
            "HOME": str(home),
            "KAGGLE_CONFIG_DIR": str(home / ".kaggle"),
        }


def present_repository() -> Any:
    """DVC's view of this repository, with its configuration for each commit that it reads.

    A commit's own could send the credentials in .dvc/config.local to another host.
    """
    from dvc.config import Config
    from dvc.repo import Repo

    class PresentRepo(Repo):  # type: ignore[misc]
        config = Config.from_cwd()

    return PresentRepo()
