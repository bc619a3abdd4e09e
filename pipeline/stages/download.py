"""Stage `download`: a source's files into data/raw, what no competitor sees into data/hidden."""

from pipeline import paths
from pipeline.config.download import LocalSource, SyntheticSource
from pipeline.download.local import copy_competition
from pipeline.download.manifest import write_manifest
from pipeline.files import new_folder


def run(config: SyntheticSource | LocalSource) -> None:
    """Fill both folders, each whole or not at all, each with its MANIFEST.json."""
    with new_folder(paths.RAW) as raw, new_folder(paths.HIDDEN) as hidden:
        if isinstance(config, LocalSource):
            copy_competition(config, raw, hidden)
        else:
            # Drawing needs OpenCV: loaded only where something is drawn.
            from pipeline.download.synthetic import draw_competition

            draw_competition(config, raw, hidden)
        for folder in (raw, hidden):
            write_manifest(folder, config.model_dump())
