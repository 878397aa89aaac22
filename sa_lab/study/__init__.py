"""The study: every variant of the loss on several seeds, and what came of it with intervals."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from sa_lab import experiment
from sa_lab.config import PAPER, ExperimentConfig, VariantName, variant
from sa_lab.dials import file_word
from sa_lab.disk import home, read_json, write_text
from sa_lab.intervals import student_interval
from sa_lab.runs import loss_name
from sa_lab.study.measures import MEANINGS, conditions, limits_of, measure_run, validated
from sa_lab.study.sweeps import Cell, LossName, Sweep, cells, named, read, sweep, trained, with_own
from sa_lab.study.tuning import RATES, TRIES, Choice, compared, tune
from sa_lab.study.workers import FailedRunsError, refuse_failed, run_all, run_each
from sa_lab.training.objective import OwnLoss

__all__ = [
    "MEANINGS", "RATES", "TRIES", "Cell", "Choice", "FailedRunsError", "Sweep", "cells", "compared", "conditions",
    "limits_of", "measure_run", "read", "run_all", "run_each", "study", "sweep", "tune", "validated", "variant",
]  # fmt: skip

SEEDS = (0, 1, 2, 3, 4)
"""The seeds of a study, unless others are given."""


def study(
    config: ExperimentConfig,
    variants: Sequence[LossName] = PAPER,
    seeds: Sequence[int] = SEEDS,
    jobs: int = 1,
    out: Path | None = None,
    progress: bool = True,
    tuned: bool = False,
    scheduler: str = "",
    own_loss: OwnLoss | None = None,
) -> dict[str, Any]:
    """Run ``variants`` x ``seeds`` and summarise; finished runs are reused, so an interrupted study goes on.

    A seed draws people, images and split as well as weights, batches and augmentation, the same for all losses, so the
    intervals cover other people, too; for a data set on disk, only the split of its people changes.

    Args:
        config: base of all runs; its loss and seeds are replaced.
        variants: names in `sa_lab.config.VARIANTS`, or own for ``own_loss``.
        seeds: at least two.
        jobs: runs at a time, each in a process of its own.
        out: JSON file to write.
        progress: show a bar.
        tuned: each loss has the weight, margin and learning rate that are best on the validation identities, tried with
            a seed outside ``seeds``, see `sa_lab.study.tuning`; by default those of its paper. A loss of one's own is
            taken as it is.
        scheduler: address of a Dask cluster that trains, in place of workers of this machine.
        own_loss: a loss of one's own, the term own in ``config.loss.terms``.

    Raises:
        ValueError: fewer than two seeds, or ``out`` holds a study of other images.
    """
    if len(set(seeds)) < 2:
        raise ValueError(f"seeds is {list(seeds)}, expected at least two different ones for an interval")
    config = with_own(config, own_loss)
    there = read_json(out) if out and out.is_file() else None
    if there is not None and "variants" not in there:
        raise ValueError(f"{out} holds something other than a study; expected another file as --out")
    images = experiment.images_digest(config.data)
    if there is not None and there.get("images", images) != images:
        raise ValueError(f"{out} holds the study of other images than these; expected another file as --out")
    chosen: dict[LossName, Choice] = {name: Choice(named(config, name)) for name in variants}
    if tuned:
        others: list[VariantName] = [name for name in variants if name != "own"]
        chosen.update(tune(config.seeded(max(seeds) + 1), others, jobs, progress, scheduler).items())
    planned = [Cell({}, name, chosen[name].config.seeded(seed)) for seed in seeds for name in variants]
    done = trained(planned, range(len(planned)), (), jobs, progress, own_loss, scheduler)
    refuse_failed([*done.failed.items()], len(planned))
    rows = done.rows
    measured = [key for key in MEANINGS if all(key in row for row in rows)]
    dials = {key: value for key, value in asdict(config).items() if key != "seed"}
    dials["data"]["root"] = Path(config.data.root).name if config.data.root else None
    result: dict[str, Any] = {
        "dataset": config.data.dataset,
        "config": dials,
        **conditions(),
        "images": images,
        "seeds": list(seeds),
        "measures": MEANINGS,
        "labels": {name: _label(chosen[name].config, config) for name in variants},
        **({"tries": {name: list(one.tries) for name, one in chosen.items()}} if tuned else {}),
        "changed": {name: value for name, value in config.changed().items() if name not in _NAMED_ELSEWHERE},
        "variants": {},
    }
    per_variant = {
        name: {key: np.array([rows[i * len(variants) + j][key] for i in range(len(seeds))]) for key in measured}
        for j, name in enumerate(variants)
    }
    base = per_variant.get("softmax")
    for name, columns in per_variant.items():
        result["variants"][name] = {
            key: {
                **student_interval(values, limits_of(key)),
                "values": values.tolist(),
                **({"minus_softmax": student_interval(values - base[key])} if base and name != "softmax" else {}),
            }
            for key, values in columns.items()
        }
    if out:
        write_text(out, json.dumps(result, indent=1))
    return result


def _label(chosen: ExperimentConfig, base: ExperimentConfig) -> str:
    """The name of a loss, with the rate that was chosen for it."""
    rate = chosen.train.backbone_lr
    return loss_name(chosen) + (f", backbone_lr {rate:.1g}" if rate != base.train.backbone_lr else "")


_NAMED_ELSEWHERE = ("data.dataset", "data.root", "seed")


def default_file(config: ExperimentConfig, variants: Sequence[str], seeds: Sequence[int], tuned: bool = False) -> Path:
    """Where a study is written: ``study-<data set>.json`` for the preset tiny with the paper's losses and all seeds,
    ``losses-<data set>.json`` with all of `compared` tuned, which README and chapters read; another one has its dials,
    and a digest of all, in its name."""
    words = changed_words(config, *_NAMED_ELSEWHERE)
    usual = compared(config) if tuned else PAPER
    words += [] if tuple(variants) == usual else variants
    words += [] if tuple(seeds) == SEEDS else [f"seeds-{'-'.join(map(str, seeds))}"]
    if words:
        whole = json.dumps([config.dials(), list(variants), list(seeds)], sort_keys=True)
        digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
        words = [file_word("-".join(words))[:80].strip("-"), digest]
    return home() / "results" / ("-".join(["losses" if tuned else "study", config.data.dataset, *words]) + ".json")


def changed_words(config: ExperimentConfig, *but: str) -> list[str]:
    """The dials that are not those of the preset tiny, for a file's name; ``but``: those that it tells otherwise."""
    return [f"{name.split('.')[-1]}-{value}" for name, value in config.changed().items() if name not in but]
