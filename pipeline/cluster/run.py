"""Command `jobs --cluster`: every training that is out of date, on a cluster of Ray's."""

from pathlib import Path

from pipeline.cluster.order import pack
from pipeline.commands.board import LOGS
from pipeline.commands.jobs import count, find_work, train_all
from pipeline.core.errors import TrainError
from pipeline.core.progress import say
from pipeline.params import Config


def run(
    config: Config,
    address: str,
    shared: Path | None,
    remote: bool,
    gpu_share: float,
    retries: int,
    mixed: bool,
) -> None:
    """Train; engine.Options says what the arguments are. remote: the store goes through DVC's.

    Raises TrainError where Ray is missing, or as pack, RayEngine and train_all do.
    """
    try:
        from pipeline.cluster.engine import Options, RayEngine
    except ImportError as error:
        raise TrainError(
            "--cluster needs Ray, which is not installed here. Run: .venv/bin/pip install "
            "--require-hashes -r requirements.lock"
        ) from error
    left = find_work(config.train)
    if not left:
        return
    luggage = pack(config, remote)
    options = Options(address, shared and shared.absolute(), gpu_share, retries, mixed)
    say(f"{len(left)} of {count(config.train)} to train on {address}; logs in {LOGS}")
    with RayEngine(options, config, luggage) as engine:
        train_all(left, engine)
