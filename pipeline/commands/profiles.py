"""Profiles: complete params.yaml files under profiles/, one for each competition.

Every command reads `params.yaml` alone. A profile replaces it, but never changes that are neither
committed nor in a profile.
"""

from contextlib import suppress
from pathlib import Path

from pipeline.core import paths
from pipeline.core.errors import ConfigError, OutputError
from pipeline.core.files import write_text
from pipeline.core.ours import refuse_others
from pipeline.ledger.git import file_at
from pipeline.params import read_config

PROFILES = Path("profiles")


def list_profiles() -> list[tuple[str, str, bool]]:
    """Name, measured result (the file's first comment), and whether it is the one in use."""
    current = paths.PARAMS.read_bytes() if paths.PARAMS.is_file() else b""
    found = []
    for path in sorted(PROFILES.glob("*.yaml")):
        content = path.read_bytes()
        first = content.partition(b"\n")[0].decode(errors="replace")
        measured = first.removeprefix("#").strip() if first.startswith("#") else "not measured"
        found.append((path.stem, measured, content == current))
    return found


def use_profile(name: str) -> None:
    """Replace params.yaml by profiles/NAME.yaml.

    Raises ConfigError for an unknown or invalid profile, and where params.yaml has changes that
    would be lost: those that are neither in the last commit nor in any profile.
    """
    profile = PROFILES / f"{name}.yaml"
    if not profile.is_file():
        known = ", ".join(sorted(path.stem for path in PROFILES.glob("*.yaml")))
        raise ConfigError(f"{profile}: no such profile; known: {known}. Run: make profiles")
    read_config(profile)
    require_kept(f"make use PROFILE={name}")
    write_text(paths.PARAMS, profile.read_text(encoding="utf-8"))


def require_kept(again: str) -> None:
    """Raise ConfigError where params.yaml has changes that a command would lose; again: itself.

    What `new` has written, and nobody has changed, it may write again.
    """
    if paths.PARAMS.is_file() and not _is_kept(paths.PARAMS.read_bytes()):
        with suppress(OutputError):
            refuse_others(paths.PARAMS)
            return
        raise ConfigError(
            f"{paths.PARAMS}: has changes that are neither in the last commit nor in a profile. "
            f"Keep them (git commit params.yaml, or cp params.yaml profiles/NEW.yaml) "
            f"or drop them (git checkout params.yaml), then: {again}"
        )


def _is_kept(content: bytes) -> bool:
    """Whether a profile or the last commit has these parameters."""
    if any(path.read_bytes() == content for path in PROFILES.glob("*.yaml")):
        return True
    return file_at("HEAD", paths.PARAMS) == content
