"""The stage as DVC runs it, from predictions to a submission and a card; models from elsewhere."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from blending import UNEVEN, draw
from numpy import ndarray
from pydantic import ValidationError
from ruamel.yaml import YAML
from safetensors.numpy import save_file
from tasks import one_of

from pipeline.commands import share
from pipeline.core import paths
from pipeline.core.competition import Competition
from pipeline.core.errors import EnsembleError, OutputError, SubmissionError, TableError
from pipeline.core.record import write_record
from pipeline.core.tables import IMAGE_COLUMNS, read_csv, write_predictions, write_table
from pipeline.core.task import OneOf
from pipeline.ensemble import stage as ensemble
from pipeline.ensemble.config import EnsembleConfig, ForecastConfig
from pipeline.scoring.card import Card, Diversity, FittedMean, read_card
from pipeline.scoring.ceiling import Ceiling, NoCeiling
from pipeline.split.folds import make_folds

MODELS = ["one", "two", "three", "four"]
TEST_IDS = [f"t{row}" for row in range(30)]
CHOICES: dict[str, Any] = {
    "name": "tiny", "metric": "accuracy", "blend": "mean", "calibration": "none",
    "threshold": "none", "greedy_rounds": 10, "stack_l2": 1.0, "external": [],
    "confidence": 0.95, "resamples": 200, "seed": 1,
    "forecast": ForecastConfig(confidence=0.9, resamples=200, seed=1, public_share=0.5),
}  # fmt: skip


class Competing:
    """A competition with trained models, in the working directory."""

    def __init__(self, classes: int = 2, seeds: int = 1, folds: int = 4) -> None:
        self.classes = [str(place) for place in range(classes)]
        self.drawn = draw(1, UNEVEN, groups=30, rows_a_group=6, classes=classes)
        self.ids = [f"i{row}" for row in np.random.default_rng(1).permutation(180)]
        self.test = draw(2, UNEVEN, groups=5, rows_a_group=6, classes=classes)
        self.state(one_of(self.classes, True))
        self._write_tables(seeds, folds)
        self.folds = read_csv(paths.FOLDS)
        self.fold_count = seeds * folds
        for place, model in enumerate(MODELS):
            for fold in range(self.fold_count):
                self._write_member(place, paths.model_folder(model, fold), fold)

    def state(self, task: OneOf) -> None:
        """Write what `prepare` knows of the competition."""
        competition = Competition(id_column="id", label_column="label", task=task)
        write_record(paths.COMPETITION, competition)

    def _write_tables(self, seeds: int, folds: int) -> None:
        images = pd.DataFrame("4", index=range(180), columns=IMAGE_COLUMNS)
        images["image_id"] = images["row_id"] = images["duplicate"] = self.ids
        images["label"] = [self.classes[label] for label in self.drawn.labels]
        images["group"] = [f"p{group}" for group in self.drawn.groups]
        table = make_folds(images, one_of(self.classes), folds, list(range(1, seeds + 1)))
        write_table(paths.FOLDS, table.sort_values("fold", kind="stable"))
        test = pd.DataFrame("4", index=range(len(TEST_IDS)), columns=IMAGE_COLUMNS)
        test["image_id"] = test["row_id"] = TEST_IDS
        write_table(paths.TEST_TABLE, test)
        sample = pd.DataFrame({"id": TEST_IDS[::-1], "label": self.classes[0]})
        write_table(paths.SAMPLE_SUBMISSION, sample)
        write_table(paths.TRAIN_TABLE, images)
        pixels = np.random.default_rng(3).integers(0, 256, (180, 4, 4, 3), np.uint8)
        np.save(paths.TRAIN_IMAGES, pixels)
        np.save(paths.TEST_IMAGES, pixels[: len(TEST_IDS)])

    def _write_member(self, place: int, folder: Path, fold: int) -> None:
        scored = set(self.folds.loc[self.folds["fold"] == str(fold), "image_id"])
        rows = [row for row, image_id in enumerate(self.ids) if image_id in scored][::-1]
        ids = [self.ids[row] for row in rows]
        write_predictions(
            folder / "oof.csv", ids, self.drawn.members[place, rows], one_of(self.classes)
        )
        write_predictions(
            folder / "test.csv", TEST_IDS, self.test.members[place], one_of(self.classes)
        )
        save_file({"bias": np.array([place, fold])}, folder / "weights.safetensors")

    def run(
        self, models: list[str] = MODELS, folds: list[int] | None = None, **choices: Any
    ) -> Card:
        """Run the stage; the card that it wrote."""
        config = EnsembleConfig.model_validate(CHOICES | choices)
        ensemble.run(config, models, list(range(self.fold_count)) if folds is None else folds)
        return read_card(paths.card("tiny"))

    def labels_of(self, table: pd.DataFrame) -> ndarray:
        label = dict(zip(self.ids, self.drawn.labels, strict=True))
        return np.array([label[image_id] for image_id in table["image_id"]])


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def competing() -> Competing:
    return Competing()


def weights_of(card: Card) -> list[float]:
    assert isinstance(card.blend.fitted.blend, FittedMean)
    return card.blend.fitted.blend.weights


def outputs() -> dict[str, bytes]:
    files = [paths.submission("tiny"), paths.card("tiny"), paths.ENSEMBLE_OOF]
    return {str(file): file.read_bytes() for file in files}


@pytest.mark.parametrize("file", [paths.submission("tiny"), paths.card("tiny")])
def test_a_file_of_a_person_is_not_replaced_and_its_own_are(
    competing: Competing, file: Path
) -> None:
    competing.run()
    before = outputs()
    competing.run()
    assert outputs() == before
    file.write_text("mine")
    with pytest.raises(
        OutputError, match=r"^submissions/tiny.csv: expected nothing|^submissions/tiny.json: exp"
    ):
        competing.run()
    assert file.read_text() == "mine"
    assert {**outputs(), str(file): before[str(file)]} == before


def test_the_mean_of_the_models_is_submitted_by_id(competing: Competing) -> None:
    card = competing.run()
    mean = competing.test.members.mean(axis=0)
    label = dict(zip(TEST_IDS, mean.argmax(axis=1).astype(str), strict=True))
    submission = read_csv(paths.submission("tiny"))
    assert list(submission["id"]) == TEST_IDS[::-1]
    assert [label[name] for name in submission["id"]] == list(submission["label"])
    assert weights_of(card) == [0.25] * 4
    assert card.blend.why == "params.yaml: ensemble.blend: mean"
    expected = (competing.drawn.members.mean(axis=0).argmax(1) == competing.drawn.labels).mean()
    assert card.out_of_fold.accuracy == card.metric.value == pytest.approx(expected, abs=1e-6)  # fmt: skip


def test_a_metric_of_probabilities_gets_them_by_id(competing: Competing) -> None:
    card = competing.run(metric="log_loss")
    chance = dict(zip(TEST_IDS, competing.test.members.mean(axis=0)[:, 1], strict=True))
    submission = read_csv(paths.submission("tiny"))
    assert list(submission["id"]) == TEST_IDS[::-1]
    for name, value in zip(submission["id"], submission["label"].astype(float), strict=True):
        assert value == pytest.approx(chance[name], rel=2e-8)
    assert card.test.holds == "probability"
    above = sum(value > 0.5 for value in chance.values())
    assert card.test.labels == {"0": 30 - above, "1": above}


def test_a_sample_submission_that_cannot_hold_what_is_scored_is_refused_at_once() -> None:
    competing = Competing(classes=3)
    with pytest.raises(SubmissionError, match="^data/store/sample_submission.csv: expected a col"):
        competing.run(metric="log_loss")
    sample = pd.DataFrame({"id": TEST_IDS, "2": 0, "1": 0, "0": 0})
    write_table(paths.SAMPLE_SUBMISSION, sample)
    with pytest.raises(SubmissionError, match="^params.yaml: ensemble.metric: macro_f1 scores lab"):
        competing.run(metric="macro_f1")
    assert not paths.submission("tiny").exists()
    card = competing.run(metric="log_loss")
    assert card.test.holds == "probabilities"
    submission = read_csv(paths.submission("tiny"))
    chances = competing.test.members.mean(axis=0)
    for place in range(3):
        found = submission[str(place)].astype(float).to_numpy()
        np.testing.assert_allclose(found, chances[:, place], rtol=2e-8)


@pytest.mark.parametrize(
    ("blend", "metric", "calibration", "threshold"),
    [
        ("single", "balanced_accuracy", "none", "none"),
        ("weighted", "log_loss", "temperature", "none"),
        ("greedy", "f1", "temperature", "fitted"),
        ("stack", "quadratic_kappa", "none", "fitted"),
        ("rank_mean", "roc_auc", "none", "none"),
        ("auto", "accuracy", "none", "fitted"),
        ("auto", "log_loss", "temperature", "none"),
        ("auto", "roc_auc", "none", "none"),
    ],
)
def test_every_blends_card_agrees_with_its_out_of_fold_table(
    competing: Competing, blend: str, metric: str, calibration: str, threshold: str
) -> None:
    choices = {"blend": blend, "metric": metric, "calibration": calibration, "threshold": threshold}
    card = competing.run(**choices)
    table = read_csv(paths.ENSEMBLE_OOF)
    labels = competing.labels_of(table)
    chance = table[["p_0", "p_1"]].to_numpy(float)
    assert sorted(table["image_id"]) == sorted(competing.ids)
    oof = card.out_of_fold
    assert oof.log_loss == pytest.approx(-np.log(chance[np.arange(180), labels]).mean(), abs=2e-6)
    if threshold == "none":
        assert oof.accuracy == pytest.approx((chance.argmax(1) == labels).mean(), abs=1e-6)
    assert oof.interval[0] < oof.accuracy < oof.interval[1]
    assert (oof.rows, oof.of_images, oof.groups) == (180, 180, 30)
    assert card.metric.name == metric
    assert card.metric.interval[0] < card.metric.value < card.metric.interval[1]
    found = card.blend
    assert (found.fitted.temperature is None) == (calibration == "none")
    assert (found.fitted.threshold is None) == (threshold == "none")
    kinds = [each.blend for each in found.candidates]
    if blend != "auto":
        assert kinds == [found.chosen] == [blend]
    else:
        assert kinds == ["mean", "single", *(["rank_mean"] if metric == "roc_auc" else []), "weighted", "greedy", "stack"]  # fmt: skip
        assert set(found.chosen_without_fold) == {"0", "1", "2", "3"}
        assert f"of {len(kinds)} candidates" in found.why
    first = outputs()
    competing.run(**choices)
    assert outputs() == first


def test_the_card_says_how_the_models_differ_and_what_each_adds(competing: Competing) -> None:
    diversity = competing.run(metric="log_loss", blend="weighted").diversity
    assert [pair.models for pair in diversity.pairs][:2] == [("one", "two"), ("one", "three")]
    assert len(diversity.pairs) == 6
    adds = {each.model: each.adds for each in diversity.each_model}
    assert max(adds, key=lambda model: adds[model]) == "one"
    assert all(0 < pair.disagreement < 1 for pair in diversity.pairs)


def test_the_nested_figure_is_below_the_one_without_nesting(competing: Competing) -> None:
    card = competing.run(blend="greedy", threshold="fitted")
    assert card.blend.unnested > card.metric.value


def test_one_model_is_submitted_as_it_is_whatever_the_blend(competing: Competing) -> None:
    cards = [competing.run(["two"], blend=blend) for blend in ("mean", "auto", "stack")]
    for card in cards:
        assert card.blend.chosen == "mean"
        assert card.blend.why == "one model: there is nothing to blend"
        assert card.diversity == Diversity(pairs=[], each_model=[])
        assert card.out_of_fold == cards[0].out_of_fold


def test_repeats_are_one_prediction_and_are_nested_by_the_first() -> None:
    competing = Competing(seeds=2, folds=3)
    card = competing.run(blend="auto")
    assert len(card.networks) == 4 * 6
    assert card.blend.models == MODELS
    assert set(card.blend.chosen_without_fold) == {"0", "1", "2"}
    second = competing.run(blend="auto", folds=[3, 4, 5])
    assert set(second.blend.chosen_without_fold) == {"3", "4", "5"}


def test_more_than_two_classes_are_blended() -> None:
    competing = Competing(classes=3)
    card = competing.run(blend="auto", metric="macro_f1", calibration="temperature")
    assert list(card.out_of_fold.recall) == ["0", "1", "2"]
    assert len(competing.run(threshold="fitted").blend.fitted.cuts or []) == 2  # they are ordered
    competing.state(one_of(3))
    with pytest.raises(
        EnsembleError,
        match="threshold: fitted is for two classes, ordered classes or several labels, found 3",
    ):
        competing.run(threshold="fitted")
    with pytest.raises(EnsembleError, match="roc_auc is for two classes, found 3"):
        competing.run(metric="roc_auc")


class Teammate:
    """A model from elsewhere: its files, valid until a test changes them."""

    def __init__(self, competing: Competing) -> None:
        better = draw(1, [(1.2, 1.0)], groups=30, rows_a_group=6).members[0]
        fold_of = competing.folds.set_index("image_id")["fold"]
        self.oof = pd.DataFrame({"image_id": competing.ids, "fold": fold_of.loc[competing.ids]})
        self.test = pd.DataFrame({"image_id": TEST_IDS})
        for place in (0, 1):
            self.oof[f"p_{place}"] = better[:, place].round(6)
            self.test[f"p_{place}"] = competing.test.members[0, :, place].round(6)

    def entry(self, folds: str = "checked", name: str = "teammate") -> dict[str, str]:
        write_table(Path("mate/oof.csv"), self.oof)
        write_table(Path("mate/test.csv"), self.test)
        both = Path("mate/oof.csv").read_bytes() + Path("mate/test.csv").read_bytes()
        return {
            "name": name, "oof": "mate/oof.csv", "test": "mate/test.csv", "folds": folds,
            "sha256": hashlib.sha256(both).hexdigest(),
        }  # fmt: skip


@pytest.fixture
def teammate(competing: Competing) -> Teammate:
    return Teammate(competing)


def test_a_model_from_elsewhere_that_knows_wrong_labels_is_above_what_the_labels_allow(
    competing: Competing, teammate: Teammate
) -> None:
    """Its out-of-fold table repeats each label, a sixth of which our networks contradict."""
    given = np.where(np.arange(180) % 6 == 0, 1 - competing.drawn.labels, competing.drawn.labels)
    sure = np.random.default_rng(5).uniform(0.8, 0.99, 180)
    competing.drawn.members[0] = np.where(np.eye(2)[given] == 1, sure[:, None], 1 - sure[:, None])
    for fold in range(4):
        competing._write_member(0, paths.model_folder("one", fold), fold)
    honest = competing.run(["one"]).ceiling
    assert isinstance(honest, Ceiling)
    assert honest.above == {}
    labels = competing.labels_of(teammate.oof)
    teammate.oof["p_1"] = np.where(labels == 1, 0.9, 0.1)
    teammate.oof["p_0"] = 1 - teammate.oof["p_1"]
    found = competing.run(["one"], external=[teammate.entry()]).ceiling
    assert isinstance(found, Ceiling)
    assert found.above["teammate"] == 1.0
    assert found.value == honest.value  # it is by our own networks alone
    other = competing.run(metric="log_loss").ceiling
    assert isinstance(other, NoCeiling)
    assert "not log_loss" in other.why


def test_a_model_from_elsewhere_is_blended_by_id(competing: Competing, teammate: Teammate) -> None:
    alone = competing.run(["four"], metric="log_loss")
    teammate.oof = teammate.oof.sample(frac=1, random_state=1)
    together = competing.run(
        ["four"], metric="log_loss", blend="weighted", external=[teammate.entry()]
    )
    assert together.blend.models == ["four", "teammate"]
    assert weights_of(together)[1] > 0.8
    assert together.metric.value < alone.metric.value - 0.05
    assert [(each.model, each.folds) for each in together.external] == [("teammate", "checked")]


def test_a_shared_model_is_blended_as_if_it_were_trained_here(
    competing: Competing, capfd: pytest.CaptureFixture[str]
) -> None:
    both = competing.run(["one", "four"], metric="log_loss")
    share.run("four", list(range(4)), Path("mate"))
    said = capfd.readouterr()
    (entry,) = YAML(typ="safe").load(said.out)
    assert "mate/four-oof.csv, mate/four-test.csv: for params.yaml" in said.err
    again = competing.run(["one"], metric="log_loss", external=[entry])
    assert again.blend.models == ["one", "four_of_ours"]
    assert again.external[0].folds == "checked"
    assert again.metric.value == pytest.approx(both.metric.value, abs=1e-6)
    first = Path("mate/four-oof.csv").read_bytes()
    share.run("four", [3, 1, 0, 2], Path("mate"))
    assert Path("mate/four-oof.csv").read_bytes() == first


@pytest.mark.usefixtures("competing")
def test_a_part_of_the_folds_and_a_strangers_file_are_not_shared() -> None:
    with pytest.raises(EnsembleError, match=r"share: expected train\.folds to be"):
        share.run("four", [0, 1], Path("mate"))
    Path("mate").mkdir()
    Path("mate/four-test.csv").write_text("mine")
    with pytest.raises(OutputError, match="mate/four-test.csv: expected nothing there"):
        share.run("four", list(range(4)), Path("mate"))
    assert [file.name for file in Path("mate").iterdir()] == ["four-test.csv"]


@pytest.mark.usefixtures("competing")
def test_nothing_is_shared_into_what_a_stage_removes() -> None:
    outputs = [paths.model_folder("four", fold) for fold in range(4)]
    with pytest.raises(OutputError, match="fold0, which belongs to the pipeline"):
        share.run("four", list(range(4)), outputs[0], outputs)
    assert not list(outputs[0].glob("four-*"))


def test_some_folds_are_enough_for_the_mean_and_cut_down_a_model_from_elsewhere(
    competing: Competing, teammate: Teammate
) -> None:
    card = competing.run(folds=[2])
    assert card.out_of_fold.rows < card.out_of_fold.of_images == 180
    card = competing.run(folds=[0, 1], external=[teammate.entry()])
    assert card.blend.models == [*MODELS, "teammate"]
    assert card.out_of_fold.rows < 180


def test_folds_that_are_not_checked_are_named_on_the_card(
    competing: Competing, teammate: Teammate
) -> None:
    teammate.oof = teammate.oof.drop(columns="fold")
    with pytest.raises(EnsembleError) as caught:
        competing.run(external=[teammate.entry()])
    assert str(caught.value) == (
        "mate/oof.csv: expected a column `fold` with folds/folds.csv's fold of each image, found "
        "['image_id', 'p_0', 'p_1']. Ask for it; or, where you know that no image was predicted by "
        "a model trained on it or on its group, set folds: unchecked for teammate in params.yaml: "
        "ensemble.external"
    )
    card = competing.run(external=[teammate.entry("unchecked")])
    assert card.external[0].folds == "unchecked"


@pytest.mark.parametrize("folds", ["checked", "unchecked"])
def test_other_folds_than_ours_are_refused(
    competing: Competing, teammate: Teammate, folds: str
) -> None:
    first = teammate.oof["image_id"].iloc[0]
    ours = teammate.oof["fold"].iloc[0]
    teammate.oof.iloc[0, 1] = "9"
    with pytest.raises(EnsembleError) as caught:
        competing.run(external=[teammate.entry(folds)])
    assert str(caught.value) == (
        "mate/oof.csv: column fold: expected the folds of one repeat of folds/folds.csv, found "
        f"others for 1 of 180 images (first: {first} in '9', '{ours}' in folds.csv): its models "
        "may have seen the images that they predict"
    )


def test_the_folds_of_any_one_repeat_are_ours() -> None:
    competing = Competing(seeds=2, folds=3)
    competing.folds = competing.folds[competing.folds["repeat"] == "1"]
    competing.run(external=[Teammate(competing).entry()])


def with_first(table: pd.DataFrame, value: float) -> pd.DataFrame:
    """Another first probability of class 0."""
    return table.assign(p_0=[value, *table["p_0"].iloc[1:]])


@pytest.mark.parametrize(
    ("file", "spoil", "message"),
    [
        ("oof", lambda table: table.iloc[1:], "mate/oof.csv: 1 of 180 ids are missing (first: "),
        ("oof", lambda table: pd.concat([table, table.iloc[:1]]), "mate/oof.csv: 1 ids stand twice (first: "),
        ("oof", lambda table: table.rename(columns={"p_1": "p_x"}), "mate/oof.csv: expected the columns ['image_id', 'p_0', 'p_1'], and `fold` among them or not, found"),
        ("oof", lambda table: with_first(table, 1.5), "mate/oof.csv: expected probabilities in [0, 1] that add up to 1 in each row, found 1 of 180 rows with others (first: i"),
        ("oof", lambda table: table.assign(p_0="high"), "mate/oof.csv: expected numbers as predictions"),
        ("test", lambda table: table.iloc[1:], "mate/test.csv: 1 of 30 ids are missing (first: t0)"),
        ("test", lambda table: with_first(table, -0.1), "mate/test.csv: expected probabilities in [0, 1] that add up to 1 in each row, found 1 of 30 rows"),
    ],
)  # fmt: skip
def test_a_table_from_elsewhere_that_is_not_whole_is_refused(
    competing: Competing, teammate: Teammate, file: str, spoil: Any, message: str
) -> None:
    setattr(teammate, file, spoil(getattr(teammate, file)))
    with pytest.raises(TableError) as caught:
        competing.run(external=[teammate.entry()])
    assert message in str(caught.value)


def test_a_table_that_changed_since_is_refused(competing: Competing, teammate: Teammate) -> None:
    old = teammate.entry()
    teammate.test.iloc[0, 1:] = [0.5, 0.5]
    new = teammate.entry()
    with pytest.raises(EnsembleError) as caught:
        competing.run(external=[old])
    assert str(caught.value) == (
        f"params.yaml: ensemble.external: teammate: expected files with sha256 {old['sha256']}, "
        f"found {new['sha256']} for mate/oof.csv and mate/test.csv. If these are the right files, "
        "write that one"
    )
    Path("mate/test.csv").unlink()
    with pytest.raises(TableError, match="mate/test.csv: no such file: params.yaml: ensemble"):
        competing.run(external=[new])


def test_a_model_from_elsewhere_needs_its_own_name(
    competing: Competing, teammate: Teammate
) -> None:
    with pytest.raises(EnsembleError, match="external: two is also one of train.members"):
        competing.run(external=[teammate.entry(name="two")])
    twice = [teammate.entry(), teammate.entry()]
    with pytest.raises(ValueError, match="expected distinct names, found"):
        EnsembleConfig.model_validate(CHOICES | {"external": twice})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": "fitted", "metric": "log_loss"}, "threshold: log_loss scores predictions, which no threshold changes: expected none"),
        ({"blend": "rank_mean"}, "blend: rank_mean keeps only the order: expected the metric roc_auc or average_precision, found accuracy"),
        ({"stack_l2": 0.0}, "greater than 0"),
        ({"metric": "auc"}, "f0.5, top_3_error and map_at_10, or NAME:FUNCTION of metrics/NAME.py, found 'auc'"),
    ],
)  # fmt: skip
def test_choices_that_do_not_fit_together_are_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        EnsembleConfig.model_validate(CHOICES | changes)
    assert message in caught.value.errors()[0]["msg"]
