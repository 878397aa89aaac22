"""What a retrieval came to: the fate of every query, and measures with their spread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cattrs
import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from sa_lab.disk import read_csv, read_json, write_csv, write_json
from sa_lab.evaluation.protocols import Protocol
from sa_lab.intervals import bootstrap_interval
from sa_lab.schema import DataError

RANKS = (1, 5, 10, 20)
TITLES = {**{f"rank_{k}": f"Rank-{k}" for k in RANKS}, "mean_ap": "mAP", "mean_inp": "mINP"}
"""What tables call the measures."""
SHARES = ("rank_1", "mean_ap", "mean_inp")
"""The measures that a study compares, all in [0,1] and shown in %."""


def _within(first_rank: np.ndarray, k: int) -> np.ndarray:
    """1 where the first match stands at rank k or better, else 0; NaN where no match was left."""
    return np.where(first_rank > 0, first_rank <= k, np.nan)


QUERY_VALUES: dict[str, Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]] = {
    **{f"rank_{k}": lambda first, ap, inp, k=k: _within(first, k) for k in RANKS},  # type: ignore[misc]
    "mean_ap": lambda first, ap, inp: ap,
    "mean_inp": lambda first, ap, inp: inp,
}
"""What a measure averages: one number per query, from first rank, AP and INP; NaN where no match was left."""


@dataclass(frozen=True)
class RetrievalResult:
    """What became of each query; the summary numbers are means over the valid ones.

    Attributes:
        valid: (Q,) True where at least one match was left in the visible gallery; the others are skipped.
        first_rank: (Q,) rank of the first match, from 1, under the CMC rule asked for; 0 where not valid.
        average_precision: (Q,) in (0,1]; NaN where not valid.
        inverse_negative_penalty: (Q,) in (0,1]; NaN where not valid.
    """

    valid: Bool[np.ndarray, " Q"]
    first_rank: Int[np.ndarray, " Q"]
    average_precision: Float[np.ndarray, " Q"]
    inverse_negative_penalty: Float[np.ndarray, " Q"]

    def __post_init__(self) -> None:
        if not self.valid.any():
            raise ValueError(
                f"no query is valid: none of the {len(self.valid)} queries has a match in its visible gallery, "
                "expected at least one"
            )

    @property
    def num_valid(self) -> int:
        """How many queries count."""
        return int(self.valid.sum())

    def cmc(self, max_rank: int = 20) -> Float[np.ndarray, " max_rank"]:
        """Cumulative matching characteristic: ``cmc[k-1]`` is Rank-k, in [0,1], never falling.

        It always has ``max_rank`` entries: beyond a smaller gallery, it keeps its last value.
        """
        if max_rank < 1:
            raise ValueError(f"max_rank is {max_rank}, expected at least 1")
        ranks = self.first_rank[self.valid]
        hits = np.bincount(np.minimum(ranks, max_rank + 1), minlength=max_rank + 2)
        return hits[1 : max_rank + 1].cumsum() / len(ranks)

    @property
    def mean_ap(self) -> float:
        """Mean average precision over the valid queries, in (0,1]."""
        return float(self.average_precision[self.valid].mean())

    @property
    def mean_inp(self) -> float:
        """Mean inverse negative penalty over the valid queries, in (0,1]."""
        return float(self.inverse_negative_penalty[self.valid].mean())


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


@dataclass(frozen=True, repr=False)
class Report:
    """The results of one protocol.

    Attributes:
        protocol: the protocol in full.
        dataset: name of the data set.
        reranking: the re-ranking in words; empty for none.
        gallery: hash of what was drawn in all trials.
        measures: rank_1 .. rank_20, mean_ap, mean_inp, in [0,1].
        num_queries: queries that count, in the first trial.
        num_identities: their identities.
        queries: columns with one entry per trial and query: trial, path, person_id, camera_id, first_rank (0: no match
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

    def __repr__(self) -> str:
        shown = ", ".join(f"{TITLES[name]} {100 * self.measures[name].mean:.1f} %" for name in SHARES)
        return f"Report({self.protocol['name']}, {self.dataset}, {self.num_queries} queries: {shown})"

    def _repr_markdown_(self) -> str:
        """What a notebook shows: the rules, and each measure with its interval over identities."""
        rows = [
            f"| {TITLES[name]} | {100 * measure.mean:.1f} % [{100 * measure.low:.1f}, {100 * measure.high:.1f}] |"
            for name, measure in self.measures.items()
        ]
        return "\n".join([self.title, "", "| measure | mean [95 % interval] |", "|---|---|", *rows])

    def cmc(self, max_rank: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Rank-k for k = 1..max_rank over all trials: mean, and the bounds of its 95 % bootstrap over identities."""
        hits = [_within(self.queries["first_rank"], k) for k in range(1, max_rank + 1)]
        bounds = [bounds_over_people(hit, self.queries["person_id"], seed, 1000) for hit in hits]
        low, high = np.array(bounds).T
        return np.array([np.nanmean(hit) for hit in hits]), low, high

    def save(self, folder: Path, suffix: str = "") -> None:
        """Write ``queries<suffix>.csv`` and then ``report<suffix>.json`` into ``folder``, each atomically."""
        columns = (column.tolist() for column in self.queries.values())
        rows = [dict(zip(self.queries, row, strict=True)) for row in zip(*columns, strict=True)]
        write_csv(folder / f"queries{suffix}.csv", rows)
        summary = {key: value for key, value in asdict(self).items() if key != "queries"}
        write_json(folder / f"report{suffix}.json", summary)

    @classmethod
    def load(cls, folder: Path, suffix: str = "") -> Report:
        """Read what `save` wrote.

        Raises:
            DataError: there is no such report, or it was written by another version of the library.
        """
        kinds = {"path": str, "first_rank": int, "trial": int, "person_id": int, "camera_id": int}
        try:
            summary = read_json(folder / f"report{suffix}.json")
            measures = cattrs.structure(summary.pop("measures"), dict[str, Measure])
            table = read_csv(folder / f"queries{suffix}.csv", ("first_rank", "person_id"))
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
        results: one per trial, of the same queries.
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
        low, high = bounds_over_people(value, queries["person_id"], seed, draws)
        measures[name] = Measure(float(means.mean()), deviation(means), low, high)
    valid = results[0].valid
    return Report(
        {**asdict(protocol), "description": protocol.description}, dataset, reranking, gallery, measures,
        results[0].num_valid, len(np.unique(columns["person_id"][valid])), queries,
    )  # fmt: skip


def values_of(queries: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The number that each measure averages, (TQ,) by measure; NaN where the query does not count."""
    kept = (queries["first_rank"], queries["average_precision"], queries["inverse_negative_penalty"])
    return {name: np.asarray(value(*kept), dtype=float) for name, value in QUERY_VALUES.items()}


def deviation(means: np.ndarray) -> float:
    """Sample deviation; 0 of a single number."""
    return float(means.std(ddof=1)) if len(means) > 1 else 0.0


def bounds_over_people(values: np.ndarray, persons: np.ndarray, seed: int, draws: int) -> tuple[float, float]:
    """95 % bootstrap over persons of the mean of the values that are not NaN; (0, 1) for only one person."""
    known = ~np.isnan(values)
    if len(np.unique(persons[known])) < 2:
        return 0.0, 1.0
    interval = bootstrap_interval(values[known], persons[known], np.random.default_rng(seed), num_samples=draws)
    return interval.low, interval.high
