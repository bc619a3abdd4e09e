"""Where Kaggle's client finds its credentials, which of them it uses, and what is wrong with them.

`kaggle` (2.2.4 and 2.2.5) says little when something is wrong. It uses the first of:

1. an access token: in a Kaggle notebook the file that KAGGLE_API_V1_TOKEN names; KAGGLE_API_TOKEN,
   the token or a path to it; ~/.kaggle/access_token; ~/.kaggle/access_token.txt
2. a username and a key: kaggle.json in ONE folder ($KAGGLE_CONFIG_DIR, else ~/.kaggle if it
   exists, else ${XDG_CONFIG_HOME:-~/.config}/kaggle), where a variable KAGGLE_<FIELD> replaces a
   field; a field `token` (KAGGLE_TOKEN) beside the two is sent instead of the key
3. ~/.kaggle/credentials.json, which `kaggle auth login` writes

The same files and variables are read here without the client, whose import calls the network,
prints and makes folders. Only signing in shows whether Kaggle accepts what is found.
tests/test_credentials.py compares this module with the client.
"""

import json
import os
import re
import shlex
import string
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

_SETTINGS = "https://www.kaggle.com/settings/api"
_NEW_KEY = f"Create a new one on {_SETTINGS} (legacy API key)"
_FILES = ("kaggle.json", "access_token", "access_token.txt", "credentials.json")


@dataclass(frozen=True)
class Credential:
    """What one of the client's places holds.

    origin: the variable or file. kind: a token, the key or OAuth. user: "" if unknown, as with a
    token. fault: why it cannot work. chosen: whether the client looks no further, with a fault or
    without. drop: how to remove it.
    """

    origin: str = ""
    kind: str = ""
    user: str = ""
    fault: str = ""
    chosen: bool = True
    drop: str = ""


@dataclass(frozen=True)
class Credentials:
    """What the client would sign in with, and what is wrong with it.

    used: None if it cannot sign in, as `problems` explains. problems: what to fix, each with its
    command. notes: what is shadowed, and faults of what is not used. secrets: everything secret
    in the client's places, for `scrub`.
    """

    used: Credential | None
    problems: list[str]
    notes: list[str]
    secrets: list[SecretStr] = field(repr=False)


def find_credentials(environ: Mapping[str, str], home: Path) -> Credentials:
    """Look where the client looks, in its order. Never raises for what it finds there.

    A fault is a problem if it concerns the credentials in use, or if there are none; else it is a
    note. A file that other users can read is always a problem.
    """
    own = home / ".kaggle"
    xdg = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
    default = xdg if sys.platform.startswith("linux") and not _exists(own) else own
    folder = Path(environ.get("KAGGLE_CONFIG_DIR") or default)
    found = [
        *_find_tokens(environ, own),
        *_find_key(environ, folder / "kaggle.json"),
        *_find_oauth(own / "credentials.json"),
        *_find_misplaced(folder, own, xdg),
    ]
    files = [place / name for place in dict.fromkeys([own, xdg, folder]) for name in _FILES]
    secrets, problems = _read_secrets(environ, files)
    notes = []
    used = next((each for each in found if each.chosen), None)
    for each in found:
        if used is None or each is used:
            problems += [each.fault] if each.fault else []
        elif each.fault:
            notes.append(each.fault)
        elif not used.fault:
            drop = f". If Kaggle answers 401, {used.drop}" if used.drop else ""
            notes.append(f"{each.origin} is not used, because of {used.origin}{drop}")
    if used is None:
        problems.append(
            "no credentials for Kaggle. Run: kaggle auth login; or press Generate New Token on "
            f"{_SETTINGS} and save the token in {own / 'access_token'} (then chmod 600), or export "
            f"KAGGLE_API_TOKEN=TOKEN. A legacy kaggle.json belongs in {folder}"
        )
    return Credentials(None if used and used.fault else used, problems, notes, secrets)


def _find_tokens(environ: Mapping[str, str], own: Path) -> Iterator[Credential]:
    notebook = {"KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_DATA_PROXY_URL", "KAGGLE_API_V1_TOKEN"}
    if notebook <= environ.keys():
        yield from _read_token(Path(environ["KAGGLE_API_V1_TOKEN"]), "KAGGLE_API_V1_TOKEN")
    value = environ.get("KAGGLE_API_TOKEN", "")
    named = Path(value)
    if value and _exists(named):
        (token,) = _read_token(named, "KAGGLE_API_TOKEN")
        yield token
        if token.fault:  # then the client looks for no other token
            return
    elif value:
        yield _check_token(value, "KAGGLE_API_TOKEN", "run: unset KAGGLE_API_TOKEN")
    for path in (own / "access_token", own / "access_token.txt"):
        if path != named:
            yield from _read_token(path)


def _read_token(path: Path, variable: str = "") -> Iterator[Credential]:
    """The token of a file that `variable` names; nothing if there is no such file."""
    origin = f"{path} ({variable})" if variable else str(path)
    drop = f"run: unset {variable}" if variable else f"run: rm {_quote(path)}"
    text, fault = _read(path)
    if fault:
        yield Credential(fault=fault)
    elif text and text.strip():
        yield _check_token(text.strip(), origin, drop)
    elif text is not None:
        fault = f"{origin} is empty. Save a token of {_SETTINGS} in it, or {drop}"
        yield Credential(fault=fault, chosen=False)


def _check_token(token: object, origin: str, drop: str) -> Credential:
    flaw = _flaw(token)
    fault = f"{origin}: the token {flaw}. Use one of {_SETTINGS} instead, or {drop}" if flaw else ""
    return Credential(origin, "a token", fault=fault, drop=drop)


def _find_key(environ: Mapping[str, str], file: Path) -> Iterator[Credential]:
    """The username and key of kaggle.json and of variables."""
    fields, fault = _read_fields(file)
    if fault:
        yield Credential(fault=f"{fault}. {_NEW_KEY}", chosen=False)
    values, origins = dict(fields), dict.fromkeys(fields, str(file))
    for name in ("username", "key", "token"):
        variable = f"KAGGLE_{name.upper()}"
        if environ.get(variable):
            values[name], origins[name] = environ[variable], variable
        elif variable in environ:
            yield Credential(fault=f"{variable} is empty. Run: unset {variable}", chosen=False)
    pair = [name for name in ("username", "key") if name in values]
    origin = " and ".join(dict.fromkeys([origins[name] for name in pair or origins]))
    if len(pair) < 2:
        if values:
            missing = [name for name in ("username", "key") if name not in values]
            fault = f"{origin}: expected a username and a key, found no {' and no '.join(missing)}"
            yield Credential(fault=f"{fault}. {_NEW_KEY}", chosen=False)
        return
    if values.get("token") is not None:
        where = origins["token"]
        drop = f"run: unset {where}" if where == "KAGGLE_TOKEN" else "remove its field token"
        yield _check_token(values["token"], f"{where} (token)", drop)
    flaws = [(name, flaw) for name in pair if (flaw := _flaw(values[name]))]
    faults = [f"{origins[name]}: the {name} {flaw}. {_NEW_KEY}" for name, flaw in flaws]
    yield Credential(origin, "the key", values["username"], "; ".join(faults))
    if origins["key"] == "KAGGLE_KEY" and "key" in fields:
        yield Credential(f"the key of {file}")


def _find_oauth(path: Path) -> Iterator[Credential]:
    """What `kaggle auth login` saved."""
    fields, fault = _read_fields(path)
    if fields and not fields.get("refresh_token"):
        fault = f"{path}: expected a refresh token, found none"
    if fault:
        yield Credential(fault=f"{fault}. Run: kaggle auth login", chosen=False)
    elif fields:
        yield Credential(str(path), "OAuth", str(fields.get("username") or ""))


def _find_misplaced(folder: Path, own: Path, xdg: Path) -> Iterator[Credential]:
    """Files in folders where the client does not look for them."""
    for place in dict.fromkeys([own, xdg, folder]):
        for name in _FILES:
            path, right = place / name, folder if name == "kaggle.json" else own
            if place != right and _exists(path) and not _exists(right / name):
                command = f"mkdir -p {_quote(right)} && mv {_quote(path)} {_quote(right)}/"
                fault = f"{path} is not read: the client looks in {right}. Run: {command}"
                yield Credential(fault=fault, chosen=False)


def _read(path: Path) -> tuple[str | None, str]:
    """The text of a file, and why it cannot be read; None and "" if there is no such file."""
    try:
        return path.read_text(encoding="utf-8"), ""
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        command = f"ls -ld {_quote(path.parent)} {_quote(path)}"
        return None, f"{path} cannot be read ({reason}). Run: {command}"


def _read_fields(path: Path) -> tuple[dict[str, Any], str]:
    """The fields of a JSON file, and its fault. Neither if there is no such file."""
    text, fault = _read(path)
    if text is None:
        return {}, fault
    try:
        fields = json.loads(text) or {}
    except json.JSONDecodeError as error:
        return {}, f"{path} is not valid JSON (line {error.lineno}, column {error.colno})"
    return (fields, "") if isinstance(fields, dict) else ({}, f"{path} is not a JSON object")


def _read_secrets(
    environ: Mapping[str, str], files: list[Path]
) -> tuple[list[SecretStr], list[str]]:
    """All secrets of the client's places, and a problem for each file that others can read."""
    secrets, exposed = list[str](), []
    for variable in ("KAGGLE_API_TOKEN", "KAGGLE_API_V1_TOKEN", "KAGGLE_TOKEN", "KAGGLE_KEY"):
        value = environ.get(variable, "")
        if value and _exists(Path(value)):
            files = [*files, Path(value)]
        else:
            secrets += _secret_parts(value)
    for path in dict.fromkeys(files):
        text, _ = _read(path)
        if text is None:
            continue
        secrets += _secret_parts(text)
        mode = path.stat().st_mode & 0o777
        if os.name != "nt" and mode & 0o044:
            exposed.append(
                f"{path} can be read by other users of this machine (mode {mode:o}). "
                f"Run: chmod 600 {_quote(path)}"
            )
    trimmed = dict.fromkeys(text.strip(string.whitespace + "\"'") for text in secrets)
    return [SecretStr(secret) for secret in trimmed if secret], exposed


def _secret_parts(text: str) -> list[str]:
    """What may be secret in a text: some fields of JSON; otherwise all of it and each long word."""
    try:
        fields = json.loads(text)
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        return [text, *re.findall(r"[\w.~+/=-]{16,}", text)]
    names = ("key", "token", "refresh_token", "access_token")
    return [str(fields[name]) for name in names if fields.get(name)]


def _flaw(value: object) -> str:
    """What no token, key or username of Kaggle has; "" for one that may be valid."""
    if not isinstance(value, str):
        return "is not a text"
    if not value.strip():
        return "is empty"
    if value.startswith("{"):
        return "is JSON"
    if value.startswith(("~", ".", "/")):
        return "is a path, but there is no such file (a ~ in quotes stays a ~)"
    if not value.isascii() or re.search(r"""["'\s]""", value):
        return "has a quote, a space, a line break or a character beyond ASCII"
    return ""


def _exists(path: Path) -> bool:
    """Like the client: False in a folder that cannot be entered, where Path.exists raises."""
    return os.path.exists(path)  # noqa: PTH110


def _quote(path: Path) -> str:
    return shlex.quote(str(path))
