"""Texts that are safe to show: whatever is printed or raised about Kaggle goes through `scrub`."""

import re
from collections.abc import Iterable

from pydantic import SecretStr

MASK = "***"

_VALUE = r"""[^\s"',;]"""
_PATTERNS = [
    (re.compile(r"""(\b[a-z][a-z0-9+.-]*://[^\s?"'<>]*)\?[^\s"'<>]*""", re.I), rf"\1?{MASK}"),
    (re.compile(r"""\?[\w.~%-]+=[^\s"'<>]*"""), f"?{MASK}"),  # urllib3: "with url: /path?query"
    (re.compile(r"""://[^\s/"'<>]*@"""), f"://{MASK}@"),
    (
        re.compile(r"""(authorization["']?\s*[:=]\s*(?:b(?=["']))?["']?)[^\r\n"']+""", re.I),
        rf"\1{MASK}",
    ),
    (re.compile(rf"\b(Bearer|Basic)\s+{_VALUE}+"), rf"\1 {MASK}"),
    # In lower case, "basic" is an English word too.
    (re.compile(rf"\b(bearer|basic)\s+(?={_VALUE}*\d|{_VALUE}{{16}}){_VALUE}+"), rf"\1 {MASK}"),
]


def scrub(text: str, secrets: Iterable[SecretStr]) -> str:
    """Replace everything that a log must not show with ***.

    That is: each secret; the query of a URL (it signs a link); a user and password in a URL; the
    values of Authorization, Bearer and Basic. A secret shorter than 8 characters is masked only
    where it is a whole word.
    """
    values = {secret.get_secret_value() for secret in secrets}
    for value in sorted(values, key=len, reverse=True):  # one may be a part of another
        if len(value) >= 8:
            text = text.replace(value, MASK)
        elif any(character.isalnum() for character in value):
            text = re.sub(rf"(?<!\w){re.escape(value)}(?!\w)", MASK, text)
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def one_line(text: str) -> str:
    """A server's text without line breaks, and without codes that would control a terminal."""
    return "".join(letter for letter in " ".join(text.split()) if letter.isprintable())
