"""What a retrieval came to: measures with their spread, every query, and whether two methods differ."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cattrs
import numpy as np
from jaxtyping import Shaped

from sa_lab.disk import write_csv, write_text
from sa_lab.intervals import bootstrap_interval, randomisation_test
from sa_lab.metrics import RetrievalResult
from sa_lab.protocols import Protocol
from sa_lab.schema import DataError

RANKS = (1, 5, 10, 20)


def _within(first_rank: np.ndarray, k: int) -> np.ndarray:
    """1 where the first match stands at rank k or better, else 0; NaN where no match was left."""
    return np.where(first_rank > 0, first_rank <= k, np.nan)


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    **{f"rank_{k}": lambda first, ap, inp, k=k: _within(first, k) for k in RANKS},  # type: ignore[misc]
    "mean_ap": lambda first, ap, inp: ap,
    "mean_inp": lambda first, ap, inp: inp,
}
"""What a measure averages: a number a query from first rank, AP and INP; NaN where no match was left."""


@dataclass(frozen=True)
class Measure:
    """A number with its spread.

    Attributes:
        mean: over the trials.
        std: sample deviation over the trials, 0 with one.
        low, high: 95 % percentile bootstrap over query identities; 0 and 1 where there is only one.
    """

    mean: float
    std: float
    low: float
    high: float


@dataclass(frozen=True)
class Report:
    """What came of one protocol.

    Attributes:
        protocol: the protocol in full.
        dataset: name of the data set.
        reranking: the re-ranking in words; empty for none.
        gallery: hash of what was drawn in all trials.
        measures: rank_1 .. rank_20, mean_ap, mean_inp, in [0,1].
        num_queries: queries that count, in the first trial.
        num_identities: their identities.
        queries: columns with one entry a trial and query: trial, path, person_id, camera_id, first_rank (0: no match
            left, so it does not count), average_precision and inverse_negative_penalty (NaN there).
    """

    protocol: dict[str, Any]
    dataset: str
    reranking: str
    gallery: str
    measures: dict[str, Measure]
    num_queries: int
    num_identities: int
    queries: dict[str, Shaped[np.ndarray, " TQ"]]

    @property
    def rules(self) -> tuple[str, str, str]:
        """What two reports must share to be compared: protocol, re-ranking and data set."""
        return self.protocol["description"], self.reranking, self.dataset

    @property
    def title(self) -> str:
        """Everything that a number of this report depends on besides its descriptors."""
        count = f"{self.num_queries} queries of {self.num_identities} identities"
        return f"{self.protocol['description']}; {self.reranking or 'no re-ranking'}; {self.dataset}, {count}"

    def cmc(self, max_rank: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rank-k for k = 1..max_rank over all trials: mean, and the bounds of its 95 % bootstrap over identities."""
        hits = [_within(self.queries["first_rank"], k) for k in range(1, max_rank + 1)]
        bounds = [_bounds(hit, self.queries["person_id"], seed, 1000) for hit in hits]
        low, high = np.array(bounds).T
        return np.array([np.nanmean(hit) for hit in hits]), low, high

    def save(self, folder: Path, suffix: str = "") -> None:
        """Write ``queries<suffix>.csv`` and then ``report<suffix>.json`` into ``folder``, each atomically."""
        columns = (column.tolist() for column in self.queries.values())
        rows = [dict(zip(self.queries, row, strict=True)) for row in zip(*columns, strict=True)]
        write_csv(folder / f"queries{suffix}.csv", rows)
        summary = {key: value for key, value in asdict(self).items() if key != "queries"}
        write_text(folder / f"report{suffix}.json", json.dumps(summary, indent=2))

    @classmethod
    def load(cls, folder: Path, suffix: str = "") -> Report:
        """Read what `save` wrote.

        Raises:
            DataError: there is no such report, or it was written by another version of the library.
        """
        kinds = {"path": str, "first_rank": int, "trial": int, "person_id": int, "camera_id": int}
        try:
            summary = json.loads((folder / f"report{suffix}.json").read_text())
            measures = cattrs.structure(summary.pop("measures"), dict[str, Measure])
            with (folder / f"queries{suffix}.csv").open(newline="") as file:
                header, *rows = csv.reader(file)
            table = dict(zip(header, zip(*rows, strict=True), strict=True))
            queries = {name: np.array([kinds.get(name, float)(x) for x in column]) for name, column in table.items()}
            return cls(**summary, measures=measures, queries=queries)
        except (OSError, ValueError, KeyError, TypeError, cattrs.BaseValidationError) as error:
            raise DataError(f"{folder} holds no whole report{suffix}.json with queries{suffix}.csv: {error}") from error

    @classmethod
    def load_all(cls, folder: Path) -> list[Report]:
        """Every report in ``folder``, that of a run's first protocol first.

        Raises:
            DataError: there is none.
        """
        files = sorted(folder.glob("report*.json"), key=lambda file: (file.stem != "report", file.stem))
        if not files:
            raise DataError(f"{folder} holds no report; expected the folder of a finished run or of an evaluation")
        return [cls.load(folder, file.stem.removeprefix("report")) for file in files]


def summarise(
    protocol: Protocol,
    results: Sequence[RetrievalResult],
    columns: dict[str, Shaped[np.ndarray, " Q"]],
    *,
    dataset: str,
    reranking: str,
    gallery: str = "",
    seed: int = 0,
    draws: int = 1000,
) -> Report:
    """Summarise the trials of a protocol.

    Args:
        protocol: that was followed.
        results: one a trial, of the same queries.
        columns: path, person_id and camera_id of each query.
        dataset, reranking, gallery: see `Report`.
        seed, draws: of the bootstrap over query identities.
    """
    count = len(results)
    queries = {
        "trial": np.repeat(np.arange(count), len(results[0].valid)),
        **{name: np.tile(column, count) for name, column in columns.items()},
        **{
            name: np.concatenate([getattr(result, name) for result in results])
            for name in ("first_rank", "average_precision", "inverse_negative_penalty")
        },
    }
    values = values_of(queries)
    measures = {}
    for name, value in values.items():
        means = np.nanmean(value.reshape(count, -1), axis=1)
        low, high = _bounds(value, queries["person_id"], seed, draws)
        measures[name] = Measure(float(means.mean()), _deviation(means), low, high)
    valid = results[0].valid
    return Report(
        {**asdict(protocol), "description": protocol.description}, dataset, reranking, gallery, measures,
        results[0].num_valid, len(np.unique(columns["person_id"][valid])), queries,
    )  # fmt: skip


def values_of(queries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The number that each measure averages, (TQ,) by measure; NaN where the query does not count."""
    kept = (queries["first_rank"], queries["average_precision"], queries["inverse_negative_penalty"])
    return {name: np.asarray(value(*kept), dtype=float) for name, value in MEASURES.items()}


def _deviation(means: np.ndarray) -> float:
    """Sample deviation; 0 of a single number."""
    return float(means.std(ddof=1)) if len(means) > 1 else 0.0


def _bounds(values: np.ndarray, persons: np.ndarray, seed: int, draws: int) -> tuple[float, float]:
    """95 % bootstrap over persons of the mean of what is not NaN; (0, 1) for one, of whom nothing more is known."""
    known = ~np.isnan(values)
    if len(np.unique(persons[known])) < 2:
        return 0.0, 1.0
    interval = bootstrap_interval(values[known], persons[known], np.random.default_rng(seed), num_samples=draws)
    return interval.low, interval.high


def breakdown(report: Report, column: str, measure: str = "mean_ap", seed: int = 0) -> dict[Any, Measure]:
    """A measure for each camera, or each identity, of the queries: mean, deviation over trials, interval.

    Args:
        report: with its queries.
        column: ``camera_id`` or ``person_id``.
        measure: a name in `MEASURES`.
    """
    values, trials = values_of(report.queries)[measure], report.queries["trial"]
    parts = {}
    for key in np.unique(report.queries[column]):
        chosen = (report.queries[column] == key) & ~np.isnan(values)
        if not chosen.any():
            continue
        means = np.array([values[chosen & (trials == t)].mean() for t in np.unique(trials[chosen])])
        low, high = _bounds(values[chosen], report.queries["person_id"][chosen], seed, 1000)
        parts[key.item()] = Measure(float(means.mean()), _deviation(means), low, high)
    return parts


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
    found = [(report, after[rules]) for rules, report in before.items() if rules in after]
    if not found:
        told = " and ".join("; ".join(report.title for report in one.values()) for one in (before, after))
        raise ValueError(f"{first} and {second} share no protocol on one data set, so nothing can be paired: {told}")
    return found


def compare(first: Report, second: Report, seed: int = 0, draws: int = 10_000) -> dict[str, Difference]:
    """Paired comparison of two methods, measure by measure, over the queries and trials that both answered.

    Raises:
        ValueError: the two differ in protocol, re-ranking, data set, gallery or queries, or have queries of fewer than
            two identities.
    """
    if first.rules != second.rules:
        raise ValueError(f"the reports follow different rules, expected the same: {first.title}; {second.title}")
    queries = []
    for one in (first, second):
        order = np.lexsort((one.queries["path"], one.queries["trial"]))
        queries.append({name: column[order] for name, column in one.queries.items()})
    for name in ("trial", "path", "person_id"):
        if not np.array_equal(queries[0][name], queries[1][name]):
            raise ValueError(f"the reports differ in the {name} of their queries, expected the same test images")
    if first.gallery != second.gallery:
        raise ValueError("the reports have other images in their galleries, expected the same test images")
    differences = {}
    before, after = (values_of(columns) for columns in queries)
    for name in MEASURES:
        change = after[name] - before[name]
        known = ~np.isnan(change)
        change, persons = change[known], queries[0]["person_id"][known]
        interval = bootstrap_interval(change, persons, np.random.default_rng(seed), num_samples=draws)
        p_value = randomisation_test(change, persons, np.random.default_rng(seed), num_samples=draws)
        differences[name] = Difference(interval.mean, interval.low, interval.high, p_value)
    return differences
