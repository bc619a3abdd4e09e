"""Reading YAML of bounded size: params.yaml, profiles and dvc.lock.

Version 1.2, by the same library as DVC's, so that both see the same values (1e-3 is a number) and
a repeated key is an error.
"""

import math
from itertools import chain
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.nodes import MappingNode, Node, SequenceNode

from pipeline.core.errors import TableError

MOST_BYTES = 2_000_000
"""dvc.lock has about 700 for each training."""

MOST_VALUES = 200_000
"""With those that an alias stands for, wherever it stands."""


def parse_yaml(place: Path | str, content: bytes) -> Any:
    """The tree in a file's bytes. Raises TableError, which names the place, on anything else."""
    try:
        if len(content) > MOST_BYTES:
            raise TableError(f"{place}: expected at most {MOST_BYTES:,} bytes, found more")
        yaml = YAML(typ="safe", pure=True)
        node = yaml.compose(content.decode("utf-8"))
        if _count_values(node, {}) > MOST_VALUES:
            raise TableError(
                f"{place}: expected at most {MOST_VALUES:,} values, those of an alias counted "
                "wherever it stands; found more"
            )
        return yaml.constructor.construct_document(node) if node else None
    except TableError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}" if mark else "not YAML"
        raise TableError(f"{place}: {line}: {' '.join(str(error.problem).split())}") from error
    except UnicodeDecodeError as error:
        raise TableError(f"{place}: expected UTF-8 text: {error}") from error
    except RecursionError as error:
        raise TableError(f"{place}: expected a few levels, found far too many") from error
    except Exception as error:  # a control character; a number or a date that is none
        raise TableError(f"{place}: not YAML: {' '.join(str(error).split())}") from error


def _count_values(node: Node | None, known: dict[int, float]) -> float:
    """The values that a node stands for, with those of its aliases; infinite if it holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        parts = node.value if isinstance(node, SequenceNode) else []
        if isinstance(node, MappingNode):
            parts = chain.from_iterable(node.value)
        known[id(node)] = 1 + sum(_count_values(part, known) for part in parts)
    return known[id(node)]
