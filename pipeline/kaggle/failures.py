"""What went wrong in a call to Kaggle, as a sentence that says what to do.

The official client drops the server's reason where it comes in the newer of its two shapes, and
its exceptions carry signed links; so the reason is read from the reply itself, and no text of an
exception is passed on.
"""

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

import requests

_SITE = "https://www.kaggle.com"
_OTHER_SIDE = "the fault is on Kaggle's side or on the way there; try again in some minutes"


@dataclass(frozen=True)
class Failure:
    """Why a call failed."""

    sentence: str
    status: int | None = None
    """HTTP status; None where no answer came."""
    transient: bool = False
    """Whether the same call may succeed a little later."""
    retry_after_s: float | None = None
    """What the server asked to wait."""

    @property
    def refused(self) -> bool:
        """Whether the server said no, so that nothing was done."""
        return self.status is not None and 400 <= self.status < 500


def explain(error: Exception, page: str) -> Failure:
    """Classify what the client raised.

    page: the site's path of what was asked for, as competitions/SLUG. Raises `error` itself
    where it is none that a server or a network causes.
    """
    match error:
        case requests.HTTPError() if error.response is not None:
            return _explain_status(error.response, page)
        case requests.Timeout():
            return Failure(f"no answer in time; {_OTHER_SIDE}", transient=True)
        case requests.exceptions.SSLError():
            return Failure(
                "the certificate is not trusted: does a proxy on the way inspect TLS? Set "
                "REQUESTS_CA_BUNDLE to its certificate's file"
            )
        case requests.exceptions.ProxyError():
            return Failure(
                "the proxy cannot be reached. Check the variables http_proxy and https_proxy",
                transient=True,
            )
        case (
            requests.exceptions.ChunkedEncodingError() | requests.exceptions.ContentDecodingError()
        ):
            return Failure(f"the answer broke off; {_OTHER_SIDE}", transient=True)
        case requests.ConnectionError():
            return Failure(
                "Kaggle cannot be reached. Check the network; python -m pipeline doctor tests it",
                transient=True,
            )
        case json.JSONDecodeError() | requests.exceptions.JSONDecodeError():
            return Failure(
                "expected JSON, found a page of something else: a sign-in page of the network, "
                f"or a proxy's error? Open {_SITE} in a browser, then try again",
                transient=True,
            )
        case KeyError():
            return Failure(
                f"the answer holds the value {error}, which this version of the client does not "
                "know. Install a newer one: pip install --upgrade kaggle"
            )
        case requests.RequestException():  # its text may hold a link or a header
            return Failure(f"the call failed ({type(error).__name__}). python -m pipeline doctor")
    raise error


def _explain_status(response: requests.Response, page: str) -> Failure:
    status = response.status_code
    if "/v1/" not in urlsplit(response.url).path:  # a signed link to the storage, good for a while
        return Failure(f"the link to the file answers {status}", status, transient=True)
    reason = _reason(response)
    said = f" ({reason})" if reason else ""
    if status == 429 or status >= 500:
        wait_s = _retry_after_s(response)
        when = "in some minutes" if wait_s is None else f"in {wait_s:.0f} s"
        why = "too many requests" if status == 429 else f"an error of Kaggle's own, {status}"
        return Failure(f"{why}{said}; try again {when}", status, True, wait_s)
    return Failure(_REFUSALS.get(status, _explain_other)(status, said, page), status)


def _explain_unauthorized(_: int, said: str, __: str) -> str:
    return (
        f"Kaggle does not accept the credentials{said}. python -m pipeline doctor tells which "
        f"were used; new ones: {_SITE}/settings, API"
    )


def _explain_forbidden(_: int, said: str, page: str) -> str:
    if "rule" in said.lower() or (not said and page.startswith("competitions/")):
        sure = "" if said else "most likely "
        return (
            f"{sure}the rules of the competition are not accepted{said}. Accept them in a browser, "
            f"with the same account: {_SITE}/{page}/rules"
        )
    return f"Kaggle refuses this account{said}. See {_SITE}/{page}"


def _explain_missing(_: int, said: str, page: str) -> str:
    return (
        f"Kaggle has no such thing{said}. Compare the name with the address of its page, "
        f"{_SITE}/{page}"
    )


def _explain_other(status: int, said: str, page: str) -> str:
    return f"Kaggle refuses with {status}{said}. See {_SITE}/{page}"


_REFUSALS = {401: _explain_unauthorized, 403: _explain_forbidden, 404: _explain_missing}


def _reason(response: requests.Response) -> str:
    """The server's own words, in either shape: {"message"} or {"error": {"message"}}."""
    try:
        body = response.json()
    except ValueError:
        return ""
    if not isinstance(body, dict):
        return ""
    inner = body.get("error")
    message = inner.get("message") if isinstance(inner, dict) else body.get("message")
    return " ".join(str(message or "").split())[:500]


def _retry_after_s(response: requests.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["Retry-After"]))
    except (KeyError, ValueError):  # the header may be a date: then our own pause does
        return None
