"""Confidence intervals of means, and of other statistics, over images that are not independent of each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Shaped
from scipy import stats


@dataclass(frozen=True)
class Interval:
    """A mean, or another statistic, with its confidence interval."""

    mean: float
    low: float
    high: float


def bootstrap_interval(
    values: Shaped[np.ndarray, " N"],
    groups: Shaped[np.ndarray, " N"],
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    num_samples: int = 2000,
) -> Interval:
    """Mean of ``values`` and its percentile bootstrap interval, with whole groups drawn (identities, or seeds).

    The images of one person are not independent: drawing them one by one would give intervals that are too narrow.
    For a paired comparison pass the differences. With fewer than about ten groups the interval is rough, and narrow.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13; groups: Field and Welsh, 2007.

    Raises:
        ValueError: fewer than two groups, a value that is not finite, or ``confidence`` outside (0,1).
    """
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"groups holds {len(names)} groups, expected at least 2 to draw from")
    if not np.isfinite(values).all():
        raise ValueError(f"values holds {int((~np.isfinite(values)).sum())} entries that are NaN or infinite")
    if not 0 < confidence < 1 or num_samples < 1:
        raise ValueError(f"confidence is {confidence} and num_samples {num_samples}, expected in (0,1) and at least 1")
    counts, sums = np.bincount(codes), np.bincount(codes, weights=values)
    draws = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=num_samples)
    low, high = np.quantile((draws @ sums) / (draws @ counts), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(sums.sum() / counts.sum()), float(low), float(high))


def bootstrap_statistic(
    statistic: Callable[[np.ndarray], float],
    num_groups: int,
    generator: np.random.Generator,
    *,
    confidence: float = 0.95,
    num_samples: int = 200,
    limits: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """A statistic that is not a mean of values, with its percentile bootstrap interval over whole groups.

    Draws whose statistic is NaN or infinite are left out. Deviation from the source below: the draws are moved so that
    their median is the statistic, since the noise of every draw adds to some statistics (the distance between two
    means), which would otherwise lie below all of their own percentiles.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

    Args:
        statistic: takes (I,) how often each group was drawn, floats with sum I; gives NaN where it is undefined.
        num_groups: I, the number of groups (identities, or seeds).
        generator: draws them.
        confidence: share of the draws inside.
        num_samples: number of draws.
        limits: smallest and largest value of the statistic; the interval ends there.

    Returns:
        ``mean`` is the statistic of every group drawn once.

    Raises:
        ValueError: fewer than two groups, a statistic that is not finite, or ``confidence`` outside (0,1).
    """
    if num_groups < 2:
        raise ValueError(f"num_groups is {num_groups}, expected at least 2 to draw from")
    if not 0 < confidence < 1 or num_samples < 1:
        raise ValueError(f"confidence is {confidence} and num_samples {num_samples}, expected in (0,1) and at least 1")
    mean = float(statistic(np.ones(num_groups)))
    if not np.isfinite(mean):
        raise ValueError(f"statistic is {mean} with every group drawn once, expected a finite number")
    draws = generator.multinomial(num_groups, np.full(num_groups, 1 / num_groups), size=num_samples).astype(float)
    values = np.array([statistic(weights) for weights in draws])
    values = np.append(values[np.isfinite(values)], mean)
    low, middle, high = np.quantile(values, [(1 - confidence) / 2, 0.5, (1 + confidence) / 2])
    low, high = np.clip([low - middle + mean, high - middle + mean], *limits)
    return Interval(mean, min(mean, float(low)), max(mean, float(high)))  # beyond the mean by rounding alone


def randomisation_test(
    differences: Shaped[np.ndarray, " N"],
    groups: Shaped[np.ndarray, " N"],
    generator: np.random.Generator,
    *,
    num_samples: int = 10_000,
) -> float:
    """Two-sided p-value of paired ``differences`` when the two methods could be exchanged in every group at once.

    The signs of all differences of a group are turned together at random; the p-value is the share of such means, the
    one seen included, that are at least as far from 0. Its smallest value is 1 / (num_samples + 1).

    Source: Edgington, "Randomization Tests", 1980; in retrieval: Smucker et al., CIKM 2007.

    Raises:
        ValueError: fewer than two groups, or a difference that is not finite.
    """
    names, codes = np.unique(groups, return_inverse=True)
    if len(names) < 2:
        raise ValueError(f"groups holds {len(names)} groups, expected at least 2")
    if not np.isfinite(differences).all():
        raise ValueError(f"differences holds {int((~np.isfinite(differences)).sum())} entries that are not finite")
    sums = np.bincount(codes, weights=differences)
    signs = generator.integers(0, 2, (num_samples, len(names)), dtype=np.int8) * 2 - 1
    as_far = np.abs(signs @ sums) >= np.abs(sums.sum()) * (1 - 1e-12)
    return float((1 + as_far.sum()) / (1 + num_samples))


def student_interval(values: np.ndarray, limits: tuple[float, float] = (-np.inf, np.inf)) -> dict[str, float]:
    """Mean and 95 % interval of Student's t over seeds, cut at the ``limits`` of what is measured; for differences,
    pairs of the same seed."""
    mean, half = float(values.mean()), float(stats.sem(values) * stats.t.ppf(0.975, len(values) - 1))
    return {"mean": mean, "low": max(mean - half, limits[0]), "high": min(mean + half, limits[1])}
