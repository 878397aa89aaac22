"""The study: every variant of the loss on several seeds, and what came of it with intervals."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import stats
from threadpoolctl import threadpool_limits
from tqdm.auto import tqdm

from sa_lab import __version__, experiment, overlap
from sa_lab.analysis import DEFINITIONS, OF_IMAGES
from sa_lab.config import VARIANTS, ExperimentConfig, VariantName, variant
from sa_lab.data import prepare
from sa_lab.disk import write_text
from sa_lab.intervals import Interval, bootstrap_statistic
from sa_lab.tables import COLUMNS

SHARES = ("rank_1", "mean_ap", "mean_inp")
"""The measures in [0,1] that are shown in %."""


def _on_training(name: str) -> str:
    """Key of a measure of people trained on; only they have prototypes."""
    return f"training_{name}" if name in OF_IMAGES else name


TITLES = {name: COLUMNS[name] for name in SHARES} | {name: DEFINITIONS[name].title for name in overlap.QUICK}
"""The measures that tables show, and what they call them."""

MEASURES = {
    **{name: COLUMNS[name] for name in SHARES},
    **{name: f"{DEFINITIONS[name].title}, unseen people: {DEFINITIONS[name].meaning}" for name in OF_IMAGES},
    **{_on_training(name): f"{one.title}, people trained on: {one.meaning}" for name, one in DEFINITIONS.items()},
}
"""What a study writes of each run: retrieval of the first protocol, and the measures of overlap."""


def measure_run(run: experiment.Run) -> dict[str, float]:
    """The numbers in `MEASURES` of one finished run, as far as its images allow them."""
    retrieval, overlaps = run.report.measures, overlap.of_folder(run.folder, progress=False)
    unseen = {name: one.mean for name, one in overlaps["unseen"].items()}
    training = {_on_training(name): one.mean for name, one in overlaps["training"].items()}
    return {**{name: retrieval[name].mean for name in SHARES}, **unseen, **training}


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
    rows = [
        measure_run(run)
        for run in run_all(
            [replace(variant(config, name), seed=seed) for seed in seeds for name in variants], jobs, progress
        )
    ]
    measured = [key for key in MEASURES if all(key in row for row in rows)]
    dials = {key: value for key, value in asdict(config).items() if key != "seed"}
    dials["data"]["root"] = Path(config.data.root).name if config.data.root else None
    result: dict[str, Any] = {
        "dataset": config.data.dataset,
        "config": dials,
        **conditions(),
        "seeds": list(seeds),
        "measures": MEASURES,
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
                **student_interval(values),
                "values": values.tolist(),
                **({"minus_softmax": student_interval(values - base[key])} if base and name != "softmax" else {}),
            }
            for key, values in columns.items()
        }
    if out:
        write_text(out, json.dumps(result, indent=1))
    return result


def conditions() -> dict[str, Any]:
    """When and where something is measured: date, commit (none outside of a checkout), versions, machine.

    A commit whose library has been changed since is followed by "changed".
    """
    commit = _git("rev-parse", "--short", "HEAD") + (", changed" if _git("status", "--porcelain", "--", ".") else "")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return {
        "date": date.today().isoformat(), "commit": commit or None, "library": __version__, "torch": torch.__version__,
        "python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores, {gpu}",
    }  # fmt: skip


def _git(*arguments: str) -> str:
    """What git says of the library's folder; nothing where there is no git, or no checkout."""
    git = ["git", "-C", str(Path(__file__).parent), *arguments]
    try:
        return subprocess.run(git, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def run_all(configs: Sequence[ExperimentConfig], jobs: int = 1, progress: bool = True) -> list[experiment.Run]:
    """Finished and measured runs of several configs on the same images, ``jobs`` at a time, each in its process."""
    prepare(configs[0].data, progress)
    folders: dict[int, Path] = {}
    threads = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(
        jobs, mp_context=multiprocessing.get_context("spawn"), initializer=_limit, initargs=(threads,)
    ) as pool:
        waiting = {pool.submit(_run_quietly, one): i for i, one in enumerate(configs)}
        try:
            for future in tqdm(as_completed(waiting), total=len(configs), unit="run", disable=not progress):
                folders[waiting[future]] = future.result()
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return [experiment.Run(folders[i]) for i in range(len(configs))]


def student_interval(values: np.ndarray) -> dict[str, float]:
    """Mean and 95 % interval of Student's t over seeds; for differences, pairs of the same seed."""
    mean, half = float(values.mean()), float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def _limit(threads: int) -> None:
    """Threads of torch and of NumPy in this process: where all have more than there are cores, they wait in turn."""
    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _run_quietly(config: ExperimentConfig) -> Path:
    """One run and its overlap in a worker process."""
    folder = experiment.run(config, progress=False).folder
    overlap.of_folder(folder, progress=False)
    return folder


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


def relation(
    result: dict[str, Any], measure: str, target: str = "mean_ap", within: bool = False, seed: int = 0
) -> Interval | None:
    """Spearman's rank correlation of a measure of overlap with retrieval over all runs of a study, in [-1,1].

    Args:
        result: of `study`.
        measure, target: names in `MEASURES`.
        within: take each loss's mean off its runs first: what is left is how the runs of one loss vary. Only then has
            the result an interval (95 %, bootstrap over runs); the runs of one loss are alike, so that over all runs
            as many losses as there are would have to be drawn, which are too few.
        seed: of the bootstrap.

    Returns:
        None where the study lacks one of the two, or one does not vary.
    """
    columns = list(result["variants"].values())
    if not all(measure in one and target in one for one in columns):
        return None
    pairs = [np.array([one[name]["values"] for one in columns]) for name in (measure, target)]  # (variants, seeds)
    x, y = ((values - values.mean(axis=1, keepdims=True) * within).ravel() for values in pairs)

    def correlation(weights: np.ndarray) -> float:
        drawn = weights.astype(int)
        first, second = np.repeat(x, drawn), np.repeat(y, drawn)
        if min(len(np.unique(first)), len(np.unique(second))) < 2:
            return np.nan
        return float(stats.spearmanr(first, second).statistic)

    value = correlation(np.ones(len(x)))
    if np.isnan(value):
        return None
    if not within:
        return Interval(value, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    return bootstrap_statistic(correlation, len(x), rng, num_samples=1000, limits=(-1.0, 1.0))


@dataclass(frozen=True)
class Disagreement:
    """Runs of one loss against softmax of the same seed, by one measure of overlap.

    Attributes:
        runs: how many.
        closer: in how many the spectra overlap more.
        closer_not_better: in how many of these retrieval is not higher: overlap that brings nothing.
        better_not_closer: in how many retrieval is higher though the spectra do not overlap more: gain without overlap.
    """

    runs: int
    closer: int
    closer_not_better: int
    better_not_closer: int


def disagreements(result: dict[str, Any], measure: str, target: str = "mean_ap") -> dict[str, Disagreement]:
    """Where overlap by ``measure`` and retrieval part ways, by loss; none where the study lacks one of the two."""
    sign = 1 if DEFINITIONS[measure.removeprefix("training_")].better == "higher" else -1
    base, found = result["variants"]["softmax"], {}
    for name, columns in result["variants"].items():
        if name == "softmax" or measure not in columns:
            continue
        more, gain = (np.array(columns[key]["values"]) - np.array(base[key]["values"]) for key in (measure, target))
        closer, better = sign * more > 0, gain > 0
        counts = (len(closer), closer.sum(), (closer & ~better).sum(), (better & ~closer).sum())
        found[name] = Disagreement(*map(int, counts))
    return found


def paired(result: dict[str, Any], first: str, second: str, measure: str) -> dict[str, float]:
    """``measure`` of loss ``first`` less that of loss ``second``, paired by seed, see `student_interval`."""
    one, other = (np.array(result["variants"][name][measure]["values"]) for name in (first, second))
    return student_interval(one - other)
