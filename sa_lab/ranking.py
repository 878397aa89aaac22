"""Rank any pictures against any others with the network of a run: who comes first, how similar, and where that lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from sa_lab import experiment
from sa_lab.data import loose
from sa_lab.data.contents import hash_of
from sa_lab.data.files import content_of, stamp
from sa_lab.data.store import ImageStore, build_store
from sa_lab.disk import check_seal, home
from sa_lab.evaluation.embedding import embed
from sa_lab.evaluation.search import FULL, nearest
from sa_lab.evaluation.why import similarity_map
from sa_lab.model import TwoStreamNet
from sa_lab.provenance import code_digest
from sa_lab.runs import Run
from sa_lab.schema import Embeddings, Modality

Places = Path | str | Sequence[Path | str]


@dataclass(frozen=True)
class Pictures:
    """Pictures and a network's descriptors of them.

    Attributes:
        store: where they are.
        embeddings: their descriptors; paths are those in the store.
    """

    store: ImageStore
    embeddings: Embeddings

    @cached_property
    def _rows(self) -> Int[np.ndarray, " N"]:
        """Where each described picture is in the store."""
        return self.store.find(self.embeddings.paths)

    def image(self, row: int) -> UInt8[np.ndarray, "3 H W"]:
        """The picture of descriptor ``row``, as the network sees it."""
        return np.asarray(self.store.gather(torch.from_numpy(self._rows[[row]]))[0].numpy())


class Why(NamedTuple):
    """Why two pictures are similar.

    Attributes:
        images: query and candidate.
        shares: of each what its places add, (h,w); both sum to the similarity.
        parts: (P,) what each horizontal part adds, the head first.
    """

    images: tuple[UInt8[np.ndarray, "3 H W"], UInt8[np.ndarray, "3 H W"]]
    shares: tuple[Float[np.ndarray, "h w"], Float[np.ndarray, "h w"]]
    parts: Float[np.ndarray, " P"]


def explained(model: TwoStreamNet, store: ImageStore, embeddings: Embeddings, query: int, found: int) -> Why:
    """Why two described images of a store are similar; ``query`` and ``found`` are rows of ``embeddings``.

    Raises:
        ValueError: the store lacks one of the two.
    """
    both = Pictures(store, embeddings.subset(np.array([query, found])))
    return _why(model, both, 0, both, 1)


def _why(model: TwoStreamNet, one: Pictures, row: int, other: Pictures, found: int) -> Why:
    """Of descriptor ``row`` of some pictures and ``found`` of others."""
    shown = one.image(row), other.image(found)
    said = [
        [np.asarray(values[i], dtype=np.float32) for values in some.embeddings.descriptors.values()]
        for some, i in ((one, row), (other, found))
    ]
    first, second = (
        similarity_map(model, torch.from_numpy(pixels.copy()).float() / 255, int(some.embeddings.modality[i]), *theirs)
        for pixels, some, i, theirs in ((shown[0], one, row, said[1]), (shown[1], other, found, said[0]))
    )
    parts = sum((a * b).sum(1) for a, b in zip(*said, strict=True)) / FULL
    return Why(shown, (first, second), np.asarray(parts))


@dataclass(frozen=True)
class Ranking:
    """What comes back for each query.

    Attributes:
        run: whose network it is.
        query, gallery: the pictures.
        best: (Q,K) which of the gallery, best first.
        similarity: (Q,K) in [-1,1]: the score of `sa_lab.evaluation.search` over its highest value.
        parts: (Q,K,P) what each horizontal part adds to it, the head first.
    """

    run: Run
    query: Pictures
    gallery: Pictures
    best: Int[np.ndarray, "Q K"]
    similarity: Float[np.ndarray, "Q K"]
    parts: Float[np.ndarray, "Q K P"]

    def names(self, row: int) -> list[tuple[str, float]]:
        """What comes back for query ``row``: names and similarities."""
        paths = self.gallery.embeddings.paths
        return [(paths[i], float(one)) for i, one in zip(self.best[row], self.similarity[row], strict=True)]

    def why(self, row: int, place: int) -> Why:
        """Why query ``row`` and what came back at ``place`` (from 0) are similar."""
        return _why(self._model, self.query, row, self.gallery, int(self.best[row, place]))

    @cached_property
    def _model(self) -> TwoStreamNet:
        return experiment.load_model(self.run.folder)[0]


def rank(
    run: Run | Path | str,
    query: Places,
    gallery: Places,
    k: int = 10,
    modality: Modality = Modality.INFRARED,
    progress: bool = True,
) -> Ranking:
    """Search pictures of the other spectrum.

    Descriptors of a gallery are kept in the data folder, by the content of pictures and network, so that the next query
    reuses them.

    Args:
        run: a finished run, or its folder.
        query: files or folders with pictures.
        gallery: the same, of what is searched.
        k: number of pictures to return, at least 1.
        modality: of the queries.
        progress: show bars.

    Raises:
        ValueError: ``k`` below 1.
        DataError: no such pictures, or none that can be read.
        FileNotFoundError: the run has no network.
    """
    run = (run if isinstance(run, Run) else Run(Path(run))).there()
    asked, searched = (
        pictures(run.folder, places, spectrum, progress)
        for places, spectrum in ((query, modality), (gallery, Modality(modality).other))
    )
    return ranked(run, asked, searched, k)


def ranked(run: Run, asked: Pictures, searched: Pictures, k: int = 10) -> Ranking:
    """What comes back for each of some described pictures among others; arguments and errors as in `rank`."""
    if k < 1:
        raise ValueError(f"k is {k}, expected at least 1")
    best, similarity = nearest(asked.embeddings, searched.embeddings, k)
    pairs = zip(asked.embeddings.descriptors.values(), searched.embeddings.descriptors.values(), strict=True)
    parts = sum(
        np.einsum("qpd,qkpd->qkp", np.asarray(one, np.float32), np.asarray(other[best.ravel()], np.float32).reshape(
            *best.shape, *other.shape[1:]
        )) for one, other in pairs
    )  # fmt: skip
    return Ranking(run, asked, searched, best, similarity, np.asarray(parts) / FULL)


def tested(run: Run, modality: Modality) -> Pictures:
    """The test images of a run in one spectrum; errors as in `sa_lab.experiment.images_of`."""
    found = run.embeddings
    return Pictures(experiment.images_of(run.folder), found.subset(np.flatnonzero(found.modality == modality)))


def pictures(run: Path, places: Places, modality: Modality, progress: bool = True) -> Pictures:
    """Loose pictures and their descriptors, in float16, by the network of a run, made once; arguments and errors as of
    `rank`."""
    store = _prepared(run, places, modality, progress)
    weights = content_of(run / "model.pt", stamp(run / "model.pt"))
    kinds = (str(store.thermal_range), code_digest(("model", "evaluation")))
    name = hash_of("descriptors", [weights], [store.digest], *([kind] for kind in kinds))[:16]
    file = home() / "descriptors" / f"pictures-{name}.npz"
    if not _is_whole(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _describe(run, store, file, np.float16, progress)
    return Pictures(store, Embeddings.load(file, mapped=True))


def embed_pictures(
    run: Path, places: Places, modality: Modality, out: Path, dtype: type = np.float16, progress: bool = True
) -> Embeddings:
    """Write the descriptors of loose pictures to an ``.npz``, float16 or float32; other arguments and errors as of
    `rank`."""
    return _describe(run, _prepared(run, places, modality, progress), out, dtype, progress)


def _prepared(run: Path, places: Places, modality: Modality, progress: bool) -> ImageStore:
    """Loose pictures as the network of a run sees them."""
    listing = loose.listing([places] if isinstance(places, str | Path) else places, modality)
    data = Run(run).config.data
    span = data.thermal_range or experiment.thermal_range_of(run)
    return build_store(listing, data.height, data.width, home() / "prepared", progress, data.resize, thermal_range=span)


def _describe(run: Path, store: ImageStore, out: Path, dtype: type, progress: bool) -> Embeddings:
    model, device = experiment.load_model(run)[0], torch.device("cpu")
    experiment.place(model, device, Run(run).config)
    return embed(model, store, np.arange(len(store)), device, progress=progress, out=out, dtype=dtype)


def _is_whole(file: Path) -> bool:
    try:
        check_seal(file, needed=True)
    except (OSError, ValueError):
        return False
    return True
