"""Where Kaggle's client finds its credentials, which of them it uses, and what is wrong with them.

`kaggle` (2.2.4 and 2.2.5) says little when something is wrong. It uses the first of:

1. an access token: in a Kaggle notebook the file that KAGGLE_API_V1_TOKEN names; KAGGLE_API_TOKEN,
   the token or a path to it; ~/.kaggle/access_token; ~/.kaggle/access_token.txt
2. a username and a key: kaggle.json in ONE folder ($KAGGLE_CONFIG_DIR, else ~/.kaggle if it
   exists, else ${XDG_CONFIG_HOME:-~/.config}/kaggle); KAGGLE_USERNAME and KAGGLE_KEY go first. A
   token there, or in KAGGLE_TOKEN, is sent in place of a complete pair
3. ~/.kaggle/credentials.json, which `kaggle auth login` writes

The same files and variables are read here without the client, whose import calls the network,
prints and makes folders (tests/test_credentials.py compares the two). Only signing in shows
whether Kaggle accepts what is found.
"""

import json
import os
import re
import stat
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

from pydantic import SecretStr

_SETTINGS = "https://www.kaggle.com/settings/api"
_MOST_BYTES = 2**16
_NEW_KEY = f"Create a new one on {_SETTINGS} (legacy API key)"


@dataclass(frozen=True)
class Credential:
    """What one of the client's places holds.

    origin: the variable or file. kind: a token, the key or OAuth. user: "" for a token. fault: why
    it cannot work. chosen: whether the client looks no further, with a fault or without.
    """

    origin: str = ""
    kind: str = ""
    user: str = ""
    fault: str = ""
    chosen: bool = True


@dataclass(frozen=True)
class Credentials:
    """What the client would sign in with (None if it cannot), and what is wrong.

    notes: what is shadowed, and faults of what is not used. secrets: all, for `scrub`.
    """

    used: Credential | None
    problems: list[str]
    notes: list[str]
    secrets: list[SecretStr] = field(repr=False)


def find_credentials(environ: Mapping[str, str], home: Path) -> Credentials:
    """Look where the client looks, in its order; nothing there makes this raise.

    A file that other users can read is always a problem; a fault of what is not used is a note.
    """
    own = home / ".kaggle"
    xdg = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
    default = xdg if sys.platform.startswith("linux") and not _exists(own) else own
    key_file = Path(environ.get("KAGGLE_CONFIG_DIR") or default) / "kaggle.json"
    tokens, oauth = [own / "access_token", own / "access_token.txt"], own / "credentials.json"
    found = [*_find_tokens(environ, tokens), *_find_key(environ, key_file), *_find_oauth(oauth)]
    secrets, problems = _read_secrets(environ, [*tokens, key_file, oauth])
    notes = []
    used = next((each for each in found if each.chosen), None)
    for each in found:
        if used is None or each is used:
            problems += [each.fault] if each.fault else []
        else:
            notes.append(each.fault or f"{each.origin} is not used, because of {used.origin}")
    if used is None:
        problems.append(
            "no credentials for Kaggle. Run: kaggle auth login; or press Generate New Token on "
            f"{_SETTINGS} and save the token in {tokens[0]} (then chmod 600), or export "
            f"KAGGLE_API_TOKEN=TOKEN. A legacy kaggle.json belongs in {key_file.parent}"
        )
    return Credentials(None if used and used.fault else used, problems, notes, secrets)


def _find_tokens(environ: Mapping[str, str], files: list[Path]) -> Iterator[Credential]:
    notebook = {"KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_DATA_PROXY_URL", "KAGGLE_API_V1_TOKEN"}
    variables = ["KAGGLE_API_V1_TOKEN"] if notebook <= environ.keys() else []
    for variable in [*variables, "KAGGLE_API_TOKEN"]:
        value = environ.get(variable, "")
        named = Path(value)
        if value and _exists(named):
            files = [path for path in files if path != named]
            token, fault = _read(named)
            yield from _check_token(token, fault, f"{named} ({variable})", f"unset {variable}")
            if (
                token == "" and variable == "KAGGLE_API_TOKEN"
            ):  # the client looks into no other file
                unused = [path for path in files if _read(path)[0]]
                files = []
                for path in unused:
                    fault = f"{path} is not used, because {variable} names the empty file {named}"
                    yield Credential(fault=fault, chosen=False)
        elif value and variable == "KAGGLE_API_TOKEN":
            yield from _check_token(value, "", variable, f"unset {variable}")
    for path in files:
        yield from _check_token(*_read(path), str(path), f"rm {quote(str(path))}")


def _check_token(text: str | None, fault: str, origin: str, remove: str) -> Iterator[Credential]:
    """A token, and the fault of its file; nothing without both. The client skips an empty file."""
    if text and (flaw := _flaw(text)):
        fault = f"{origin}: the token {flaw}"
    if text or fault:
        fault = fault and f"{fault}. Use one of {_SETTINGS} instead, or run: {remove}"
        yield Credential(origin, "a token", fault=fault, chosen=text != "")


def _find_key(environ: Mapping[str, str], file: Path) -> Iterator[Credential]:
    """The username and key of kaggle.json and of variables."""
    fields, fault = _read_fields(file)
    if fault:
        yield Credential(fault=f"{fault}. {_NEW_KEY}", chosen=False)
    origins, flaws = list[str](), []
    for name, variable in (("username", "KAGGLE_USERNAME"), ("key", "KAGGLE_KEY")):
        value = environ.get(variable) or fields.get(name)
        if value is not None:
            origins.append(variable if environ.get(variable) else str(file))
        if flaw := _flaw(value):
            flaws.append(f"the {name} {flaw}")
    if fields or origins:
        origin = " and ".join(dict.fromkeys(origins)) or str(file)
        fault = f"{origin}: {' and '.join(flaws)}. {_NEW_KEY}" if flaws else ""
        user = str(environ.get("KAGGLE_USERNAME") or fields.get("username"))
        if len(origins) == 2:
            yield from _find_instead(environ, fields, file)
        yield Credential(origin, "the key", user, fault, chosen=len(origins) == 2)
    if environ.get("KAGGLE_KEY") and "key" in fields:
        yield Credential(f"the key of {file}", chosen=False)


def _find_instead(
    environ: Mapping[str, str], fields: Mapping[str, Any], file: Path
) -> Iterator[Credential]:
    """The token that the client sends in place of a username and key."""
    variable = "KAGGLE_TOKEN"
    if variable in environ or "token" in fields:
        token = environ.get(variable, fields.get("token"))
        origin = variable if variable in environ else f"the token of {file}"
        flaw = "is the name of a file" if _exists(Path(str(token))) else _flaw(token)
        remove = f"run: unset {variable}" if variable in environ else "remove it"
        fault = f"{origin} {flaw}, and is sent in place of the key. To use the key, {remove}"
        yield Credential(origin, "a token", fault=fault if flaw else "")


def _find_oauth(path: Path) -> Iterator[Credential]:
    """What `kaggle auth login` saved."""
    fields, fault = _read_fields(path)
    if fields or fault:
        fault = fault and f"{fault}. Run: kaggle auth login"
        yield Credential(str(path), "OAuth", str(fields.get("username") or ""), fault, not fault)


def _read(path: Path) -> tuple[str | None, str]:
    """The text of a file, and its fault if it is empty or unreadable; None, "" without a file."""
    try:
        found = path.stat()
        if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
            return None, f"{path} is no file"
        if found.st_size > _MOST_BYTES:
            return None, f"{path} is too large for a token or a key, {found.st_size:,} bytes"
        text = path.read_text(encoding="utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        return None, f"{path} cannot be read ({reason})"
    return text, "" if text else f"{path} is empty"


def _read_fields(path: Path) -> tuple[dict[str, Any], str]:
    """The fields of a JSON file, and its fault. Neither if there is no such file."""
    text, fault = _read(path)
    if not text:
        return {}, fault
    try:
        fields = json.loads(text)
    except json.JSONDecodeError as error:
        return {}, f"{path} is not valid JSON (line {error.lineno}, column {error.colno})"
    except (ValueError, RecursionError):  # a number too long, or too many brackets
        return {}, f"{path} is not valid JSON"
    return (fields, "") if isinstance(fields, dict) else ({}, f"{path} is not a JSON object")


def _read_secrets(
    environ: Mapping[str, str], files: list[Path]
) -> tuple[list[SecretStr], list[str]]:
    """All secrets of the client's places, and a problem for each file that others can read."""
    variables = ("KAGGLE_API_TOKEN", "KAGGLE_API_V1_TOKEN", "KAGGLE_TOKEN", "KAGGLE_KEY")
    values = [environ[name] for name in variables if environ.get(name)]
    named = [value for value in values if _exists(Path(value))]
    texts, exposed = [value for value in values if value not in named], list[str]()
    for path in dict.fromkeys([*map(Path, named), *files]):
        text, _ = _read(path)
        texts.append(text or "")
        mode = path.stat().st_mode & 0o777 if text else 0
        if os.name != "nt" and mode & 0o044:
            exposed.append(
                f"{path} can be read by other users of this machine (mode {mode:o}). "
                f"Run: chmod 600 {quote(str(path))}"
            )
    secrets = [part.strip(" \r\n\t\"'") for text in texts for part in _secret_parts(text)]
    return [SecretStr(secret) for secret in dict.fromkeys(secrets) if secret], exposed


def _secret_parts(text: str) -> list[str]:
    """What may be secret in a text: some fields of JSON; otherwise all of it and each long word."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        return [text, *re.findall(r"[\w.~+/=-]{16,}", text)]
    return [str(fields.get(name, "")) for name in ("key", "token", "refresh_token", "access_token")]


def _flaw(value: object) -> str:
    """Why a value is no token, key or username of Kaggle; "" if it may be one."""
    if value is None:
        return "is missing"
    valid = isinstance(value, str) and re.fullmatch(r"(?![{[~./])[!#-&(-~]+", value)
    return "" if valid else "is not valid (is it JSON, or a path, or has it a quote or a space?)"


def _exists(path: Path) -> bool:
    return os.path.exists(path)  # noqa: PTH110 - as the client; Path.exists raises if closed
