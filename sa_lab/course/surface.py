"""The response surface of chapter 07: quality over mask and similarity weight, and what the run of each cell finds.

It is measured on the validation identities, because whoever reads a surface will choose by it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sa_lab import experiment, study
from sa_lab.analysis import descriptors
from sa_lab.config import DataConfig, ExperimentConfig
from sa_lab.disk import home, read_json, write_text
from sa_lab.evaluation import search
from sa_lab.evaluation.protocols import protocols_of
from sa_lab.intervals import student_interval
from sa_lab.plots.sweeps import Point
from sa_lab.runs import Run

X, Y = "loss.mask_value", "loss.similarity_weight"
"""The two dials."""
MASKS = (0.0, 5.0, 50.0)
WEIGHTS = (0.0, 0.3, 1.0, 3.0)
SEEDS = (0, 1, 2)
QUERIES = 6
FOUND = 8
"""Number of queries of a cell's run, evenly spread over those of the first protocol, and of images found for each."""


@dataclass(frozen=True)
class Surface:
    """A surface as saved.

    Attributes:
        masks, weights: values of the dials.
        seeds: of each cell.
        values: (M,W,S) mAP on the validation identities, %.
        cells: of each mask and weight, by `key`, what the first seed's run shows: ``map`` with samples (N,2),
            person_ids and modality (N,), prototypes (2I,2) of prototype_ids (I,) and caption; ``rankings``, each with
            the paths of a query and of what is found first, and the persons of all.
        made: with what, see `sa_lab.study.conditions`.
    """

    masks: tuple[float, ...]
    weights: tuple[float, ...]
    seeds: tuple[int, ...]
    values: Float[np.ndarray, "M W S"]
    cells: dict[str, dict[str, Any]]
    made: dict[str, Any]

    def points(self) -> list[Point]:
        """For `sa_lab.plots.sweeps`: mean and interval of each cell."""
        found = []
        for i, mask in enumerate(self.masks):
            for j, weight in enumerate(self.weights):
                over = student_interval(self.values[i, j], (0.0, 100.0))
                bounds = over["mean"], over["low"], over["high"]
                found.append(Point("complete", {X: mask, Y: weight}, *bounds, runs=len(self.seeds)))
        return found

    def effects(self) -> dict[str, dict[str, float]]:
        """How far the mean moves along each dial: the best value minus the worst in %, averaged over the other dial;
        mean and interval of Student's t over the seeds. It is slightly too large, because the two values were chosen by
        their means."""
        found = {}
        for dial, other in ((X, 1), (Y, 0)):
            along = self.values.mean(other)  # (values of the dial, S)
            means = along.mean(1)
            found[dial] = student_interval(along[means.argmax()] - along[means.argmin()])
        return found


def key(mask: float, weight: float) -> str:
    """What a cell is called in a file."""
    return f"{mask:g} {weight:g}"


def place(dataset: str) -> Path:
    """Where the surface of a data set is written."""
    return home() / "results" / f"surface-{dataset}.json"


def write(
    config: ExperimentConfig,
    jobs: int = 1,
    masks: Sequence[float] = MASKS,
    weights: Sequence[float] = WEIGHTS,
    seeds: Sequence[int] = SEEDS,
) -> Path:
    """Train the missing runs of the surface, and write it; ``seeds``: at least two."""
    configs = [
        config.replace({X: mask, Y: weight}).seeded(seed) for mask in masks for weight in weights for seed in seeds
    ]
    runs = study.run_all(configs, jobs)
    graded = np.array([study.validated(run)["mean_ap"] for run in runs])
    values = 100 * graded.reshape(len(masks), len(weights), len(seeds))
    names = [key(mask, weight) for mask in masks for weight in weights]
    content = {
        "dataset": config.data.dataset, "masks": masks, "weights": weights, "seeds": seeds,
        "images": experiment.images_digest(config.data), "values": values.round(3).tolist(), **study.conditions(),
        "cells": {name: {"map": _map(run), "rankings": _rankings(run)}
                  for name, run in zip(names, runs[:: len(seeds)], strict=True)},
    }  # fmt: skip
    out = place(config.data.dataset)
    write_text(out, json.dumps(content, separators=(",", ":")) + "\n")
    return out


def load(data: DataConfig) -> Surface | None:
    """The surface of a data set, if it was measured on these images."""
    file = place(data.dataset)
    if not file.is_file():
        return None
    found = read(file)
    return found if found.made["images"] == experiment.images_digest(data) else None


def read(file: Path) -> Surface:
    """A surface from its file, of whatever images it was made."""
    held = read_json(file)
    masks, weights, seeds = (tuple(held.pop(name)) for name in ("masks", "weights", "seeds"))
    return Surface(masks, weights, seeds, np.array(held.pop("values")), held.pop("cells"), held)


def _map(run: Run) -> dict[str, Any]:
    drawn = descriptors.picture(run.training_embeddings)
    shown, where = drawn.embeddings, drawn.projection
    assert shown.prototype_ids is not None
    return {
        "samples": where.samples.round(2).tolist(), "person_ids": shown.person_ids.tolist(),
        "modality": shown.modality.tolist(), "prototypes": where.prototypes.round(2).tolist(),
        "prototype_ids": shown.prototype_ids.tolist(), "caption": where.caption,
    }  # fmt: skip


def _rankings(run: Run) -> list[dict[str, Any]]:
    tested = run.embeddings
    found = search.search(tested, protocols_of(tested.dataset, tested.split)[0])
    rankings = []
    for row in np.linspace(0, len(found.query) - 1, QUERIES).round().astype(int):
        shown = np.array([found.query[row], *found.best(int(row), FOUND)])
        rankings.append(
            {"paths": [tested.paths[i] for i in shown], "person_ids": tested.person_ids[shown].tolist()}
        )  # fmt: skip
    return rankings
