"""The slug of a competition, in whatever way someone writes it down."""

import re

from pipeline.core.errors import KaggleError

_SITE = r"(?:(?:https?://)?(?:www\.)?kaggle\.com/|/)?"
_SLUG = r"([a-z0-9][a-z0-9_-]*)"
_ADDRESS = re.compile(rf"{_SITE}(?:competitions|c)/{_SLUG}(?:/.*)?", re.IGNORECASE | re.ASCII)
_BARE = re.compile(rf"(?!(?:competitions|c|t)/?$){_SLUG}/?", re.IGNORECASE | re.ASCII)
_INVITATION = re.compile(rf"{_SITE}t/.*", re.IGNORECASE)


def competition_slug(text: str) -> str:
    """The slug of a competition, given as such or as the address of one of its pages.

    Raises KaggleError on anything else.
    """
    path = re.split("[?#]", text.strip(), maxsplit=1)[0]
    if found := _ADDRESS.fullmatch(path) or _BARE.fullmatch(path):
        return found[1]
    if _INVITATION.fullmatch(path):
        raise KaggleError(
            f"competition: {text!r} is an invitation. Open it in a browser, join the competition, "
            "and give the address of the page that it leads to"
        )
    raise KaggleError(
        "competition: expected a slug or an address, as titanic or "
        f"https://www.kaggle.com/competitions/titanic; found {text!r}"
    )
