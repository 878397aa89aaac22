"""Evaluates descriptors from any source under protocols: arrays in, reports out; torch multiplies and sorts."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sa_lab.config import LAYOUTS
from sa_lab.evaluation.galleries import gallery_indices, hidden_mask, query_indices
from sa_lab.evaluation.metrics import evaluate_ranking
from sa_lab.evaluation.protocols import Protocol
from sa_lab.evaluation.reports import Report, RetrievalResult, summarise
from sa_lab.evaluation.rerank import KReciprocal, k_reciprocal
from sa_lab.schema import NOBODY, Embeddings, LeakageError, known_by

FULL = 8.0
"""The score of an image with itself if its flip is alike: two descriptors, each a sum of two unit vectors."""
_ROWS = 1024  # descriptors multiplied at a time; 100 MB each way at SYSU's full size


def similarity(
    embeddings: Embeddings, query: Int[np.ndarray, " Q"], gallery: Int[np.ndarray, " G"]
) -> Float[np.ndarray, "Q G"]:
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
    return scores.numpy()


def nearest(query: Embeddings, gallery: Embeddings, k: int) -> tuple[Int[np.ndarray, "Q K"], Float[np.ndarray, "Q K"]]:
    """For each query the ``k`` gallery images with the highest score, best first, and the scores divided by `FULL`.

    Exact, block by block in float32, so that the gallery may stay on disk; of equal scores the earlier image is first.
    """
    kept, found = min(k, len(gallery)), torch.full((len(query), 0), -torch.inf)
    index = torch.zeros(len(query), 0, dtype=torch.int64)
    asked = {name: _flat(values, slice(None)).T.contiguous() for name, values in query.descriptors.items()}
    for start in range(0, len(gallery), _BLOCK):
        block = slice(start, start + _BLOCK)
        both = [_flat(values, block) @ asked[name] for name, values in gallery.descriptors.items()]
        scores = torch.stack(both).sum(0).T  # (Q,G)
        found = torch.cat([found, scores], 1)
        index = torch.cat([index, torch.arange(start, start + scores.shape[1]).expand(len(query), -1)], 1)
        if found.shape[1] > 64 * _BLOCK or start + _BLOCK >= len(gallery):
            order = torch.sort(found, dim=1, descending=True, stable=True).indices[:, :kept]
            found, index = found.gather(1, order), index.gather(1, order)
    return index.numpy(), (found / FULL).numpy()


_BLOCK = 256  # descriptors of a gallery at a time, as float32 in the processor's cache


def _flat(values: np.ndarray, rows: slice) -> Tensor:
    """Some descriptors as rows of float32."""
    some = values[rows]  # perhaps of a file, which torch would not take for it cannot be written to
    return torch.from_numpy(some if some.flags.writeable else some.astype(np.float32)).flatten(1).float()


@dataclass(frozen=True)
class Search:
    """One trial of a protocol: the queries, the gallery, and their similarities.

    Attributes:
        query, gallery: where they stand in the descriptors, (Q,) and (G,).
        hidden: (Q,G) True for gallery images that a query may not see.
        similarity: (Q,G) higher is closer.
    """

    query: Int[np.ndarray, " Q"]
    gallery: Int[np.ndarray, " G"]
    hidden: Bool[np.ndarray, "Q G"]
    similarity: Float[np.ndarray, "Q G"]

    def best(self, row: int, most: int = 10) -> Int[np.ndarray, " K"]:
        """The images that query ``row`` (0..Q-1) finds first and may see, as positions in the descriptors."""
        order = np.argsort(-self.similarity[row], kind="stable")
        visible: np.ndarray = order[~self.hidden[row][order]]
        return np.asarray(self.gallery[visible[:most]])

    def first_is_right(self, person_ids: Int[np.ndarray, " N"]) -> Bool[np.ndarray, " Q"]:
        """Whether the first image that a query may see is of its own person; False where it may see none."""
        scores = np.where(self.hidden, -np.inf, self.similarity)
        first = self.gallery[scores.argmax(axis=1)]
        right: np.ndarray = (person_ids[first] == person_ids[self.query]) & (~self.hidden).any(axis=1)
        return right

    def within(self, keep: Bool[np.ndarray, " G"]) -> Search:
        """The same search with all but some gallery images hidden."""
        return replace(self, hidden=self.hidden | ~keep)


def search(embeddings: Embeddings, protocol: Protocol, trial: int = 0, rerank: KReciprocal | None = None) -> Search:
    """One trial, to look at; arguments and errors as in `evaluate`."""
    return next(_searches(embeddings, [protocol], [trial], rerank))


def evaluate(
    embeddings: Embeddings, protocol: Protocol, *, rerank: KReciprocal | None = None, seed: int = 0, draws: int = 1000
) -> Report:
    """`evaluate_all` for one protocol."""
    return evaluate_all(embeddings, [protocol], rerank=rerank, seed=seed, draws=draws)[0]


def evaluate_all(
    embeddings: Embeddings,
    protocols: Sequence[Protocol],
    *,
    rerank: KReciprocal | None = None,
    seed: int = 0,
    draws: int = 1000,
) -> list[Report]:
    """Run all trials of each protocol on descriptors of test images.

    Every similarity is computed once, however many galleries an image is in.

    Args:
        embeddings: test images alone; an identity's presence decides the gallery's random draws.
        protocols: what is asked, what is searched, what counts.
        rerank: re-rank with these parameters; by default not.
        seed: seed of the bootstrap.
        draws: resamples of the bootstrap over query identities.

    Raises:
        LeakageError: the descriptors hold identities that training has seen, or come from another split than a
            protocol is for.
        ValueError: no query or no gallery fits a protocol, no query has a match, or the descriptors are of another
            data set than a protocol is for.
    """
    ids = torch.from_numpy(embeddings.person_ids.astype(np.int64))
    searches = _searches(embeddings, protocols, None, rerank)
    reports = []
    for protocol in protocols:
        results: list[RetrievalResult] = []
        drawn = hashlib.sha256()
        for trial in islice(searches, protocol.num_trials):
            query, gallery = ids[trial.query], ids[trial.gallery]
            drawn.update("\n".join(embeddings.paths[i] for i in trial.gallery).encode())
            hidden = torch.from_numpy(trial.hidden) if trial.hidden.any() else None
            similarities = torch.from_numpy(trial.similarity)
            results.append(
                evaluate_ranking(similarities, query, gallery, hidden, first_occurrence=protocol.first_occurrence)
            )
        columns = {
            "path": np.array([embeddings.paths[i] for i in trial.query]),
            "person_id": embeddings.person_ids[trial.query],
            "camera_id": embeddings.camera_ids[trial.query],
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
                gallery_order=embeddings.gallery_order, roles=embeddings.roles, trial=trial,
            )
            for trial in (range(protocol.num_trials) if trials is None else trials)
        ]  # fmt: skip
        asking = query_indices(protocol, modality=modality, camera_ids=cameras, roles=embeddings.roles)
        drawn.append((protocol, asking, galleries))
    scores = {}  # a direction's similarities once, (Q,G); each trial then takes the columns of its gallery
    for direction in {protocol.query_modality for protocol in protocols}:
        same = [(query, galleries) for protocol, query, galleries in drawn if protocol.query_modality == direction]
        asked = np.unique(np.concatenate([query for query, _ in same]))
        searched = np.unique(np.concatenate([gallery for _, galleries in same for gallery in galleries]))
        if rerank:  # it also compares the queries, and the gallery, with themselves
            both = np.concatenate([asked, searched])
            inner = similarity(embeddings, both, both)
        else:
            inner = similarity(embeddings, asked, searched)
        scores[direction] = asked, searched, inner
    for protocol, query, galleries in drawn:
        asked, searched, inner = scores[protocol.query_modality]
        q = np.searchsorted(asked, query)
        for gallery in galleries:
            g = np.searchsorted(searched, gallery)
            if rerank:
                rows = np.concatenate([q, len(asked) + g])
                similarities = k_reciprocal(inner[np.ix_(rows, rows)], len(q), rerank)
            else:
                similarities = np.take(inner if len(q) == len(asked) else inner[q], g, axis=1)
            hidden = hidden_mask(protocol, person_ids=persons, camera_ids=cameras, query=query, gallery=gallery)
            yield Search(query, gallery, hidden, similarities)


def _refuse(embeddings: Embeddings, protocol: Protocol) -> None:
    """Raise unless the images are of the protocol's data set and split, and of people that training has not seen."""
    if unknown := int((embeddings.person_ids == NOBODY).sum()):
        raise ValueError(
            f"of {unknown} of {len(embeddings)} images nobody says who they are, so that nothing can be right or "
            "wrong; expected person_ids (sa-lab rank looks for such images)"
        )
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
        told = known_by(shared.tolist(), embeddings.person_ids, embeddings.paths)
        raise LeakageError(f"identities {told} were trained on and cannot be tested on")
