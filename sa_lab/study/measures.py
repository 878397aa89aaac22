"""What a study and a sweep measure of each run, and under which conditions."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import torch

from sa_lab import __version__, experiment
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
    """For each protocol of one finished run its name, Rank-k, mAP and mINP, and those of `MEANINGS` that its images
    allow; the data set's first protocol first."""
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


def validated(run: Run) -> dict[str, float]:
    """Rank-1 and mAP in [0,1] of the selected network on the validation identities, by which one may choose.

    Raises:
        ValueError: no identities were held back.
    """
    columns = run.metrics()
    measured = [step for step, value in enumerate(columns.get("mean_ap", ())) if not math.isnan(value)]
    if not measured:
        raise ValueError(f"{run.folder} has no validation identities, expected data.validation_fraction above 0")
    best = max(measured, key=lambda step: float(columns["mean_ap"][step]))  # the network with the best one is selected
    return {name: float(columns[name][best]) for name in ("rank_1", "mean_ap")}


def conditions() -> dict[str, Any]:
    """When and where something is measured: date, commit (none outside of a checkout), versions, machine.

    A commit whose library has been changed since is followed by "changed".
    """
    commit = _git("rev-parse", "--short", "HEAD") + (", changed" if _git("status", "--porcelain", "--", ".") else "")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "date": date.today().isoformat(), "commit": commit or None, "library": __version__, **experiment.machine(),
        "python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores, {gpu}",
    }  # fmt: skip


def _git(*arguments: str) -> str:
    """What git says of the library's folder; nothing where there is no git, or no checkout."""
    git = ["git", "-C", str(Path(__file__).parents[1]), *arguments]
    try:
        return subprocess.run(git, capture_output=True, text=True, encoding="utf-8").stdout.strip()
    except OSError:
        return ""
