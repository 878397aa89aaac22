"""The study: every variant of the loss on several seeds, and what came of it with intervals."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from tqdm.auto import tqdm

from sa_lab import __version__, analysis, experiment
from sa_lab.config import VARIANTS, ExperimentConfig, VariantName, variant
from sa_lab.data import prepare
from sa_lab.disk import write_text
from sa_lab.schema import Embeddings
from sa_lab.tables import COLUMNS

MEASURES = {
    "rank_1": "Rank-1",
    "mean_ap": "mAP",
    "mean_inp": "mINP",
    "stranger_ratio": "modality gap: own other-spectrum centroid over strangers', unseen identities",
    "modality_probe": "modality probe accuracy, unseen identities (0.5: spectra cannot be told apart)",
    "prototype_alignment": "cosine of an identity's two prototypes",
}
"""What a study writes of each run."""

SHARES = ("rank_1", "mean_ap", "mean_inp")
"""The measures in [0,1] that are shown in %."""

TITLES = {
    **{name: COLUMNS[name] for name in SHARES},
    "stranger_ratio": "modality gap",
    "modality_probe": "modality probe",
    "prototype_alignment": "prototype cosine",
}
"""What tables call the measures."""


def measure_run(run: experiment.Run) -> dict[str, float]:
    """The numbers in `MEASURES` of one finished run."""
    measures = run.report.measures
    return {**{name: measures[name].mean for name in SHARES}, **overlap(run.embeddings)}


def overlap(embeddings: Embeddings, seed: int = 0) -> dict[str, float]:
    """How far the two spectra overlap: mean over identities (gap), images (probe), identities and parts (alignment);
    NaN where there are too few images or identities."""
    points = embeddings.embeddings.reshape(len(embeddings), -1)
    ids, modality, rng = embeddings.person_ids, embeddings.modality, np.random.default_rng(seed)
    numbers = {"stranger_ratio": np.nan, "modality_probe": np.nan}
    with suppress(ValueError):  # one image a spectrum each: there is no spread to measure
        numbers["stranger_ratio"] = float(np.nanmean(analysis.modality_gap(points, ids, modality).stranger_ratio))
    with suppress(ValueError):  # one identity: nobody is left to learn from
        folds = min(5, len(np.unique(ids)))
        numbers["modality_probe"] = analysis.modality_probe(points, ids, modality, rng, num_folds=folds).accuracy
    if embeddings.prototypes is not None:
        numbers["prototype_alignment"] = float(analysis.prototype_alignment(embeddings.prototypes).mean())
    return numbers


def study(
    config: ExperimentConfig,
    variants: Sequence[VariantName] = tuple(VARIANTS),
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    jobs: int = 1,
    out: Path | None = None,
    progress: bool = True,
) -> dict[str, Any]:
    """Run ``variants`` x ``seeds`` and summarise; finished runs are reused, so an interrupted study goes on.

    The seed decides initial weights, batches and augmentation; images and test identities stay the same, so the
    intervals speak of training, not of other test sets.

    Args:
        config: base of all runs; its loss and seed are replaced.
        variants: names in `sa_lab.config.VARIANTS`.
        seeds: at least two.
        jobs: runs at a time, each in a process of its own.
        out: JSON file to write.
        progress: show a bar.

    Raises:
        ValueError: fewer than two seeds.
    """
    if len(set(seeds)) < 2:
        raise ValueError(f"seeds is {list(seeds)}, expected at least two different ones for an interval")
    prepare(config.data, progress)
    configs = [replace(variant(config, name), seed=seed) for seed in seeds for name in variants]
    folders: dict[int, Path] = {}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=torch.set_num_threads, initargs=(threads,)
    ) as pool:
        waiting = {pool.submit(_run_quietly, one): i for i, one in enumerate(configs)}
        try:
            for future in tqdm(
                as_completed(waiting), total=len(configs), unit="run", desc="study", disable=not progress
            ):
                folders[waiting[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    rows = [measure_run(experiment.Run(folders[i])) for i in range(len(configs))]
    dials = {key: value for key, value in asdict(config).items() if key != "seed"}
    dials["data"]["root"] = Path(config.data.root).name if config.data.root else None
    result: dict[str, Any] = {
        "dataset": config.data.dataset,
        "config": dials,
        "library": __version__,
        "torch": torch.__version__,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "seeds": list(seeds),
        "measures": MEASURES,
        "variants": {},
    }
    per_variant = {
        name: {key: np.array([rows[i * len(variants) + j][key] for i in range(len(seeds))]) for key in rows[0]}
        for j, name in enumerate(variants)
    }
    base = per_variant.get("softmax")
    for name, columns in per_variant.items():
        result["variants"][name] = {
            key: {
                **student_interval(values),
                "values": values.tolist(),
                **({"minus_softmax": student_interval(values - base[key])} if base and name != "softmax" else {}),
            }
            for key, values in columns.items()
        }
    if out:
        write_text(out, json.dumps(result, indent=1))
    return result


def student_interval(values: np.ndarray) -> dict[str, float]:
    """Mean and 95 % interval of Student's t over seeds; for differences, pairs of the same seed."""
    mean, half = float(values.mean()), float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _run_quietly(config: ExperimentConfig) -> Path:
    """One run in a worker process."""
    return experiment.run(config, progress=False).folder


def table(result: dict[str, Any]) -> str:
    """The study as a Markdown table: mean [95 % interval] of each measure."""
    names = [key for key in result["measures"] if key in next(iter(result["variants"].values()))]
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


def verdicts(result: dict[str, Any], measures: Sequence[str] = ("rank_1", "mean_ap", "stranger_ratio")) -> list[str]:
    """One sentence a variant and measure: its difference to softmax, and whether the interval leaves 0 out."""
    sentences = []
    for variant_name, columns in result["variants"].items():
        for name in measures:
            if "minus_softmax" not in columns[name]:
                continue
            scale, unit = (100, " points") if name in SHARES else (1, "")
            mean, low, high = (columns[name]["minus_softmax"][key] * scale for key in ("mean", "low", "high"))
            word = "higher" if low > 0 else "lower" if high < 0 else "not told apart from softmax"
            digits = 1 if name in SHARES else 2
            span = f"{mean:+.{digits}f}{unit} [{low:+.{digits}f}, {high:+.{digits}f}]"
            sentences.append(f"{variant_name}: {TITLES[name]} {span}, {word}")
    return sentences
