"""Exercises of chapter 05, benchmark."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from sa_lab.course.exercises.checking import Function, exercise
from sa_lab.course.exercises.comparing import check_cases
from sa_lab.evaluation import galleries, metrics, protocols
from sa_lab.evaluation.reports import RetrievalResult


@exercise("05.1")
def check_rank_k(function: Function) -> str:
    """Check f(similarity (Q,G), query_ids (Q,), gallery_ids (G,), k) -> float in [0,1], Rank-k over gallery entries."""
    cases: list[dict[str, Any]] = []
    for seed, (queries, gallery, k) in enumerate(((40, 30, 1), (50, 50, 3), (30, 40, 5))):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randperm(gallery, generator=generator) // 4 + 3
        cases.append(
            {
                "similarity": torch.randn(queries, gallery, generator=generator),
                "query_ids": ids[torch.randint(gallery, (queries,), generator=generator)],
                "gallery_ids": ids,
                "k": k,
            }
        )

    def rank(similarity: Tensor, query_ids: Tensor, gallery_ids: Tensor, k: int, by_identity: bool = False) -> float:
        result = metrics.evaluate_ranking(similarity, query_ids, gallery_ids, first_occurrence=by_identity)
        return float(result.cmc(k)[k - 1]) if k else 0.0

    def hits(similarity: Tensor, query_ids: Tensor, gallery_ids: Tensor, k: int) -> Tensor:
        """(Q,k) whether the entry at each of the first places is a match."""
        return (gallery_ids[similarity.topk(k).indices] == query_ids[:, None]).double()

    def wrong_ids(similarity: Tensor, query_ids: Tensor, gallery_ids: Tensor, k: int) -> float:
        """Places compared with ids: the forgotten look-up in `gallery_ids`."""
        return float((similarity.topk(k).indices == query_ids[:, None]).any(1).double().mean())

    check_cases(
        function,
        cases,
        rank,
        "the share of queries",
        {
            "Similarity was taken for a distance: the largest comes first.": (lambda s, q, g, k: rank(-s, q, g, k)),
            "One place too many counts: Rank-k asks for a match among the first k, and ranks start at 1.": (
                lambda s, q, g, k: rank(s, q, g, k + 1)
            ),
            "One place too few counts: Rank-k asks for a match among the first k, and ranks start at 1.": (
                lambda s, q, g, k: rank(s, q, g, k - 1)
            ),
            "This is in percent: return a share in [0,1].": lambda s, q, g, k: 100 * rank(s, q, g, k),
            "This is the number of queries: divide by how many there are.": (
                lambda s, q, g, k: len(q) * rank(s, q, g, k)
            ),
            "This is the share of matches among the first k: one is enough, so use `any` for each query.": (
                lambda s, q, g, k: hits(s, q, g, k).mean()
            ),
            "All matches among the first k were added up: one is enough, so use `any` for each query.": (
                lambda s, q, g, k: hits(s, q, g, k).sum(1).mean()
            ),
            "Only place k was looked at: a match at any of the first k places counts.": (
                lambda s, q, g, k: hits(s, q, g, k)[:, -1].mean()
            ),
            "Only the first place was looked at, whatever `k` is: look at the first k.": (
                lambda s, q, g, k: rank(s, q, g, 1)
            ),
            "All of the first k must match in your answer: one is enough, so use `any`.": (
                lambda s, q, g, k: hits(s, q, g, k).amin(1).mean()
            ),
            "Each query gets an answer for each of the k places: use `any` over the places, axis 1.": (
                lambda s, q, g, k: hits(s, q, g, k).bool()
            ),
            "You used `any` over the queries, axis 0: use it over the places, axis 1.": (
                lambda s, q, g, k: hits(s, q, g, k).amax(0).mean()
            ),
            "This is the share of queries without a match: return those with one.": (
                lambda s, q, g, k: 1 - rank(s, q, g, k)
            ),
            "The number of hits was divided by the size of the gallery: divide by the number of queries.": (
                lambda s, q, g, k: len(q) / len(g) * rank(s, q, g, k)
            ),
            "This is one answer for each query: take their mean.": lambda s, q, g, k: hits(s, q, g, k).amax(1).bool(),
            "Places in the gallery were compared with ids: look the ids up in `gallery_ids`.": wrong_ids,
            "Identities were counted (the rule of first occurrences): count gallery images.": (
                lambda s, q, g, k: rank(s, q, g, k, by_identity=True)
            ),
        },
    )
    return "right. Rank-k never falls with k and says nothing about the second match."


@exercise("05.2")
def check_average_precision(function: Function) -> str:
    """Check f(matches (G,) booleans in ranked order) -> float in (0,1], the average precision of a query."""
    drawn = torch.rand(20, generator=torch.Generator().manual_seed(3)) < 0.3
    cases = [
        {"matches": matches}
        for matches in (
            torch.tensor([True, False, False, True]),
            torch.tensor([False, True, True, False, False, True, False]),
            torch.tensor([False, False, True, True, False]),
            drawn,
        )
    ]

    def measured(matches: Tensor) -> RetrievalResult:
        similarity = torch.linspace(1, 0, len(matches))[None]
        return metrics.evaluate_ranking(similarity, torch.tensor([1]), matches.long(), first_occurrence=False)

    def precision(matches: Tensor, late: int = 0) -> Tensor:
        return matches.cumsum(0) / (torch.arange(len(matches)) + 1 + late)

    check_cases(
        function,
        cases,
        lambda matches: measured(matches).mean_ap,
        "one number in (0,1]",
        {
            "Precision was averaged over all ranks: take the ranks of matches alone.": lambda m: precision(m).mean(),
            "This is 1 over the rank of the first match: every match counts.": lambda m: 1 / measured(m).first_rank[0],
            "This is the inverse negative penalty, matches over the rank of the last one: average over all matches.": (
                lambda m: measured(m).mean_inp
            ),
            "The sum was divided by the length of the ranking: divide by the number of matches.": (
                lambda m: precision(m)[m].sum() / len(m)
            ),
            "Divide the sum over the matches by their number.": lambda m: precision(m)[m].sum(),
            "Your ranks start at 2: start at 1.": lambda m: precision(m, late=1)[m].mean(),
            "1 over the rank was averaged: for the i-th match, take i over its rank.": (
                lambda m: (1 / (m.nonzero()[:, 0] + 1)).mean()
            ),
            "The mean of the ranks was taken: take the mean of i over the rank of the i-th match.": (
                lambda m: (m.nonzero()[:, 0] + 1).double().mean()
            ),
            "The fraction is upside down: divide i by the rank of the i-th match.": (
                lambda m: (1 / precision(m)[m]).mean()
            ),
            "Matches were counted from 0: the first has i = 1.": (
                lambda m: ((m.cumsum(0) - 1) / (torch.arange(len(m)) + 1))[m].mean()
            ),
            "Recall was averaged: divide by the rank, not by the number of matches.": (
                lambda m: (m.cumsum(0) / m.sum())[m].mean()
            ),
            "This is the share of matches in the whole ranking: their places matter.": lambda m: m.double().mean(),
            "This is one precision for each match: take their mean.": lambda m: precision(m)[m],
            "This is one precision for each rank: take the mean over the ranks of matches.": precision,
            "The ranking was read from its end: the best comes first.": lambda m: measured(m.flip(0)).mean_ap,
        },
    )
    return "right. Every match counts, the late ones too; Rank-1 looks at the first alone."


@exercise("05.3")
def check_hidden(function: Function) -> str:
    """Check f(query_cameras (Q,), gallery_cameras (G,)) -> (Q,G), True where SYSU-MM01 hides an image from a query."""
    generator = np.random.default_rng(9)
    cases = [
        {
            "query_cameras": generator.permutation(np.resize([3, 2, 6, 3, 1, 4], queries)),
            "gallery_cameras": generator.permutation(np.resize([1, 2, 4, 3, 5, 2], gallery)),
        }
        for queries, gallery in ((8, 11), (7, 7), (12, 6))
    ]

    def hidden(query_cameras: np.ndarray, gallery_cameras: np.ndarray) -> np.ndarray:
        cameras = np.concatenate([query_cameras, gallery_cameras])
        places = np.arange(len(cameras))
        return galleries.hidden_mask(
            protocols.SYSU_ALL,
            person_ids=np.zeros_like(cameras),
            camera_ids=cameras,
            query=places[: len(query_cameras)],
            gallery=places[len(query_cameras) :],
        )

    check_cases(
        function,
        cases,
        hidden,
        "(Q,G), True where hidden",
        {
            "The table is transposed: make queries its rows, and the gallery its columns.": lambda q, g: hidden(q, g).T,
            "Images of the same camera were hidden: SYSU-MM01 hides camera 2 from camera 3.": (
                lambda q, g: q[:, None] == g
            ),
            "The cameras are exchanged: the query is from camera 3, the hidden image from camera 2.": (
                lambda q, g: (q[:, None] == 2) & (g == 3)
            ),
            "You marked what may be seen: mark what is hidden.": lambda q, g: ~hidden(q, g),
            "Both orders were hidden: hide camera 2 in the gallery from queries of camera 3, not the reverse.": (
                lambda q, g: hidden(q, g) | ((q[:, None] == 2) & (g == 3))
            ),
            "An `or` stands where both conditions must hold: write `&` between query camera 3 and gallery camera 2.": (
                lambda q, g: (q[:, None] == 3) | (g == 2)
            ),
            "All of camera 2 was hidden, from every query: hide it only from queries of camera 3.": (
                lambda q, g: np.broadcast_to(g == 2, (len(q), len(g)))
            ),
            "Everything was hidden from camera 3: hide the images of camera 2 alone.": (
                lambda q, g: np.broadcast_to(q[:, None] == 3, (len(q), len(g)))
            ),
            "Camera 3 was hidden: hide camera 2 from queries of camera 3.": (lambda q, g: (q[:, None] == 3) & (g == 3)),
            "Your query is from camera 2: take queries of camera 3.": lambda q, g: (q[:, None] == 2) & (g == 2),
            "All cameras but 2 were hidden: hide camera 2.": lambda q, g: (q[:, None] == 3) & (g != 2),
            "Your answer hides images from queries of other cameras: only those of camera 3 are affected.": (
                lambda q, g: (q[:, None] != 3) & (g == 2)
            ),
            "Images of two different cameras were hidden: hide camera 2 from camera 3 alone.": (
                lambda q, g: q[:, None] != g
            ),
            "Nothing is hidden in your answer: compare along both axes, `query_cameras[:, None]`.": (
                lambda q, g: np.zeros((len(q), len(g)), bool)
            ),
            "Queries and gallery images were paired one by one: every query meets every gallery image.": (
                lambda q, g: (q == 3) & (g == 2)
            ),
        },
    )
    return "right. Cameras 2 and 3 watch the same place: the wall behind a person would give the answer away."
