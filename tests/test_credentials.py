"""What the client would sign in with: compared with the client itself, and trap by trap.

The official client runs in a process of its own, against a stand-in on this machine that answers
every call with the Authorization that it came with. Nothing leaves: the client's address is
http://localhost and its proxy is the stand-in.
"""

import base64
import copy
import http.server
import json
import os
import pickle
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from project import ROOT

from pipeline.kaggle.credentials import Credentials, find_credentials
from pipeline.kaggle.scrub import Secret, scrub

LATER = (datetime.now(UTC) + timedelta(days=1)).isoformat()
LONG_AGO = (datetime.now(UTC) - timedelta(days=1)).isoformat()
JUST_ENDED = (datetime.now(UTC) - timedelta(minutes=20)).isoformat()
SETTINGS = "https://www.kaggle.com/settings/api"
NOTEBOOK = {"KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_DATA_PROXY_URL": "http://127.0.0.1:1"}
BOB = {".kaggle/kaggle.json": '{"username": "bob", "key": "SECRET-bob"}'}
XDG_BOB = {".config/kaggle/kaggle.json": BOB[".kaggle/kaggle.json"]}
TOKEN = {".kaggle/access_token": "SECRET-file\n"}


def oauth(**changes: Any) -> dict[str, str]:
    fields = {
        "refresh_token": "SECRET-refresh",
        "access_token": "SECRET-oauth",
        "access_token_expiration": LATER,
        "username": "olga",
        "scopes": [],
    }
    return {".kaggle/credentials.json": json.dumps(fields | changes)}


def basic(user: str, key: str) -> str:
    return f"Basic {base64.b64encode(f'{user}:{key}'.encode()).decode()}"


@dataclass(frozen=True)
class Case:
    """A machine; what the client sends from it (None: it does not sign in); what we must say.

    {home} stands for the home folder. A sentence is given by fragments of it, with … between.
    """

    claim: str
    sends: str | None
    origin: str = ""
    user: str = ""
    environ: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str | bytes | None] = field(default_factory=dict)  # None: a folder
    modes: Mapping[str, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def route(self) -> str:
        if self.sends is None:
            return "none"
        if self.origin.endswith("credentials.json"):
            return "oauth"
        return "key" if self.sends.startswith("Basic") else "token"


ADVICE = (
    f"no credentials for Kaggle that could serve. Run: kaggle auth login; or press Generate New "
    f"Token on {SETTINGS} and save the token in {{home}}/.kaggle/access_token (then chmod 600), "
    f"or export KAGGLE_API_TOKEN=TOKEN. A legacy kaggle.json goes to {{home}}/"
)
ANEW = f"Fetch it anew from {SETTINGS} (legacy API key)"
IGNORED = "and the client ignores it without a word"
DOT, XDG = "{home}/.kaggle", "{home}/.config/kaggle"
CASES = [
    Case("nothing at all", None, problems=(ADVICE + ".config/kaggle/kaggle.json",)),
    Case(
        "an empty ~/.kaggle moves the place for kaggle.json",
        None,
        files={".kaggle": None},
        problems=(ADVICE + ".kaggle/kaggle.json",),
    ),
    # 1. access tokens
    Case("a token in a file", "Bearer SECRET-file", f"{DOT}/access_token", files=TOKEN),
    Case(
        "a token in a file as Windows names it",
        "Bearer SECRET-txt",
        f"{DOT}/access_token.txt",
        files={".kaggle/access_token.txt": "SECRET-txt\r\n"},
    ),
    Case(
        "access_token goes before access_token.txt",
        "Bearer SECRET-file",
        f"{DOT}/access_token",
        files={**TOKEN, ".kaggle/access_token.txt": "SECRET-txt"},
        notes=(f"{DOT}/access_token goes before {DOT}/access_token.txt, which is not used",),
    ),
    Case(
        "a token in a variable",
        "Bearer SECRET-variable",
        "KAGGLE_API_TOKEN",
        environ={"KAGGLE_API_TOKEN": "SECRET-variable"},
    ),
    Case(
        "a variable goes before a file",
        "Bearer SECRET-variable",
        "KAGGLE_API_TOKEN",
        environ={"KAGGLE_API_TOKEN": "SECRET-variable"},
        files=TOKEN,
        notes=(f"KAGGLE_API_TOKEN goes before {DOT}/access_token, which is not used",),
    ),
    Case(
        "a variable that names a token's file",
        "Bearer SECRET-named",
        "{home}/named (KAGGLE_API_TOKEN)",
        environ={"KAGGLE_API_TOKEN": "{home}/named"},
        files={"named": "SECRET-named"},
    ),
    Case(
        "a variable that names the very file of the token",
        "Bearer SECRET-file",
        f"{DOT}/access_token (KAGGLE_API_TOKEN)",
        environ={"KAGGLE_API_TOKEN": f"{DOT}/access_token"},
        files=TOKEN,
        modes={".kaggle/access_token": 0o604},
        problems=(f"{DOT}/access_token can be read by other users…(mode 604). …",),
    ),
    Case(
        "a variable that names an empty file hides the token's own file",
        None,
        environ={"KAGGLE_API_TOKEN": "{home}/named"},
        files={"named": " \n", **TOKEN},
        problems=(
            "{home}/named (KAGGLE_API_TOKEN) is empty, and the client passes over it. Save a token "
            f"of {SETTINGS} in it, or run: unset KAGGLE_API_TOKEN",
            ADVICE + ".kaggle/kaggle.json",
        ),
    ),
    Case(
        "a variable that names an empty file leaves the key",
        basic("bob", "SECRET-bob"),
        f"{DOT}/kaggle.json",
        "bob",
        environ={"KAGGLE_API_TOKEN": "{home}/named"},
        files={"named": "", **BOB},
        notes=("{home}/named (KAGGLE_API_TOKEN) is empty, …run: unset KAGGLE_API_TOKEN",),
    ),
    Case(
        "a variable that names a missing file is sent itself",
        "Bearer {home}/missing",
        "KAGGLE_API_TOKEN",
        environ={"KAGGLE_API_TOKEN": "{home}/missing"},
        problems=(
            "KAGGLE_API_TOKEN looks like a path, but there is no such file (a ~ in quotes stays "
            "a ~), so that the path itself is sent as the token. "
            'Run: ls -l "$KAGGLE_API_TOKEN"; then export KAGGLE_API_TOKEN with a path…',
        ),
    ),
    Case(
        "a ~ in quotes is sent itself",
        "Bearer ~/.kaggle/access_token",
        "KAGGLE_API_TOKEN",
        environ={"KAGGLE_API_TOKEN": "~/.kaggle/access_token"},
        files=TOKEN,
        problems=("KAGGLE_API_TOKEN looks like a path, but…",),
        notes=(f"KAGGLE_API_TOKEN goes before {DOT}/access_token, which is not used",),
    ),
    Case(
        "a variable that names a folder",
        None,
        environ={"KAGGLE_API_TOKEN": "{home}"},
        files=BOB,
        problems=("{home} cannot be read (Is a directory), and the client fails on it, whatever…",),
    ),
    Case(
        "a token longer than a file's name may be",
        None,
        environ={"KAGGLE_API_TOKEN": "SECRET" * 50},
        files=BOB,
        problems=(
            "KAGGLE_API_TOKEN: the client asks whether it is a path, and fails (File name too "
            f"long). Save the token in {DOT}/access_token, then run: unset KAGGLE_API_TOKEN",
        ),
    ),
    Case(
        "quotes around a token are sent too",
        "Bearer 'SECRET-quoted'",
        "KAGGLE_API_TOKEN",
        environ={"KAGGLE_API_TOKEN": "'SECRET-quoted'"},
        problems=(
            "KAGGLE_API_TOKEN: the token has quotes in it, so that Kaggle will refuse it. "
            f"Run: export KAGGLE_API_TOKEN=TOKEN, with a token of {SETTINGS} and nothing else",
        ),
    ),
    Case(
        "a line's end after a token in a variable cannot even be sent",
        None,
        environ={"KAGGLE_API_TOKEN": "SECRET-line\n"},
        files=BOB,
        problems=(
            "KAGGLE_API_TOKEN: the token has a space or a line's end around it, so that it cannot "
            "be sent. Run: export KAGGLE_API_TOKEN=TOKEN, with…",
        ),
    ),
    Case(
        "a token with a line below cannot be sent",
        None,
        files={".kaggle/access_token": "SECRET-first-0123456\nSECRET-second-0123456\n"},
        problems=(
            f"{DOT}/access_token: the token has a space, a line's end or a letter beyond ASCII in "
            "it, so that it cannot be sent. …",
        ),
    ),
    Case(
        "a token behind a byte-order mark cannot be sent",
        None,
        files={".kaggle/access_token": "\ufeffSECRET-marked-0123456"},
        problems=(f"{DOT}/access_token: the token has …, so that it cannot be sent. …",),
    ),
    Case(
        "a space before a token is sent too",
        "Bearer  SECRET-spaced",
        "KAGGLE_API_TOKEN",
        environ={"KAGGLE_API_TOKEN": " SECRET-spaced"},
        problems=(
            "KAGGLE_API_TOKEN: the token has a space or a line's end around it, so that Kaggle "
            "will refuse it. …",
        ),
    ),
    Case(
        "a key beyond Latin-1 cannot be sent",
        None,
        environ={"KAGGLE_USERNAME": "eve", "KAGGLE_KEY": "SECRET-e…"},
        problems=("KAGGLE_KEY: the key has …, so that it cannot be sent. …",),
    ),
    Case(
        "a key that is a number",
        basic("bob", "123456789"),
        f"{DOT}/kaggle.json",
        "bob",
        files={".kaggle/kaggle.json": '{"username": "bob", "key": 123456789}'},
        problems=(f"{DOT}/kaggle.json: the key is not a text, so that …",),
    ),
    Case(
        "a blank token",
        "Bearer  ",
        "KAGGLE_API_TOKEN",
        environ={"KAGGLE_API_TOKEN": " "},
        problems=("KAGGLE_API_TOKEN: the token is blank, …",),
    ),
    Case(
        "an empty variable is none",
        "Bearer SECRET-file",
        f"{DOT}/access_token",
        environ={"KAGGLE_API_TOKEN": ""},
        files=TOKEN,
    ),
    Case(
        "kaggle.json saved as a token",
        'Bearer {"username": "bob", "key": "SECRET-0123456789"}',
        f"{DOT}/access_token",
        files={".kaggle/access_token": '{"username": "bob", "key": "SECRET-0123456789"}\n'},
        problems=(
            f"{DOT}/access_token: the token is JSON, so that Kaggle will refuse it. "
            f"Save one of {SETTINGS} in it, and nothing else",
        ),
    ),
    Case(
        "a folder in the place of the token's file",
        None,
        files={".kaggle/access_token": None, **BOB},
        problems=(
            f"{DOT}/access_token cannot be read (Is a directory), and the client fails on it, "
            f"whatever other credentials there are. "
            f"Run: mv {DOT}/access_token {DOT}/access_token.old",
        ),
    ),
    Case(
        "a token's file that is no text",
        None,
        files={".kaggle/access_token": b"\xff\xfeS\0E\0C\0R\0E\0T\0"},
        problems=(f"{DOT}/access_token cannot be read (not UTF-8), and the client fails…",),
    ),
    Case(
        "an empty token's file",
        "Bearer SECRET-txt",
        f"{DOT}/access_token.txt",
        files={".kaggle/access_token": "", ".kaggle/access_token.txt": "SECRET-txt"},
        notes=(f"{DOT}/access_token is empty, …or run: rm {DOT}/access_token",),
    ),
    Case(
        "a token that others can read",
        "Bearer SECRET-file",
        f"{DOT}/access_token",
        files=TOKEN,
        modes={".kaggle/access_token": 0o640},
        problems=(
            f"{DOT}/access_token can be read by other users of this machine (mode 640). "
            f"Run: chmod 600 {DOT}/access_token",
        ),
    ),
    Case(
        "a Kaggle notebook's token goes first",
        "Bearer SECRET-notebook",
        "{home}/jwt (KAGGLE_API_V1_TOKEN)",
        environ={
            **NOTEBOOK,
            "KAGGLE_API_V1_TOKEN": "{home}/jwt",
            "KAGGLE_API_TOKEN": "SECRET-variable",
        },
        files={"jwt": "SECRET-notebook"},
        notes=("{home}/jwt (KAGGLE_API_V1_TOKEN) goes before KAGGLE_API_TOKEN, which is not used",),
    ),
    Case(
        "outside a notebook its token is not looked at",
        "Bearer SECRET-variable",
        "KAGGLE_API_TOKEN",
        environ={"KAGGLE_API_V1_TOKEN": "{home}/jwt", "KAGGLE_API_TOKEN": "SECRET-variable"},
        files={"jwt": "SECRET-notebook"},
    ),
    Case(
        "half a notebook is none",
        "Bearer SECRET-file",
        f"{DOT}/access_token",
        environ={"KAGGLE_KERNEL_RUN_TYPE": "Batch", "KAGGLE_API_V1_TOKEN": "{home}/jwt"},
        files={"jwt": "SECRET-notebook", **TOKEN},
    ),
    Case(
        "a stale token is sent before a good key",
        "Bearer stale-SECRET",
        "KAGGLE_API_TOKEN",
        environ={"KAGGLE_API_TOKEN": "stale-SECRET"},
        files=BOB,
        notes=(
            f"KAGGLE_API_TOKEN goes before the key of {DOT}/kaggle.json, and is sent even when it "
            "is stale. Should Kaggle answer 401, run: unset KAGGLE_API_TOKEN",
        ),
    ),
    Case(
        "a stale token in a file is sent before a good key",
        "Bearer stale-SECRET",
        f"{DOT}/access_token",
        environ={"KAGGLE_USERNAME": "eve", "KAGGLE_KEY": "SECRET-eve"},
        files={".kaggle/access_token": "stale-SECRET"},
        notes=(
            f"{DOT}/access_token goes before the key of KAGGLE_USERNAME and KAGGLE_KEY, and is "
            f"sent even when it is stale. Should Kaggle answer 401, run: rm {DOT}/access_token",
        ),
    ),
    Case(
        "a stale token leaves OAuth, which only Kaggle can tell",
        "Bearer SECRET-oauth",
        "KAGGLE_API_TOKEN",
        environ={"KAGGLE_API_TOKEN": "stale-SECRET"},
        files=oauth(),
        notes=(
            f"KAGGLE_API_TOKEN goes before {DOT}/credentials.json, which is used only when Kaggle "
            "refuses the former",
        ),
    ),
    Case(
        "a path with a line's end cannot be sent",
        None,
        environ={"KAGGLE_API_TOKEN": "~/.kaggle/access_token\n"},
        problems=("KAGGLE_API_TOKEN: the token has a space or a line's end around it, so that …",),
    ),
    # 2. a username and a key
    Case(
        "kaggle.json in ~/.kaggle",
        basic("bob", "SECRET-bob"),
        f"{DOT}/kaggle.json",
        "bob",
        files=BOB,
    ),
    Case(
        "kaggle.json in ~/.config/kaggle",
        basic("bob", "SECRET-bob"),
        f"{XDG}/kaggle.json",
        "bob",
        files=XDG_BOB,
    ),
    Case(
        "kaggle.json in XDG_CONFIG_HOME",
        basic("bob", "SECRET-bob"),
        "{home}/xdg/kaggle/kaggle.json",
        "bob",
        environ={"XDG_CONFIG_HOME": "{home}/xdg"},
        files={"xdg/kaggle/kaggle.json": BOB[".kaggle/kaggle.json"]},
    ),
    Case(
        "kaggle.json in KAGGLE_CONFIG_DIR",
        basic("bob", "SECRET-bob"),
        "{home}/own/kaggle.json",
        "bob",
        environ={"KAGGLE_CONFIG_DIR": "{home}/own"},
        files={"own/kaggle.json": BOB[".kaggle/kaggle.json"], ".kaggle/kaggle.json": "{}"},
    ),
    Case(
        "~/.config/kaggle is not read once ~/.kaggle exists",
        None,
        files={**XDG_BOB, ".kaggle": None},
        problems=(
            f"{XDG}/kaggle.json is not read, because {DOT} exists. "
            f"Run: mkdir -p {DOT} && mv {XDG}/kaggle.json {DOT}/",
            ADVICE + ".kaggle/kaggle.json",
        ),
    ),
    Case(
        "KAGGLE_CONFIG_DIR without a kaggle.json hides the one of ~/.kaggle",
        None,
        environ={"KAGGLE_CONFIG_DIR": "{home}/own"},
        files={**BOB, "own": None},
        problems=(
            f"{DOT}/kaggle.json is not read, because KAGGLE_CONFIG_DIR names {{home}}/own. "
            "Run: unset KAGGLE_CONFIG_DIR",
            ADVICE + "own/kaggle.json",
        ),
    ),
    Case(
        "KAGGLE_CONFIG_DIR that leads nowhere",
        None,
        environ={"KAGGLE_CONFIG_DIR": "{home}/nowhere"},
        problems=(
            "KAGGLE_CONFIG_DIR names {home}/nowhere, and there is no such folder (a ~ in quotes "
            "stays a ~): the client makes it, empty. Run: unset KAGGLE_CONFIG_DIR",
            ADVICE + "nowhere/kaggle.json",
        ),
    ),
    Case(
        "KAGGLE_CONFIG_DIR does not move tokens",
        None,
        environ={"KAGGLE_CONFIG_DIR": "{home}/own"},
        files={"own/access_token": "SECRET-own"},
        problems=(
            f"{{home}}/own/access_token is not read, because the client looks for it in {DOT} "
            f"alone. Run: mkdir -p {DOT} && mv {{home}}/own/access_token {DOT}/",
            ADVICE + "own/kaggle.json",
        ),
    ),
    Case(
        "a file in the place of ~/.kaggle",
        None,
        files={".kaggle": "SECRET-astray"},
        problems=(
            f"{DOT} is a file where the client looks for a folder. Run: mv {DOT} {DOT}.old",
            ADVICE + ".kaggle/kaggle.json",
        ),
    ),
    Case(
        "a home in which nothing can be made",
        None,
        environ={"XDG_CONFIG_HOME": "{home}/file", "KAGGLE_API_TOKEN": "SECRET-variable"},
        files={"file": ""},
        problems=(
            "{home}/file/kaggle cannot be made, and the client makes it as soon as it is imported. "
            'Run: export KAGGLE_CONFIG_DIR="$(mktemp -d)", or name another folder of yours',
        ),
    ),
    Case(
        "kaggle.json that others can read",
        basic("bob", "SECRET-bob"),
        f"{DOT}/kaggle.json",
        "bob",
        files=BOB,
        modes={".kaggle/kaggle.json": 0o644},
        problems=(
            f"{DOT}/kaggle.json can be read by other users of this machine (mode 644). "
            f"Run: chmod 600 {DOT}/kaggle.json",
        ),
    ),
    Case(
        "broken JSON in kaggle.json",
        None,
        files={".kaggle/kaggle.json": '{"username": "bob",\n "key": SECRET-0123456789}'},
        problems=(
            f"{DOT}/kaggle.json is not valid JSON (line 2, column 9), {IGNORED}. {ANEW}",
            ADVICE + ".kaggle/kaggle.json",
        ),
    ),
    Case(
        "broken JSON beside a token is a note",
        "Bearer SECRET-file",
        f"{DOT}/access_token",
        files={".kaggle/kaggle.json": "{", **TOKEN},
        notes=(f"{DOT}/kaggle.json is not valid JSON (line 1, column 2), {IGNORED}. {ANEW}",),
    ),
    Case(
        "kaggle.json as Windows PowerShell writes it",
        None,
        files={".kaggle/kaggle.json": BOB[".kaggle/kaggle.json"].encode("utf-16")},
        problems=(
            f"{DOT}/kaggle.json is not valid JSON (not UTF-8), {IGNORED}. {ANEW}",
            ADVICE + ".kaggle/kaggle.json",
        ),
    ),
    Case(
        "a folder in the place of kaggle.json",
        None,
        files={".kaggle/kaggle.json": None},
        problems=(
            f"{DOT}/kaggle.json cannot be read (Is a directory), {IGNORED}. "
            f"Run: mv {DOT}/kaggle.json {DOT}/kaggle.json.old",
            ADVICE + ".kaggle/kaggle.json",
        ),
    ),
    Case(
        "kaggle.json that is no object",
        None,
        environ={"KAGGLE_API_TOKEN": "SECRET-variable"},
        files={".kaggle/kaggle.json": '["bob", "SECRET-0123456789"]'},
        problems=(
            f'{DOT}/kaggle.json is not an object {{"username": …, "key": …}}, and the client fails '
            f"on it, whatever other credentials there are. {ANEW}",
        ),
    ),
    Case(
        "kaggle.json without a username or a key",
        None,
        files={".kaggle/kaggle.json": '{"competition": "titanic"}'},
        problems=(
            f"{DOT}/kaggle.json holds neither a username nor a key, so that nobody signs in with "
            f"it. {ANEW}",
            ADVICE + ".kaggle/kaggle.json",
        ),
    ),
    Case(
        "kaggle.json without a key",
        None,
        files={".kaggle/kaggle.json": '{"username": "bob"}'},
        problems=(
            f"{DOT}/kaggle.json has a username, but no key. {ANEW}",
            ADVICE + ".kaggle/kaggle.json",
        ),
    ),
    Case(
        "kaggle.json without a username",
        None,
        files={".kaggle/kaggle.json": '{"key": "SECRET-bob"}'},
        problems=(
            f"{DOT}/kaggle.json has a key, but no username. {ANEW}",
            ADVICE + ".kaggle/kaggle.json",
        ),
    ),
    Case(
        "a key with a line's end",
        basic("bob", "SECRET-bob\n"),
        f"{DOT}/kaggle.json",
        "bob",
        files={".kaggle/kaggle.json": '{"username": "bob", "key": "SECRET-bob\\n"}'},
        problems=(
            f"{DOT}/kaggle.json: the key has a space or a line's end around it, so that Kaggle "
            f"will refuse it. {ANEW}",
        ),
    ),
    Case(
        "a key in quotes",
        basic("eve", '"SECRET-eve"'),
        "KAGGLE_USERNAME and KAGGLE_KEY",
        "eve",
        environ={"KAGGLE_USERNAME": "eve", "KAGGLE_KEY": '"SECRET-eve"'},
        problems=(
            "KAGGLE_KEY: the key has quotes in it, so that Kaggle will refuse it. "
            f"Run: export KAGGLE_KEY=KEY, as {SETTINGS} gives it",
        ),
    ),
    Case(
        "an e-mail address for a username",
        basic("eve@example.org", "SECRET-eve"),
        "KAGGLE_USERNAME and KAGGLE_KEY",
        "eve@example.org",
        environ={"KAGGLE_USERNAME": "eve@example.org", "KAGGLE_KEY": "SECRET-eve"},
        problems=(
            "KAGGLE_USERNAME: the username is an e-mail address. Put the name of your profile's "
            "address there, as NAME in https://www.kaggle.com/NAME",
        ),
    ),
    Case(
        "a username and a key in variables",
        basic("eve", "SECRET-eve"),
        "KAGGLE_USERNAME and KAGGLE_KEY",
        "eve",
        environ={"KAGGLE_USERNAME": "eve", "KAGGLE_KEY": "SECRET-eve"},
    ),
    Case(
        "variables go before kaggle.json",
        basic("eve", "SECRET-eve"),
        "KAGGLE_USERNAME and KAGGLE_KEY",
        "eve",
        environ={"KAGGLE_USERNAME": "eve", "KAGGLE_KEY": "SECRET-eve"},
        files=BOB,
        notes=(f"KAGGLE_KEY goes before the key of {DOT}/kaggle.json",),
    ),
    Case(
        "a username in a variable, a key in the file of another",
        basic("eve", "SECRET-bob"),
        f"KAGGLE_USERNAME and {DOT}/kaggle.json",
        "eve",
        environ={"KAGGLE_USERNAME": "eve"},
        files=BOB,
        problems=(
            f"KAGGLE_USERNAME (eve) is laid over the username of {DOT}/kaggle.json (bob), whose "
            "key is used. Run: unset KAGGLE_USERNAME",
        ),
    ),
    Case(
        "a key in a variable, the username in a file",
        basic("bob", "SECRET-eve"),
        f"{DOT}/kaggle.json and KAGGLE_KEY",
        "bob",
        environ={"KAGGLE_KEY": "SECRET-eve"},
        files=BOB,
        notes=(f"KAGGLE_KEY goes before the key of {DOT}/kaggle.json",),
    ),
    Case(
        "a username without a key",
        None,
        environ={"KAGGLE_USERNAME": "eve"},
        problems=(
            "KAGGLE_USERNAME is set without KAGGLE_KEY. "
            "Run: export KAGGLE_KEY=KEY, or: unset KAGGLE_USERNAME",
            ADVICE,
        ),
    ),
    Case(
        "a key without a username",
        None,
        environ={"KAGGLE_KEY": "SECRET-eve"},
        problems=(
            "KAGGLE_KEY is set without KAGGLE_USERNAME. "
            "Run: export KAGGLE_USERNAME=USERNAME, or: unset KAGGLE_KEY",
            ADVICE,
        ),
    ),
    Case(
        "half a key beside OAuth is a note",
        "Bearer SECRET-oauth",
        f"{DOT}/credentials.json",
        "olga",
        environ={"KAGGLE_USERNAME": "eve"},
        files=oauth(),
        notes=("KAGGLE_USERNAME is set without KAGGLE_KEY. …",),
    ),
    Case(
        "an empty key signs nothing",
        None,
        environ={"KAGGLE_USERNAME": "eve", "KAGGLE_KEY": ""},
        files=oauth(),
        problems=(
            "KAGGLE_KEY has an empty value: the client takes that for an answer, looks no "
            "further, and signs nothing. Run: unset KAGGLE_KEY",
        ),
    ),
    Case(
        "empty variables leave the file of ~/.kaggle",
        basic("bob", "SECRET-bob"),
        f"{DOT}/kaggle.json",
        "bob",
        environ={"KAGGLE_USERNAME": "", "KAGGLE_KEY": ""},
        files=BOB,
        notes=(
            f"KAGGLE_USERNAME has an empty value, so that {DOT}/kaggle.json is used. "
            "Run: unset KAGGLE_USERNAME",
        ),
    ),
    Case(
        "empty variables do not leave the file of ~/.config/kaggle",
        None,
        environ={"KAGGLE_USERNAME": "", "KAGGLE_KEY": ""},
        files=XDG_BOB,
        problems=("KAGGLE_USERNAME has an empty value: …",),
    ),
    Case(
        "KAGGLE_TOKEN is sent instead of the key",
        "Bearer SECRET-undocumented",
        "KAGGLE_TOKEN",
        "bob",
        environ={"KAGGLE_TOKEN": "SECRET-undocumented"},
        files=BOB,
        notes=(
            f"KAGGLE_TOKEN is sent instead of the key of {DOT}/kaggle.json. "
            "Should Kaggle answer 401, run: unset KAGGLE_TOKEN",
        ),
    ),
    Case(
        "an empty KAGGLE_TOKEN spoils the key",
        "Bearer ",
        "KAGGLE_TOKEN",
        "bob",
        environ={"KAGGLE_TOKEN": ""},
        files=BOB,
        problems=(
            "KAGGLE_TOKEN: the token is blank, so that Kaggle will refuse it. "
            "To mend it, run: unset KAGGLE_TOKEN",
        ),
        notes=("KAGGLE_TOKEN is sent instead of the key of…",),
    ),
    Case(
        "a token in kaggle.json is sent instead of its key",
        "Bearer SECRET-inside",
        f"{DOT}/kaggle.json (token)",
        "bob",
        files={
            ".kaggle/kaggle.json": '{"username": "bob", "key": "SECRET-bob", "token": "SECRET-inside"}'
        },
        notes=(
            f"{DOT}/kaggle.json (token) is sent instead of the key of {DOT}/kaggle.json. "
            "Should Kaggle answer 401, take the line token out of it",
        ),
    ),
    Case(
        "KAGGLE_TOKEN alone is nothing",
        None,
        environ={"KAGGLE_TOKEN": "SECRET-undocumented"},
        problems=(
            "KAGGLE_TOKEN counts only beside a username and a key. "
            'Run: export KAGGLE_API_TOKEN="$KAGGLE_TOKEN"; unset KAGGLE_TOKEN',
            ADVICE,
        ),
    ),
    # 3. OAuth
    Case("OAuth", "Bearer SECRET-oauth", f"{DOT}/credentials.json", "olga", files=oauth()),
    Case(
        "an OAuth token is used for half an hour after its end",
        "Bearer SECRET-oauth",
        f"{DOT}/credentials.json",
        "olga",
        files=oauth(access_token_expiration=JUST_ENDED),
    ),
    Case(
        "an expired OAuth token is renewed",
        "Bearer fresh",
        f"{DOT}/credentials.json",
        "olga",
        files=oauth(access_token_expiration=LONG_AGO),
        notes=(
            f"{DOT}/credentials.json: the access token has expired; the client fetches another "
            "when it next signs in, and writes it there. "
            "Should Kaggle refuse that, run: kaggle auth login",
        ),
    ),
    Case(
        "OAuth without an access token fetches one",
        "Bearer fresh",
        f"{DOT}/credentials.json",
        "olga",
        files=oauth(access_token=""),
        notes=(f"{DOT}/credentials.json: the access token has expired; …",),
    ),
    Case(
        "OAuth without an access token needs no time",
        "Bearer fresh",
        f"{DOT}/credentials.json",
        "olga",
        files=oauth(access_token="", access_token_expiration="2099-01-01T00:00:00"),
        notes=(f"{DOT}/credentials.json: the access token has expired; …",),
    ),
    Case(
        "OAuth without a refresh token is ignored, sound as its token may be",
        None,
        files=oauth(refresh_token=""),
        problems=(
            f"{DOT}/credentials.json has no refresh token, so that the client ignores it, whether "
            "its access token has expired or not. Run: kaggle auth login",
            ADVICE + ".kaggle/kaggle.json",
        ),
    ),
    Case(
        "an expired OAuth token without a refresh token is ignored",
        None,
        files=oauth(refresh_token="", access_token_expiration=LONG_AGO),
        problems=(f"{DOT}/credentials.json has no refresh token, …", ADVICE),
    ),
    Case(
        "OAuth whose time has no zone",
        None,
        files=oauth(access_token_expiration="2099-01-01T00:00:00"),
        problems=(
            f"{DOT}/credentials.json: access_token_expiration is no time with a zone, and the "
            "client fails on it. Run: kaggle auth login",
        ),
    ),
    Case(
        "OAuth whose time is none",
        None,
        files=oauth(access_token_expiration="soon"),
        problems=(f"{DOT}/credentials.json: access_token_expiration is no time…",),
    ),
    Case(
        "broken JSON in credentials.json",
        None,
        files={".kaggle/credentials.json": "SECRET-0123456789"},
        problems=(
            f"{DOT}/credentials.json is not valid JSON (line 1, column 1), and the client ignores "
            "it. Run: kaggle auth login",
            ADVICE,
        ),
    ),
    Case(
        "credentials.json that is no object",
        None,
        files={".kaggle/credentials.json": "[]"},
        problems=(f"{DOT}/credentials.json is not what kaggle auth login writes, …",),
    ),
    Case(
        "a folder in the place of credentials.json",
        None,
        files={".kaggle/credentials.json": None},
        problems=(f"{DOT}/credentials.json cannot be read (Is a directory), …",),
    ),
    Case(
        "a broken credentials.json does not stop a key",
        basic("bob", "SECRET-bob"),
        f"{DOT}/kaggle.json",
        "bob",
        files={".kaggle/credentials.json": "[]", **BOB},
    ),
    Case(
        "a key goes before OAuth",
        basic("bob", "SECRET-bob"),
        f"{DOT}/kaggle.json",
        "bob",
        files={**oauth(), **BOB},
        notes=(f"{DOT}/kaggle.json goes before {DOT}/credentials.json, which is not used",),
    ),
    Case(
        "everything at once",
        "Bearer SECRET-variable",
        "KAGGLE_API_TOKEN",
        environ={
            "KAGGLE_API_TOKEN": "SECRET-variable",
            "KAGGLE_USERNAME": "eve",
            "KAGGLE_KEY": "SECRET-eve",
            "KAGGLE_TOKEN": "SECRET-undocumented",
        },
        files={**oauth(), **BOB, **TOKEN},
        notes=(
            f"KAGGLE_API_TOKEN goes before {DOT}/access_token, which is not used",
            f"KAGGLE_API_TOKEN goes before {DOT}/credentials.json, which is not used",
            "KAGGLE_API_TOKEN goes before the key of KAGGLE_TOKEN, and is sent even when…",
        ),
    ),
]
IDS = [case.claim for case in CASES]
every_case = pytest.mark.parametrize("case", CASES, ids=IDS)
every_machine = pytest.mark.parametrize("machine", CASES, ids=IDS, indirect=True)


@dataclass(frozen=True)
class Machine:
    """A case in place."""

    home: Path
    environ: dict[str, str]

    def find(self) -> Credentials:
        return find_credentials(self.environ, self.home)


def set_up(case: Case, home: Path) -> Machine:
    home.mkdir(parents=True)
    for name, content in case.files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            path.chmod(case.modes.get(name, 0o600))
    environ = {name: in_home(text, home) for name, text in case.environ.items()}
    return Machine(home, {"HOME": str(home), **environ})


def in_home(text: str, home: Path) -> str:
    return text.replace("{home}", str(home))


@pytest.fixture
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    given: Case | None = getattr(request, "param", None)
    return set_up(given or request.getfixturevalue("case"), tmp_path / "home")


class Echo(http.server.BaseHTTPRequestHandler):
    """Kaggle's place: knows each token but those called stale, and says what it was sent."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.endswith("/IntrospectToken"):
            token = body.get("token", "")
            answer = {"active": not token.startswith("stale"), "username": "alice"}
        elif self.path.endswith("/GenerateAccessToken"):
            answer = {"token": "fresh", "expiresIn": 43200, "userName": "olga", "userId": 1}
        else:
            answer = {"nextPageToken": self.headers["Authorization"] or "nothing"}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *arguments: object) -> None:
        pass


CLIENT = """\
import contextlib, io, json, os, sys
import kagglesdk, kagglesdk.kaggle_client

def sign_in():
    from kaggle.api.kaggle_api_extended import KaggleApi
    from kagglesdk.competitions.types.competition_api_service import ApiListCompetitionsRequest
    api = KaggleApi()
    api.authenticate()
    with api.build_kaggle_client() as client:
        competitions = client.competitions.competition_api_client
        return competitions.list_competitions(ApiListCompetitionsRequest()).next_page_token

def answer(environ):
    os.environ.clear()
    os.environ.update(environ)
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            return ["sent", sign_in()]
        except (Exception, SystemExit) as error:
            return [type(error).__name__, str(error)]

for environ in json.load(sys.stdin):
    if not os.fork():
        text = json.dumps(answer(environ))
        os.write(1, text.encode() + b"\\n")
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[list[str], Path]]]:
    """What the official client did on each case's machine, and the machine's home."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = tmp_path_factory.mktemp("client")
    machines = [set_up(case, root / str(number)) for number, case in enumerate(CASES)]
    loopback = {
        "KAGGLE_API_ENVIRONMENT": "LOCALHOST",
        "http_proxy": f"http://127.0.0.1:{server.server_address[1]}",
        "https_proxy": "http://127.0.0.1:1",
    }
    environs = json.dumps([{**machine.environ, **loopback} for machine in machines])
    done = subprocess.run(
        [sys.executable, "-c", CLIENT],
        input=environs, capture_output=True, text=True, check=True, cwd=root, timeout=300,
    )  # fmt: skip
    server.shutdown()
    server.server_close()
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(CASES)
    yield {
        case.claim: (answer, machine.home)
        for case, answer, machine in zip(CASES, answers, machines, strict=True)
    }
    shutil.rmtree(root)


@every_case
def test_the_client_sends_what_the_case_says(
    case: Case, client: dict[str, tuple[list[str], Path]]
) -> None:
    (end, sent), home = client[case.claim]
    if case.sends is None:
        assert end != "sent" or sent == "nothing"
    else:
        assert [end, sent] == ["sent", in_home(case.sends, home)]


@every_case
def test_the_route_is_the_clients(case: Case, machine: Machine) -> None:
    found = machine.find()
    assert (found.route, found.origin, found.user) == (
        case.route(),
        in_home(case.origin, machine.home),
        case.user,
    )


def tells(sentence: str, expected: str, home: Path) -> bool:
    """Whether a sentence holds all fragments of what is expected, in their order."""
    place = 0
    for fragment in in_home(expected, home).split("…"):
        place = sentence.find(fragment, place)
        if place < 0:
            return False
    return True


@every_case
@pytest.mark.parametrize("kind", ["problems", "notes"])
def test_each_trap_is_told(case: Case, machine: Machine, kind: str) -> None:
    said: list[str] = getattr(machine.find(), kind)
    expected: tuple[str, ...] = getattr(case, kind)
    for sentence in expected:
        assert any(tells(words, sentence, machine.home) for words in said), (sentence, said)
    assert len(said) == len(expected), said


@every_machine
def test_nothing_is_made_or_changed(machine: Machine) -> None:
    before = sorted((path, path.lstat().st_mtime_ns) for path in machine.home.rglob("*"))
    assert machine.find() == machine.find()
    assert sorted((path, path.lstat().st_mtime_ns) for path in machine.home.rglob("*")) == before


@every_machine
def test_no_secret_shows(machine: Machine) -> None:
    found = machine.find()
    shown = [repr(found), str(found), f"{found}", repr(found.secrets), f"{found.secrets}"]
    shown += [str(asdict(found)), json.dumps(asdict(found), default=str), repr(vars(found))]
    shown += [repr(copy.deepcopy(found)), *(f"{secret} {secret!r}" for secret in found.secrets)]
    try:
        raise ValueError(found, *found.secrets)
    except ValueError:
        shown.append(traceback.format_exc())
    assert "SECRET" not in "".join(shown)
    assert "secrets" not in repr(found)
    if found.secrets:
        with pytest.raises(TypeError, match="a secret is never pickled"):
            pickle.dumps(found)


@every_case
def test_every_secret_of_the_machine_is_scrubbed(case: Case, machine: Machine) -> None:
    found = machine.find()
    read = [text for name, text in case.files.items() if name not in {".kaggle", "jwt"}]
    if case.origin.startswith("{home}/jwt"):
        read.append(case.files["jwt"])
    for text in [*read, *case.environ.values()]:
        for secret in re.findall(
            r"[\w-]*SECRET[^\s\"',}\]]*", text if isinstance(text, str) else ""
        ):
            assert "SECRET" not in scrub(f"said {secret}; and {secret!r}", found.secrets)
    if case.sends and "SECRET" in case.sends:
        assert "SECRET" not in scrub(f"sent {case.sends.partition(' ')[2]}", found.secrets)
    if case.sends and case.sends.startswith("Basic"):
        encoded = case.sends.removeprefix("Basic ")
        assert scrub(f"sent {encoded}", found.secrets) == "sent ***"


@contextmanager
def nobody(home: Path) -> Iterator[None]:
    """Be a user who is not root, to whom `home` belongs."""
    if os.geteuid() != 0:
        yield
        return
    for path in [home, *home.rglob("*")]:
        os.chown(path, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that others than root can reach, which they cannot in tmp_path."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        home = Path(folder) / "home"
        home.mkdir()
        yield home
        for path in [home, *home.rglob("*")]:
            path.chmod(0o700)


@pytest.mark.parametrize(
    ("closed", "mode", "problem"),
    [
        (
            ".kaggle/access_token",
            0o000,
            '{home}/.kaggle/access_token cannot be read (Permission denied), and the client fails on it, whatever other credentials there are. Run: sudo chown "$(id -un)" {home}/.kaggle/access_token; chmod 600 {home}/.kaggle/access_token',
        ),
        (
            ".kaggle",
            0o000,
            '{home}/.kaggle/access_token cannot be read (Permission denied), and the client fails on it, whatever other credentials there are. Run: sudo chown "$(id -un)" {home}/.kaggle; chmod 700 {home}/.kaggle',
        ),
        (
            "",
            0o500,
            '{home}/.config/kaggle cannot be made, and the client makes it as soon as it is imported. Run: export KAGGLE_CONFIG_DIR="$(mktemp -d)", or name another folder of yours',
        ),
    ],
)
def test_what_may_not_be_entered_is_a_sentence(
    home: Path, closed: str, mode: int, problem: str
) -> None:
    if closed:
        (home / ".kaggle").mkdir()
        (home / ".kaggle/access_token").write_text("SECRET")
        (home / ".kaggle/access_token").chmod(0o600)
    with nobody(home):
        (home / closed).chmod(mode)
        found = find_credentials({}, home)
    assert found.route == "none"
    assert found.problems[0] == in_home(problem, home)


def test_kaggle_json_that_may_not_be_read_is_a_sentence(home: Path) -> None:
    path = home / ".kaggle/kaggle.json"
    path.parent.mkdir()
    path.write_text("{}")
    with nobody(home):
        path.chmod(0)
        found = find_credentials({}, home)
    assert found.problems[0] == (
        f"{path} cannot be read (Permission denied), and the client ignores it without a word. "
        f'Run: sudo chown "$(id -un)" {path}; chmod 600 {path}'
    )


def test_bytes_that_are_no_text_are_a_sentence(tmp_path: Path) -> None:
    undecodable = os.fsdecode(b"SECRET-\xff")
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_KEY"):
        found = find_credentials({"KAGGLE_USERNAME": "eve", name: undecodable}, tmp_path)
        assert found.route == "none"
        assert "so that it cannot be sent" in found.problems[0]


def test_a_broken_link_in_the_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    found = find_credentials({"KAGGLE_CONFIG_DIR": str(tmp_path / "link")}, tmp_path)
    assert found.problems == [
        f"{tmp_path}/link cannot be made, and the client makes it as soon as it is imported. "
        'Run: export KAGGLE_CONFIG_DIR="$(mktemp -d)", or name another folder of yours'
    ]


def test_commands_quote_their_paths(tmp_path: Path) -> None:
    path = tmp_path / "a home" / ".kaggle" / "access_token"
    path.parent.mkdir(parents=True)
    path.write_text("SECRET")
    path.chmod(0o604)
    (problem,) = find_credentials({}, tmp_path / "a home").problems
    assert problem.endswith(f"Run: chmod 600 '{path}'")
    assert shlex.split(problem.partition("Run: ")[2])[-1] == str(path)


def test_only_linux_goes_by_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = set_up(Case("", None, files=XDG_BOB), tmp_path / "home")
    assert machine.find().route == "key"
    monkeypatch.setattr(sys, "platform", "darwin")
    assert machine.find().route == "none"
    assert "because" in machine.find().problems[0]


def test_neither_kaggle_nor_kagglesdk_is_imported() -> None:
    code = (
        "import os, pathlib, sys\n"
        "from pipeline.kaggle.credentials import find_credentials\n"
        "find_credentials(os.environ, pathlib.Path.home())\n"
        "sys.exit(bool({'kaggle', 'kagglesdk', 'requests'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_secret_is_revealed_on_request_alone() -> None:
    secret = Secret("SECRET")
    assert secret.reveal() == "SECRET"
    assert (secret, hash(secret)) == (Secret("SECRET"), hash(Secret("SECRET")))
    assert secret != Secret("another")
    assert secret != "SECRET"
    assert f"{secret} {secret!r} {secret!s} %s" % secret == "*** *** *** ***"
    assert copy.copy(secret) is copy.deepcopy(secret) is secret
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(secret)
    with pytest.raises(TypeError):
        vars(secret)


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("said SECRETS-long here", "said *** here"),
        ("xSECRETS-longx", "x***x"),
        ("said short here, shorter there", "said *** here, shorter there"),
        ("said nothing.", "said nothing."),
        (
            "GET https://storage.googleapis.com/b/o.zip?X-Goog-Signature=ab12&Expires=3: 403",
            "GET https://storage.googleapis.com/b/o.zip?*** 403",
        ),
        ('{"createUrl": "https://up.example/x?upload_id=A", "n": 1}', '{"createUrl": "https://up.example/x?***", "n": 1}'),
        (
            "Max retries exceeded with url: /b/o.zip?X-Goog-Signature=ab12 (Caused by",
            "Max retries exceeded with url: /b/o.zip?*** (Caused by",
        ),
        ("proxy http://me:pass@word@proxy:3128 refused", "proxy http://***@proxy:3128 refused"),
        ("Authorization: Bearer abc\nHost: x", "Authorization: ***\nHost: x"),
        ("{'Authorization': 'Basic abc==', 'Host': 'x'}", "{'Authorization': '***', 'Host': 'x'}"),
        ('{"authorization":b"Digest a, b"}', '{"authorization":b"***"}'),
        ("Proxy-Authorization: Basic abc", "Proxy-Authorization: ***"),
        ("sent Bearer abc, then", "sent Bearer ***, then"),
        ("invalid header value b'Bearer abc\\n'", "invalid header value b'Bearer ***'"),
        ("sent basic YWxhZGRpbjpvcGVu", "sent basic ***"),
        ("a basic network has no bearer", "a basic network has no bearer"),
        ("Is it there? Yes: see https://www.kaggle.com/settings", "Is it there? Yes: see https://www.kaggle.com/settings"),
    ],
)  # fmt: skip
def test_scrub_masks_what_a_log_must_not_hold(text: str, clean: str) -> None:
    assert scrub(text, [Secret("SECRETS-long"), "short", Secret("."), ""]) == clean
    assert scrub(clean, []) == clean


def test_the_longest_secret_is_masked_first() -> None:
    assert scrub("SECRET-abc-long", ["SECRET-abc", "SECRET-abc-long"]) == "***"
