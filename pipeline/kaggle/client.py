"""Kaggle's official client, with what it lacks: time-outs, reasons, retries that are safe.

The client waits for ever, may end the process and prints to standard output; importing it already
calls the network. So it is imported when it is first used, each call has a time-out, its output is
dropped, and every failure is a KaggleError. A call that changes nothing is repeated after a pause;
the one that submits never is.
"""

import io
import json
import os
import random
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import requests

from pipeline.core.errors import KaggleError, LostReplyError, PipelineError
from pipeline.core.progress import say
from pipeline.kaggle.credentials import find_credentials
from pipeline.kaggle.failures import explain
from pipeline.kaggle.scrub import scrub

TIMEOUT_S = 60.0
"""To connect, and for each piece of an answer."""

TRIES = 5
BACKOFF_S = 1.0
"""Pause after the first failure. It doubles each time, and up to a half is added at random."""

MOST_RETRY_AFTER_S = 120.0
"""If the server asks for a longer pause, the call fails at once."""

_PAGE_SIZE = 100
_MOST_REASON = 500
_SLUG = re.compile(
    r"(?:https?://)?(?:www\.)?(?:kaggle\.com/)?(?:competitions/|c/)?([\w-]+)(?:/.*)?"
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a competition; bytes: None if Kaggle does not say."""

    name: str
    bytes: int | None
    created: str


@dataclass(frozen=True)
class Limits:
    """Submissions made today, and how many more are allowed."""

    today: int
    allowed: int


@dataclass(frozen=True)
class Submission:
    """A submission on Kaggle. Scores are the server's own texts, "" if there is none."""

    ref: int
    date: str
    file_name: str
    description: str
    status: str
    """pending, complete or error."""
    public: str
    private: str
    error: str
    team: str
    bytes: int | None
    """None if Kaggle does not say."""
    owner: str
    """The account that sent it; "" if Kaggle does not say."""


@dataclass(frozen=True)
class Standing:
    """A team's row of the public leaderboard, best first."""

    team: str
    score: str


def competition_slug(text: str) -> str:
    """The slug of a competition, given as such or as its address. Raises KaggleError."""
    found = _SLUG.fullmatch(text.strip())
    if not found:
        raise KaggleError(
            f"competition: expected a slug or an address, as titanic or "
            f"https://www.kaggle.com/competitions/titanic; found {text!r}"
        )
    return found[1]


class Kaggle:
    """A signed-in client. Every method raises KaggleError."""

    def __init__(self) -> None:
        """Sign in. Raises KaggleError if there are no credentials, or none that work."""
        self._credentials = find_credentials(os.environ, Path.home())
        if self._credentials.used is None:
            raise KaggleError("; ".join(self._credentials.problems))
        try:
            self._api: Any = self._call("signing in", "settings", _sign_in)
        except PipelineError:
            raise
        except Exception as error:  # its own, on a file or folder that it cannot handle
            reason = scrub(f"{type(error).__name__}: {error}", self._credentials.secrets)
            raise KaggleError(
                f"signing in: Kaggle's client fails ({reason}). Run: python -m pipeline doctor; "
                "export KAGGLE_CONFIG_DIR=FOLDER moves the folder that it writes to"
            ) from None

    def user(self) -> str:
        """The account's name, after a call that proves the credentials."""
        self._ask("signing in", "settings", "list_competitions", page_size=1)
        return str(self._api.config_values.get(self._api.CONFIG_NAME_USER) or "")

    def list_files(self, slug: str) -> list[RemoteFile]:
        """All files of a competition, by name."""
        found = self._list(f"listing the files of {slug}", slug, "list_data_files", "files")
        return [
            RemoteFile(file.name, file.total_bytes or None, _utc(file.creation_date))
            for file in sorted(found, key=lambda file: file.name)
        ]

    def download_file(self, slug: str, name: str, folder: Path) -> None:
        """Download one file of a competition into an empty folder, under Kaggle's own name."""
        what = f"downloading {name}"
        self._download(what, _page(slug), folder, "competition_download_file", slug, name)

    def download_bundle(self, slug: str, folder: Path) -> None:
        """Download all files of a competition as one zip into an empty folder."""
        what = f"downloading all of {slug}"
        self._download(what, _page(slug), folder, "competition_download_files", slug)

    def download_dataset(self, dataset: str, folder: Path) -> None:
        """Download a public dataset, OWNER/SLUG, as one zip into an empty folder."""
        what = f"downloading {dataset}"
        self._download(what, f"datasets/{dataset}", folder, "dataset_download_files", dataset)

    def limits(self, slug: str) -> Limits:
        """Submissions made today, and how many more are allowed."""
        what, fields = "asking for today's limit", {"competition_name": slug}
        found = self._ask(what, _page(slug), "get_submission_limits", **fields)
        return Limits(found.num_today, found.num_allowed_now)

    def list_submissions(self, slug: str) -> list[Submission]:
        """All submissions of our team, newest first."""
        what = f"listing the submissions to {slug}"
        return list(map(_submission, self._list(what, slug, "list_submissions", "submissions")))

    def get_submission(self, slug: str, ref: int) -> Submission:
        """One submission, by Kaggle's number."""
        what = f"asking for submission {ref}"
        return _submission(self._ask(what, _page(slug), "get_submission", ref=ref))

    def read_submission(self, slug: str, ref: int) -> bytes:
        """The file of a submission, as it was sent."""
        what = f"fetching the file of submission {ref}"
        return bytes(self._ask(what, _page(slug), "download_submission", submission_id=ref).content)

    def leaderboard(self, slug: str) -> list[Standing]:
        """The public leaderboard, best first."""
        what = f"reading the leaderboard of {slug}"
        found = self._list(what, slug, "get_leaderboard", "submissions")
        return [Standing(_text(entry.team_name), _text(entry.score)) for entry in found]

    def upload(self, slug: str, path: Path) -> str:
        """Upload a file, without submitting it yet. Returns Kaggle's token for it."""

        def send() -> str:
            from kaggle.api.kaggle_api_extended import ResumableUploadResult

            place = self._request(
                "start_submission_upload",
                competition_name=slug,
                file_name=path.name,
                content_length=path.stat().st_size,
                last_modified_epoch_seconds=int(path.stat().st_mtime),
            )
            result = self._api.upload_complete(str(path), place.create_url, True)
            if result != ResumableUploadResult.COMPLETE:
                raise requests.ConnectionError  # the client hides the real exception
            return str(place.token)

        return self._call(f"uploading {path}", _page(slug), send)

    def create_submission(self, slug: str, token: str, description: str) -> int:
        """Submit an uploaded file; this call is never repeated. Returns the submission's number.

        Raises KaggleError if Kaggle refused it, and LostReplyError if it is unknown whether the
        submission exists now.
        """
        what = f"submitting to {slug}"

        def send() -> Any:
            return self._request(
                "create_submission",
                competition_name=slug,
                blob_file_tokens=token,
                submission_description=description,
            )

        reply = self._call(what, _page(slug), send, repeatable=False)
        if not reply.ref:
            raise LostReplyError(
                f"{what}: Kaggle returned no number ({reply.message or 'no reason'})"
            )
        return int(reply.ref)

    def _request(self, method: str, **fields: object) -> Any:
        """Call a method of the competitions' API, by its name in kagglesdk."""
        from kagglesdk.competitions.types import competition_api_service

        camel = "".join(word.capitalize() for word in method.split("_"))
        request = getattr(competition_api_service, f"Api{camel}Request")()
        for name, value in fields.items():
            setattr(request, name, value)
        with self._api.build_kaggle_client() as client:
            return getattr(client.competitions.competition_api_client, method)(request)

    def _ask(self, what: str, page: str, method: str, **fields: object) -> Any:
        return self._call(what, page, lambda: self._request(method, **fields))

    def _list(self, what: str, slug: str, method: str, field: str) -> list[Any]:
        """All entries of a listing. Each of its pages is a call of its own."""
        entries: list[Any] = []
        fields = {"competition_name": slug, "page_size": _PAGE_SIZE}
        token = ""
        while True:
            reply = self._ask(what, _page(slug), method, page_token=token, **fields)
            entries += getattr(reply, field) or []
            if not reply.next_page_token or reply.next_page_token == token:
                return entries
            token = reply.next_page_token

    def _download(self, what: str, page: str, folder: Path, method: str, *names: str) -> None:
        quiet = not sys.stderr.isatty()  # a progress bar would only fill a log

        def from_the_start() -> None:
            # Version 2.2.4 may resume a file whose first part is an error page: the result has the
            # right length and is corrupt. So no part is ever kept.
            for leftover in folder.iterdir():
                leftover.unlink()
            try:
                getattr(self._api, method)(*names, str(folder), True, quiet)
            except json.JSONDecodeError:
                raise
            except ValueError as error:  # the client's exception for a file of another length
                raise requests.exceptions.ChunkedEncodingError from error

        self._call(what, page, from_the_start)

    def _call(
        self, what: str, page: str, call: Callable[[], Result], repeatable: bool = True
    ) -> Result:
        """The result of `call`, which is made again after a passing failure if it is repeatable."""
        pause_s = BACKOFF_S
        for tries_left in reversed(range(TRIES if repeatable else 1)):
            try:
                with _time_limits(), redirect_stdout(io.StringIO()):
                    return call()
            except SystemExit:
                raise KaggleError(
                    f"{what}: the client found no credentials that work. "
                    "Run: python -m pipeline doctor"
                ) from None
            except Exception as error:
                failure = explain(error, page)
            text = scrub(f"{what}: {failure.sentence}", self._credentials.secrets)
            asked_s = failure.retry_after_s or 0.0
            if not failure.transient or not tries_left or asked_s > MOST_RETRY_AFTER_S:
                break
            wait_s = max(asked_s, pause_s * (1 + random.random() / 2))
            say(f"{text}: trying again in {wait_s:.0f} s")
            time.sleep(wait_s)
            pause_s *= 2
        kind = KaggleError if repeatable or failure.refused else LostReplyError
        raise kind(text, failure.status)


def _sign_in() -> Any:
    from kaggle.api.kaggle_api_extended import KaggleApi

    api = KaggleApi()
    api.authenticate()
    return api


@contextmanager
def _time_limits() -> Iterator[None]:
    """Give every request a time-out; the HTTP library itself repeats it at most twice."""
    adapter: Any = requests.adapters.HTTPAdapter
    original = adapter.send

    def send(self: Any, request: Any, *positional: Any, **named: Any) -> Any:
        named["timeout"] = TIMEOUT_S
        if self.max_retries.total and self.max_retries.total > 2:
            self.max_retries = self.max_retries.new(total=2)
        return original(self, request, *positional, **named)

    adapter.send = send
    try:
        yield
    finally:
        adapter.send = original


def _page(slug: str) -> str:
    return f"competitions/{slug}"


def _utc(moment: datetime | None) -> str:
    """Kaggle's times are UTC, without a zone."""
    return moment.replace(tzinfo=UTC).isoformat(timespec="seconds") if moment else ""


def _text(value: object) -> str:
    """One line of text, whatever JSON has in its place."""
    text = "" if value is None else str(value)
    return " ".join(text.encode(errors="replace").decode().split())


def _submission(entry: Any) -> Submission:
    return Submission(
        ref=entry.ref,
        date=_utc(entry.date),
        file_name=_text(entry.file_name),
        description=_text(entry.description),
        status=entry.status.name.lower(),
        public=_text(entry.public_score),
        private=_text(entry.private_score),
        error=_text(entry.error_description)[:_MOST_REASON],
        team=_text(entry.team_name),
        bytes=entry.total_bytes or None,
        owner=_text(entry.submitted_by),
    )
