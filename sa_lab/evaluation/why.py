"""Why two images are similar: which part, and which place of the map, carries how much of the score.

The score is a sum of dot products of pooled features, so it is a sum over the places that were pooled, and nothing has
to be approximated: no gradient, no Grad-CAM. What one place adds is its own feature, as the pool and the neck weigh it,
times the other image's descriptor.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from sa_lab import transforms
from sa_lab.evaluation.search import FULL
from sa_lab.model import TwoStreamNet


@torch.no_grad()
def similarity_map(
    model: TwoStreamNet,
    image: Float[Tensor, "3 H W"],
    modality: int,
    part_features: Float[np.ndarray, "P D"],
    embeddings: Float[np.ndarray, "P D"],
) -> Float[np.ndarray, "h w"]:
    """What each place of an image's map adds to its similarity with another image; the sum is that similarity.

    Args:
        model: in evaluation mode.
        image: in [0,1], on the model's device.
        modality: of the image, 0 visible or 1 infrared.
        part_features, embeddings: both descriptors of the other image, see `sa_lab.evaluation.embedding.embed`.

    Returns:
        Shares of the similarity in [-1,1] that `sa_lab.ranking` tells, mirrored places of the flipped image added.
    """
    model.eval()
    code = np.array([modality])
    scale, shift = _neck(model)
    added: Tensor | None = None
    for flipped in (False, True):
        view = transforms.normalize(image[None].flip(3) if flipped else image[None])
        places = model.maps(view, code)[0][0]  # (D,h,w)
        found = torch.zeros_like(places[0])
        for part in range(model.num_parts):
            rows = slice(part * len(found) // model.num_parts, -(-(part + 1) * len(found) // model.num_parts))
            band = places[:, rows]  # (D,r,w)
            after = scale[part, :, None, None] * band + shift[part, :, None, None]
            for features, other in ((band, part_features[part]), (after, embeddings[part])):
                length = features.mean((1, 2)).norm() * model.num_parts**0.5
                weights = torch.tensor(other).to(features) / (features[0].numel() * length)
                found[rows] += torch.einsum("drw,d->rw", features, weights)
        found = found.flip(1) if flipped else found
        added = found if added is None else added + found
    assert added is not None
    return np.asarray((added / FULL).cpu().numpy())


def _neck(model: TwoStreamNet) -> tuple[Float[Tensor, "P D"], Float[Tensor, "P D"]]:
    """The neck in evaluation as a scale and a shift of each part and channel."""
    norm = model.neck.norm
    assert norm.running_var is not None
    assert norm.running_mean is not None
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    return scale.view(model.num_parts, -1), shift.view(model.num_parts, -1)
