"""What went wrong in a call to Kaggle, as a sentence that says what to do.

The official client drops the server's reason if it comes in the newer of its two shapes, and its
exceptions hold signed links. So the reason is read from the reply itself, and the text of an
exception is never passed on.
"""

import math
import os
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests
import urllib3
from pydantic import ValidationError

from pipeline.core.errors import PipelineError
from pipeline.kaggle.scrub import one_line
from pipeline.kaggle.transport import ON_THE_WAY, UNKNOWN_FORM, UnusableError

_SITE = "https://www.kaggle.com"
_NOT_JOINED = re.compile(r"^$|\brules?\b|competitions\.", re.IGNORECASE)
"""Kaggle's reasons of a 403 for an account that has not joined, and for a name that is none."""


@dataclass(frozen=True)
class Failure:
    """Why a call failed."""

    sentence: str
    status: int | None = None
    """HTTP status; None if there was no answer."""
    transient: bool = False
    """Whether the same call may succeed a little later."""
    retry_after_s: float | None = None
    """The pause that the server asked for."""

    @property
    def refused(self) -> bool:
        """Whether the server refused, so that nothing was done."""
        return self.status is not None and 400 <= self.status < 500


def explain(error: Exception, page: str) -> Failure:
    """Classify an exception of the client or of requests.

    page: the path on Kaggle's site of what was asked for, as competitions/SLUG. Raises `error`
    itself where the disk or this machine's files cause it. Whatever else the client raises comes
    from an answer that it cannot read.
    """
    match error:
        case UnusableError():
            return Failure(str(error), transient=error.transient)
        case requests.HTTPError() if error.response is not None:
            return _explain_status(error.response, page)
        case requests.Timeout():
            return Failure(f"no answer in time: {ON_THE_WAY}", transient=True)
        case requests.exceptions.SSLError():
            return Failure(
                "the certificate is not trusted. If a proxy inspects TLS, run: "
                "export REQUESTS_CA_BUNDLE=FILE, with the proxy's certificates"
            )
        case OSError() if "TLS CA certificate bundle" in str(error):  # not a RequestException
            return Failure(f"{error}. Check the variables REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE")
        case requests.exceptions.ProxyError() if "Tunnel connection failed" in repr(error):
            return Failure("the proxy refuses. Ask its administrator to allow Kaggle's host")
        case requests.exceptions.ProxyError():
            return Failure(
                f"the proxy cannot be reached. Check the variable {_proxy_variable()}",
                transient=True,
            )
        case requests.exceptions.InvalidSchema() if "SOCKS" in str(error):
            return Failure(
                f"the proxy in the variable {_proxy_variable()} is one for SOCKS, which needs a "
                "package. Run: python -m pip install pysocks; or set a proxy of http"
            )
        case requests.exceptions.InvalidURL() | urllib3.exceptions.LocationValueError() if (
            _proxy_variable()
        ):
            return Failure(
                f"expected a proxy as http://HOST:PORT in the variable {_proxy_variable()}, found "
                "something else. Correct it"
            )
        case (
            requests.exceptions.ChunkedEncodingError() | requests.exceptions.ContentDecodingError()
        ):
            return Failure(f"the answer broke off: {ON_THE_WAY}", transient=True)
        case requests.ConnectionError():  # the repr of urllib3's cause names the kind
            name = ": its name is not found (DNS)" if "NameResolution" in repr(error) else ""
            return Failure(
                f"Kaggle cannot be reached{name}. Is this machine on the network?", transient=True
            )
        case NotImplementedError():
            return Failure(
                "this version of Kaggle's client has no such call. Install a newer one: "
                "pip install --upgrade kaggle",
                501,
            )
        case KeyError():
            return Failure(
                f"the answer holds the value {error}, which this version of the client does not "
                "know. Install a newer one: pip install --upgrade kaggle"
            )
        case requests.RequestException():  # its text may hold a link or a header
            return Failure(
                f"the request cannot be made ({type(error).__name__}). "
                "Run: python -m pipeline doctor"
            )
        case PipelineError() | OSError():
            raise error
        case ValidationError():
            first = error.errors()[0]
            where = ".".join(str(step) for step in first["loc"])
            return Failure(f"{UNKNOWN_FORM} ({where}: {first['msg']})")
    return Failure(f"{UNKNOWN_FORM} ({type(error).__name__})")


def _proxy_variable() -> str:
    """The variable that names the proxy for Kaggle; "" where none does."""
    scheme = "http" if os.environ.get("KAGGLE_API_ENVIRONMENT") == "LOCALHOST" else "https"
    names = [name for of in (scheme, "all") for name in (f"{of}_proxy", f"{of.upper()}_PROXY")]
    return next((name for name in names if os.environ.get(name)), "")


def _explain_status(response: requests.Response, page: str) -> Failure:
    status = response.status_code
    if "/v1/" not in urlsplit(response.url).path:  # a signed link to a file, valid for a while
        return Failure(f"the link to the file answers {status}", status, transient=True)
    reason = _reason(response)
    said = f" ({reason})" if reason else ""
    if status == 429 or (status >= 500 and status != 501):  # which says that it has no such call
        wait_s = _retry_after_s(response)
        when = "in some minutes" if wait_s is None else f"in {wait_s:.0f} s"
        why = "too many requests" if status == 429 else f"an error inside Kaggle, {status}"
        return Failure(f"{why}{said}; try again {when}", status, True, wait_s)
    if status == 401:
        sentence = (
            f"Kaggle does not accept the credentials{said}. python -m pipeline doctor shows which "
            f"are used; new ones: {_SITE}/settings, API"
        )
    elif status == 403 and "competitions/" in page and re.search(_NOT_JOINED, said):
        sentence = (
            "either the rules of the competition are not accepted, or no competition has this "
            f"name{said}. Join and accept them in a browser, with the same account: "
            f"{_SITE}/{page}/rules; if there is no such page, correct the name"
        )
    elif status == 403:
        sentence = f"Kaggle refuses this account{said}. See {_SITE}/{page}"
    elif status == 404:
        sentence = (
            f"not found on Kaggle{said}. Compare the name with the address of its page, "
            f"{_SITE}/{page}"
        )
    else:
        sentence = f"Kaggle refuses with {status}{said}. See {_SITE}/{page}"
    return Failure(sentence, status)


def _reason(response: requests.Response) -> str:
    """The server's own words, in either shape: {"message"} or {"error": {"message"}}."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return ""
    if not isinstance(body, dict):
        return ""
    inner = body.get("error")
    message = inner.get("message") if isinstance(inner, dict) else body.get("message")
    return one_line(str(message or "")[:500])


def _retry_after_s(response: requests.Response) -> float | None:
    try:
        wait_s = float(response.headers["Retry-After"])
    except (KeyError, ValueError):  # the header may be a date: then the caller's own pause is used
        return None
    return max(0.0, wait_s) if math.isfinite(wait_s) else None
