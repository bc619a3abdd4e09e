"""The limits of every request to Kaggle, in time and in size; its client has none.

A server, or a proxy on the way, may send one byte a minute, unpack to gigabytes, lead in circles,
or answer with a page. Then UnusableError is raised, which the client does not take for a reason to
try again by itself. Whatever is no file is read and checked here, before the client sees it.
"""

import io
import json
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from http.client import HTTPResponse
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection
from urllib3.util import Retry

from pipeline.core.names import is_storable

LEAST_BYTES_PER_S = 1000.0
"""In each stretch of waiting as long as the time-out."""

ANSWER_S = 120.0
MOST_ANSWER_BYTES = 16 * 2**20
"""For one answer that is no file, unpacked. A page of a listing has some 50 kB."""

MOST_REDIRECTS = 5

ON_THE_WAY = "the cause is at Kaggle or on the way there; try again in some minutes"
UNKNOWN_FORM = (
    "the answer has a form that this version of Kaggle's client does not know. If no proxy changed "
    "it, install a newer one: pip install --upgrade kaggle"
)


class UnusableError(Exception):
    """An answer that cannot be used. It says why, and names nothing that an answer holds."""

    def __init__(self, sentence: str, transient: bool = True) -> None:
        super().__init__(sentence)
        self.transient = transient


@contextmanager
def limits(timeout_s: float, most_file_bytes: float) -> Iterator[None]:
    """Apply the limits to all requests of this process.

    timeout_s: to connect, and for each piece of an answer. Raises UnusableError beside the
    exceptions of requests.
    """
    adapter: Any = HTTPAdapter
    connection: Any = HTTPConnection
    originals = adapter.send, connection.response_class
    redirects = 0

    def send(self: Any, request: Any, stream: bool = False, **named: Any) -> Any:
        nonlocal redirects
        self.max_retries = Retry(0, read=False)  # else it waits for as long as the server asks
        named["timeout"] = timeout_s
        response = originals[0](self, request, stream=stream, **named)
        redirects = redirects + 1 if response.is_redirect else 0
        try:
            if stream and response.status_code in (200, 206):
                _limit_file(response, most_file_bytes)
            else:
                _read_answer(response)
                _check_redirect(response, redirects)
                if request.method == "POST" and "/v1/" in urlsplit(request.url).path:
                    _check_answer(response)
        except BaseException:
            response.close()
            raise
        return response

    adapter.send, connection.response_class = send, _PacedResponse
    try:
        yield
    finally:
        adapter.send, connection.response_class = originals


class _PacedResponse(HTTPResponse):
    def __init__(self, sock: Any, *positional: Any, **named: Any) -> None:
        super().__init__(sock, *positional, **named)
        socket_file: Any = self.fp
        self.fp = io.BufferedReader(_PacedSocket(socket_file.detach(), sock.gettimeout()))


class _PacedSocket(io.RawIOBase):
    """A socket's bytes, as long as they do not come too slowly; only waiting for them counts."""

    def __init__(self, raw: io.RawIOBase, timeout_s: float) -> None:
        self._raw = raw
        self._timeout_s = timeout_s
        self._waited_s, self._received = 0.0, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        start = time.monotonic()
        try:
            count = self._raw.readinto(buffer)
        except TimeoutError:
            raise UnusableError(f"no answer in time: {ON_THE_WAY}") from None
        self._waited_s += time.monotonic() - start
        self._received += count or 0
        if self._waited_s > self._timeout_s:
            if self._received < LEAST_BYTES_PER_S * self._waited_s:
                raise UnusableError(
                    f"the answer comes too slowly, {self._received:,} bytes in "
                    f"{self._waited_s:.0f} s: {ON_THE_WAY}"
                )
            self._waited_s, self._received = 0.0, 0
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


def _limited(pieces: Iterable[bytes], most: float, deadline: float) -> Iterator[bytes]:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > most:
            raise UnusableError(
                f"the answer is larger than the {most:,.0f} bytes that were to be expected",
                transient=False,
            )
        if time.monotonic() > deadline:
            raise UnusableError(f"the answer does not end: {ON_THE_WAY}")
        yield piece


def _limit_file(response: Any, most: float) -> None:
    """The client writes it under the last part of its address."""
    name = urlsplit(response.url).path.rpartition("/")[2]
    if not (is_storable(name) and is_storable(unquote(name))):
        raise UnusableError("the link leads to something without the name of a file")
    try:
        datetime.strptime(response.headers.get("Last-Modified", ""), "%a, %d %b %Y %H:%M:%S %Z")
    except ValueError:
        response.headers.pop("Last-Modified", None)  # the client fails on it
    pieces = response.iter_content

    def iter_content(*size: Any, **named: Any) -> Iterator[bytes]:
        try:
            yield from _limited(pieces(*size, **named), most, float("inf"))
        finally:
            response.close()  # the client leaves it open where it tries again

    response.iter_content = iter_content


def _read_answer(response: Any) -> None:
    deadline = time.monotonic() + ANSWER_S
    pieces = response.iter_content(2**12)
    response._content = b"".join(_limited(pieces, MOST_ANSWER_BYTES, deadline))


def _check_redirect(response: Any, in_a_row: int) -> None:
    if in_a_row > MOST_REDIRECTS:
        raise UnusableError(f"the answer is redirected {in_a_row} times in a row: {ON_THE_WAY}")
    if response.is_redirect:
        try:
            place = urlsplit(urljoin(response.url, response.headers["Location"]))
            valid = place.scheme in ("http", "https") and bool(place.hostname)
        except ValueError:
            valid = False
        if not valid:
            raise UnusableError("the answer is redirected to an address that is none")


def _check_answer(response: Any) -> None:
    """An answer is an object of JSON. The reason of a refusal is not read by the client."""
    response.encoding = "utf-8"
    if response.is_redirect:
        return
    if response.status_code >= 400:
        response.headers["Content-Type"] = "text/plain"
        return
    try:
        content = json.loads(response.content.decode())
    except RecursionError:
        content = None
    except ValueError:
        raise UnusableError(
            "expected JSON, found another page: a sign-in page of the network, or a proxy's "
            "error? Open https://www.kaggle.com in a browser, then try again"
        ) from None
    if not isinstance(content, dict):
        raise UnusableError(UNKNOWN_FORM, transient=False)
