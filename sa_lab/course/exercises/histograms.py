"""Exercise 04.3 of chapter 04, prototype overlap: histograms."""

from __future__ import annotations

from typing import Any

import numpy as np

from sa_lab import analysis
from sa_lab.course.exercises.checking import Function, exercise
from sa_lab.course.exercises.comparing import check_cases


@exercise("04.3")
def check_overlap(function: Function) -> str:
    """Check f(first (A,), second (B,), edges (bins + 1,)) -> float in [0,1], the area two histograms share."""
    cases: list[dict[str, Any]] = []
    for seed, (count_first, count_second, bins) in enumerate(((60, 90, 8), (200, 50, 12), (40, 40, 5), (80, 50, 6))):
        generator = np.random.default_rng(seed)
        first, second = generator.normal(0, 1, count_first), generator.normal(1.2, 1.5, count_second)
        both = np.concatenate([first, second])
        edges = np.linspace(both.min(), both.max(), bins + 1)
        if seed == 2:  # many values stand on the last edge
            first, second = np.sort(first), np.sort(second)
            first[-8:] = second[-9:] = edges[-1]
        if seed == 3:  # values lie outside of bins that are not alike
            edges = np.quantile(both, [0.1, 0.2, 0.5, 0.6, 0.8, 0.9])
        cases.append({"first": first, "second": second, "edges": edges})

    def shares(first: np.ndarray, second: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
        return [np.histogram(values, bins=edges)[0] / len(values) for values in (first, second)]

    def within(first: np.ndarray, second: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
        """Shares of the values that lie between the edges: what a density gives, times the width."""
        counted = [np.histogram(values, bins=edges)[0] for values in (first, second)]
        return [counts / counts.sum() for counts in counted]

    def half_open(first: np.ndarray, second: np.ndarray, edges: np.ndarray) -> list[np.ndarray]:
        kept = [np.histogram(values[values < edges[-1]], bins=edges)[0] for values in (first, second)]
        return [kept[0] / len(first), kept[1] / len(second)]

    def densities(*arguments: Any) -> list[np.ndarray]:
        return [each / np.diff(arguments[2]) for each in within(*arguments)]

    def counted(*arguments: Any) -> Any:
        return np.minimum(*(np.histogram(values, bins=arguments[2])[0] for values in arguments[:2])).sum()

    def right(first: np.ndarray, second: np.ndarray, edges: np.ndarray) -> float:
        """The library's, whose bins are alike and hold every value; else bin by bin."""
        if np.allclose(np.diff(edges), edges[1] - edges[0]):
            return analysis.overlap_coefficient(first, second, num_bins=len(edges) - 1)
        return float(np.minimum(*shares(first, second, edges)).sum())

    check_cases(
        function,
        cases,
        right,
        "one number in [0,1]",
        {
            "Counts were compared: divide each histogram by its own number of values first.": counted,
            "Counts were compared and divided by all values: divide each histogram by its own number first.": (
                lambda *a: counted(*a) / (len(a[0]) + len(a[1]))
            ),
            "Counts were compared and divided by the smaller set: divide each histogram by its own number of values "
            "first.": lambda *a: counted(*a) / min(len(a[0]), len(a[1])),
            "Counts were compared and divided by the larger set: divide each histogram by its own number of values "
            "first.": lambda *a: counted(*a) / max(len(a[0]), len(a[1])),
            "The last bin is half open in your answer: values on the last edge belong to it.": (
                lambda *a: np.minimum(*half_open(*a)).sum()
            ),
            "This is a density times the width of the bins, which leaves out values beyond the edges: divide "
            "the counts by the number of all values.": lambda *a: np.minimum(*within(*a)).sum(),
            "The larger share of each bin was added up: add up the smaller one, which both have.": (
                lambda *a: np.maximum(*shares(*a)).sum()
            ),
            "These are densities: use shares of the values, counts over the number of values.": (
                lambda *a: np.minimum(*densities(*a)).sum()
            ),
            "This is what the two do not share, 1 - overlap: return the overlap.": (
                lambda *a: 1 - np.minimum(*shares(*a)).sum()
            ),
            "The shares were averaged over the bins: add them up.": lambda *a: np.minimum(*shares(*a)).mean(),
            "The bins were not added up.": lambda *a: np.minimum(*shares(*a)),
            "Shares were multiplied: take the smaller of the two.": lambda *a: np.multiply(*shares(*a)).sum(),
            "Roots of products were added up: take the smaller of the two shares.": (
                lambda *a: np.sqrt(np.multiply(*shares(*a))).sum()
            ),
            "The two shares were averaged: take the smaller of the two.": lambda *a: np.add(*shares(*a)).sum() / 2,
            "This is the difference of the histograms: add up what they share, the smaller of the two.": (
                lambda *a: np.abs(np.subtract(*shares(*a))).sum()
            ),
            "The overlap was divided by the union: return the sum of the smaller shares alone.": (
                lambda *a: np.minimum(*shares(*a)).sum() / np.maximum(*shares(*a)).sum()
            ),
            "Bins in which both have values were counted: add up the smaller shares.": (
                lambda *a: (np.minimum(*shares(*a)) > 0).mean()
            ),
            "The smaller of the two sums was taken: take the smaller share bin by bin, then add up.": (
                lambda *a: min(each.sum() for each in shares(*a))
            ),
            "The last bin was left out.": lambda *a: np.minimum(*shares(*a))[:-1].sum(),
            "The first bin was left out.": lambda *a: np.minimum(*shares(*a))[1:].sum(),
        },
    )
    return "right. 1 where the two distributions are the same, 0 where no bin holds values of both."
