"""CMC, mAP and mINP of a retrieval: all queries at once, on any device.

Every measure is read off the rank at which a query's matches stand among the gallery entries it may see:

* CMC (cumulative matching characteristic), Rank-k: the share of queries whose first match stands at rank k or better.
* AP (average precision): the mean, over the matches, of (matches up to here) / (rank of this match). mAP: its mean.
* INP (inverse negative penalty): (number of matches) / (rank of the last match). mINP: its mean.

Ties are broken the same way every time: of two gallery entries with equal similarity, the one with the lower gallery
index comes first, on every device.

Sources: CMC and mAP as in Zheng et al., "Scalable Person Re-identification: A Benchmark", ICCV 2015; mINP from
Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2021, arXiv:2001.04193; the rule
of first occurrences from Wu et al., "RGB-Infrared Cross-Modality Person Re-Identification", ICCV 2017 (SYSU-MM01).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_ENTRIES_PER_CHUNK = 1 << 22  # similarities ranked at a time; about 200 MB of working memory


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

        It always has ``max_rank`` entries: behind the end of a smaller gallery the last value goes on.
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


def evaluate_ranking(
    similarity: Float[Tensor, "Q G"],
    query_ids: Int[Tensor, " Q"],
    gallery_ids: Int[Tensor, " G"],
    hidden: Bool[Tensor, "Q G"] | None = None,
    *,
    first_occurrence: bool,
) -> RetrievalResult:
    """Rank the gallery for every query and measure where the matches stand.

    Args:
        similarity: (Q,G) higher is closer; finite. Ranking happens on its device and in its precision.
        query_ids: (Q,) person ids, any integers.
        gallery_ids: (G,) person ids, any integers.
        hidden: (Q,G) True for gallery entries that a query may not see; None hides nothing.
        first_occurrence: the CMC rule. True (SYSU-MM01, LLCM): keep the first visible occurrence of each identity in
            the ranking, so ``first_rank`` counts identities. False (RegDB): it counts gallery entries. AP and INP
            always use the full visible ranking.

    Returns:
        One entry a query, in the order of ``similarity``'s rows.

    Raises:
        ValueError: shapes do not fit, a similarity is not finite, or no query has a match left.

    Example:
        The matches stand at ranks 1 and 4, so AP = (1/1 + 2/4) / 2 and INP = 2/4:

        >>> similarity = torch.tensor([[0.9, 0.5, 0.4, 0.1]])
        >>> result = evaluate_ranking(
        ...     similarity, torch.tensor([7]), torch.tensor([7, 8, 8, 7]), first_occurrence=True
        ... )
        >>> result.mean_ap, result.mean_inp, result.cmc(2).tolist()
        (0.75, 0.5, [1.0, 1.0])
    """
    _check_inputs(similarity, query_ids, gallery_ids, hidden)
    device = similarity.device
    query_ids, gallery_ids = query_ids.to(device), gallery_ids.to(device)
    identities, gallery_codes = torch.unique(gallery_ids, return_inverse=True)
    groups = (gallery_codes, len(identities)) if first_occurrence else None
    step = max(1, _ENTRIES_PER_CHUNK // len(gallery_ids))
    chunks = []
    for start in range(0, len(query_ids), step):
        rows = slice(start, start + step)
        visible = None if hidden is None else ~hidden[rows].to(device)
        position = _positions(similarity[rows], visible)
        match = query_ids[rows, None] == gallery_ids
        chunks.append(_measure(position, match if visible is None else match & visible, groups))
    count, first, ap, inp = (torch.cat(column).cpu().numpy() for column in zip(*chunks, strict=True))
    valid = count > 0
    return RetrievalResult(
        valid=valid,
        first_rank=np.where(valid, first, 0),
        average_precision=np.where(valid, ap, np.nan),
        inverse_negative_penalty=np.where(valid, inp, np.nan),
    )


def _positions(similarity: Float[Tensor, "q G"], visible: Bool[Tensor, "q G"] | None) -> Int[Tensor, "q G"]:
    """The place (from 0) of each gallery entry in each query's ranking; hidden entries stand behind all others."""
    scores = similarity.detach() + 0.0  # -0.0 becomes 0.0, so that a radix sort sees the two as the tie they are
    if visible is not None:
        scores = scores.masked_fill(~visible, -torch.inf)
    order = scores.argsort(dim=1, descending=True, stable=True)
    places = torch.arange(order.shape[1], device=order.device).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)


def _measure(
    position: Int[Tensor, "q G"], match: Bool[Tensor, "q G"], groups: tuple[Tensor, int] | None
) -> tuple[Int[Tensor, " q"], Int[Tensor, " q"], Float[Tensor, " q"], Float[Tensor, " q"]]:
    """Number of matches, rank of the first match, AP and INP of some queries; meaningless where there is no match.

    Args:
        position: (q,G) places in the ranking, from 0.
        match: (q,G) visible entries of the query's identity.
        groups: for the rule of first occurrences, the identity code (G,) of each entry and the number of codes.
    """
    size = position.shape[1]
    count = match.sum(dim=1)
    most = max(1, int(count.max()))
    # The places of a query's matches, best first; beyond its last match the row is filled up with `size`.
    places = position.masked_fill(~match, size).topk(most, dim=1, largest=False, sorted=True).values
    nth = torch.arange(1, most + 1, device=position.device)
    used = nth <= count[:, None]
    real = torch.float32 if position.device.type == "mps" else torch.float64  # MPS has no float64
    precision = nth.to(real) / (places + 1).to(real)
    ap = (precision * used).sum(dim=1) / count.clamp(min=1)
    last = places.masked_fill(~used, -1).amax(dim=1) + 1
    inp = count.to(real) / last.clamp(min=1)
    first = places[:, 0] + 1
    if groups is not None:
        codes, num_identities = groups
        best = position.new_full((len(position), num_identities), size)
        best = best.scatter_reduce(1, codes.expand_as(position), position, reduce="amin")
        first = (best < places[:, :1]).sum(dim=1) + 1  # hidden entries stand behind every match, so they never count
    return count, first, ap, inp


def _check_inputs(similarity: Tensor, query_ids: Tensor, gallery_ids: Tensor, hidden: Tensor | None) -> None:
    shape = (len(query_ids), len(gallery_ids))
    if 0 in shape:
        raise ValueError(
            f"query_ids and gallery_ids have {shape[0]} and {shape[1]} entries, expected at least one each"
        )
    for name, table in (("similarity", similarity), ("hidden", hidden)):
        if table is not None and tuple(table.shape) != shape:
            raise ValueError(f"{name} has shape {tuple(table.shape)}, expected (Q,G) = {shape}")
    if not bool(torch.isfinite(similarity).all()):
        wrong = int((~torch.isfinite(similarity)).sum())
        raise ValueError(f"similarity holds {wrong} entries that are NaN or infinite, expected finite numbers")
