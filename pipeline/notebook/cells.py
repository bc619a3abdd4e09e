"""A notebook from a Markdown template, and its execution.

The templates beside this module are read as they are shown: text is Markdown, and what stands
between ```python and ``` is a code cell. A notebook has no times and its cells' ids are their
numbers, so that the same files give the same bytes.
"""

import asyncio
import atexit
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.core.errors import NotebookError

INSTALL = "python -m pip install --require-hashes -r requirements.lock"

_CODE = re.compile(r"^```python\n(.*?)\n```$", re.MULTILINE | re.DOTALL)
_CELL_S = 3600
"""The longest that a cell may take."""


def write_cells(template: str, **facts: object) -> Any:
    """The notebook of a template, not executed. Raises NotebookError without nbformat."""
    v4 = _libraries()[0].v4
    cells = []
    for number, (kind, source) in enumerate(_split(_render(template, **facts))):
        new = v4.new_code_cell if kind == "code" else v4.new_markdown_cell
        cells.append(new(source, id=f"cell-{number:02}"))
    language = {"name": "python"}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return v4.new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": language})


def execute(notebook: Any, folder: Path) -> None:
    """Run all cells in a folder, and keep what they show.

    Raises NotebookError for the first cell that fails.
    """
    _, nbclient = _libraries()
    from traitlets.config import Config

    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # a debugger's warning
    try:
        with TemporaryDirectory() as sockets:
            ours = {"transport": "ipc", "connection_file": f"{sockets}/kernel.json"}
            client = nbclient.NotebookClient(
                notebook,
                config=Config({"KernelManager": ours}),  # not TCP, which others could listen to
                kernel_name="python3",
                timeout=_CELL_S,
                record_timing=False,
                resources={"metadata": {"path": str(folder)}},
            )
            try:
                _in_thread(lambda: asyncio.run(client.async_execute()))
            except KeyboardInterrupt:
                atexit.unregister(client._cleanup_kernel)  # it would ask the kernel, and wait
                for kernel in psutil.Process().children():
                    kernel.kill()
                raise
    except nbclient.exceptions.CellExecutionError as error:
        raise NotebookError(f"the notebook's cell fails: {error.ename}: {error.evalue}") from error
    except nbclient.exceptions.DeadKernelError as error:
        raise NotebookError(
            "the notebook's kernel died, perhaps for want of memory. Close other programs, and run "
            "the same command again"
        ) from error


def _in_thread(work: Callable[[], object]) -> None:
    """Do work beside the main thread, where nbclient would handle Ctrl-C by itself."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


def to_text(notebook: Any) -> str:
    """The notebook as a file's text."""
    text: str = _libraries()[0].writes(notebook)
    return f"{text}\n"


def _libraries() -> tuple[Any, Any]:
    """nbformat and nbclient, which `make` installs."""
    try:
        import ipykernel  # noqa: F401
        import nbclient
        import nbformat
    except ImportError as error:
        raise NotebookError(f"a notebook needs {error.name}. Run: {INSTALL}") from error
    return nbformat, nbclient


def _split(text: str) -> Iterator[tuple[str, str]]:
    """Text and code in turn."""
    for place, part in enumerate(_CODE.split(text)):
        if part.strip():
            yield ("code" if place % 2 else "text"), part.strip()


def _render(template: str, **facts: object) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**facts)
