"""Shapes and dtypes in the signatures of pipeline/ are checked while the tests run."""

import os

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
# Tests run side by side on tiny networks: more threads than cores only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from jaxtyping import install_import_hook

install_import_hook(
    [
        "pipeline.commands.contact_sheet",
        "pipeline.core.tables",
        "pipeline.ensemble",
        "pipeline.prepare",
        "pipeline.report.diagnosis",
        "pipeline.report.facts",
        "pipeline.report.gallery",
        "pipeline.report.label_noise",
        "pipeline.scoring.metrics",
        "pipeline.split",
        "pipeline.train",
    ],
    "beartype.beartype",
)
