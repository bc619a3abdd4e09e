"""Tokens and keys, and texts that may hold them: nothing secret is ever shown."""

import re
from collections.abc import Iterable
from typing import NoReturn

MASK = "***"


class Secret:
    """A text that repr, str, format, json and pickle do not show: `reveal` alone gives it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself."""
        return self._text

    def __repr__(self) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> "Secret":
        return self

    def __deepcopy__(self, memo: object) -> "Secret":
        return self

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is never pickled")


def scrub(text: str, secrets: Iterable[Secret | str]) -> str:
    """Put *** in the place of whatever a log must not hold.

    Each secret; the query of any URL (it signs a link); what stands before a URL's @; the values
    of Authorization, Bearer and Basic. A secret of under 8 characters only as a whole word.
    """
    revealed = {secret.reveal() if isinstance(secret, Secret) else secret for secret in secrets}
    for secret in sorted(revealed, key=len, reverse=True):
        if len(secret) >= 8:
            text = text.replace(secret, MASK)
        elif any(character.isalnum() for character in secret):
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", MASK, text)
    for pattern, replacement in _TELLTALES:
        text = pattern.sub(replacement, text)
    return text


_VALUE = r"""[^\s"',;]"""
_TELLTALES = [
    (re.compile(r"""(\b[a-z][a-z0-9+.-]*://[^\s?"'<>]*)\?[^\s"'<>]*""", re.I), rf"\1?{MASK}"),
    (re.compile(r"""\?[\w.~%-]+=[^\s"'<>]*"""), f"?{MASK}"),  # urllib3: "with url: /path?query"
    (re.compile(r"""://[^\s/"'<>]*@"""), f"://{MASK}@"),
    (
        re.compile(r"""(authorization["']?\s*[:=]\s*(?:b(?=["']))?["']?)[^\r\n"']+""", re.I),
        rf"\1{MASK}",
    ),
    (re.compile(rf"\b(Bearer|Basic)\s+{_VALUE}+"), rf"\1 {MASK}"),
    # In small letters, "basic" is an English word too.
    (
        re.compile(rf"\b(bearer|basic)\s+(?={_VALUE}*\d|{_VALUE}{{16}}){_VALUE}+", re.I),
        rf"\1 {MASK}",
    ),
]
