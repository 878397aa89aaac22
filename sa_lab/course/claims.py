"""What chapters ask of studies and reports: is a difference noise, who is found, does overlap go with retrieval?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sa_lab.analysis import DEFINITIONS
from sa_lab.evaluation.paired import differences, pairs
from sa_lab.evaluation.reports import SHARES, Measure, Report, bounds_over_people, deviation, values_of
from sa_lab.intervals import Interval, bootstrap_statistic, student_interval
from sa_lab.reporting.studies import TITLES, label
from sa_lab.runs import measure_folder as folder_measures
from sa_lab.study.sweeps import Sweep


def verdicts(result: dict[str, Any], measures: Sequence[str] = ("rank_1", "mean_ap", "stranger_ratio")) -> list[str]:
    """One sentence per variant and measure: its difference from softmax, and whether the interval excludes 0."""
    sentences = []
    for variant_name, columns in result["variants"].items():
        for name in measures:
            if "minus_softmax" not in columns.get(name, {}):
                continue
            span, word = told(columns[name]["minus_softmax"], name, " points")
            word = f"{word} from softmax" if word == _ALIKE else word
            sentences.append(f"{label(result, variant_name)}: {TITLES[name]} {span}, {word}")
    return sentences


_ALIKE = "not told apart"


def told(difference: Mapping[str, float], measure: str, unit: str = "") -> tuple[str, str]:
    """A difference with its interval, see `span`, and whether that leaves 0 out."""
    word = "higher" if difference["low"] > 0 else "lower" if difference["high"] < 0 else _ALIKE
    return span(difference, measure, unit), word


def span(one: Mapping[str, float], measure: str, unit: str = "", sign: str = "+") -> str:
    """A mean with its interval, of shares in percent.

    Args:
        one: mean, low and high.
        measure: a name in `sa_lab.study.MEANINGS`, or any other name for what is not a share.
        unit: of shares, after the mean.
        sign: empty for values, which have no plus.
    """
    scale, digits, unit = (100, 1, unit) if measure in SHARES else (1, 2, "")
    mean, low, high = (f"{one[key] * scale:{sign}.{digits}f}" for key in ("mean", "low", "high"))
    return f"{mean}{unit} [{low}, {high}]"


def relation(
    result: dict[str, Any], measure: str, target: str = "mean_ap", within: bool = False, seed: int = 0
) -> Interval | None:
    """Spearman's rank correlation of a measure of overlap with retrieval over all runs of a study, in [-1,1].

    Args:
        result: of `study`.
        measure, target: names in `sa_lab.study.MEANINGS`.
        within: first subtract each loss's mean from its runs, which leaves how the runs of one loss vary. Only then
            does the result have an interval (95 %, bootstrap over runs); without it, whole losses would have to be
            drawn, because the runs of one loss are alike, and there are too few losses.
        seed: of the bootstrap.

    Returns:
        None where the study lacks one of the two, or one does not vary.
    """
    variants = list(result["variants"].values())
    if not all(measure in one and target in one for one in variants):
        return None
    pairs = [np.array([one[name]["values"] for one in variants]) for name in (measure, target)]  # (variants, seeds)
    columns = [(values - values.mean(axis=1, keepdims=True) * within).ravel() for values in pairs]
    below = np.array([np.greater.outer(one, one) + 0.5 * np.equal.outer(one, one) for one in columns])

    def correlation(weights: np.ndarray) -> float:
        drawn = weights > 0
        ranks = (below @ weights)[:, drawn]  # ties share their mean rank; half below the usual one
        if not np.ptp(ranks, axis=1).all():
            return np.nan
        (xx, xy), (_, yy) = np.cov(ranks, fweights=weights[drawn].astype(int))
        return float(xy / np.sqrt(xx * yy))

    value = correlation(np.ones(below.shape[1]))
    if np.isnan(value):
        return None
    if not within:
        return Interval(value, np.nan, np.nan)
    rng = np.random.default_rng(seed)
    return bootstrap_statistic(correlation, below.shape[1], rng, num_samples=1000, limits=(-1.0, 1.0))


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
    """Where overlap by ``measure`` and retrieval disagree, by loss; empty where the study lacks one of the two."""
    sign = 1 if DEFINITIONS[measure.removeprefix("training_")].better == "higher" else -1
    base, found = result["variants"].get("softmax", {}), {}
    if measure not in base or target not in base:
        return {}
    for name, columns in result["variants"].items():
        if name == "softmax" or measure not in columns:
            continue
        more, gain = (np.array(columns[key]["values"]) - np.array(base[key]["values"]) for key in (measure, target))
        closer, better = sign * more > 0, gain > 0
        counts = (len(closer), closer.sum(), (closer & ~better).sum(), (better & ~closer).sum())
        found[name] = Disagreement(*map(int, counts))
    return found


def joined(studies: Mapping[str, dict[str, Any]], loss: str = "complete") -> dict[str, Any]:
    """One loss of several studies side by side, for a table and `paired`: what a dial other than the loss changes.

    Raises:
        ValueError: their seeds differ.
    """
    seeds = {name: study["seeds"] for name, study in studies.items()}
    if len({tuple(one) for one in seeds.values()}) > 1:
        raise ValueError(f"the seeds of studies are {seeds}, expected the same")
    return {"variants": {name: study["variants"][loss] for name, study in studies.items()}}


def against(result: dict[str, Any], reference: str, measure: str = "mean_ap") -> list[dict[str, str]]:
    """Rows of a table: how much more of a measure each other loss has than ``reference``, paired by seed, best first.

    Among many comparisons, one interval in twenty excludes 0 by chance.
    """
    title = f"{TITLES[measure]} minus that of {reference}" + (", points" if measure in SHARES else "")
    spans = {name: paired(result, name, reference, measure) for name in result["variants"] if name != reference}
    rows = []
    for name, span in sorted(spans.items(), key=lambda item: -item[1]["mean"]):
        difference, word = told(span, measure)
        rows.append({"loss": label(result, name), title: difference, "": word})
    return rows


OF_PAPER: tuple[tuple[str, str, str, str, str], ...] = (
    ("people are found that softmax does not find", "complete", "softmax", "mean_ap", "higher"),
    ("an unseen person's two spectra lie closer", "complete", "softmax", "stranger_ratio", "lower"),
    ("a classifier tells the spectra apart less often", "complete", "softmax", "modality_probe", "lower"),
    ("the two prototypes of an identity come to overlap", "complete", "softmax", "prototype_alignment", "higher"),
    ("the target has to be the other spectrum's prototype", "complete", "own_target", "mean_ap", "higher"),
    ("the Feature Mask is needed", "complete", "no_mask", "mean_ap", "higher"),
    ("the absolute term is needed", "complete", "no_absolute", "mean_ap", "higher"),
    ("network and prototypes have to take turns", "complete", "synchronous", "mean_ap", "higher"),
)
"""Claims of the paper: in words, two losses, a measure, and how the first has to compare with the second."""


def of_paper(studies: Mapping[str, dict[str, Any]]) -> list[dict[str, str]]:
    """A row for each of `OF_PAPER`, with a column for each study, by its name: whether it is borne out, and the
    difference, paired by seed; a dash where a study lacks one of the two losses."""
    rows = []
    for words, first, second, measure, claimed in OF_PAPER:
        row = {"claim": words, "difference": f"{TITLES[measure]}, {first} minus {second}"}
        for name, result in studies.items():
            row[name] = "-"
            if all(measure in result["variants"].get(loss, {}) for loss in (first, second)):
                span, word = told(paired(result, first, second, measure), measure)
                held = {claimed: "borne out", _ALIKE: "not told apart"}.get(word, "the reverse")
                row[name] = f"{held}: {span}"
        rows.append(row)
    return rows


def effects(result: dict[str, Any], reference: str, measure: str = "mean_ap") -> dict[str, tuple[float, float, float]]:
    """The difference of each other loss from ``reference``, paired by seed: mean, low and high; shares in points."""
    scale = 100 if measure in SHARES else 1
    found = {}
    for name in (name for name in result["variants"] if name != reference):
        span = paired(result, name, reference, measure)
        found[label(result, name)] = (scale * span["mean"], scale * span["low"], scale * span["high"])
    return found


def processors(wide: dict[str, Any], narrow: dict[str, Any], measure: str = "mean_ap") -> list[dict[str, str]]:
    """How much a processor moves a measure compared with a seed: one row per loss, and one for their difference.

    Args:
        wide: a study.
        narrow: the same one with fewer of its seeds, on a processor of another vector level.
        measure: a share.
    """
    seeds = [wide["seeds"].index(seed) for seed in narrow["seeds"]]
    values = {
        name: [np.array(one["variants"][name][measure]["values"]) for one in (wide, narrow)]
        for name in narrow["variants"]
    }
    values = {name: [first[seeds], second] for name, (first, second) in values.items()}
    if {"softmax", "complete"} <= values.keys():
        both = zip(values["complete"], values["softmax"], strict=True)
        values["complete minus softmax"] = [one - other for one, other in both]
    return [
        {
            "": name,
            f"{wide['cpu']}, {TITLES[measure]} by seed, %": ", ".join(f"{100 * one:.1f}" for one in first),
            f"{narrow['cpu']}": ", ".join(f"{100 * one:.1f}" for one in second),
            "a processor moves it by, points": f"{100 * np.abs(first - second).mean():.1f}",
            "a seed by": f"{100 * np.mean([abs(a - b) for a, b in itertools.combinations(first, 2)]):.1f}",
        }
        for name, (first, second) in values.items()
    ]


def paired(result: dict[str, Any], first: str, second: str, measure: str) -> dict[str, float]:
    """``measure`` of loss ``first`` minus that of loss ``second``, paired by seed, see `student_interval`."""
    one, other = (np.array(result["variants"][name][measure]["values"]) for name in (first, second))
    return student_interval(one - other)


def gain(first: Path, second: Path, names: Sequence[str], seed: int = 0) -> str:
    """What two runs show of the second one's gain, and what they do not.

    Args:
        first, second: folders of finished runs.
        names: of their two losses.
        seed: of the bootstrap.
    """
    before, after = pairs(first, second)[0]
    change = differences(before, after, seed)["mean_ap"]
    span, word = told(asdict(change), "mean_ap", " points")
    people = len(np.unique(before.queries["person_id"]))
    shown = {
        "higher": f"{names[1]} finds more", "lower": f"{names[1]} finds less",
        _ALIKE: "the interval holds 0, so these two runs do not tell them apart",
    }[word]  # fmt: skip
    gaps = [folder_measures(folder)["unseen"].get("stranger_ratio") for folder in (first, second)]
    each = " and ".join(f"{gap.mean:.2f}" for gap in gaps if gap)
    nearer = [f"Modality gap of unseen people: {each}."] if all(gaps) else []
    return "\n".join([
        f"What it shows: mAP of {names[1]} minus that of {names[0]}, the same queries ({before.title}): {span}: "
        f"{shown} (95 % bootstrap over {people} people who were not trained on).", *nearer,
        "What it does not: one training of each says nothing of other trainings, of other people that are drawn, or of "
        "real images; notebooks/guides/results.md has several seeds and other images.",
    ])  # fmt: skip


def breakdown(report: Report, column: str, measure: str = "mean_ap", seed: int = 0) -> dict[Any, Measure]:
    """A measure for each camera, or each identity, of the queries: mean, deviation over trials, interval.

    Args:
        report: with its queries.
        column: ``camera_id`` or ``person_id``.
        measure: a name in `QUERY_VALUES`.
    """
    values, trials = values_of(report.queries)[measure], report.queries["trial"]
    parts = {}
    for key in np.unique(report.queries[column]):
        chosen = (report.queries[column] == key) & ~np.isnan(values)
        if not chosen.any():
            continue
        means = np.array([values[chosen & (trials == t)].mean() for t in np.unique(trials[chosen])])
        low, high = bounds_over_people(values[chosen], report.queries["person_id"][chosen], seed, 1000)
        parts[key.item()] = Measure(float(means.mean()), deviation(means), low, high)
    return parts


def swept_gain(swept: Sweep, one: tuple[str, Any], other: tuple[str, Any], measure: str = "mean_ap") -> str:
    """A measure of one loss and value of a sweep's dial minus that of another, paired by seed, see `span`."""
    found = {(row["loss"], row[swept.dials[0]], row["seed"]): row[measure] for row in swept.rows}
    seeds = sorted(seed for loss, value, seed in found if (loss, value) == one and (*other, seed) in found)
    if len(seeds) < 2:
        raise ValueError(f"the sweep has {len(seeds)} seeds of both {one} and {other}, expected at least 2")
    change = np.array([found[*one, seed] - found[*other, seed] for seed in seeds])
    return span(student_interval(change, (-1.0, 1.0)), measure)


def gains_along(swept: Sweep) -> str:
    """What SA-Softmax gains over softmax at each value of the one dial of a sweep, in points of mAP."""
    values = sorted({row[swept.dials[0]] for row in swept.rows})
    return "; ".join(f"at {value:g}: {swept_gain(swept, ('complete', value), ('softmax', value))}" for value in values)
