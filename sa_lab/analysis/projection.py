"""Many dimensions drawn in two or three, with a number that says how far the drawing can be trusted."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float
from joblib import Memory
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE, trustworthiness

from sa_lab.analysis.points import reduce, unit_rows
from sa_lab.disk import can_be_written, home

Method = Literal["umap", "tsne", "pca"]
CAUTION: dict[str, str] = {
    "umap": "UMAP keeps who is near whom, not how far: distances between islands, their sizes and their densities mean "
    "nothing, two islands may touch here and be apart in reality, and another seed draws another picture.",
    "tsne": "t-SNE keeps who is near whom, as UMAP does: distances between islands, their sizes and their densities "
    "mean nothing, and another perplexity or seed draws another picture.",
    "pca": "PCA is linear and shows only the directions of most variance: it only shortens distances, so that points "
    "that lie on top of each other here may be apart in the directions that are left out.",
}
"""What a projection cannot show."""
_TRUSTED = 3000
"""Most points on which trustworthiness is computed, drawn at random, because it compares all pairs."""


@dataclass(frozen=True)
class Projection:
    """Points drawn in few dimensions, in arbitrary units: "pca" only shortens distances, the others distort them.

    Attributes:
        samples: (N,K) coordinates.
        prototypes: (M,K) coordinates, from the same fit; M is 0 without prototypes.
        trustworthiness: in [0,1], the share of drawn neighbours that are true neighbours (cosine), weighted by rank;
            Venna and Kaski 2001. Below about 0.9, only the coarse layout of a picture means something. With more than
            3,000 points, it is computed on 3,000 drawn at random.
        method: "umap", "tsne" or "pca".
        kept_share: share of the squared lengths in the fit, see `sa_lab.analysis.reduce`; 1 up to 3,000 points.
    """

    samples: Float[np.ndarray, "N K"]
    prototypes: Float[np.ndarray, "M K"]
    trustworthiness: float
    method: str
    kept_share: float = 1.0

    @property
    def caption(self) -> str:
        """Method and trustworthiness, to stand under the drawing."""
        reduced = f", of {100 * self.kept_share:.1f} % of the squared lengths" if self.kept_share < 1 else ""
        name = {"tsne": "t-SNE"}.get(self.method, self.method.upper())
        return f"{name}, trustworthiness {self.trustworthiness:.2f}{reduced}"

    @property
    def caution(self) -> str:
        """What this drawing cannot show."""
        return CAUTION[self.method]


def project(
    samples: Float[np.ndarray, "N D"],
    generator: np.random.Generator,
    *,
    prototypes: Float[np.ndarray, "M D"] | None = None,
    method: Method = "umap",
    num_dimensions: int = 2,
    num_neighbors: int = 15,
    min_distance: float = 0.1,
) -> Projection:
    """Draw samples and prototypes together, so that their places can be compared.

    All rows are made unit length and reduced as `sa_lab.analysis.reduce` does. "umap": McInnes et al., 2018,
    arXiv:1802.03426, cosine metric, started from the principal components, one thread: the same generator state gives
    the same picture. "tsne": van der Maaten and Hinton, 2008, started and measured alike, with ``num_neighbors`` as its
    perplexity (at most a third of the points), in 2 or 3 dimensions. "pca": the linear view. A fit is kept in the cache
    and found again by its content.

    Raises:
        ValueError: fewer than 5 points, unknown method, too many dimensions, or a row of zeros.
    """
    _check(method, num_dimensions, len(samples) + (0 if prototypes is None else len(prototypes)), samples.shape[1])
    seed, thin = int(generator.integers(2**31)), _reduced([samples], [prototypes], generator)
    dials = {"n_components": num_dimensions, "n_neighbors": num_neighbors, "min_dist": min_distance}
    release = version("umap-learn") if method == "umap" else ""
    drawn = _cached(_fit, thin.frames[0], method, seed, dials, release)
    return _projection(drawn, thin.frames[0], len(samples), method, num_neighbors, thin.kept_share, generator)


def project_along(
    samples: Sequence[Float[np.ndarray, "N D"]],
    generator: np.random.Generator,
    *,
    prototypes: Sequence[Float[np.ndarray, "M D"]] | None = None,
    method: Method = "umap",
    num_neighbors: int = 15,
    min_distance: float = 0.1,
) -> list[Projection]:
    """Draw the same samples and prototypes in the plane at several moments, so that a point's path can be followed.

    "umap": aligned, each point held near its place in the moments beside (Dadu et al., Patterns 2023;
    `umap.AlignedUMAP`, cosine metric). "pca": the directions of all moments together. Fits are kept as in `project`.

    Args:
        samples: T moments of the same N samples, in the same order.
        generator: randomness of the fit.
        prototypes: T moments of the same M prototypes.
        method: "umap" or "pca"; t-SNE has no aligned version.
        num_neighbors, min_distance: as in `project`.

    Raises:
        ValueError: fewer than two moments, moments of different sizes, or as in `project`.
    """
    if method == "tsne":
        raise ValueError("method is 'tsne', expected 'umap' or 'pca': nothing would hold a point near its place")
    known = [None] * len(samples) if prototypes is None else list(prototypes)
    sizes = {(len(s), 0 if p is None else len(p)) for s, p in zip(samples, known, strict=False)}
    if len(samples) < 2 or len(known) != len(samples) or len(sizes) != 1:
        raise ValueError(
            f"samples and prototypes: {len(samples)} and {len(known)} moments of sizes {sorted(sizes)}, expected two "
            "or more of the same size"
        )
    _check(method, 2, sum(sizes.pop()), samples[0].shape[1])
    seed, thin = int(generator.integers(2**31)), _reduced(samples, known, generator)
    if method == "pca":
        drawn = PCA(2, random_state=seed).fit_transform(np.concatenate(thin.frames)).reshape(len(samples), -1, 2)
    else:
        dials = {"n_neighbors": num_neighbors, "min_dist": min_distance}
        drawn = _cached(_fit_aligned, np.stack(thin.frames), seed, dials, version("umap-learn"))
    return [
        _projection(one, points, len(samples[0]), method, num_neighbors, thin.kept_share, generator)
        for one, points in zip(drawn, thin.frames, strict=True)
    ]


@dataclass(frozen=True)
class _Thin:
    frames: list[np.ndarray]
    kept_share: float


def _reduced(samples: Sequence[Any], prototypes: Sequence[Any], generator: np.random.Generator) -> _Thin:
    """Samples and prototypes of each moment as unit rows, all reduced together."""
    rows = []
    for points, known in zip(samples, prototypes, strict=True):
        rows.append(unit_rows(points, "samples"))
        if known is not None:
            rows.append(unit_rows(known, "prototypes"))
    thin = reduce(np.concatenate(rows), generator)
    return _Thin(np.split(thin.points, len(samples)), thin.kept_share)


def _check(method: str, num_dimensions: int, count: int, channels: int) -> None:
    if method not in CAUTION:
        raise ValueError(f"method is {method!r}, expected 'umap', 'tsne' or 'pca'")
    if method == "tsne" and num_dimensions > 3:
        raise ValueError(f"num_dimensions is {num_dimensions}, expected 2 or 3 for t-SNE")
    if count < 5 or not 1 <= num_dimensions <= min(count - 2, channels):
        raise ValueError(
            f"num_dimensions is {num_dimensions} for {count} points of {channels} dimensions, expected 5 points or "
            "more and dimensions below both sizes"
        )


def _projection(
    drawn: np.ndarray,
    points: np.ndarray,
    count: int,
    method: str,
    neighbors: int,
    kept_share: float,
    rng: np.random.Generator,
) -> Projection:
    some = rng.permutation(len(points))[:_TRUSTED]
    trust = trustworthiness(
        points[some], drawn[some], n_neighbors=min(neighbors, (len(some) - 1) // 2), metric="cosine"
    )
    return Projection(drawn[:count], drawn[count:], float(trust), method, kept_share)


def _cached(fit: Callable[..., np.ndarray], *arguments: Any) -> np.ndarray:
    """``fit(*arguments)``, looked up by their content; the last of them, a version, only tells fits apart."""
    if not can_be_written(home() / "cache"):
        return fit(*arguments)
    cached = Memory(home() / "cache" / "projections", verbose=0).cache(fit)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Persisting input arguments")  # joblib's word for a slow disk
        drawn: np.ndarray = cached(*arguments)
    return drawn


def _fit(points: np.ndarray, method: str, seed: int, dials: dict[str, Any], release: str) -> np.ndarray:
    if method == "pca":
        drawn: np.ndarray = PCA(dials["n_components"], random_state=seed).fit_transform(points)
        return drawn
    if method == "tsne":
        perplexity = min(float(dials["n_neighbors"]), (len(points) - 1) / 3)
        search = TSNE(
            dials["n_components"], perplexity=perplexity, metric="cosine", init="pca", random_state=seed, n_jobs=1
        )
        return np.asarray(search.fit_transform(points))
    return np.asarray(
        _umap_module().UMAP(**_umap(dials, len(points)), init="pca", random_state=seed, n_jobs=1).fit_transform(points)
    )


@functools.cache
def _umap_module() -> Any:
    """umap-learn, whose compiled code is kept beside the projections: its package may lie where nobody can write.

    Of itself, umap-learn keeps a part of it alone and compiles the rest anew in each process, which takes ten seconds.
    """
    if "NUMBA_CACHE_DIR" not in os.environ and "numba" not in sys.modules:
        place = home() / "cache" / "numba"
        if not can_be_written(place):
            place = Path(tempfile.mkdtemp(prefix="sa-lab-numba-"))
            atexit.register(shutil.rmtree, place, ignore_errors=True)
        os.environ["NUMBA_CACHE_DIR"] = str(place)
    import umap
    from numba.core.dispatcher import Dispatcher

    for module in [module for name, module in sys.modules.items() if name.partition(".")[0] == "umap"]:
        for function in vars(module).values():
            if isinstance(function, Dispatcher):
                function.enable_caching()
    return umap


def _fit_aligned(frames: np.ndarray, seed: int, dials: dict[str, Any], release: str) -> np.ndarray:
    same = [{i: i for i in range(frames.shape[1])}] * (len(frames) - 1)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "n_jobs value")  # it cannot be told to take the one thread that a seed means
        fit = _umap_module().AlignedUMAP(**_umap(dials, frames.shape[1]), random_state=seed, transform_seed=seed)
        return np.stack(fit.fit(list(frames), relations=same).embeddings_)


def _umap(dials: dict[str, Any], count: int) -> dict[str, Any]:
    return {**dials, "n_neighbors": min(max(2, dials["n_neighbors"]), count - 1), "metric": "cosine"}
