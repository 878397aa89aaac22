"""Chapter 05."""

from __future__ import annotations

import numpy as np
import torch

from answers.table import Answers
from sa_lab.evaluation import metrics


def rank_k(similarity, query_ids, gallery_ids, k):
    best = similarity.argsort(1, descending=True)[:, :k]
    return (gallery_ids[best] == query_ids[:, None]).any(1).float().mean()


def rank_k_in_numpy(similarity, query_ids, gallery_ids, k):
    hits = 0
    for row, person in zip(similarity.numpy(), query_ids.numpy(), strict=True):
        hits += person in gallery_ids.numpy()[np.argsort(-row)[:k]]
    return hits / len(query_ids)


def rank_k_by_ranks(similarity, query_ids, gallery_ids, k):
    same = gallery_ids[None] == query_ids[:, None]
    best = similarity.masked_fill(~same, -torch.inf).amax(1)
    return ((similarity > best[:, None]).sum(1) < k).float().mean()


def hits(s, q, g, k):
    return g[s.topk(k).indices] == q[:, None]


def precision(m, first=1):
    return m.cumsum(0) / torch.arange(first, len(m) + first)


def average_precision(m):
    return precision(m)[m].mean()


def average_precision_looped(matches):
    found, total = 0, 0.0
    for rank, match in enumerate(matches.tolist(), 1):
        if match:
            found += 1
            total += found / rank
    return total / found


def hidden(q, g):
    return (q[:, None] == 3) & (g == 2)


ANSWERS = {
    "rank_k": Answers(
        right=[rank_k, rank_k_in_numpy, rank_k_by_ranks],
        wrong=[
            ("Similarity was taken for a distance", lambda s, q, g, k: rank_k(-s, q, g, k)),
            ("One place too many", lambda s, q, g, k: rank_k(s, q, g, k + 1)),
            ("One place too few", lambda s, q, g, k: rank_k(s, q, g, k - 1)),
            ("percent", lambda *a: 100 * rank_k(*a)),
            ("number of queries", lambda s, q, g, k: len(q) * rank_k(s, q, g, k)),
            ("share of matches among the first k", lambda *a: hits(*a).float().mean()),
            ("were added up", lambda *a: hits(*a).sum(1).float().mean()),
            ("Only place k", lambda *a: hits(*a)[:, -1].float().mean()),
            ("Only the first place", lambda s, q, g, k: (g[s.argmax(1)] == q).float().mean()),
            ("All of the first k must match", lambda *a: hits(*a).all(1).float().mean()),
            ("over the queries, axis 0", lambda *a: hits(*a).any(0).float().mean()),
            ("for each of the k places", hits),
            ("one answer for each query", lambda *a: hits(*a).any(1)),
            ("look the ids up", lambda s, q, g, k: (s.topk(k).indices == q[:, None]).any(1).float().mean()),
            ("without a match", lambda *a: 1 - rank_k(*a)),
            ("size of the gallery", lambda s, q, g, k: hits(s, q, g, k).any(1).sum() / len(g)),
            (
                "Identities were counted",
                lambda s, q, g, k: metrics.evaluate_ranking(s, q, g, first_occurrence=True).cmc(k)[-1],
            ),
        ],
    ),
    "average_precision": Answers(
        right=[
            average_precision,
            average_precision_looped,
            lambda m: (torch.arange(1, int(m.sum()) + 1) / (m.nonzero()[:, 0] + 1)).mean(),
            lambda m: np.mean([np.mean(m.numpy()[: i + 1]) for i in np.flatnonzero(m.numpy())]),
        ],
        wrong=[
            ("over all ranks", lambda m: precision(m).mean()),
            ("rank of the first match", lambda m: 1 / (1 + int(m.nonzero()[0]))),
            ("inverse negative penalty", lambda m: int(m.sum()) / (1 + int(m.nonzero()[-1]))),
            ("length of the ranking", lambda m: average_precision(m) * m.sum() / len(m)),
            ("Divide the sum over the matches", lambda m: precision(m)[m].sum()),
            ("start at 2", lambda m: precision(m, 2)[m].mean()),
            ("1 over the rank was averaged", lambda m: (1 / torch.arange(1, len(m) + 1))[m].mean()),
            ("share of matches in the whole", lambda m: m.float().mean()),
            ("one precision for each match", lambda m: precision(m)[m]),
            ("one precision for each rank", precision),
            ("from its end", lambda m: average_precision(m.flip(0))),
            ("mean of the ranks", lambda m: (m.nonzero().float() + 1).mean()),
            ("upside down", lambda m: (1 / precision(m))[m].mean()),
            ("counted from 0", lambda m: (torch.arange(int(m.sum())) / (m.nonzero()[:, 0] + 1)).mean()),
            ("Recall was averaged", lambda m: (m.cumsum(0) / m.sum())[m].mean()),
            ("percent", lambda m: 100 * average_precision(m)),
        ],
    ),
    "hidden": Answers(
        right=[
            hidden,
            lambda q, g: torch.tensor([[a == 3 and b == 2 for b in g] for a in q]),
            lambda q, g: np.outer(q == 3, g == 2),
            lambda q, g: np.logical_and.outer(q == 3, g == 2),
        ],
        wrong=[
            ("transposed", lambda q, g: (g[:, None] == 2) & (q == 3)),
            ("same camera", lambda q, g: q[:, None] == g),
            ("cameras are exchanged", lambda q, g: (q[:, None] == 2) & (g == 3)),
            ("may be seen", lambda q, g: ~hidden(q, g)),
            ("Both orders", lambda q, g: np.isin(q, (2, 3))[:, None] & np.isin(g, (2, 3)) & (q[:, None] != g)),
            ("`or` stands", lambda q, g: (q[:, None] == 3) | (g == 2)),
            ("from every query", lambda q, g: (q[:, None] > 0) & (g == 2)),
            ("Everything was hidden", lambda q, g: (q[:, None] == 3) & (g > 0)),
            ("Camera 3 was hidden", lambda q, g: (q[:, None] == 3) & (g == 3)),
            ("Your query is from camera 2", lambda q, g: (q[:, None] == 2) & (g == 2)),
            ("All cameras but 2", lambda q, g: (q[:, None] == 3) & (g != 2)),
            ("only those of camera 3", lambda q, g: (q[:, None] != 3) & (g == 2)),
            ("two different cameras", lambda q, g: q[:, None] != g),
            ("Nothing is hidden", lambda q, g: (q[:, None] == "3") & (g == "2") & np.ones(len(q), bool)[:, None]),
            ("paired one by one", lambda q, g: (q == 3) & (g == 2)),
            ("expected `(8, 11)`", lambda q, g: (q == 3) & (np.resize(g, len(q)) == 2)),
            ("expected booleans", lambda q, g: hidden(q, g).astype(int)),
        ],
    ),
}
