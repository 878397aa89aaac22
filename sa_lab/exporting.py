"""The network of a run as a graph for other programs: one per spectrum, from an image to its descriptor."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from sa_lab import experiment, transforms
from sa_lab.disk import atomic_path
from sa_lab.evaluation import reference
from sa_lab.evaluation.embedding import unit_parts
from sa_lab.model import TwoStreamNet
from sa_lab.runs import Run
from sa_lab.schema import Modality, Refusal

Format = Literal["onnx", "torch", "reference"]
_SUFFIX = {"onnx": "onnx", "torch": "pt2"}


class Descriptor(nn.Module):
    """Images of one spectrum in [0,1], (B,3,H,W), to descriptors (B,2PD), whose dot product is the score of two images.

    Normalisation and the horizontal flip are inside; the first half is descriptor A, the second B, see
    `sa_lab.evaluation.embedding.embed`.
    """

    def __init__(self, model: TwoStreamNet, modality: Modality) -> None:
        super().__init__()
        self.stem, self.trunk, self.norm = model.stems[modality], model.trunk, model.neck.norm
        self.num_parts = model.num_parts

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        normalised = transforms.normalize(images)
        return self._described(normalised) + self._described(normalised.flip(3))

    def _described(self, images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B D"]:
        maps = self.trunk(self.stem(images))
        pooled = functional.adaptive_avg_pool2d(maps, (self.num_parts, 1)).squeeze(3).transpose(1, 2)
        after = self.norm(pooled.flatten(1)).view_as(pooled)
        return torch.cat([unit_parts(one).flatten(1) for one in (pooled, after)], 1)


def export(
    run: Path, out: Path, kind: Format = "onnx", modality: Literal["visible", "infrared", "both"] = "both"
) -> list[Path]:
    """Write the network of a run for other programs, for any number of images of the run's size at a time.

    Args:
        run: folder of the run.
        out: folder to write to.
        kind: onnx; torch, a program of `torch.export`; reference, the two files of the reference program.
        modality: which spectrum's graph; the reference's files have both.

    Returns:
        The files.

    Raises:
        FileNotFoundError: the run has no network.
        Refusal: the extra ``export`` is not installed.
    """
    model, prototypes, _ = experiment.load_model(run)
    data = Run(run).config.data
    model.eval()
    if kind == "reference":
        reference.write_reference(out / "network.t", model, prototypes)
        return [out / "network.t", out / "network_add.t"]
    if kind == "onnx" and not all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript")):
        raise Refusal("the extra `export` (onnx, onnxscript) is not installed: pip install 'sa-lab[export]'")
    out.mkdir(parents=True, exist_ok=True)
    wanted = [one for one in Modality if modality in ("both", one.name.lower())]
    example, written = (torch.rand(2, 3, data.height, data.width),), []
    for one in wanted:
        graph = Descriptor(model, one).eval()
        many = {"images": {0: torch.export.Dim("images", min=1, max=4096)}}
        file = out / f"descriptor-{one.name.lower()}.{_SUFFIX[kind]}"
        with atomic_path(file) as temporary, warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of torch, about its own parts
            if kind == "torch":
                program = torch.export.export(graph, example, dynamic_shapes=many)
                with temporary.open("wb") as stream:
                    torch.export.save(program, stream)
            else:
                torch.onnx.export(
                    graph, example, temporary, dynamo=True, dynamic_shapes=many, external_data=False,
                    input_names=["images"], output_names=["descriptors"], verbose=False,
                )  # fmt: skip
        written.append(file)
    return written
