"""Kaggle's official client, with what it lacks: time-outs, reasons, retries that are safe.

The client waits for ever, may end the process, prints onto standard output, and its mere import
calls the network. So it is imported when it is first used, each call has a time-out, what it
prints is kept, and every failure is a KaggleError. Calls that change nothing are repeated after
a pause; the one that submits is never.
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

from pipeline.core.errors import KaggleError, LostReplyError
from pipeline.core.progress import say
from pipeline.kaggle.credentials import find_credentials
from pipeline.kaggle.failures import Failure, explain
from pipeline.kaggle.scrub import scrub

TIMEOUT_S = 60.0
"""For a connection, and for each piece of an answer."""

TRIES = 5
BACKOFF_S = 1.0
"""Pause after the first failure; it doubles each time, and a random half is added."""

MOST_RETRY_AFTER_S = 120.0
"""A server that asks for a longer pause is an error at once."""

_PAGE_SIZE = 100
_SLUG = re.compile(
    r"(?:https?://)?(?:www\.)?(?:kaggle\.com/)?(?:competitions/|c/)?([\w-]+)(?:/.*)?"
)

Result = TypeVar("Result")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a competition; bytes is None where Kaggle does not tell."""

    name: str
    bytes: int | None
    created: str


@dataclass(frozen=True)
class Limits:
    """Submissions of today and those still allowed today."""

    today: int
    allowed: int


@dataclass(frozen=True)
class Submission:
    """A submission as Kaggle has it. Scores are the server's own texts, "" where there is none."""

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


@dataclass(frozen=True)
class Standing:
    """A team's row of the public leaderboard, best first."""

    team: str
    score: str


def competition_slug(text: str) -> str:
    """The slug out of itself or of the competition's address. Raises KaggleError."""
    found = _SLUG.fullmatch(text.strip())
    if not found:
        raise KaggleError(
            f"competition: expected a slug or its address, as titanic or "
            f"https://www.kaggle.com/competitions/titanic; found {text!r}"
        )
    return found[1]


class Kaggle:
    """A signed-in client. Every method raises KaggleError."""

    def __init__(self) -> None:
        """Sign in. Raises KaggleError where there are no credentials, or none that work."""
        self._credentials = find_credentials(os.environ, Path.home())
        if self._credentials.route == "none":
            problems = "; ".join(self._credentials.problems)
            raise KaggleError(f"no credentials that Kaggle's client would use: {problems}")
        self._api: Any = self._call("signing in", "settings", _sign_in)

    def user(self) -> str:
        """The account's name, after a call that proves the credentials."""
        self._competitions("")
        return str(self._api.config_values.get(self._api.CONFIG_NAME_USER) or "")

    def deadline(self, slug: str) -> str:
        """When the competition ends, in UTC; "" where Kaggle does not tell."""
        ours = [entry for entry in self._competitions(slug) if competition_slug(entry.ref) == slug]
        return _utc(ours[0].deadline) if ours else ""

    def _competitions(self, search: str) -> list[Any]:
        reply = self._ask(
            "asking for competitions", "", "list_competitions", search=search, page_size=_PAGE_SIZE
        )
        return list(reply.competitions or [])

    def list_files(self, slug: str) -> list[RemoteFile]:
        """All files of a competition, by name."""
        what = f"listing the files of {slug}"
        found = [
            RemoteFile(file.name, file.total_bytes or None, _utc(file.creation_date))
            for file in self._pages(what, slug, "list_data_files", "files")
        ]
        return sorted(found, key=lambda file: file.name)

    def download_file(self, slug: str, name: str, folder: Path) -> None:
        """Download one file of a competition into an empty folder, under Kaggle's own name."""
        self._download(
            f"downloading {name}",
            _page(slug),
            folder,
            lambda: self._api.competition_download_file(slug, name, str(folder), True, _quiet()),
        )

    def download_bundle(self, slug: str, folder: Path) -> None:
        """Download all files of a competition as one zip into an empty folder."""
        self._download(
            f"downloading all of {slug}",
            _page(slug),
            folder,
            lambda: self._api.competition_download_files(slug, str(folder), True, _quiet()),
        )

    def download_dataset(self, dataset: str, folder: Path) -> None:
        """Download a public dataset, OWNER/SLUG, as one zip into an empty folder."""
        self._download(
            f"downloading {dataset}",
            f"datasets/{dataset}",
            folder,
            lambda: self._api.dataset_download_files(dataset, str(folder), True, _quiet()),
        )

    def limits(self, slug: str) -> Limits:
        """How many submissions today has seen, and how many more it allows."""
        what = "asking for today's limit"
        found = self._ask(what, slug, "get_submission_limits", competition_name=slug)
        return Limits(found.num_today, found.num_allowed_now)

    def list_submissions(self, slug: str) -> list[Submission]:
        """All submissions of our team, newest first."""
        what = f"listing the submissions to {slug}"
        return [
            _submission(entry)
            for entry in self._pages(what, slug, "list_submissions", "submissions")
        ]

    def get_submission(self, slug: str, ref: int) -> Submission:
        """One submission."""
        return _submission(
            self._ask(f"asking for submission {ref}", slug, "get_submission", ref=ref)
        )

    def read_submission(self, slug: str, ref: int) -> bytes:
        """The file of a submission, as it was sent."""
        what = f"fetching the file of submission {ref}"
        return self._call(
            what,
            _page(slug),
            lambda: bytes(self._request("download_submission", submission_id=ref).content),
        )

    def leaderboard(self, slug: str) -> list[Standing]:
        """The public leaderboard, best first."""
        what = f"reading the leaderboard of {slug}"
        return [
            Standing(entry.team_name, entry.score)
            for entry in self._pages(what, slug, "get_leaderboard", "submissions")
        ]

    def upload(self, slug: str, path: Path) -> str:
        """Upload a file for a submission, which it is not yet. Returns Kaggle's token of it."""

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
                raise requests.ConnectionError  # the client has swallowed the true one
            return str(place.token)

        return self._call(f"uploading {path}", _page(slug), send)

    def create_submission(self, slug: str, token: str, description: str) -> int:
        """Submit an uploaded file, once: never repeated. Returns Kaggle's number of it.

        Raises KaggleError where Kaggle refused it, and LostReplyError where it may or may not
        exist now.
        """
        what = f"submitting to {slug}"

        def send() -> Any:
            return self._request(
                "create_submission",
                competition_name=slug,
                blob_file_tokens=token,
                submission_description=description,
            )

        try:
            reply = _once(send)
        except Exception as error:
            failure = explain(error, _page(slug))
            raise self._failed(what, failure, lost=not failure.refused) from None
        if not reply.ref:
            raise LostReplyError(f"{what}: Kaggle gave it no number ({reply.message or 'no word'})")
        return int(reply.ref)

    def _request(self, method: str, **fields: object) -> Any:
        """One call of the competitions' API, by the name that kagglesdk gives it."""
        from kagglesdk.competitions.types import competition_api_service

        camel = "".join(word.capitalize() for word in method.split("_"))
        request = getattr(competition_api_service, f"Api{camel}Request")()
        for name, value in fields.items():
            setattr(request, name, value)
        with self._api.build_kaggle_client() as client:
            return getattr(client.competitions.competition_api_client, method)(request)

    def _ask(self, what: str, slug: str, method: str, **fields: object) -> Any:
        return self._call(what, _page(slug), lambda: self._request(method, **fields))

    def _pages(self, what: str, slug: str, method: str, field: str) -> list[Any]:
        """All entries of a listing, page after page, each page a call of its own."""
        entries: list[Any] = []
        token = ""
        while True:
            reply = self._ask(
                what, slug, method, competition_name=slug, page_size=_PAGE_SIZE, page_token=token
            )
            entries += getattr(reply, field) or []
            if not reply.next_page_token or reply.next_page_token == token:
                return entries
            token = reply.next_page_token

    def _download(self, what: str, page: str, folder: Path, fetch: Callable[[], object]) -> None:
        def afresh() -> None:
            # Version 2.2.4 may go on after an error page that it took for a part of the file:
            # the right length, and corrupt. So no part is ever kept.
            for leftover in folder.iterdir():
                leftover.unlink()
            try:
                fetch()
            except json.JSONDecodeError:
                raise
            except ValueError as error:  # the client's word for a file of another length
                raise requests.exceptions.ChunkedEncodingError from error

        self._call(what, page, afresh)

    def _call(self, what: str, page: str, call: Callable[[], Result]) -> Result:
        """The result of a call that may be repeated."""
        pause_s = BACKOFF_S
        for tries_left in reversed(range(TRIES)):
            try:
                return _once(call)
            except SystemExit:
                raise KaggleError(
                    f"{what}: the client found no credentials that work. "
                    "Run: python -m pipeline doctor"
                ) from None
            except Exception as error:
                failure = explain(error, page)
            asked_s = failure.retry_after_s or 0.0
            if not failure.transient or not tries_left or asked_s > MOST_RETRY_AFTER_S:
                break
            wait_s = max(asked_s, pause_s * (1 + random.random() / 2))
            self._say(f"{what}: {failure.sentence}: trying again in {wait_s:.0f} s")
            time.sleep(wait_s)
            pause_s *= 2
        raise self._failed(what, failure, lost=False)

    def _failed(self, what: str, failure: Failure, lost: bool) -> KaggleError:
        kind = LostReplyError if lost else KaggleError
        text = scrub(f"{what}: {failure.sentence}", self._credentials.secrets)
        return kind(text, failure.status)

    def _say(self, text: str) -> None:
        say(scrub(text, self._credentials.secrets))


def _once(call: Callable[[], Result]) -> Result:
    with _time_limits(), redirect_stdout(io.StringIO()):
        return call()


def _sign_in() -> Any:
    from kaggle.api.kaggle_api_extended import KaggleApi

    api = KaggleApi()
    api.authenticate()
    return api


@contextmanager
def _time_limits() -> Iterator[None]:
    """Give every request a time-out, and at most two repetitions by the HTTP library itself."""
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


def _quiet() -> bool:
    """Whether the client's own progress bar would only fill a log."""
    return not sys.stderr.isatty()


def _page(slug: str) -> str:
    return f"competitions/{slug}"


def _utc(moment: datetime | None) -> str:
    """Kaggle's times are UTC, and come without saying so."""
    return moment.replace(tzinfo=UTC).isoformat(timespec="seconds") if moment else ""


def _submission(entry: Any) -> Submission:
    return Submission(
        ref=entry.ref,
        date=_utc(entry.date),
        file_name=entry.file_name,
        description=entry.description,
        status=entry.status.name.lower(),
        public=entry.public_score,
        private=entry.private_score,
        error=" ".join((entry.error_description or "").split()),
        team=entry.team_name,
    )
