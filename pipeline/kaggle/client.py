"""Kaggle's official client, with what it lacks: time-outs, reasons, retries that are safe.

The client waits for ever, may end the process and prints to standard output; importing it already
calls the network. So it is imported when it is first used, each call has a time-out, its output is
dropped, and every failure is a KaggleError. A call that changes nothing is repeated after a pause;
the one that submits never is.
"""

import io
import os
import random
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, TypeVar

import requests
import urllib3

from pipeline.core.errors import KaggleError, LostReplyError, examples
from pipeline.core.progress import say
from pipeline.kaggle import answers
from pipeline.kaggle.answers import Limits, RemoteFile, Sent, Standing, Submission
from pipeline.kaggle.credentials import find_credentials
from pipeline.kaggle.failures import explain
from pipeline.kaggle.scrub import scrub
from pipeline.kaggle.transport import UnusableError, limits

TIMEOUT_S = 60.0
"""To connect, and for each piece of an answer."""

TRIES = 5
BACKOFF_S = 1.0
"""Pause after the first failure. It doubles each time, and up to a half is added at random."""

MOST_RETRY_AFTER_S = 120.0
"""If the server asks for a longer pause, the call fails at once."""

MOST_PAGES = 10_000
LISTING_S = 1800.0
"""The most pages of a listing, and how long all of them together may take."""

MOST_SUBMISSION_BYTES = 2**28
"""A submission's file is read into memory."""

_NO_SUCH_CALL = (404, 501)
"""What Kaggle answers to a call that it does not have."""

_PAGE_SIZE = 100
_SPARE_BYTES = 2**16
"""What a zip around a file adds to it at most, beside a hundredth."""

_ENTRY_BYTES = 2**8
"""What a file adds to a zip at most, beside its content and twice its name."""

Result = TypeVar("Result")


class Kaggle:
    """A signed-in client. Every method raises KaggleError."""

    def __init__(self) -> None:
        """Sign in. Raises KaggleError if there are no credentials, or none that work."""
        self._credentials = find_credentials(os.environ, Path.home())
        if self._credentials.used is None:
            raise KaggleError("; ".join(self._credentials.problems))
        self._api: Any = self._call("signing in", "settings", self._sign_in)

    def user(self) -> str:
        """The account's name, after a call that proves the credentials."""
        self._ask("signing in", "settings", "list_competitions", lambda _: None, page_size=1)
        return str(self._api.config_values.get(self._api.CONFIG_NAME_USER) or "")

    def list_files(self, slug: str) -> list[RemoteFile]:
        """All files of a competition, by name."""
        what = f"listing the files of {slug}"
        found = self._list(what, slug, "list_data_files", "files", answers.read_remote_file)
        return sorted(found, key=lambda file: file.name)

    def download_file(self, slug: str, file: RemoteFile, folder: Path) -> None:
        """Download one file of a competition into an empty folder, under Kaggle's own name."""
        what, method = f"downloading {file.name}", "competition_download_file"
        self._download(what, _page(slug), folder, file.bytes, method, slug, file.name)

    def download_bundle(self, slug: str, files: list[RemoteFile], folder: Path) -> None:
        """Download all files of a competition as one zip into an empty folder."""
        what, method = f"downloading all of {slug}", "competition_download_files"
        sizes = [file.bytes for file in files if file.bytes is not None]
        entries = sum(2 * len(file.name.encode()) + _ENTRY_BYTES for file in files)
        size = sum(sizes) + entries if len(sizes) == len(files) else None
        self._download(what, _page(slug), folder, size, method, slug)

    def download_dataset(self, dataset: str, folder: Path) -> None:
        """Download a public dataset, OWNER/SLUG, as one zip into an empty folder."""
        what, method = f"downloading {dataset}", "dataset_download_files"
        self._download(what, f"datasets/{dataset}", folder, None, method, dataset)

    def limits(self, slug: str) -> Limits:
        """Submissions made today, and how many more are allowed.

        Where there is no call that tells, the first is counted from the list of submissions.
        """
        what, method = "asking for today's limit", "get_submission_limits"
        try:
            return self._ask(what, _page(slug), method, answers.read_limits, competition_name=slug)
        except KaggleError as error:
            if error.status not in _NO_SUCH_CALL:
                raise
            say(
                f"{what}: Kaggle or its client has no such call ({error.status}): today's "
                "submissions are counted from their list, and how many are left is not known"
            )
            return answers.count_today(self.list_submissions(slug))

    def list_submissions(self, slug: str) -> list[Submission]:
        """All submissions of our team, newest first."""
        what = f"listing the submissions to {slug}"
        return self._list(what, slug, "list_submissions", "submissions", answers.read_submission)

    def get_submission(self, slug: str, ref: int) -> Submission:
        """One submission, by Kaggle's number."""
        what = f"asking for submission {ref}"
        return self._ask(what, _page(slug), "get_submission", answers.read_submission, ref=ref)

    def read_submission(self, slug: str, found: Submission) -> bytes:
        """The file of a submission, as it was sent; no larger than Kaggle lists it."""
        what, method = f"fetching the file of submission {found.ref}", "download_submission"
        size = found.bytes
        content = self._call(
            what,
            _page(slug),
            lambda: bytes(self._request(method, submission_id=found.ref).content),
            most_bytes=MOST_SUBMISSION_BYTES if size is None else _most_bytes(size),
        )
        if size not in (None, len(content)):
            raise KaggleError(f"{what}: expected {size} bytes, got {len(content)}", 200)
        return content

    def leaderboard(self, slug: str) -> list[Standing]:
        """The teams with a score on the public leaderboard, best first."""
        what = f"reading the leaderboard of {slug}"
        found = self._list(what, slug, "get_leaderboard", "submissions", answers.read_standing)
        if absent := [standing.team for standing in found if not standing.score]:
            say(
                f"{what}: {len(absent)} of {len(found)} teams have no number as their score "
                f"{examples(absent)}: left out"
            )
        return [standing for standing in found if standing.score]

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

        def send() -> Sent:
            reply = self._request(
                "create_submission",
                competition_name=slug,
                blob_file_tokens=token,
                submission_description=description,
            )
            return Sent(ref=reply.ref, message=reply.message)

        sent = self._call(what, _page(slug), send, repeatable=False)
        if not sent.ref:
            raise LostReplyError(
                f"{what}: Kaggle returned no number ({sent.message or 'no reason'})"
            )
        return sent.ref

    def _sign_in(self) -> Any:
        try:
            from kaggle.api.kaggle_api_extended import KaggleApi

            api = KaggleApi()
            api.authenticate()
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnusableError):
            raise
        except Exception as error:  # its own, on a file or folder that it cannot handle
            reason = scrub(f"{type(error).__name__}: {error}", self._credentials.secrets)
            raise KaggleError(
                f"signing in: Kaggle's client fails ({reason}). Run: python -m pipeline doctor; "
                "export KAGGLE_CONFIG_DIR=FOLDER moves the folder that it writes to"
            ) from None
        return api

    def _request(self, method: str, **fields: object) -> Any:
        """Call a method of the competitions' API, by its name in kagglesdk."""
        from kagglesdk.competitions.types import competition_api_service

        camel = "".join(word.capitalize() for word in method.split("_"))
        with self._api.build_kaggle_client() as client:
            calls = client.competitions.competition_api_client
            if not hasattr(calls, method):
                raise NotImplementedError
            request = getattr(competition_api_service, f"Api{camel}Request")()
            for name, value in fields.items():
                setattr(request, name, value)
            return getattr(calls, method)(request)

    def _ask(
        self, what: str, page: str, method: str, build: Callable[[Any], Result], **fields: object
    ) -> Result:
        """What `build` makes of the answer; an answer of which it makes nothing is a failure."""
        return self._call(what, page, lambda: build(self._request(method, **fields)))

    def _list(
        self, what: str, slug: str, method: str, field: str, build: Callable[[Any], Result]
    ) -> list[Result]:
        """All entries of a listing. Each of its pages is a call of its own."""

        def read(reply: Any) -> tuple[list[Result], str]:
            return [build(entry) for entry in getattr(reply, field)], str(reply.next_page_token)

        entries: list[Result] = []
        fields = {"competition_name": slug, "page_size": _PAGE_SIZE}
        token, seen = "", {""}
        deadline = time.monotonic() + LISTING_S
        while len(seen) <= MOST_PAGES and time.monotonic() < deadline:
            found, token = self._ask(what, _page(slug), method, read, page_token=token, **fields)
            entries += found
            if not token:
                return entries
            if token in seen:
                break
            seen.add(token)
        raise KaggleError(
            f"{what}: the list does not end: {len(seen)} pages, {len(entries)} entries, and the "
            "next page was there before or is one too many. Try again later"
        )

    def _download(
        self, what: str, page: str, folder: Path, size: int | None, method: str, *names: str
    ) -> None:
        """size: what is expected; None if nobody knows, then the disk is not filled up."""
        quiet = not sys.stderr.isatty()  # a progress bar would only fill a log
        most = 0.9 * shutil.disk_usage(folder).free if size is None else _most_bytes(size)

        def from_the_start() -> None:
            # Version 2.2.4 may resume a file whose first part is an error page: the result has the
            # right length and is corrupt. So no part is ever kept.
            for leftover in folder.iterdir():
                leftover.unlink()
            try:
                getattr(self._api, method)(*names, str(folder), True, quiet)
            except requests.RequestException:
                raise
            except ValueError as error:  # the client's exception for a file of another length
                raise requests.exceptions.ChunkedEncodingError from error

        self._call(what, page, from_the_start, most_bytes=most)

    def _call(
        self,
        what: str,
        page: str,
        call: Callable[[], Result],
        repeatable: bool = True,
        most_bytes: float = MOST_SUBMISSION_BYTES,
    ) -> Result:
        """The result of `call`, which is made again after a passing failure if it is repeatable.

        most_bytes: of a file in the answer.
        """
        pause_s = BACKOFF_S
        for tries_left in reversed(range(TRIES if repeatable else 1)):
            try:
                with limits(TIMEOUT_S, most_bytes), redirect_stdout(io.StringIO()):
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


def _most_bytes(size: int) -> float:
    """Of a file in an answer, where Kaggle lists it with this size."""
    return 1.01 * size + _SPARE_BYTES


def _page(slug: str) -> str:
    return f"competitions/{slug}"
