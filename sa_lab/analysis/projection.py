"""Many dimensions drawn in two or three, with a number that says how far the drawing can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from sa_lab.analysis.points import unit_rows


@dataclass(frozen=True)
class Projection:
    """Points drawn in few dimensions, in arbitrary units; only "umap" distorts distances, but it does so strongly.

    Attributes:
        samples: (N,K) coordinates.
        prototypes: (M,K) coordinates, from the same fit; M is 0 without prototypes.
        trustworthiness: in [0,1], the share of a drawn neighbourhood that are neighbours in truth (cosine), ranked;
            Venna and Kaski 2001. Of a picture below about 0.9 only the coarse layout means something.
        method: "umap" or "pca".
    """

    samples: Float[np.ndarray, "N K"]
    prototypes: Float[np.ndarray, "M K"]
    trustworthiness: float
    method: str


def project(
    samples: Float[np.ndarray, "N D"],
    generator: np.random.Generator,
    *,
    prototypes: Float[np.ndarray, "M D"] | None = None,
    method: Literal["umap", "pca"] = "umap",
    num_dimensions: int = 2,
    num_neighbors: int = 15,
    min_distance: float = 0.1,
) -> Projection:
    """Draw samples and prototypes together, so that their places can be compared.

    All rows are made unit length first. "umap": McInnes et al., 2018, arXiv:1802.03426, cosine metric, started from
    the principal components, one thread: the same generator state gives the same picture. "pca": the linear view.

    Raises:
        ValueError: fewer than 5 points, unknown method, too many dimensions, or a row of zeros.
    """
    points = unit_rows(samples, "samples")
    if prototypes is not None:
        points = np.concatenate([points, unit_rows(prototypes, "prototypes")])
    if len(points) < 5 or not 1 <= num_dimensions <= min(len(points) - 2, points.shape[1]):
        raise ValueError(f"num_dimensions is {num_dimensions} for {points.shape} points, expected 5 points or more and "
                         "dimensions below both sizes")  # fmt: skip
    seed = int(generator.integers(2**31))
    if method == "pca":
        drawn = PCA(num_dimensions, random_state=seed).fit_transform(points)
    elif method == "umap":
        from umap import UMAP

        neighbors = min(max(2, num_neighbors), len(points) - 1)
        drawn = UMAP(
            n_neighbors=neighbors, n_components=num_dimensions, min_dist=min_distance, metric="cosine", init="pca",
            random_state=seed, n_jobs=1,
        ).fit_transform(points)  # fmt: skip
    else:
        raise ValueError(f"method is {method!r}, expected 'umap' or 'pca'")
    trust = trustworthiness(points, drawn, n_neighbors=min(num_neighbors, (len(points) - 1) // 2), metric="cosine")
    return Projection(drawn[: len(samples)], drawn[len(samples) :], float(trust), method)
