"""How far the spectra of a run overlap, part by part and along its training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sa_lab import analysis
from sa_lab.analysis.descriptors import QUICK, Picture, measure_embeddings, of_people, rows_of, some_people
from sa_lab.intervals import Interval
from sa_lab.runs import Run
from sa_lab.schema import Embeddings


def pictures_along(
    run: Run, people: str = "training", most: int = 8, seed: int = 0, **dials: Any
) -> dict[int, Picture]:
    """The probes of a run by step, drawn so that every image can be followed.

    Args:
        run: with probes.
        people: "training" or "unseen".
        most: how many of them are drawn.
        seed: of the drawing.
        dials: as of `sa_lab.analysis.project_along`.

    Raises:
        ValueError: the run has no probes of these people.
    """
    probes = {step: of_people(probe, people) for step, probe in run.probes().items()}
    probes = {step: some_people(probe, np.unique(probe.person_ids)[:most]) for step, probe in probes.items()}
    if not probes or not all(map(len, probes.values())):
        raise ValueError(f"{run.folder} has no probes of {people} people; expected a run with train.num_probes above 0"
                         " and, for unseen people, validation identities")  # fmt: skip
    rows = [rows_of(probe) for probe in probes.values()]
    known = [prototypes for _, prototypes in rows] if len(rows[0][1]) else None
    drawn = analysis.project_along(
        [points for points, _ in rows], np.random.default_rng(seed), prototypes=known, **dials
    )
    return {step: Picture(probe, where) for (step, probe), where in zip(probes.items(), drawn, strict=True)}


def by_part(embeddings: Embeddings, only: Sequence[str] = QUICK) -> dict[str, dict[str, Interval]]:
    """Some measures of each horizontal part, from the top."""
    parts = range(embeddings.embeddings.shape[1])
    return {f"part {part + 1}": measure_embeddings(embeddings, part=part, only=only) for part in parts}


def along(run: Run, people: str = "training", only: Sequence[str] = QUICK) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Measures of a run's probes: the steps (T,) and, by measure, the means (T,); NaN where it is missing."""
    steps, rows = [], []
    for step, probe in run.probes().items():
        some = of_people(probe, people)
        rows.append(measure_embeddings(some, only=only) if len(some) else {})
        steps.append(step)
    columns = {key: np.array([row[key].mean if key in row else np.nan for row in rows]) for key in only}
    return np.array(steps), columns
