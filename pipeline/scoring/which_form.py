"""Which form a competition asks for, by its sample submission, metric and task."""

import re
from pathlib import Path

import pandas as pd

from pipeline.core.errors import SubmissionError, examples, named
from pipeline.core.tables import read_csv
from pipeline.core.task import AnyOf, Number, OneOf, Task
from pipeline.scoring.forms import (
    FORMS,
    NUMBER,
    BestForm,
    ChancesForm,
    FlagsForm,
    Form,
    LabelForm,
    LabelsForm,
    NumbersForm,
    ProbabilitiesForm,
    ProbabilityForm,
)
from pipeline.scoring.metric import Metric
from pipeline.scoring.names import Asked, Holds


def read_form(
    sample: Path,
    metric: Metric,
    task: Task,
    asked: Asked = "auto",
    template: pd.DataFrame | None = None,
) -> Form:
    """The form that the sample submission and the metric ask for, or the one that is named.

    Raises SubmissionError where the sample's columns cannot hold it, or its cells show another.
    """
    template = read_csv(sample) if template is None else template
    columns = list(template.columns)
    has_ids = len(columns) > 1
    ids = list(template[columns[0]]) if has_ids else [str(row + 1) for row in range(len(template))]
    place = (sample, columns, ids, task)
    values = columns[1:] if has_ids else columns
    each = sorted(values) == sorted(task.outputs)
    if len(values) == len(task.outputs) == 1:  # whatever the columns are called
        each = each or isinstance(task, Number) or metric.needs == "predictions" or asked == "flags"
    if not (len(values) == 1 or each):
        what = "number" if isinstance(task, Number) else "class"
        raise SubmissionError(
            f"{sample}: expected the id and one column, or one for each {what} "
            f"{named(task.outputs)}, found {named(columns)}. Set prepare.sample_submission in "
            "params.yaml to the right file"
        )
    cells = [] if len(values) > 1 else [cell for cell in template[values[0]] if cell]
    if asked == "auto":
        kind = _kind_of(sample, columns, metric, task, each)
        _check_cells(sample, cells, kind, metric, task)
    else:
        kind = _kind_asked(sample, columns, task, each, asked)
    if kind is LabelsForm:
        assert isinstance(task, AnyOf)
        return LabelsForm(*place, task.separator)
    if kind is BestForm:
        best = metric.best or max([len(cell.split(" ")) for cell in cells], default=1)
        return BestForm(*place, best)
    return kind(*place)


def _kind_of(
    sample: Path, columns: list[str], metric: Metric, task: Task, each: bool
) -> type[Form]:
    """What the table in forms.py says."""
    one_column, needs_labels = len(columns) < 3, metric.needs == "labels"
    named_metric = f"params.yaml: ensemble.metric: {metric.name}"
    if isinstance(task, Number):
        if each:
            return NumbersForm
        raise SubmissionError(f"{sample}: expected a column for each of {named(task.outputs)}")
    if isinstance(task, AnyOf):
        if each:
            return FlagsForm if needs_labels else ChancesForm
        if needs_labels:
            return LabelsForm
    elif metric.best and one_column:
        return BestForm
    elif needs_labels:
        if one_column:
            return LabelForm
        raise SubmissionError(
            f"{named_metric} scores labels, but {sample} has a column for each class: expected a "
            "metric that scores predictions (log_loss, macro_roc_auc; with two classes roc_auc), "
            "or ensemble.form probabilities or flags (0 and 1)"
        )
    elif each:
        return ProbabilitiesForm
    elif len(task.classes) == 2:
        return ProbabilityForm
    raise SubmissionError(
        f"{sample}: expected a column for each of the {len(task.outputs)} classes "
        f"{examples(task.outputs)}, since {named_metric} scores predictions; found the columns "
        f"{columns}, which hold one number a row. Set ensemble.metric to one that scores labels, "
        "ensemble.form to labels, or prepare.sample_submission to a file with those columns"
    )


def _kind_asked(
    sample: Path, columns: list[str], task: Task, each: bool, asked: Holds
) -> type[Form]:
    """The form of that name. Raises SubmissionError where task or columns are of another one."""

    def fits(form: type[Form]) -> bool:
        of_two = form is not ProbabilityForm or len(task.outputs) == 2
        shape = len(columns) < 3 if form.one_column else each
        return task.kind in form.tasks and shape and of_two

    fitting = {form.holds: form for form in FORMS if fits(form)}
    if asked not in fitting:
        raise SubmissionError(
            f"params.yaml: ensemble.form: {asked} does not fit a task of kind {task.kind} with "
            f"{len(task.outputs)} outputs and the columns {named(columns)} of {sample}; expected "
            f"auto or {' or '.join(fitting)}"
        )
    return fitting[asked]


def _check_cells(
    sample: Path, cells: list[str], kind: type[Form], metric: Metric, task: Task
) -> None:
    """Raise SubmissionError where the sample's cells show something else than the form.

    They may be of no class at all, as a placeholder: then they show nothing.
    """
    known = set(task.outputs)
    lists = [cell.split(" ") for cell in cells if cell not in known]
    listed = {len(names) for names in lists if len(names) > 1 and known.issuperset(names)}
    found, expected = "", ""
    if kind is BestForm and listed and listed != {min(metric.best, len(known))}:
        found = f"lists of {' or '.join(map(str, sorted(listed)))} classes"
        expected = f"{metric.best} of them"
    elif kind is LabelForm and listed:
        found, expected = "lists of classes", "one class"
    elif kind is LabelForm and any(map(_is_fraction, cells)) and not known & set(cells):
        found, expected = "fractions", "a label"
    elif kind is LabelForm and cells and _are_whole(cells) and not any(map(_is_number, known)):
        raise SubmissionError(
            f"{sample}: expected labels such as {task.outputs[0]!r}, found whole numbers such as "
            f"{cells[0]!r}, and only the competition's page says which class has which. Write a "
            "table of the training images and their numbers and name it in prepare.labels, or set "
            "ensemble.form to labels to submit the names"
        )
    if found:
        raise SubmissionError(
            f"{sample}: its cells are {found}, such as {cells[0]!r}, but params.yaml: "
            f"ensemble.metric: {metric.name} asks for {expected} in each. Set ensemble.metric to "
            f"the competition's (map_at_3, top_3_error; roc_auc, log_loss), or ensemble.form to "
            f"{kind.holds}, which writes {expected} all the same"
        )


def _is_number(cell: str) -> bool:
    return re.fullmatch(NUMBER, cell) is not None


def _are_whole(cells: list[str]) -> bool:
    return all(_is_number(cell) and float(cell).is_integer() for cell in cells)


def _is_fraction(cell: str) -> bool:
    return _is_number(cell) and not float(cell).is_integer()


def require_order(form: Form, metric: Metric) -> None:
    """Raise SubmissionError where the order of the classes counts and nothing says it."""
    if not isinstance(form.task, OneOf) or form.task.ordered:
        return
    reasons = {
        f"the metric {metric.name} depends on it": metric.uses_order,
        f"{form.sample} asks for the probability of one of them": form.holds == "probability",
    }
    for reason, counts in reasons.items():
        if counts:
            classes = ", ".join(form.task.classes)
            raise SubmissionError(
                f"params.yaml: prepare.classes: expected the classes in their order, since "
                f"{reason}; found words, whose order nothing says: {classes}. Set prepare.classes "
                f"to [{classes}] or to another order, of two classes the positive one last"
            )
