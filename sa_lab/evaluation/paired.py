"""Whether two methods differ: paired by query, with an interval and a randomisation test."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sa_lab.evaluation.reports import QUERY_VALUES, Report, values_of
from sa_lab.intervals import bootstrap_interval, randomisation_test


@dataclass(frozen=True)
class Difference:
    """Second minus first method on the same queries.

    Attributes:
        mean: of the paired differences, in [-1,1].
        low, high: 95 % percentile bootstrap over query identities.
        p_value: of the randomisation test that the two are exchangeable, identity by identity.
    """

    mean: float
    low: float
    high: float
    p_value: float


def pairs(first: Path, second: Path) -> list[tuple[Report, Report]]:
    """The reports of two folders that follow the same rules.

    Raises:
        ValueError: there is no such pair.
    """
    before, after = ({report.rules: report for report in Report.load_all(folder)} for folder in (first, second))
    shared = [(report, after[rules]) for rules, report in before.items() if rules in after]
    if not shared:
        told = " and ".join("; ".join(report.title for report in reports.values()) for reports in (before, after))
        raise ValueError(f"{first} and {second} share no protocol on one data set, so nothing can be paired: {told}")
    return shared


def differences(first: Report, second: Report, seed: int = 0, draws: int = 10_000) -> dict[str, Difference]:
    """Paired comparison of two methods, measure by measure, over the queries and trials that both answered.

    Raises:
        ValueError: the two differ in protocol, re-ranking, data set, gallery or queries, or have queries of fewer than
            two identities.
    """
    if first.rules != second.rules:
        raise ValueError(f"the reports follow different rules, expected the same: {first.title}; {second.title}")
    queries = []
    for report in (first, second):
        order = np.lexsort((report.queries["path"], report.queries["trial"]))
        queries.append({name: column[order] for name, column in report.queries.items()})
    for name in ("trial", "path", "person_id"):
        if not np.array_equal(queries[0][name], queries[1][name]):
            raise ValueError(f"the reports differ in the {name} of their queries, expected the same test images")
    if first.gallery != second.gallery:
        raise ValueError("the reports have other images in their galleries, expected the same test images")
    differences = {}
    before, after = (values_of(columns) for columns in queries)
    for name in QUERY_VALUES:
        change = after[name] - before[name]
        known = ~np.isnan(change)
        change, persons = change[known], queries[0]["person_id"][known]
        interval = bootstrap_interval(change, persons, np.random.default_rng(seed), num_samples=draws)
        p_value = randomisation_test(change, persons, np.random.default_rng(seed), num_samples=draws)
        differences[name] = Difference(interval.mean, interval.low, interval.high, p_value)
    return differences
