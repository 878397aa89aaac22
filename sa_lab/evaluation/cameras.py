"""Which cameras a protocol takes queries from, which it searches, and what it hides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sa_lab.evaluation.galleries import gallery_indices, hidden_mask, query_indices
from sa_lab.evaluation.protocols import Protocol
from sa_lab.schema import Embeddings, Listing


@dataclass(frozen=True)
class CameraPairs:
    """One trial of a protocol, by camera.

    Attributes:
        query_cameras: (K,) the cameras of the queries.
        gallery_cameras: (L,) the cameras of the searched spectrum, whether they are in the gallery or not.
        queries: (K,) number of query images.
        gallery: (L,) number of gallery images.
        hidden: (K,L) share of the gallery's images that a query may not see, in [0,1]; NaN where there are none.
        matches_hidden: (K,L) the same share, of images of the query's own identity.
    """

    query_cameras: Int[np.ndarray, " K"]
    gallery_cameras: Int[np.ndarray, " L"]
    queries: Int[np.ndarray, " K"]
    gallery: Int[np.ndarray, " L"]
    hidden: Float[np.ndarray, "K L"]
    matches_hidden: Float[np.ndarray, "K L"]


def camera_pairs(protocol: Protocol, images: Embeddings | Listing, trial: int = 0) -> CameraPairs:
    """What ``protocol`` makes of test images, camera by camera.

    Args:
        protocol: whose rules.
        images: test images; of a listing, those of its test identities.
        trial: which gallery.
    """
    keep = ~images.is_train if isinstance(images, Listing) else np.ones(len(images), dtype=bool)
    persons, cameras, modality = images.person_ids[keep], images.camera_ids[keep], images.modality[keep]
    order = None if images.gallery_order is None else images.gallery_order[keep]
    paths = [images.paths[i] for i in np.flatnonzero(keep)]
    roles = None if images.roles is None else images.roles[keep]
    query = query_indices(protocol, modality=modality, camera_ids=cameras, roles=roles)
    gallery = gallery_indices(
        protocol, modality=modality, person_ids=persons, camera_ids=cameras, paths=paths, gallery_order=order,
        roles=roles, trial=trial,
    )  # fmt: skip
    mask = hidden_mask(protocol, person_ids=persons, camera_ids=cameras, query=query, gallery=gallery)
    match = persons[query, None] == persons[gallery]
    asking, searched = np.unique(cameras[query]), np.unique(cameras[modality == protocol.gallery_modality])
    rows, columns = cameras[query] == asking[:, None], cameras[gallery] == searched[:, None]  # (K,Q), (L,G)

    def share(of: np.ndarray) -> np.ndarray:
        counts = rows.astype(float) @ of @ columns.T
        hidden = rows.astype(float) @ (of & mask) @ columns.T
        return np.where(counts > 0, hidden / np.maximum(counts, 1), np.nan)

    return CameraPairs(asking, searched, rows.sum(1), columns.sum(1), share(np.ones_like(mask)), share(match))
