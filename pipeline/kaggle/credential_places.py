"""The places where the official client looks for credentials, read as it would read them.

Which of them it would use, pipeline/kaggle/credentials.py decides.
"""

import base64
import json
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from pipeline.kaggle.scrub import Secret

SETTINGS = "https://www.kaggle.com/settings/api"
Route = Literal["token", "key", "oauth", "none"]


@dataclass
class Place:
    """One place where credentials may stand, as the client would take it."""

    origin: str = ""
    route: Route = "none"  # "none": the client passes over it
    user: str = ""
    faults: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # worth knowing where it is in use
    stops: str = ""  # why the client fails here, whatever other places hold
    is_last_token: bool = False  # no further place is looked at for a token
    drop: str = ""  # the command that takes a token away

    def blame(self, what: str, value: object, mend: str) -> None:
        """Say what is wrong with a token, a key or a username, if anything is."""
        if flaw := _flaw(value):
            if _can_be_sent(str(value), self.route):
                self.faults.append(f"{what} {flaw}, so that Kaggle will refuse it. {mend}")
            else:
                self.stops = f"{what} {flaw}, so that it cannot be sent. {mend}"


class Search:
    """The client's places on one machine. Every file is read here, every secret kept."""

    def __init__(self, environ: Mapping[str, str], home: Path) -> None:
        self.environ = environ
        self.dot_kaggle = home / ".kaggle"
        self.xdg = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "kaggle"
        goes_by_xdg = sys.platform.startswith("linux") and not _exists(self.dot_kaggle)
        self.default = self.xdg if goes_by_xdg else self.dot_kaggle
        self.named = environ.get("KAGGLE_CONFIG_DIR") or ""
        self.chosen = Path(self.named) if self.named else self.default
        self.file = self.chosen / "kaggle.json"
        self.exposed: list[str] = []
        self.secrets: list[Secret] = []

    def keep(self, value: object) -> None:
        """Remember a secret, as it stands and as it was meant."""
        text = str(value)
        for variant in (text, text.strip(), text.strip().strip("\"'").strip()):
            if variant and Secret(variant) not in self.secrets:
                self.secrets.append(Secret(variant))

    def read(self, path: Path) -> str:
        """A file's text; that others can read it too is remembered."""
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode & 0o777
        warning = (
            f"{path} can be read by other users of this machine (mode {mode:o}). "
            f"Run: chmod 600 {_quoted(path)}"
        )
        if os.name != "nt" and mode & 0o044 and warning not in self.exposed:
            self.exposed.append(warning)
        return text

    def parse(self, path: Path) -> Any:
        """What a JSON file holds. Raises OSError, ValueError or RecursionError."""
        text = self.read(path)
        try:
            found = json.loads(text)
        except (ValueError, RecursionError):
            self._keep_words(text)
            raise
        if isinstance(found, dict):
            self._keep_all(found)
        else:
            self._keep_words(text)
        return found

    def folder(self) -> Place:
        """The folder of kaggle.json, which the client makes at its import."""
        place = Place()
        if _exists(self.chosen):
            if not self.chosen.is_dir():
                place.faults.append(
                    f"{self.chosen} is a file where the client looks for a folder. "
                    f"Run: mv {_quoted(self.chosen)} {_quoted(self.chosen)}.old"
                )
        elif not _can_be_made(self.chosen):
            place.stops = (
                f"{self.chosen} cannot be made, and the client makes it as soon as it is imported. "
                'Run: export KAGGLE_CONFIG_DIR="$(mktemp -d)", or name another folder of yours'
            )
        elif self.named:
            place.faults.append(
                f"KAGGLE_CONFIG_DIR names {self.named}, and there is no such folder (a ~ in quotes "
                "stays a ~): the client makes it, empty. Run: unset KAGGLE_CONFIG_DIR"
            )
        return place

    def config(self) -> tuple[Place, dict[str, Any]]:
        """kaggle.json of the chosen folder, and its fields; the client ignores a broken one."""
        place = Place()
        if not _exists(self.file):
            return place, {}
        try:
            fields = self.parse(self.file) or {}
        except OSError as error:
            place.faults.append(
                f"{self.file} cannot be read ({_reason(error)}), and the client ignores it without "
                f"a word. Run: {_mend(self.file, error)}"
            )
            return place, {}
        except (ValueError, RecursionError) as error:
            place.faults.append(
                f"{self.file} is not valid JSON ({_reason(error)}), and the client ignores it "
                f"without a word. {_ANEW}"
            )
            return place, {}
        if not isinstance(fields, dict):
            place.stops = (
                f'{self.file} is not an object {{"username": …, "key": …}}, and the client fails '
                f"on it, whatever other credentials there are. {_ANEW}"
            )
            return place, {}
        if not {"username", "key"} & fields.keys():
            place.faults.append(
                f"{self.file} holds neither a username nor a key, so that nobody signs in with it. "
                f"{_ANEW}"
            )
        return place, fields

    def tokens(self) -> list[Place]:
        """The places of access tokens, in the client's order."""
        places = []
        notebook = ("KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_DATA_PROXY_URL")
        path = self.environ.get("KAGGLE_API_V1_TOKEN")
        if path and all(name in self.environ for name in notebook):
            places.append(self._token_file(Path(path), "KAGGLE_API_V1_TOKEN"))
        if value := self.environ.get("KAGGLE_API_TOKEN"):
            places.append(self._token_variable(value))
        for name in ("access_token", "access_token.txt"):
            places.append(self._token_file(self.dot_kaggle / name))
        return places

    def key(self, fields: dict[str, Any]) -> Place:
        """The username and key of kaggle.json, overlaid by the variables KAGGLE_<FIELD>."""
        values, origins = dict(fields), dict.fromkeys(fields, str(self.file))
        for variable, value in self.environ.items():
            if variable.startswith("KAGGLE_"):
                name = variable.removeprefix("KAGGLE_").lower()
                values[name], origins[name] = value, variable
        self._keep_all(values)
        if "username" not in values or "key" not in values:
            return self._half_a_key(origins)
        username, key = values["username"], values["key"]
        place = Place(
            " and ".join(dict.fromkeys([origins["username"], origins["key"]])),
            user=str(username or ""),
        )
        if values.get("token") is not None:
            self._token_before_key(place, str(values["token"]), origins["token"])
        elif username and key:
            place.route = "key"
            self._blame_key(place, values, origins, fields)
        else:
            self._empty_key(place, origins["key" if username else "username"])
        if key and fields.get("key") not in (None, key):
            place.notes.append(f"{origins['key']} goes before the key of {self.file}")
        return place

    def oauth(self) -> Place:
        """What `kaggle auth login` left."""
        path = self.dot_kaggle / "credentials.json"
        place = Place(str(path))
        if not _exists(path):
            return place
        try:
            fields = self.parse(path)
        except json.JSONDecodeError as error:
            place.faults.append(
                f"{path} is not valid JSON ({_reason(error)}), and the client ignores it. {_LOGIN}"
            )
            return place
        except (OSError, UnicodeError, RecursionError) as error:
            place.stops = _fails_on(path, error)
            return place
        if not isinstance(fields, dict):
            place.stops = (
                f"{path} is not what kaggle auth login writes, and the client fails on it. {_LOGIN}"
            )
            return place
        if not fields.get("refresh_token"):
            place.faults.append(
                f"{path} has no refresh token, so that the client ignores it, whether its access "
                f"token has expired or not. {_LOGIN}"
            )
            return place
        try:
            is_expired = _is_expired(fields)
        except (TypeError, ValueError):
            place.stops = (
                f"{path}: access_token_expiration is no time with a zone, and the client fails on "
                f"it. {_LOGIN}"
            )
            return place
        place.route, place.user = "oauth", str(fields.get("username") or "")
        if is_expired:
            place.notes.append(
                f"{path}: the access token has expired; the client fetches another when it next "
                f"signs in, and writes it there. Should Kaggle refuse that, run: kaggle auth login"
            )
        return place

    def stray(self) -> list[str]:
        """Files of credentials in folders where the client does not look for them."""
        faults = []
        for folder in dict.fromkeys([self.dot_kaggle, self.xdg, self.chosen]):
            for name in ("kaggle.json", "access_token", "access_token.txt", "credentials.json"):
                path = folder / name
                home = self.chosen if name == "kaggle.json" else self.dot_kaggle
                if folder == home or not _exists(path):
                    continue
                self._keep_stray(path)
                if name == "kaggle.json" and _exists(self.file):
                    continue
                why = f"the client looks for it in {home} alone"
                mend = f"mkdir -p {_quoted(home)} && mv {_quoted(path)} {_quoted(home)}/"
                if name == "kaggle.json" and self.named:
                    why = f"KAGGLE_CONFIG_DIR names {self.named}"
                    mend = "unset KAGGLE_CONFIG_DIR" if folder == self.default else mend
                elif name == "kaggle.json":
                    why = f"{home} exists"
                faults.append(f"{path} is not read, because {why}. Run: {mend}")
        return faults

    def advice(self) -> str:
        """Where credentials come from and where they go."""
        return (
            "no credentials for Kaggle that could serve. Run: kaggle auth login; or press Generate "
            f"New Token on {SETTINGS} and save the token in {self.dot_kaggle / 'access_token'} "
            "(then chmod 600), or export KAGGLE_API_TOKEN=TOKEN. "
            f"A legacy kaggle.json goes to {self.file}"
        )

    def _token_file(self, path: Path, variable: str = "") -> Place:
        """A file with a token in it; where it is missing or empty, the client passes over it."""
        place = Place(
            f"{path} ({variable})" if variable else str(path),
            drop=f"unset {variable}" if variable else f"rm {_quoted(path)}",
        )
        try:
            token = self.read(path).strip() if path.exists() else None
        except (OSError, UnicodeError) as error:
            place.stops = _fails_on(path, error)
            return place
        if token is None:
            return place
        if not token:
            place.faults.append(
                f"{place.origin} is empty, and the client passes over it. "
                f"Save a token of {SETTINGS} in it, or run: {place.drop}"
            )
            return place
        self.keep(token)
        place.route = "token"
        self._keep_words(token)  # more than one, where it is not as it should be
        place.blame(
            f"{place.origin}: the token", token, f"Save one of {SETTINGS} in it, and nothing else"
        )
        return place

    def _token_variable(self, value: str) -> Place:
        """KAGGLE_API_TOKEN: the token, or a path to a file with it. A token is never shown."""
        name = "KAGGLE_API_TOKEN"
        place = Place(name, drop=f"unset {name}")
        try:
            is_path = Path(value).exists()
        except OSError as error:
            self.keep(value)
            place.stops = (
                f"{name}: the client asks whether it is a path, and fails ({_reason(error)}). "
                f"Save the token in {self.dot_kaggle / 'access_token'}, then run: unset {name}"
            )
            return place
        if is_path:
            place = self._token_file(Path(value), name)
            place.is_last_token = True
            return place
        self.keep(value)
        place.route = "token"
        is_like_path = re.search(r"^[~.]|[/\\]|\.(txt|json)$|access_token$", value)
        if is_like_path and _can_be_sent(value, "token"):
            place.faults.append(
                f"{name} looks like a path, but there is no such file (a ~ in quotes stays a ~), "
                f'so that the path itself is sent as the token. Run: ls -l "${name}"; then export '
                f"{name} with a path that is there, or with a token"
            )
        else:
            place.blame(
                f"{name}: the token",
                value,
                f"Run: export {name}=TOKEN, with a token of {SETTINGS} and nothing else",
            )
        return place

    def _half_a_key(self, origins: dict[str, str]) -> Place:
        place = Place()
        for there, missing in (("username", "key"), ("key", "username")):
            origin = origins.get(there, "")
            if origin == str(self.file):
                place.faults.append(f"{origin} has a {there}, but no {missing}. {_ANEW}")
            elif origin:
                variable = f"KAGGLE_{missing.upper()}"
                place.faults.append(
                    f"{origin} is set without {variable}. "
                    f"Run: export {variable}={missing.upper()}, or: unset {origin}"
                )
        if origins.get("token") == "KAGGLE_TOKEN":
            place.faults.append(
                "KAGGLE_TOKEN counts only beside a username and a key. "
                'Run: export KAGGLE_API_TOKEN="$KAGGLE_TOKEN"; unset KAGGLE_TOKEN'
            )
        return place

    def _token_before_key(self, place: Place, token: str, origin: str) -> None:
        """A field `token`, of which the client's help says nothing, is sent as Bearer."""
        drop = f"run: unset {origin}"
        if origin == str(self.file):
            origin, drop = f"{origin} (token)", "take the line token out of it"
        place.notes.append(
            f"{origin} is sent instead of the key of {place.origin}. "
            f"Should Kaggle answer 401, {drop}"
        )
        place.route, place.origin = "token", origin
        place.blame(f"{origin}: the token", token, f"To mend it, {drop}")

    def _empty_key(self, place: Place, origin: str) -> None:
        """An empty value passes for a key, until a lower half of the client reads ~/.kaggle."""
        path = self.dot_kaggle / "kaggle.json"
        mend = _ANEW if origin == str(self.file) else f"Run: unset {origin}"
        try:
            fields = self.parse(path)
            username, key = fields["username"], fields["key"]
        except (OSError, ValueError, RecursionError, KeyError, TypeError):
            username = key = ""
        if username and key:
            place.route, place.origin, place.user = "key", str(path), str(username)
            place.notes.append(f"{origin} has an empty value, so that {path} is used. {mend}")
        else:
            place.stops = (
                f"{origin} has an empty value: the client takes that for an answer, looks no "
                f"further, and signs nothing. {mend}"
            )

    def _blame_key(
        self,
        place: Place,
        values: dict[str, Any],
        origins: dict[str, str],
        fields: dict[str, Any],
    ) -> None:
        for name in ("username", "key"):
            mend = f"Run: export {origins[name]}={name.upper()}, as {SETTINGS} gives it"
            if origins[name] == str(self.file):
                mend = _ANEW
            place.blame(f"{origins[name]}: the {name}", values[name], mend)
        if "@" in str(values["username"]):
            place.faults.append(
                f"{origins['username']}: the username is an e-mail address. Put the name of your "
                "profile's address there, as NAME in https://www.kaggle.com/NAME"
            )
        owner = fields.get("username", values["username"])
        if origins["key"] == str(self.file) and owner != values["username"]:
            place.faults.append(
                f"{origins['username']} ({values['username']}) is laid over the username of "
                f"{self.file} ({owner}), whose key is used. Run: unset {origins['username']}"
            )

    def _keep_all(self, fields: dict[str, Any]) -> None:
        """Remember the secrets among the fields of a JSON file, and how Basic sends a key."""
        for name in ("key", "token", "refresh_token", "access_token"):
            self.keep(fields.get(name) or "")
        if fields.get("key"):
            pair = f"{fields.get('username')}:{fields['key']}"
            self.keep(base64.b64encode(pair.encode("latin-1", "replace")).decode())

    def _keep_words(self, text: str) -> None:
        """Remember whatever may be a secret in a text that is not what it should be."""
        for word in re.findall(r"[\w.~+/=-]{16,}", text):
            self.keep(word)

    def _keep_stray(self, path: Path) -> None:
        try:
            text = path.read_text(encoding="utf-8")
            fields = json.loads(text) if path.suffix == ".json" else {"token": text}
        except (OSError, ValueError, RecursionError):
            return
        if isinstance(fields, dict):
            self._keep_all(fields)


_ANEW = f"Fetch it anew from {SETTINGS} (legacy API key)"
_LOGIN = "Run: kaggle auth login"


def _exists(path: Path) -> bool:
    """As the client asks: False, where Path.exists raises, in a folder that may not be entered."""
    return os.path.exists(path)  # noqa: PTH110


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


def _can_be_made(folder: Path) -> bool:
    """Whether os.makedirs would succeed."""
    folder = folder.absolute()
    lowest = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    return lowest.is_dir() and _may(lowest, os.W_OK | os.X_OK)


def _may(path: Path, what: int) -> bool:
    return os.access(path, what, effective_ids=os.access in os.supports_effective_ids)


def _is_expired(fields: dict[str, Any]) -> bool:
    """As the client judges: half an hour late. Raises TypeError or ValueError where it does."""
    text = fields.get("access_token_expiration")
    expires = datetime.fromisoformat(text) if text else None
    if not fields.get("access_token") or expires is None:
        return True
    return expires < datetime.now(UTC) - timedelta(minutes=30)


def _flaw(value: object) -> str:
    """What no token, key or name of Kaggle's has, in words; empty for a sound one."""
    if not isinstance(value, str):
        return "is not a text"
    if not value.strip():
        return "is blank"
    if value.lstrip().startswith("{"):
        return "is JSON"
    if '"' in value or "'" in value:
        return "has quotes in it"
    if value != value.strip():
        return "has a space or a line's end around it"
    if not re.fullmatch(r"[!-~]+", value):
        return "has a space, a line's end or a letter beyond ASCII in it"
    return ""


def _can_be_sent(value: str, route: Route) -> bool:
    """Whether it fits into a header, into which a key goes as base64.

    What does not fit, an exception of the HTTP library shows in full.
    """
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return route == "key" or not {"\r", "\n"} & set(value)


def _reason(error: Exception) -> str:
    """Why a file could not be read or parsed, without a word of what is in it."""
    match error:
        case OSError():
            return error.strerror or type(error).__name__
        case json.JSONDecodeError():
            return f"line {error.lineno}, column {error.colno}"
        case UnicodeError():
            return "not UTF-8"
        case _:
            return type(error).__name__


def _fails_on(path: Path, error: Exception) -> str:
    return (
        f"{path} cannot be read ({_reason(error)}), and the client fails on it, whatever other "
        f"credentials there are. Run: {_mend(path, error)}"
    )


def _mend(path: Path, error: Exception) -> str:
    if not isinstance(error, PermissionError):
        return f"mv {_quoted(path)} {_quoted(path)}.old"
    closed, mode = (path, 600) if _may(path.parent, os.X_OK) else (path.parent, 700)
    return f'sudo chown "$(id -un)" {_quoted(closed)}; chmod {mode} {_quoted(closed)}'
