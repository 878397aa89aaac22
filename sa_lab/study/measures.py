"""What a study and a sweep measure of each run."""

from __future__ import annotations

from typing import Any

from sa_lab.analysis import DEFINITIONS, OF_IMAGES
from sa_lab.evaluation.reports import SHARES, TITLES, Report
from sa_lab.runs import Run, measure_folder


def _on_training(name: str) -> str:
    """Key of a measure of people trained on; only they have prototypes."""
    return f"training_{name}" if name in OF_IMAGES else name


MEANINGS = {
    **{name: TITLES[name] for name in SHARES},
    **{name: f"{DEFINITIONS[name].title}, unseen people: {DEFINITIONS[name].meaning}" for name in OF_IMAGES},
    **{_on_training(name): f"{one.title}, people trained on: {one.meaning}" for name, one in DEFINITIONS.items()},
}
"""What a study compares of each run: retrieval of the first protocol, and the measures of overlap."""


def limits_of(name: str) -> tuple[float, float]:
    """Smallest and largest value of a measure in `MEANINGS`."""
    return (0.0, 1.0) if name in SHARES else DEFINITIONS[name.removeprefix("training_")].limits


def measure_run(run: Run) -> list[dict[str, Any]]:
    """Of one finished run, for each protocol its name, Rank-k, mAP and mINP, and what of `MEANINGS` its images allow;
    the data set's first protocol first."""
    overlaps = measure_folder(run.folder, progress=False)
    unseen = {name: one.mean for name, one in overlaps["unseen"].items()}
    training = {_on_training(name): one.mean for name, one in overlaps["training"].items()}
    return [
        {
            "protocol": str(report.protocol["name"]).removesuffix(f"-{report.protocol['split']}"),
            **{name: one.mean for name, one in report.measures.items()}, **unseen, **training,
        }
        for report in Report.load_all(run.folder)
    ]  # fmt: skip
