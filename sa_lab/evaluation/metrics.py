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

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sa_lab.evaluation.reports import RetrievalResult

_ENTRIES_PER_CHUNK = (1 << 17, 1 << 22)  # similarities ranked at a time: as fit a CPU's cache, and on an accelerator


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
    device = torch.device("cpu") if similarity.device.type == "mps" else similarity.device  # MPS has no float64
    identities, groups = torch.unique(gallery_ids.to(device), return_inverse=True)
    wanted = torch.searchsorted(identities, query_ids.to(device)).clamp_(max=len(identities) - 1)
    wanted = torch.where(identities[wanted] == query_ids.to(device), wanted, -1)
    step = max(1, _ENTRIES_PER_CHUNK[device.type != "cpu"] // len(gallery_ids))

    def measure(start: int) -> tuple[Tensor, ...]:
        rows = slice(start, start + step)
        match = wanted[rows, None] == groups
        # one sort of integers ranks the visible gallery: similarity, column, match in 64 bits; hidden entries go last
        keys = _keys(similarity[rows].detach().to(device), match, None if hidden is None else hidden[rows].to(device))
        return _measure(_sorted(keys), groups if first_occurrence else None, len(identities))

    starts = range(0, len(query_ids), step)
    with ThreadPoolExecutor(torch.get_num_threads() if device.type == "cpu" else 1) as pool:
        count, first, ap, inp = (
            torch.cat(column).cpu().numpy() for column in zip(*pool.map(measure, starts), strict=True)
        )
    valid = count > 0
    return RetrievalResult(
        valid=valid,
        first_rank=np.where(valid, first, 0),
        average_precision=np.where(valid, ap, np.nan),
        inverse_negative_penalty=np.where(valid, inp, np.nan),
    )


def _keys(similarity: Float[Tensor, "q G"], match: Bool[Tensor, "q G"], hidden: Bool[Tensor, "q G"] | None) -> Tensor:
    """(q,G) int64 that ascend from best to worst and hold all that a ranking needs, so that one sort of numbers does.

    From the highest bit: 32 of the similarity, 31 of the column (which settles ties), 1 that says whether it matches.
    Hidden entries get the largest key, which is no match.
    """
    scores = 0.0 - similarity  # and -0.0 becomes 0.0, the tie that it is
    if scores.dtype == torch.float64:  # its place in the ranking takes 32 bits, itself 64
        places = torch.arange(scores.shape[1], device=scores.device).expand_as(scores)
        code = torch.empty_like(places).scatter_(1, scores.argsort(dim=1, stable=True), places)
    else:  # the bits of a float sort like an integer, once those of a negative one are turned round
        bits = scores.float().view(torch.int32)
        code = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long()
    keys = (code << 32) + torch.arange(0, 2 * scores.shape[1], 2, device=scores.device) + match
    return keys if hidden is None else keys.masked_fill_(hidden, torch.iinfo(torch.int64).max - 1)


def _sorted(keys: Int[Tensor, "q G"]) -> Int[Tensor, "q G"]:
    """Each row in ascending order; ``keys`` may be overwritten."""
    if keys.device.type != "cpu":
        return keys.sort(dim=1).values
    keys.numpy().sort(axis=1)  # several times faster than torch's, which carries the indices along
    return keys


def _measure(
    keys: Int[Tensor, "q G"], groups: Int[Tensor, " G"] | None, num_groups: int
) -> tuple[Int[Tensor, " q"], Int[Tensor, " q"], Float[Tensor, " q"], Float[Tensor, " q"]]:
    """Number of matches, rank of the first match, AP and INP of some queries; meaningless where there is no match.

    Args:
        keys: (q,G) as from `_keys`, sorted.
        groups: for the rule of first occurrences, the identity of each gallery entry as 0..num_groups-1.
    """
    row, place = (keys & 1).nonzero(as_tuple=True)  # of every match, best first
    count = torch.bincount(row, minlength=len(keys))
    end = count.cumsum(0)
    nth = torch.arange(1, len(row) + 1, device=row.device) - (end - count)[row]
    precision = torch.zeros(len(keys), max(1, int(count.max())), dtype=torch.float64, device=row.device)
    precision[row, nth - 1] = nth.double() / (place + 1)
    ap = precision.sum(dim=1) / count.clamp(min=1)  # mean over the matches of (matches up to here) / (rank)
    place = torch.cat([place, place.new_zeros(1)])  # what the queries without a match read
    inp = count.double() / (place[(end - 1).clamp(min=0)] + 1)
    first = place[end - count]
    if groups is not None:  # count the identities before the first match
        behind = torch.where(count > 0, first, 0)[:, None]
        row, column = (torch.arange(keys.shape[1], device=row.device) < behind).nonzero(as_tuple=True)
        seen = torch.zeros(len(keys), num_groups, dtype=torch.bool, device=row.device)
        seen[row, groups[(keys[row, column] & 0xFFFFFFFF) >> 1]] = True
        first = seen.sum(dim=1)
    return count, first + 1, ap, inp


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
