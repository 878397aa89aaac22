"""The network of a run in other programs: the same descriptors, for any number of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from sa_lab import cli, experiment, exporting, transforms
from sa_lab.config import ExperimentConfig
from sa_lab.evaluation.embedding import embed
from sa_lab.runs import Run
from sa_lab.schema import Modality, Refusal

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def run(people_config: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = people_config.replace("model.num_parts", 2)
    return experiment.run(config, tmp_path_factory.mktemp("run"), progress=False)


def described(run: Run, modality: Modality, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images in [0,1] of one spectrum, and their descriptors by `embed`, A and B side by side."""
    store = experiment.images_of(run.folder)
    model, _, _ = experiment.load_model(run.folder)
    index = np.flatnonzero(store.modality == modality)[:count]
    found = embed(model, store, index, torch.device("cpu"), progress=False)
    both = [np.asarray(values).reshape(count, -1) for values in found.descriptors.values()]
    return store.gather(torch.from_numpy(index)).float().numpy() / 255, np.concatenate(both, 1)


@pytest.mark.parametrize("modality", list(Modality))
def test_onnx_gives_what_embed_gives(run: Run, modality: Modality, tmp_path: Path) -> None:
    cli.main(["export", str(run.folder), "--out", str(tmp_path), "--modality", modality.name.lower()])
    (file,) = tmp_path.iterdir()
    assert file.name == f"descriptor-{modality.name.lower()}.onnx"
    session = onnxruntime.InferenceSession(file)
    for count in (1, 5):
        images, expected = described(run, modality, count)
        (found,) = session.run(None, {"images": images})
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_program_of_torch_gives_what_embed_gives(run: Run, tmp_path: Path) -> None:
    transforms._colour.cache_clear()  # as in a program that has seen no image yet
    files = exporting.export(run.folder, tmp_path, "torch")
    assert [file.name for file in files] == ["descriptor-visible.pt2", "descriptor-infrared.pt2"]
    for file, modality in zip(files, Modality, strict=True):
        program = torch.export.load(file).module()
        for count in (1, 3):
            images, expected = described(run, modality, count)
            np.testing.assert_allclose(program(torch.from_numpy(images)).detach().numpy(), expected, atol=1e-4)


def test_what_cannot_be_exported_is_said(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="backbone is 'resnet18', expected resnet50 or resnet101"):
        exporting.export(run.folder, tmp_path, "reference")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(Refusal, match=r"pip install 'sa-lab\[export\]'"):
        exporting.export(run.folder, tmp_path)
