"""Why prototypes part: prototypes fitted to embeddings that stand still, with the rival and without it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_parameters import SMALL

from sa_lab.analysis import prototype_alignment
from sa_lab.config import ExperimentConfig
from sa_lab.course import parting
from sa_lab.disk import read_json
from sa_lab.losses import prototype_logits, prototype_loss
from sa_lab.runs import Run

PEOPLE = 4
LABELS = np.repeat(np.tile(np.arange(PEOPLE), 2), 3)
MODALITY = np.repeat([0, 1], 3 * PEOPLE)


def points_of(seed: int, gap: float, channels: int = 6) -> np.ndarray:
    """Two parts of four people, whose infrared samples lie ``gap`` from their visible ones in one direction."""
    rng = np.random.default_rng(seed)
    centres = 3 * rng.standard_normal((PEOPLE, 2, channels))
    apart = gap * rng.standard_normal((2, channels))
    return centres[LABELS] + MODALITY[:, None, None] * apart + 0.1 * rng.standard_normal((len(LABELS), 2, channels))


@settings(max_examples=10, deadline=None)
@given(
    st.integers(0, 1000), st.floats(0.5, 3), st.booleans(), st.sampled_from(parting.DECAYS), st.sampled_from((6, 40))
)  # fmt: skip
def test_a_fit_is_where_nothing_pulls_any_more(
    seed: int, gap: float, rivals: bool, decay: float, channels: int
) -> None:
    """Also with more channels than embeddings."""
    points = points_of(seed, gap, channels)
    found = torch.from_numpy(parting.fitted(points, LABELS, MODALITY, rivals, decay, steps=400)).requires_grad_()
    logits = prototype_logits(torch.from_numpy(points), found)
    loss = prototype_loss(logits, torch.from_numpy(LABELS), torch.from_numpy(MODALITY), rivals)
    (loss + 0.5 * decay * found.square().sum()).backward()
    assert found.grad.abs().max() < 1e-3
    assert found.shape == (2, 2 * PEOPLE, channels)


@pytest.mark.parametrize("seed", range(5))
def test_rivals_part_and_without_them_prototypes_follow_the_means(seed: int) -> None:
    points = points_of(seed, 1.0)
    cosine = {
        rivals: prototype_alignment(parting.fitted(points, LABELS, MODALITY, rivals)).mean() for rivals in (True, False)
    }
    means = prototype_alignment(parting.means(points, LABELS, MODALITY)).mean()
    assert cosine[True] < cosine[False] - 0.5
    assert abs(cosine[False] - means) < 0.3


def test_means_are_laid_out_as_prototypes() -> None:
    points = points_of(0, 1.0)
    found = parting.means(points, LABELS, MODALITY)
    for row in range(2 * PEOPLE):
        chosen = (row % PEOPLE == LABELS) & (row // PEOPLE == MODALITY)
        np.testing.assert_allclose(found[:, row], points[chosen].mean(0))


def test_without_decay_there_is_no_one_answer() -> None:
    with pytest.raises(ValueError, match=r"weight_decay is 0\.0, expected a number above 0"):
        parting.fitted(points_of(0, 1.0), LABELS, MODALITY, weight_decay=0.0)


@pytest.mark.usefixtures("here")
def test_all_networks_are_measured(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SA_LAB_HOME", str(tmp_path))
    small = {**SMALL, "data.dataset": "synthetic", "train.num_epochs": 1, "loss.warmup_steps": 1}
    config = ExperimentConfig().replace(small)
    found = read_json(parting.write(config, (0, 1), jobs=2))
    assert found["losses"].keys() == set(parting.LOSSES)
    (run, *_) = (tmp_path / "runs").glob("synthetic-softmax-seed0-*")
    softmax = found["losses"]["softmax"]
    measured = parting.cosines(Run(run).training_embeddings)
    assert {name: one["values"][0] for name, one in softmax.items()} == pytest.approx(measured)
    assert all(-1 <= one["low"] <= one["mean"] <= one["high"] <= 1 for one in softmax.values())
    with pytest.raises(ValueError, match="embeddings have no prototypes of these people"):
        parting.cosines(Run(run).embeddings)
