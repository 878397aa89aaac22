"""k-reciprocal re-ranking: images that name each other among their nearest neighbours are close.

Source: Zhong, Zheng, Cao and Li, "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017,
arXiv:1701.08398; equations (3) to (12). As there, queries and gallery are encoded together, and the original distance
is the squared Euclidean one, scaled for each image to a largest value of 1.

Deviation, by default: a neighbour's own set joins where more than two thirds of it are shared, as in the published
programs, with whose numbers ours are compared; the paper's equation (5) says two thirds or more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float
from scipy import sparse

Expand = Literal["above", "at_least"]


@dataclass(frozen=True)
class KReciprocal:
    """Parameters of the re-ranking, by default those of the paper.

    Attributes:
        k1: number of neighbours checked for reciprocity, at least 2.
        k2: neighbours over whose encodings an image's own is averaged, 1..k1.
        original_weight: share of the original distance in the final one, 0..1 (lambda in the paper).
        expand: a neighbour's set joins where the share of it that is common is ``above`` two thirds, as in published
            programs, or ``at_least`` two thirds, as in the paper's equation; they differ by up to half a point.
    """

    k1: int = 20
    k2: int = 6
    original_weight: float = 0.3
    expand: Expand = "above"

    def __post_init__(self) -> None:
        if not (self.k1 >= 2 and 1 <= self.k2 <= self.k1 and 0 <= self.original_weight <= 1):
            raise ValueError(f"{self} is out of range, expected k1 >= 2, 1 <= k2 <= k1, original_weight in [0,1]")
        if self.expand not in get_args(Expand):
            raise ValueError(f"expand is {self.expand!r}, expected {' or '.join(get_args(Expand))}")

    @property
    def description(self) -> str:
        """What reports call it."""
        rule = {"above": "> 2/3", "at_least": ">= 2/3"}[self.expand]
        weight = f"original weight {self.original_weight}"
        return f"k-reciprocal re-ranking (k1 {self.k1}, k2 {self.k2}, {weight}, expanded at {rule})"


def k_reciprocal(
    inner: Float[np.ndarray, "N N"], num_queries: int, parameters: KReciprocal
) -> Float[np.ndarray, "Q G"]:
    """Similarity of queries and gallery after re-ranking: minus the final distance, in [-1,0].

    Args:
        inner: inner products of all descriptors with each other, the queries first; symmetric.
        num_queries: how many of the N are queries, 1..N-1.
        parameters: see `KReciprocal`.

    Returns:
        (Q,G) higher is closer, float32; G = N - Q.

    Raises:
        ValueError: ``num_queries`` out of range.
    """
    count = len(inner)
    if not 0 < num_queries < count:
        raise ValueError(f"num_queries is {num_queries}, expected 1..{count - 1} of {count} images")
    squares = inner.diagonal().copy()
    distance = np.maximum(squares[:, None] + squares - 2 * inner, 0).astype(np.float32)
    distance /= np.maximum(distance.max(axis=1, keepdims=True), np.finfo(np.float32).tiny)
    ranking = _nearest(distance, min(parameters.k1 + 1, count))
    encoding = _encode(distance, ranking, parameters)
    jaccard = _jaccard(encoding[:num_queries], encoding[num_queries:])
    weight = np.float32(parameters.original_weight)
    final: np.ndarray = (1 - weight) * jaccard + weight * distance[:num_queries, num_queries:]
    return -final


def _nearest(distance: np.ndarray, most: int) -> np.ndarray:
    """(N,most) the nearest images of each, itself first; equal distances by index."""
    np.fill_diagonal(distance, -1)
    ranking = np.stack([np.argsort(row, kind="stable")[:most] for row in distance])
    np.fill_diagonal(distance, 0)
    return ranking


def _sets(ranking: np.ndarray, count: int) -> sparse.csr_array:
    """(N,N) 1 where the column is among the row's neighbours."""
    rows = np.repeat(np.arange(len(ranking)), ranking.shape[1])
    return sparse.csr_array((np.ones(ranking.size, np.float32), (rows, ranking.ravel())), shape=(len(ranking), count))


def _reciprocal(ranking: np.ndarray) -> sparse.csr_array:
    """R(p,k): neighbours that have p among theirs, equation (3); p itself is one."""
    near = _sets(ranking, len(ranking))
    return near.multiply(near.T).tocsr()


def _encode(distance: np.ndarray, ranking: np.ndarray, parameters: KReciprocal) -> sparse.csr_array:
    """(N,N) each row the encoding of an image: Gaussian weights of its expanded reciprocal set, then averaged."""
    whole = _reciprocal(ranking)
    half = _reciprocal(ranking[:, : round(parameters.k1 / 2) + 1])
    # R*(p,k1): add the half-size set of a member wherever enough of it is in R(p,k1), equation (5).
    shared = whole.multiply(whole @ half.T).tocoo()  # |R(p,k1) and R(q,k1/2)| for the members q of R(p,k1)
    common, needed = 3 * shared.data, 2 * half.sum(axis=1)[shared.col]  # whole numbers
    fits = common > needed if parameters.expand == "above" else common >= needed
    joined = sparse.csr_array((np.ones(fits.sum(), np.float32), (shared.row[fits], shared.col[fits])), whole.shape)
    expanded = (whole + joined @ half).tocoo()
    weights = np.exp(-distance[expanded.row, expanded.col])  # equation (7)
    encoding = sparse.csr_array((weights, (expanded.row, expanded.col)), whole.shape)
    encoding = sparse.diags_array(1 / encoding.sum(axis=1)) @ encoding
    local = _sets(ranking[:, : parameters.k2], len(ranking)) / min(parameters.k2, ranking.shape[1])
    return (local @ encoding).tocsr()  # equation (11)


def _jaccard(query: sparse.csr_array, gallery: sparse.csr_array) -> np.ndarray:
    """(Q,G) 1 - sum of minima / sum of maxima, equation (10); rows sum to 1, so the maxima sum to 2 - minima."""
    by_image = gallery.tocsc()
    minima = np.zeros((query.shape[0], gallery.shape[0]), dtype=np.float32)
    for q in range(query.shape[0]):
        for k in range(query.indptr[q], query.indptr[q + 1]):
            column = slice(*by_image.indptr[query.indices[k] : query.indices[k] + 2])
            minima[q, by_image.indices[column]] += np.minimum(by_image.data[column], query.data[k])
    similarity: np.ndarray = minima / (2 - minima)
    return 1 - similarity
