"""Stage `download`: a source's files into data/raw, its solution into data/hidden."""

import shutil
from pathlib import Path

from pipeline.core import paths
from pipeline.core.files import new_folder
from pipeline.download.config import (
    DownloadConfig,
    KaggleSource,
    LocalSource,
    RebuildSource,
    SyntheticSource,
)
from pipeline.download.local import copy_competition
from pipeline.download.manifest import write_manifest

STAGING = paths.RESUME / "download"
"""The complete files of an interrupted download."""


def run(config: DownloadConfig) -> None:
    """Fill both folders, each whole or not at all, each with its MANIFEST.json."""
    with new_folder(paths.RAW) as raw, new_folder(paths.HIDDEN) as hidden:
        _fill(config, raw, hidden)
        for folder in (raw, hidden):
            write_manifest(folder, config)


def _fill(config: DownloadConfig, raw: Path, hidden: Path) -> None:
    # Each source loads what it needs: OpenCV to draw, the network's libraries to download.
    match config:
        case SyntheticSource():
            from pipeline.download.drawn.competition import draw_competition

            draw_competition(config, raw, hidden)
        case LocalSource():
            copy_competition(config, raw, hidden)
        case KaggleSource():
            from pipeline.download.kaggle import download_competition
            from pipeline.kaggle.client import Kaggle

            download_competition(config.competition, Kaggle(), raw, STAGING)
        case RebuildSource():
            from pipeline.download.kaggle import download_dataset
            from pipeline.download.rebuild import rebuild_competition
            from pipeline.kaggle.client import Kaggle

            archive = download_dataset(config.dataset, Kaggle(), STAGING)
            rebuild_competition(archive, config, raw, hidden)
            shutil.rmtree(STAGING)
