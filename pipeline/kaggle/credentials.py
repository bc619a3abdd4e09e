"""What the official client would sign in with, found out before it is imported.

`kaggle` (2.2.4 and 2.2.5) looks in this order, and says little when something is amiss:

1. an access token: in a Kaggle notebook the file of KAGGLE_API_V1_TOKEN; KAGGLE_API_TOKEN, the
   token or a path to it; ~/.kaggle/access_token; ~/.kaggle/access_token.txt
2. a username and a key: kaggle.json of ONE folder ($KAGGLE_CONFIG_DIR, else ~/.kaggle where it
   exists, else ${XDG_CONFIG_HOME:-~/.config}/kaggle), overlaid by every variable KAGGLE_<FIELD>
3. ~/.kaggle/credentials.json, which `kaggle auth login` writes

The same is done here by reading files and variables alone: no network, nothing printed or made,
and neither kaggle nor kagglesdk imported, since their import does all three. So a token that
Kaggle no longer accepts looks sound here. tests/test_credentials.py compares with the client.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.kaggle.credential_places import Place, Route, Search
from pipeline.kaggle.scrub import Secret


@dataclass(frozen=True)
class Credentials:
    """What the client would sign in with, and what is wrong with it.

    route: how; "none" where the client would not sign in, as `problems` explains.
    origin: the variable or file; empty without a route. user: empty where unknown: a token
    does not tell. problems: what is wrong, and the command that mends it. notes: worth knowing,
    and what is wrong with credentials that are not in use. secrets: for `scrub`, all that stand
    anywhere in the client's places, in use or not.
    """

    route: Route
    origin: str
    user: str
    problems: list[str]
    notes: list[str]
    secrets: tuple[Secret, ...] = field(repr=False)


def find_credentials(environ: Mapping[str, str], home: Path) -> Credentials:
    """Look wherever the client would look, in its order. Never raises for what it finds there.

    A defect is a problem where it spoils what would be used, or where nothing else is there;
    else it is a note. That other users can read a file is always a problem.
    """
    search = Search(environ, home)
    folder = search.folder()
    config, fields = search.config()
    tokens = search.tokens()
    key = search.key(fields)
    oauth = search.oauth()
    order = [folder, config, *_until_taken(tokens), key, oauth]
    winner = next((place for place in order if place.stops or place.route != "none"), None)
    faults = [fault for place in order if place is not winner for fault in place.faults]
    faults += search.stray()

    signed_in = Place()
    problems, notes = list(search.exposed), list[str]()
    if winner is None:
        problems += [*faults, search.advice()]
    elif winner.stops:
        problems += [winner.stops, *winner.faults]
        notes += faults
    else:
        signed_in = winner
        problems += winner.faults
        notes += [*winner.notes, *faults, *_shadows(winner, tokens, key, oauth)]
    return Credentials(
        signed_in.route, signed_in.origin, signed_in.user, problems, notes, tuple(search.secrets)
    )


def _until_taken(tokens: list[Place]) -> list[Place]:
    """The places that the client looks at for a token, before one ends the search."""
    ends = [bool(place.stops) or place.route != "none" or place.is_last_token for place in tokens]
    return tokens[: ends.index(True) + 1] if True in ends else tokens


def _shadows(winner: Place, tokens: list[Place], key: Place, oauth: Place) -> list[str]:
    """What else is there, and serves for nothing."""
    notes = [
        f"{winner.origin} goes before {place.origin}, which is not used"
        for place in tokens
        if place.route != "none"
        and place is not winner
        and place.origin != winner.origin.partition(" (")[0]  # the file that a variable names
    ]
    if winner in tokens and key.route != "none":
        notes.append(
            f"{winner.origin} goes before the key of {key.origin}, and is sent even when it is "
            f"stale. Should Kaggle answer 401, run: {winner.drop}"
        )
    if winner is not oauth and oauth.route != "none":
        falls_through = winner in tokens and key.route == "none"
        when = "used only when Kaggle refuses the former" if falls_through else "not used"
        notes.append(f"{winner.origin} goes before {oauth.origin}, which is {when}")
    return notes
