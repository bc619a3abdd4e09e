"""Stage `explain`: what the network of a member sees, in explain/MEMBER/.

It runs on the CPU in float32 with one thread, whatever trained the weights: so the same weights
give the same pictures.
"""

import torch

from pipeline.core import paths
from pipeline.core.files import new_folder
from pipeline.core.progress import say
from pipeline.core.record import write_record
from pipeline.explain.build import explain
from pipeline.explain.look import IN_REPORT, look_at
from pipeline.explain.rows import read_trained
from pipeline.scoring.seen import SEEN


def run(member: str, fold: int) -> None:
    """Write explain/MEMBER: the record of the network of a fold, and its pictures.

    Raises TrainError or TableError as read_trained does.
    """
    torch.set_num_threads(1)
    record, pictures = explain(look_at(read_trained(member, fold), IN_REPORT))
    with new_folder(paths.explained(member)) as folder:
        for name, content in pictures.items():
            (folder / name).write_bytes(content)
        write_record(folder / SEEN, record)
    size_kb = sum(map(len, pictures.values())) / 1e3
    say(f"{paths.explained(member)}: {len(pictures)} pictures, {size_kb:.0f} kB")
