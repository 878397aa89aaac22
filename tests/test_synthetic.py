"""The drawn data set: same seed, same pixels; two spectra of one person; three sets of cameras."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sa_lab.data.drawn.canvas import Part
from sa_lab.data.drawn.pedestrian import draw, paint, sample_pose
from sa_lab.data.drawn.synthetic import SyntheticSpec, draw_image, listing, seen_by
from sa_lab.data.drawn.wardrobe import LUMINANCE, sample_identity
from sa_lab.schema import Modality

SMALL = SyntheticSpec(num_train_ids=4, num_test_ids=2, images_per_camera=2, height=48, width=24)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.int16)


def test_same_seed_gives_same_pixels_in_any_order() -> None:
    forward, backward = listing(SMALL), listing(SMALL)
    first = [pixels(forward.read(i)) for i in range(len(forward))]
    for i in reversed(range(len(backward))):
        np.testing.assert_array_equal(pixels(backward.read(i)), first[i])
    assert forward.paths == backward.paths
    assert forward.stamps == backward.stamps


def test_another_seed_gives_another_population() -> None:
    other = replace(SMALL, seed=1)
    assert np.abs(pixels(draw_image(SMALL, 1, 4, 1)) - pixels(draw_image(other, 1, 4, 1))).mean() > 5
    assert set(listing(SMALL).stamps).isdisjoint(listing(other).stamps)


def test_more_identities_leave_the_first_ones_unchanged() -> None:
    more = replace(SMALL, num_train_ids=9)
    np.testing.assert_array_equal(pixels(draw_image(SMALL, 2, 3, 1)), pixels(draw_image(more, 2, 3, 1)))


def test_images_of_one_person_differ() -> None:
    assert np.abs(pixels(draw_image(SMALL, 1, 5, 1)) - pixels(draw_image(SMALL, 1, 5, 2))).mean() > 3


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    person=st.integers(1, 10**6),
    camera=st.integers(1, 6),
    size=st.tuples(st.integers(16, 90), st.integers(8, 60)),
)
def test_any_person_can_be_drawn_at_any_size(seed: int, person: int, camera: int, size: tuple[int, int]) -> None:
    spec = SyntheticSpec(seed=seed, height=size[0], width=size[1])
    image = draw_image(spec, person, camera, 1)
    assert image.size == (size[1], size[0])
    assert image.mode == ("L" if camera in (3, 6) else "RGB")
    assert pixels(image).std() > 1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([(64, 32), (128, 64), (384, 192)]))
def test_a_figure_is_mostly_inside_and_has_head_and_garments(seed: int, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(seed)
    who = sample_identity(rng)
    figure = draw(who, sample_pose(rng, who), *size)
    assert 0.1 < (figure.parts > 0).mean() < 0.75
    seen = set(np.unique(figure.parts).tolist())
    assert {Part.TORSO, Part.SHOES} <= seen or figure.top + figure.scale > size[0]
    assert seen & {Part.SKIN, Part.HAIR, Part.HAT}  # from behind, long hair and sleeves may hide all skin
    for spectrum, channels in (("visible", 3), ("nir", 1), ("thermal", 1)):
        image = paint(who, figure, spectrum)
        assert image.shape == (*size, channels)
        assert image.min() >= 0
        assert image.max() <= 1
        assert not image[figure.parts == 0].any()


def test_listing_numbers_people_and_cameras() -> None:
    spec = SyntheticSpec(num_train_ids=60, num_test_ids=20, images_per_camera=3)
    table = listing(spec)
    assert set(table.person_ids.tolist()) == set(range(1, 81))
    assert set(table.person_ids[table.is_train].tolist()) == set(range(1, 61))
    assert set(table.camera_ids[table.modality == Modality.INFRARED].tolist()) == {3, 6}
    assert set(table.camera_ids[table.modality == Modality.VISIBLE].tolist()) == {1, 2, 4, 5}
    assert table.paths[0] == f"cam{seen_by(spec, 1)[0]}/0001/0001.jpg"
    for person in range(1, 81):
        cameras = set(table.camera_ids[table.person_ids == person].tolist())
        assert cameras == set(seen_by(spec, person))
        assert cameras & {3, 6}
        assert len(cameras & {1, 2, 4, 5}) >= 2
    complete = np.mean([len(seen_by(spec, person)) == 6 for person in range(1, 81)])
    assert 0.6 < complete < 1


def test_reader_is_picklable() -> None:
    table = listing(SMALL)
    np.testing.assert_array_equal(pixels(pickle.loads(pickle.dumps(table.read))(3)), pixels(table.read(3)))


def test_near_infrared_follows_visible_luminance_only_in_part() -> None:
    people = [sample_identity(np.random.default_rng(seed)) for seed in range(300)]
    for garments in ([who.upper for who in people], [who.lower for who in people]):
        luminance = np.array([garment.main[:3] @ LUMINANCE for garment in garments])
        infrared = np.array([garment.main[3] for garment in garments])
        slope, _ = np.polyfit(luminance, infrared, 1)
        assert 0.55 < slope < 0.75
        assert 0.45 < np.corrcoef(luminance, infrared)[0, 1] < 0.92


def test_near_infrared_pictures_follow_visible_ones_only_in_part() -> None:
    spec = SyntheticSpec(images_per_camera=2, height=64, width=32)
    chest = (slice(18, 30), slice(13, 19))

    def brightness(person: int, camera: int) -> float:
        return float(np.mean([pixels(draw_image(spec, person, camera, k).convert("L"))[chest].mean() for k in (1, 2)]))

    visible, infrared = ([brightness(person, camera) for person in range(1, 81)] for camera in (2, 3))
    assert 0.25 < np.corrcoef(visible, infrared)[0, 1] < 0.92


def test_colours_are_muted() -> None:
    spec = SyntheticSpec(height=64, width=32)
    saturation = [np.ptp(pixels(draw_image(spec, person, 4, 1)), axis=2).mean() for person in range(1, 41)]
    assert np.mean(saturation) < 40


def test_pattern_contrast_is_partly_lost_in_near_infrared() -> None:
    people = [sample_identity(np.random.default_rng(seed)) for seed in range(300)]
    change = np.array([who.upper.accent - who.upper.main for who in people])
    visible, infrared = np.abs(change[:, :3] @ LUMINANCE).mean(), np.abs(change[:, 3]).mean()
    assert 0.2 * visible < infrared < 0.65 * visible


def test_thermal_people_are_warmer_than_the_scene_and_skin_is_warmest() -> None:
    spec = SyntheticSpec(variant="thermal")
    images = np.mean([pixels(draw_image(spec, person, 2, 1)) for person in range(1, 31)], axis=0)
    assert images[40:80, 26:38].mean() > images[:, :6].mean() + 40
    people = [sample_identity(np.random.default_rng(seed)) for seed in range(100)]
    assert all(who.skin[4] > max(who.upper.main[4], who.lower.main[4], who.bag[4]) for who in people)


@pytest.mark.parametrize("variant", ["nir", "thermal", "low_light"])
def test_cameras_see_what_their_numbers_say(variant: str) -> None:
    spec = replace(SMALL, variant=variant)
    table = listing(spec)
    for i, path in enumerate(table.paths):
        camera = next(camera for camera in spec.cameras.values() if camera.number == table.camera_ids[i])
        assert table.read(i).mode == ("L" if table.modality[i] == Modality.INFRARED else "RGB")
        assert variant != "nir" or path.startswith(f"cam{camera.number}/")


def test_low_light_pairs_cameras_at_dark_places() -> None:
    spec = SyntheticSpec(
        num_train_ids=20, num_test_ids=10, images_per_camera=1, height=32, width=16, variant="low_light"
    )
    table = listing(spec)
    visible, infrared = (table.modality == modality for modality in Modality)
    assert set(table.camera_ids[visible].tolist()) == set(range(1, 10))
    assert set(table.camera_ids[infrared].tolist()) == set(range(1, 10)) - {3}
    for person in range(1, 31):
        places = [
            set(table.camera_ids[(table.person_ids == person) & chosen].tolist()) for chosen in (visible, infrared)
        ]
        assert len(places[0]) == 4
        assert places[1] == places[0] - {3}
        assert sorted(seen_by(spec, person)) == list(seen_by(spec, person))
    assert table.paths[0].startswith("vis/0001/0001_c0")
    assert table.paths[-1].startswith("test_nir/cam")
    assert table.paths[-1].endswith(f"/0030/0030_c0{table.camera_ids[-1]}_s000001_f0001_nir.jpg")
    light = [pixels(draw_image(spec, person, 1, 1)).mean() for person in range(1, 16)]
    usual = [pixels(draw_image(replace(spec, variant="nir"), person, 4, 1)).mean() for person in range(1, 16)]
    assert 0.25 < np.mean(light) / np.mean(usual) < 0.6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images_per_camera": 0}, "images_per_camera is 0, expected 1 to 1000"),
        ({"height": 3}, "height is 3"),
        ({"seed": -1}, "seed is -1"),
        ({"num_train_ids": 0, "num_test_ids": 0}, "both 0"),
    ],
)
def test_a_spec_out_of_range_says_so(change: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SyntheticSpec(**change)  # type: ignore[arg-type]
