"""The toy world moves by the library's own steps, and does what the mathematics says of each preset."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sa_lab import losses
from sa_lab.config import LossConfig
from sa_lab.course.toy import PRESETS, Toy, World


def after(preset: str, steps: int = 200, **world: int) -> Toy:
    toy = Toy(World(**world))
    for _ in range(steps):
        toy.step(replace(PRESETS[preset], warmup_steps=20))
    return toy


def test_the_complete_loss_brings_the_spectra_together_and_softmax_does_not() -> None:
    start = Toy().overlap()["stranger_ratio"]
    complete, softmax = after("complete").overlap(), after("plain softmax").overlap()
    assert complete["stranger_ratio"] < 0.1 < 0.5 * start < softmax["stranger_ratio"]


def test_without_mask_the_loss_stays_above_log_2() -> None:
    rows = after("no mask", 400).rows
    assert min(row["sa_softmax"] for row in rows[-100:]) > math.log(2) - 0.05
    assert after("complete", 400).rows[-1]["sa_softmax"] < 0.1


def test_synchronous_prototypes_swap_sides() -> None:
    """Each visible prototype ends nearer to where the infrared samples began."""
    sides = {}
    for preset in ("complete", "synchronous"):
        toy = Toy(World(num_identities=2))
        centres = torch.from_numpy(toy.scene(LossConfig()).centres)
        for _ in range(60):
            toy.step(replace(PRESETS[preset], warmup_steps=20))
        cosine = torch.cosine_similarity(toy.learner.criterion.prototypes.detach()[0][:, None], centres[None], dim=2)
        own = [losses.own_prototype(torch.tensor([c]), torch.tensor([m]), 2)[0] for m in (0, 1) for c in (0, 1)]
        cross = [losses.cross_prototype(torch.tensor([c]), torch.tensor([m]), 2)[0] for m in (0, 1) for c in (0, 1)]
        sides[preset] = [bool(cosine[a, a] > cosine[a, b]) for a, b in zip(own, cross, strict=True)]
    assert sides == {"complete": [True] * 4, "synchronous": [False] * 4}


@pytest.mark.parametrize("preset", ["complete", "synchronous"])
def test_a_crowded_circle_goes_on_when_its_samples_have_become_one_point(preset: str) -> None:
    rows = after(preset, 900, num_identities=12).rows
    assert len(rows) == 900
    assert np.isfinite([row["stranger_ratio"] for row in rows]).all()


def test_what_chapter_01_says_of_two_people() -> None:
    synchronous, complete = after("synchronous", 60, num_identities=2), after("complete", 400, num_identities=2)
    assert synchronous.rows[-1]["stranger_ratio"] > 1
    assert synchronous.rows[-1]["sa_softmax"] < 0.1
    cosines = [row["prototype_alignment"] for row in complete.rows]
    assert min(cosines[100:250]) < 0 < 0.9 < cosines[-1]
    assert complete.rows[-1]["stranger_ratio"] < 0.1
    assert after("plain softmax", 400, num_identities=2).rows[-1]["stranger_ratio"] > 1
    assert after("no mask", 300).rows[-1]["sa_softmax"] > 0.6


@pytest.mark.parametrize("dimensions", [2, 3])
def test_coinciding_prototypes_have_a_floor_at_mask_0_alone(dimensions: int) -> None:
    toy = Toy(World(dimensions=dimensions))
    toy.coincide()
    assert toy.losses(LossConfig(mask_value=0.0))["sa_softmax"] >= math.log(2)
    assert toy.losses(LossConfig(mask_value=50.0))["sa_softmax"] < 0.1
    assert toy.overlap()["prototype_alignment"] == pytest.approx(1)


def test_pulls_are_the_directions_in_which_a_step_moves_the_samples() -> None:
    loss = LossConfig(similarity_weight=0.0, sas_weight=1.0, warmup_steps=0)
    toy = Toy(network_lr=1e-4)
    for _ in range(5):
        toy.step(loss)
    before = toy.scene(loss)
    toy.step(loss)
    moved = (toy.scene(loss).centres - before.centres) / 1e-4
    np.testing.assert_allclose(moved, before.pulls["sa_softmax"] + before.pulls["identity"], atol=2e-2)


def test_a_warm_up_pulls_by_the_identity_loss_alone() -> None:
    scene = Toy().scene(LossConfig(warmup_steps=1))
    assert not scene.pulls["sa_softmax"].any()
    assert not scene.pulls["absolute"].any()
    assert set(Toy().scene(LossConfig(warmup_steps=0)).pulls) == {"identity", "sa_softmax", "absolute"}


@settings(max_examples=15, deadline=None)
@given(
    st.integers(2, 12), st.integers(2, 4), st.sampled_from([2, 3]), st.integers(0, 5), st.sampled_from(list(PRESETS))
)
def test_every_world_stays_on_its_sphere_and_repeats(
    count: int, each: int, dimensions: int, seed: int, name: str
) -> None:
    worlds = [Toy(World(count, each, dimensions, seed=seed)) for _ in range(2)]
    rows = [[toy.step(PRESETS[name]) for _ in range(3)] for toy in worlds]
    assert rows[0] == rows[1]
    scene = worlds[0].scene(PRESETS[name])
    np.testing.assert_allclose(np.linalg.norm(scene.samples, axis=1), 3, rtol=1e-5)
    assert scene.samples.shape == (2 * count * each, dimensions)


def test_the_pace_does_not_depend_on_how_many_samples_there_are() -> None:
    moved = []
    for each in (2, 8):
        toy = Toy(World(images_per_id=each, spread=0.1))
        toy.coincide()
        toy.learner.model.classifier.data = torch.eye(4, 2)[None]
        before = toy.scene(LossConfig()).centres
        toy.step(LossConfig(warmup_steps=0))
        moved.append(toy.scene(LossConfig()).centres - before)
    assert np.abs(moved[0]).max() > 0.005
    np.testing.assert_allclose(*moved, atol=5e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_identities": 1}, "num_identities is 1, expected 2..24"),
        ({"dimensions": 4}, "dimensions is 4, expected 2..3"),
        ({"gap": 1.5}, "gap is 1.5, expected 0..1"),
        ({"radius": 0.0}, "radius is 0.0, expected a number above 0"),
    ],
)
def test_worlds_that_cannot_be_drawn_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        World(**wrong)
