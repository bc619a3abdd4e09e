"""params.yaml as one typed tree, and its errors as sentences."""

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from pipeline.core import paths
from pipeline.core.errors import ConfigError, TableError
from pipeline.core.files import remove_abandoned
from pipeline.core.ours import overlap
from pipeline.core.section import Section
from pipeline.core.yaml import parse_yaml
from pipeline.download.config import DownloadConfig, LocalSource
from pipeline.ensemble.config import EnsembleConfig
from pipeline.prepare.config import ImagesConfig, PrepareConfig
from pipeline.scoring.names import file_of
from pipeline.split.config import SplitConfig
from pipeline.train.config import TrainConfig, is_for_signals

_MOST_SHOWN, _MOST_LISTED = 200, 30


class Config(Section):
    """The whole of params.yaml."""

    download: DownloadConfig
    prepare: Annotated[PrepareConfig, Field(discriminator="kind")]
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

    @model_validator(mode="after")
    def _sizes_end_at_that_of_the_images(self) -> Self:
        for name, model in self.train.models.items():
            sizes = model.sizes_px
            if sizes is None:
                continue
            place = f"train.models.{name}.sizes_px"
            if not isinstance(self.prepare, ImagesConfig):
                raise ValueError(f"{place}: expected null, since signals have no side")
            size_px = self.prepare.size_px
            if sizes[-1] != size_px or max(sizes) > size_px:
                raise ValueError(
                    f"{place}: expected sides up to prepare.size_px, which is {size_px}, and that "
                    f"one last, found {sizes}"
                )
        return self

    @model_validator(mode="after")
    def _networks_are_for_what_is_stored(self) -> Self:
        for name, model in self.train.models.items():
            expected = "signals" if is_for_signals(model) else "images"
            if self.prepare.kind != expected:
                raise ValueError(
                    f"train.models.{name}: network {model.network.name} is for {expected}, and "
                    f"prepare.kind is {self.prepare.kind}: choose another network, or set "
                    f"prepare.kind: {expected}"
                )
        return self

    def outputs(self) -> list[Path]:
        """What the stages remove or replace."""
        return paths.outputs(self.ensemble.name, self.train.members, self.train.folds)

    def inputs(self) -> Iterator[tuple[str, Path]]:
        """The files and folders of others that the stages read, each with its parameter."""
        if isinstance(self.download, LocalSource):
            yield "download.folder", Path(self.download.folder)
        if self.prepare.corrections is not None:
            yield "prepare.corrections", Path(self.prepare.corrections)
        for model, config in self.train.models.items():
            if config.network.weights is not None:
                yield f"train.models.{model}.network.weights", Path(config.network.weights.file)
        for place, member in enumerate(self.ensemble.external):
            yield f"ensemble.external.{place}.oof", Path(member.oof)
            yield f"ensemble.external.{place}.test", Path(member.test)


def read_config(path: Path) -> Config:
    """Read and check a params file, before any stage runs.

    Raises ConfigError with one line for each mistake, and as _check_places does.
    """
    config = parse_config(path)
    _check_places(config)
    return config


def parse_config(path: Path) -> Config:
    """A params file as typed values. Raises ConfigError with one line for each mistake."""
    if not path.is_file():
        raise ConfigError(
            f"{path}: no such file. Run in the repository's root, or: make use PROFILE=synthetic"
        )
    try:
        tree = parse_yaml(path, path.read_bytes())
    except TableError as error:
        raise ConfigError(str(error)) from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, found {type(tree).__name__}")
    try:
        return Config.model_validate(tree)
    except ValidationError as error:
        details = error.errors()
        mistakes = [f"{path}: {_sentence(detail, tree)}" for detail in details[:_MOST_LISTED]]
        if more := len(details) - len(mistakes):
            mistakes.append(f"{path}: and {more} more mistakes")
        raise ConfigError("\n".join(mistakes)) from error


def _check_places(config: Config) -> None:
    """Raise ConfigError where a stage would remove what a parameter names, or DVC refuse an output.

    DVC removes the outputs of a stage before it runs: an input among them would be lost.
    """
    outputs = config.outputs()
    for parameter, place in config.inputs():
        if "\0" in str(place):
            raise ConfigError(f"{paths.PARAMS}: {parameter}: expected a path, found {str(place)!r}")
        links: list[Path] = []
        if place.is_dir():
            links = [Path(entry) for entry in os.scandir(place) if entry.is_symlink()]
        for each in (place, *links):
            for output in outputs:
                if overlap(each, output):
                    raise ConfigError(
                        f"{paths.PARAMS}: {parameter}: {each} is, holds or lies in {output}, which "
                        "the stages remove before they write it: your files would be lost. Move "
                        "them to a folder of their own (competitions/NAME), and name that one"
                    )
    if "DVC_ROOT" in os.environ:  # only DVC minds, and only after a stage has run
        _refuse_links_out(outputs)


def _refuse_links_out(outputs: list[Path]) -> None:
    here = Path.cwd().resolve()
    roots = [each for each in (here, *here.parents) if (each / ".git").exists()]
    not_cached = {paths.FOLDS.parent, paths.LEDGER.parent}
    for folder in sorted({output.parent for output in outputs} - not_cached):
        place = folder.resolve()
        if roots and not place.is_relative_to(roots[0]):
            raise ConfigError(
                f"{folder}: expected a folder in this repository, found a link to {place}, where "
                "DVC refuses outputs. Put a folder there; to keep large files on another disk: "
                "dvc cache dir FOLDER, and dvc config cache.type symlink"
            )


def remove_leftovers(config: Config) -> None:
    """Remove what killed processes have left half-written beside the outputs."""
    for folder in sorted({output.parent for output in config.outputs()} - {Path()}):
        remove_abandoned(folder)


def named_inputs(config: Config) -> dict[Path, str]:
    """The files outside data/ that the parameters name, by their paths from here.

    With each its SHA-256, where the parameters have that of the file alone; else "".
    """
    named = {} if config.prepare.corrections is None else {config.prepare.corrections: ""}
    for member in config.train.members:
        network = config.train.models[member].network
        if network.weights is not None:
            named[network.weights.file] = network.weights.sha256
    if metric := file_of(config.ensemble.metric):
        named[str(metric)] = ""
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
            return f"{where}expected a mapping of parameters, found {_shown(detail['input'])}"
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
    return f"{where}expected {text}, found {_shown(detail['input'])}"


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        return "a number of thousands of digits"
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]} …"


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
            chosen = schema["discriminator"]["mapping"][key]  # a class, or another such union
            schema = {"$ref": chosen} if isinstance(chosen, str) else chosen
        elif key in definitions:  # the tag of a union whose discriminator is a function
            schema = {"$ref": f"#/$defs/{key}"}
        elif "patternProperties" in schema:
            (schema,) = schema["patternProperties"].values()
        elif isinstance(schema.get("items"), dict):
            schema = schema["items"]
        if "$ref" in schema:
            schema = definitions[schema["$ref"].removeprefix("#/$defs/")]
    return sorted(schema.get("properties", {}))
