"""Stage `download`: a source's files into data/raw, its solution into data/hidden.

data/hidden/MANIFEST.json lists the files of both and their source, so that a change shows. It is
not in data/raw, where every name may be one of the competition's own files.
"""

import shutil
from pathlib import Path

from pipeline.core import paths
from pipeline.core.files import new_folder
from pipeline.core.record import write_record
from pipeline.download.changes import look, remember, taken_hashes
from pipeline.download.config import (
    DownloadConfig,
    DrawnCells,
    DrawnNuclei,
    KaggleSource,
    LocalSource,
    RebuildSource,
)
from pipeline.download.local import copy_competition
from pipeline.download.manifest import MANIFEST, Manifest, describe


def run(config: DownloadConfig) -> None:
    """Fill both folders, each whole or not at all."""
    looked = look(config)
    with new_folder(paths.RAW) as raw, new_folder(paths.HIDDEN) as hidden:
        _fill(config, raw, hidden)
        manifest = Manifest(source=config, raw=describe(raw), hidden=describe(hidden))
        write_record(hidden / MANIFEST, manifest)
    if looked:
        remember(looked, taken_hashes(looked))


def _fill(config: DownloadConfig, raw: Path, hidden: Path) -> None:
    # Each source loads what it needs: OpenCV to draw, the network's libraries to download.
    match config:
        case DrawnCells():
            from pipeline.download.drawn.competition import draw_competition

            draw_competition(config, raw, hidden)
        case DrawnNuclei():
            from pipeline.download.drawn.patches import draw_patches

            draw_patches(config, raw, hidden)
        case LocalSource():
            copy_competition(config, raw, hidden)
        case KaggleSource():
            from pipeline.download.kaggle import download_competition
            from pipeline.kaggle.client import Kaggle

            download_competition(config.competition, Kaggle(), raw, paths.DOWNLOADED)
        case RebuildSource():
            from pipeline.download.kaggle import download_dataset
            from pipeline.download.rebuild import rebuild_competition
            from pipeline.kaggle.client import Kaggle

            archive = download_dataset(config.dataset, Kaggle(), paths.DOWNLOADED)
            rebuild_competition(archive, config, raw, hidden)
            shutil.rmtree(paths.DOWNLOADED)
