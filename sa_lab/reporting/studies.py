"""What came of a study: its table, differences to softmax, and what goes along with retrieval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sa_lab.analysis import DEFINITIONS
from sa_lab.analysis.descriptors import QUICK
from sa_lab.evaluation import reports
from sa_lab.evaluation.reports import SHARES
from sa_lab.intervals import student_interval

TITLES = {name: reports.TITLES[name] for name in SHARES} | {name: DEFINITIONS[name].title for name in QUICK}
"""The measures that tables show, and what they call them."""


def table(result: dict[str, Any]) -> str:
    """The study as a Markdown table: mean [95 % interval] of each measure."""
    names = [key for key in TITLES if key in next(iter(result["variants"].values()))]
    lines = [
        "| loss | " + " | ".join((f"{TITLES[name]}, %" if name in SHARES else TITLES[name]) for name in names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for variant_name, columns in result["variants"].items():
        cells = []
        for name in names:
            scale, digits = (100, 1) if name in SHARES else (1, 2)
            mean, low, high = (columns[name][key] * scale for key in ("mean", "low", "high"))
            cells.append(f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]")
        lines.append(f"| {variant_name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def joined(studies: Mapping[str, dict[str, Any]], loss: str = "complete") -> dict[str, Any]:
    """One loss of several studies side by side, for `table` and `paired`: what another dial than the loss changes.

    Raises:
        ValueError: their seeds differ.
    """
    seeds = {name: study["seeds"] for name, study in studies.items()}
    if len({tuple(one) for one in seeds.values()}) > 1:
        raise ValueError(f"the seeds of studies are {seeds}, expected the same")
    return {"variants": {name: study["variants"][loss] for name, study in studies.items()}}


def paired(result: dict[str, Any], first: str, second: str, measure: str) -> dict[str, float]:
    """``measure`` of loss ``first`` less that of loss ``second``, paired by seed, see `student_interval`."""
    one, other = (np.array(result["variants"][name][measure]["values"]) for name in (first, second))
    return student_interval(one - other)
