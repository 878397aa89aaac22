"""Descriptors of a trained network, and what protocols say of descriptors, wherever they come from."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.lib.format import open_memmap
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm

from sa_lab import transforms
from sa_lab.config import LAYOUTS
from sa_lab.data.store import ImageStore
from sa_lab.metrics import RetrievalResult, evaluate_ranking
from sa_lab.protocols import Protocol, gallery_indices, hidden_mask, query_indices
from sa_lab.reports import Report, summarise
from sa_lab.rerank import KReciprocal, k_reciprocal
from sa_lab.schema import Embeddings, LeakageError

_ROWS = 1024  # descriptors multiplied at a time; 100 MB each way at SYSU's full size


@torch.no_grad()
def embed(
    model: nn.Module,
    store: ImageStore,
    index: Int[np.ndarray, " N"],
    device: torch.device,
    prototypes: Float[Tensor, "P C2 D"] | None = None,
    prototype_ids: Int[np.ndarray, " C"] | None = None,
    seen_ids: Int[np.ndarray, " S"] | None = None,
    batch_size: int = 256,
    progress: bool = True,
    out: Path | None = None,
    dtype: type = np.float16,
) -> Embeddings:
    """Both descriptors of the images at ``index``, each through the stem of its own modality.

    Descriptor A is made of the part features, B of the embeddings: L2-normalised a part, then over all parts, summed
    over the image and its horizontal flip. The model is put into evaluation mode and left so.

    Args:
        model: gives part features and embeddings of (B,3,H,W) images and their modality.
        store: the images.
        index: which of them.
        device: of the model.
        prototypes, prototype_ids, seen_ids: see `sa_lab.schema.Embeddings`.
        batch_size: images at a time.
        progress: show a bar.
        out: write the descriptors to this ``.npz`` as they come, so that memory does not grow with their number.
        dtype: of the numbers in ``out``, float16 or float32.

    Returns:
        The descriptors, in memory or, with ``out``, in the file.
    """
    model.eval()
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
    precision = next(model.parameters()).dtype
    with tempfile.TemporaryDirectory(dir=out.parent if out else None, prefix=".embed-") as folder:
        arrays: dict[str, np.ndarray] = {}
        for start in tqdm(range(0, len(index), batch_size), unit="batch", desc="embed", disable=not progress):
            rows = index[start : start + batch_size]
            images = store.gather(torch.from_numpy(rows)).to(device)
            images = transforms.normalize(transforms.to_float(images, precision))
            modality = torch.from_numpy(store.modality[rows].astype(np.int64))
            views = [model(view, modality) for view in (images, images.flip(3))]
            for name in ("part_features", "embeddings"):
                both = sum(_unit(getattr(view, name)) for view in views).cpu().numpy()  # type: ignore[union-attr]
                if name not in arrays:
                    shape = (len(index), *both.shape[1:])
                    file = Path(folder) / f"{name}.npy"
                    arrays[name] = open_memmap(file, "w+", dtype, shape) if out else np.empty(shape, both.dtype)
                arrays[name][start : start + len(rows)] = both
        found = Embeddings(
            **arrays, person_ids=store.person_ids[index], camera_ids=store.camera_ids[index],
            modality=store.modality[index], paths=tuple(store.paths[i] for i in index),
            prototypes=None if prototypes is None else prototypes.detach().cpu().numpy(),
            prototype_ids=prototype_ids, seen_ids=seen_ids, split=store.split, dataset=store.name,
            gallery_order=None if store.gallery_order is None else store.gallery_order[index],
        )  # fmt: skip
        if out is None:
            return found
        found.save(out, dtype)
    return Embeddings.load(out, mapped=True)


def _unit(features: Float[Tensor, "B P D"]) -> Float[Tensor, "B P D"]:
    """Unit length a part, then unit length over all parts."""
    parts = functional.normalize(features, dim=2)
    whole = functional.normalize(parts.flatten(1), dim=1)
    return whole.view_as(parts)


def similarity(
    embeddings: Embeddings, query: Int[np.ndarray, " Q"], gallery: Int[np.ndarray, " G"]
) -> Float[Tensor, "Q G"]:
    """score(q,g) = A_q.A_g + B_q.B_g of the images at ``query`` and ``gallery``, higher is closer.

    Computed block by block in float32 (float64 where the descriptors are), so that descriptors may stay on disk.
    """
    double = any(values.dtype == np.float64 for values in embeddings.descriptors.values())
    scores = torch.zeros(len(query), len(gallery), dtype=torch.float64 if double else torch.float32)

    def block(values: np.ndarray, index: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values[index]).reshape(len(index), -1)).to(scores.dtype)

    for values in embeddings.descriptors.values():
        for g in range(0, len(gallery), _ROWS):
            searched = block(values, gallery[g : g + _ROWS]).T
            for q in range(0, len(query), _ROWS):
                scores[q : q + _ROWS, g : g + _ROWS] += block(values, query[q : q + _ROWS]) @ searched
    return scores


@dataclass(frozen=True)
class Search:
    """One trial of a protocol: who is asked, what is searched, and how close it is.

    Attributes:
        query, gallery: where they stand in the descriptors, (Q,) and (G,).
        hidden: (Q,G) True for gallery images that a query may not see.
        similarity: (Q,G) higher is closer.
    """

    query: Int[np.ndarray, " Q"]
    gallery: Int[np.ndarray, " G"]
    hidden: Bool[np.ndarray, "Q G"]
    similarity: Float[Tensor, "Q G"]

    def best(self, row: int, most: int = 10) -> Int[np.ndarray, " K"]:
        """The images that query ``row`` (0..Q-1) finds first and may see, as positions in the descriptors."""
        order = np.argsort(-self.similarity[row].numpy(), kind="stable")
        visible: np.ndarray = order[~self.hidden[row][order]]
        return np.asarray(self.gallery[visible[:most]])

    def first_is_right(self, person_ids: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " Q"]:
        """Whether the first image that a query may see is of its own person; never where it may see none."""
        scores = np.where(self.hidden, -np.inf, self.similarity.numpy())
        found = self.gallery[scores.argmax(axis=1)]
        right: np.ndarray = (person_ids[found] == person_ids[self.query]) & (~self.hidden).any(axis=1)
        return right

    def within(self, keep: Bool[np.ndarray, " G"]) -> Search:
        """The same search with all but some gallery images hidden."""
        return replace(self, hidden=self.hidden | ~keep)


def search(embeddings: Embeddings, protocol: Protocol, trial: int = 0, rerank: KReciprocal | None = None) -> Search:
    """One trial, to look at; arguments and errors as of `evaluate`."""
    return next(_searches(embeddings, [protocol], [trial], rerank))


def evaluate(
    embeddings: Embeddings,
    protocol: Protocol,
    *,
    rerank: KReciprocal | None = None,
    seed: int = 0,
    draws: int = 1000,
) -> Report:
    """Run all trials of ``protocol`` on descriptors of test images.

    Args:
        embeddings: test images alone; an identity's presence decides the gallery's random draws.
        protocol: what is asked, what is searched, what counts.
        rerank: re-rank with these parameters; by default not.
        seed: seed of the bootstrap.
        draws: resamples of the bootstrap over query identities.

    Raises:
        LeakageError: the descriptors hold identities that training has seen, or come from another split than the
            protocol is for.
        ValueError: no query or no gallery fits the protocol, no query has a match, or the descriptors are of another
            data set than the protocol is for.
    """
    return evaluate_all(embeddings, [protocol], rerank=rerank, seed=seed, draws=draws)[0]


def evaluate_all(
    embeddings: Embeddings,
    protocols: Sequence[Protocol],
    *,
    rerank: KReciprocal | None = None,
    seed: int = 0,
    draws: int = 1000,
) -> list[Report]:
    """`evaluate` for several protocols; every similarity is computed once, however many galleries an image is in."""
    ids = torch.from_numpy(embeddings.person_ids.astype(np.int64))
    searches = _searches(embeddings, protocols, None, rerank)
    reports = []
    for protocol in protocols:
        results: list[RetrievalResult] = []
        drawn = hashlib.sha256()
        for found in islice(searches, protocol.num_trials):
            query, gallery = ids[found.query], ids[found.gallery]
            drawn.update("\n".join(embeddings.paths[i] for i in found.gallery).encode())
            hidden = torch.from_numpy(found.hidden) if found.hidden.any() else None
            results.append(
                evaluate_ranking(found.similarity, query, gallery, hidden, first_occurrence=protocol.first_occurrence)
            )
        columns = {
            "path": np.array([embeddings.paths[i] for i in found.query]),
            "person_id": embeddings.person_ids[found.query],
            "camera_id": embeddings.camera_ids[found.query],
        }
        named = {"dataset": embeddings.dataset, "reranking": rerank.description if rerank else ""}
        named["gallery"] = drawn.hexdigest()
        reports.append(summarise(protocol, results, columns, **named, seed=seed, draws=draws))
    return reports


def _searches(
    embeddings: Embeddings, protocols: Sequence[Protocol], trials: Sequence[int] | None, rerank: KReciprocal | None
) -> Iterator[Search]:
    """The trials (None: all) of each protocol in turn, from one similarity matrix a direction."""
    persons, cameras, modality = embeddings.person_ids, embeddings.camera_ids, embeddings.modality
    drawn = []
    for protocol in protocols:
        _refuse(embeddings, protocol)
        galleries = [
            gallery_indices(
                protocol, modality=modality, person_ids=persons, camera_ids=cameras, paths=embeddings.paths,
                gallery_order=embeddings.gallery_order, trial=trial,
            )
            for trial in (range(protocol.num_trials) if trials is None else trials)
        ]  # fmt: skip
        drawn.append((protocol, query_indices(protocol, modality=modality, camera_ids=cameras), galleries))
    scores = {}
    for asking in {protocol.query_modality for protocol in protocols}:
        same = [(query, galleries) for protocol, query, galleries in drawn if protocol.query_modality == asking]
        asked = np.unique(np.concatenate([query for query, _ in same]))
        searched = np.unique(np.concatenate([gallery for _, galleries in same for gallery in galleries]))
        if rerank:  # it also compares the queries, and the gallery, with themselves
            both = np.concatenate([asked, searched])
            inner = similarity(embeddings, both, both)
        else:
            inner = similarity(embeddings, asked, searched)
        scores[asking] = asked, searched, inner
    for protocol, query, galleries in drawn:
        asked, searched, inner = scores[protocol.query_modality]
        q = np.searchsorted(asked, query)
        for gallery in galleries:
            g = np.searchsorted(searched, gallery)
            if rerank:
                rows = np.concatenate([q, len(asked) + g])
                found = torch.from_numpy(k_reciprocal(inner.numpy()[np.ix_(rows, rows)], len(q), rerank))
            else:
                found = (inner if len(q) == len(asked) else inner[q])[:, g]
            hidden = hidden_mask(protocol, person_ids=persons, camera_ids=cameras, query=query, gallery=gallery)
            yield Search(query, gallery, hidden, found)


def _refuse(embeddings: Embeddings, protocol: Protocol) -> None:
    """Raise unless the images are of the protocol's data set and split, and of people that training has not seen."""
    layout = embeddings.dataset.removesuffix("-generated")
    if layout in LAYOUTS and protocol.dataset not in (None, layout):
        raise ValueError(f"{protocol.name} is a protocol of {protocol.dataset}, but these descriptors are of {layout}")
    if protocol.split is not None and embeddings.split != protocol.split:
        held = f"are of split {embeddings.split}" if embeddings.split else "name none: add split to their file"
        raise LeakageError(
            f"{protocol.name} is for test images of split {protocol.split}, but these descriptors {held}; "
            "a model of one split has seen test identities of the others"
        )
    known = [ids for ids in (embeddings.prototype_ids, embeddings.seen_ids) if ids is not None]
    shared = np.intersect1d(np.concatenate(known), embeddings.person_ids) if known else np.array([])
    if len(shared):
        raise LeakageError(f"identities {shared.tolist()} were trained on and cannot be tested on")
