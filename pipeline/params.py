"""params.yaml as one typed tree, and its errors as sentences.

YAML is read as version 1.2 by the same library as DVC's, so that both see the same
values (1e-3 is a number) and a repeated key is an error.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError, model_validator
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError

from pipeline.core.errors import ConfigError
from pipeline.core.section import Section
from pipeline.download.config import DownloadConfig
from pipeline.ensemble.config import EnsembleConfig
from pipeline.prepare.config import PrepareConfig
from pipeline.split.config import SplitConfig
from pipeline.train.config import TrainConfig


class Config(Section):
    """The whole of params.yaml."""

    download: DownloadConfig
    prepare: PrepareConfig
    split: SplitConfig
    train: TrainConfig
    ensemble: EnsembleConfig

    @model_validator(mode="after")
    def _folds_exist(self) -> Self:
        count = self.split.folds * len(self.split.seeds)
        missing = [fold for fold in self.train.folds if fold >= count]
        if missing:
            raise ValueError(
                f"train.folds: fold {missing[0]} does not exist: split.folds × split.seeds "
                f"makes {count} folds, numbered from 0"
            )
        return self


def read_config(path: Path) -> Config:
    """Read and validate a params file. Raises ConfigError with one line for each mistake."""
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file. Run in the repository's root, or: make use PROFILE=synthetic"
        )
    try:
        tree = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        line = f"line {place.line + 1}" if place else "not YAML"
        problem = " ".join(str(error.problem).split())
        raise ConfigError(f"{path}: {line}: {problem}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: expected UTF-8 text: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(tree).__name__}")
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        mistakes = [f"{path}: {_sentence(detail, tree)}" for detail in error.errors()]
        raise ConfigError("\n".join(mistakes)) from error


def named_inputs(config: Config) -> dict[Path, str]:
    """The files outside data/ that the parameters name, by their paths from here.

    With each its SHA-256, where the parameters have that of the file alone; else "".
    """
    named = {} if config.prepare.corrections is None else {config.prepare.corrections: ""}
    for member in config.train.members:
        weights: Any = getattr(config.train.models[member].network, "weights", None)
        if weights is not None:
            named[getattr(weights, "file", weights)] = getattr(weights, "sha256", "")
    for external in config.ensemble.external:
        named |= {external.oof: "", external.test: ""}
    return {Path(os.path.relpath(file)): pin for file, pin in named.items()}


def _sentence(detail: ErrorDetails, tree: dict[str, Any]) -> str:
    path = _locate(detail["loc"], tree, missing=detail["type"] == "missing")
    where = f"{path}: " if path else ""
    match detail["type"]:
        case "extra_forbidden":
            key = str(detail["loc"][-1])
            known = _known_keys(detail["loc"][:-1])
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known)}"
            return f"{where}unknown parameter{hint if known else ''}"
        case "missing":
            return f"{where}missing: every parameter stands in params.yaml"
        case "value_error":
            return f"{where}{detail['ctx']['error']}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{where}expected a mapping of parameters, found {detail['input']!r}"
        case "union_tag_not_found":
            tag = detail["ctx"]["discriminator"]
            return f"{where}missing the key {tag} that says which kind this is"
        case "union_tag_invalid":
            context = detail["ctx"]
            return (
                f"{where}{context['discriminator']}: expected one of {context['expected_tags']}, "
                f"found {context['tag']!r}"
            )
    text = re.sub(r"^(Input|String|List) should (be |have )?", "", detail["msg"])
    text = re.sub(r" after validation, not \d+$", "", text).replace("Input", "it", 1)
    text = re.sub(r"^match pattern", "text that matches", text)
    return f"{where}expected {text}, found {detail['input']!r}"


def _locate(loc: tuple[int | str, ...], tree: Any, missing: bool) -> str:
    """The dotted path of an error without the union tags that pydantic puts into it.

    missing: whether the last key is not in the tree.
    """
    parts: list[str] = []
    here = tree
    for position, key in enumerate(loc):
        last = position == len(loc) - 1
        if isinstance(here, dict) and (key in here or (last and missing)):
            parts.append(str(key))
            here = here.get(key)
        elif isinstance(here, list) and isinstance(key, int) and key < len(here):
            parts.append(str(key))
            here = here[key]
    return ".".join(parts)


def _known_keys(loc: tuple[int | str, ...]) -> list[str]:
    """The parameters that the class at `loc` has."""
    schema: Any = Config.model_json_schema()
    definitions = schema["$defs"]
    for key in loc:
        if "properties" in schema and key in schema["properties"]:
            schema = schema["properties"][key]
        elif "discriminator" in schema and key in schema["discriminator"]["mapping"]:
            schema = {"$ref": schema["discriminator"]["mapping"][key]}
        elif "patternProperties" in schema:
            (schema,) = schema["patternProperties"].values()
        elif isinstance(schema.get("items"), dict):
            schema = schema["items"]
        if "$ref" in schema:
            schema = definitions[schema["$ref"].removeprefix("#/$defs/")]
    return sorted(schema.get("properties", {}))
