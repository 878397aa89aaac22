"""Protocols: exact golden galleries, hiding rules, and faults that cannot be expressed."""

from __future__ import annotations

import json
import random
import re
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import pytest

from sa_lab.evaluation import protocols
from sa_lab.evaluation.galleries import gallery_indices, hidden_mask, query_indices
from sa_lab.evaluation.protocols import PROTOCOLS
from sa_lab.schema import Modality

HERE = Path(__file__).parent / "golden"


def sysu_columns(tree: dict[str, int], *, shuffle: bool = False) -> dict:
    paths = [f"{folder}/{n:04d}.jpg" for folder, count in tree.items() for n in range(1, count + 1)]
    if shuffle:
        np.random.default_rng(0).shuffle(paths)
    cameras = np.array([int(re.match(r"cam(\d)/", p)[1]) for p in paths])
    return {
        "paths": paths,
        "camera_ids": cameras,
        "person_ids": np.array([int(p.split("/")[1]) for p in paths]),
        "modality": np.isin(cameras, (3, 6)).astype(np.int64),
    }


def only(columns: dict, *names: str) -> dict:
    return {name: columns[name] for name in names}


@pytest.mark.parametrize("shuffle", [False, True])
def test_golden_sysu_galleries(shuffle: bool) -> None:
    golden = json.loads((HERE / "sysu_gallery.json").read_text())
    columns = sysu_columns(golden["images_per_folder"], shuffle=shuffle)
    for key, expected in golden["gallery"].items():
        mode, trial = key.split("/")
        chosen = gallery_indices(PROTOCOLS[f"sysu-{mode}"], **columns, trial=int(trial))
        assert [columns["paths"][i] for i in chosen] == expected, key
    assert len(golden["gallery"]) == 20
    for protocol in (protocols.SYSU_ALL, protocols.SYSU_INDOOR):
        query = query_indices(protocol, **only(columns, "modality", "camera_ids"))
        assert sorted(columns["paths"][i] for i in query) == sorted(golden["query"])


def test_golden_llcm_galleries() -> None:
    golden = json.loads((HERE / "llcm_gallery.json").read_text())
    parts = [re.match(r"test_(vis|nir)/cam(\d)/(\d+)/", path).groups() for path in golden["files"]]
    columns = {
        "paths": golden["files"],
        "modality": np.array([int(spectrum == "nir") for spectrum, _, _ in parts]),
        "camera_ids": np.array([int(camera) for _, camera, _ in parts]),
        "person_ids": np.array([int(person) for _, _, person in parts]),
    }
    searched = {"visible": protocols.LLCM_INFRARED_TO_VISIBLE, "infrared": protocols.LLCM_VISIBLE_TO_INFRARED}
    for key, expected in golden["gallery"].items():
        spectrum, trial = key.split("/")
        chosen = gallery_indices(searched[spectrum], **columns, trial=int(trial))
        assert [columns["paths"][i] for i in chosen] == expected, key
    assert len(golden["gallery"]) == 20


def tiny_columns() -> dict:
    tree = {f"cam{c}/{p:04d}": 12 + c for c in range(1, 7) for p in (7, 30, 5)}
    return sysu_columns(tree | {"cam1/0030": 3})


def test_multi_shot_draws_without_replacement_and_repeats() -> None:
    columns, protocol = tiny_columns(), PROTOCOLS["sysu-all-multi-shot"]
    chosen = gallery_indices(protocol, **columns, trial=4)
    assert len(set(chosen.tolist())) == len(chosen) == 11 * 10 + 3  # a camera with three images gives all three
    np.testing.assert_array_equal(chosen, gallery_indices(protocol, **columns, trial=4))
    assert set(chosen.tolist()) != set(gallery_indices(protocol, **columns, trial=5).tolist())
    assert set(columns["camera_ids"][chosen]) == {1, 2, 4, 5}


def test_gallery_is_ordered_by_identity_then_camera() -> None:
    columns = tiny_columns()
    for protocol in (protocols.SYSU_ALL, protocols.INFRARED_TO_VISIBLE):
        chosen = gallery_indices(protocol, **columns)
        keys = list(zip(columns["person_ids"][chosen], columns["camera_ids"][chosen], strict=True))
        assert keys == sorted(keys)


def test_the_global_generator_has_no_say() -> None:
    draws = []
    for seed in (0, 1):
        random.seed(seed)
        draws.append(gallery_indices(protocols.SYSU_ALL, **tiny_columns(), trial=3).tolist())
    assert draws[0] == draws[1]


@pytest.mark.parametrize("protocol", [protocols.INFRARED_TO_VISIBLE, protocols.VISIBLE_TO_INFRARED])
def test_plain_protocols_take_everything(protocol) -> None:
    columns = tiny_columns()
    query = query_indices(protocol, **only(columns, "modality", "camera_ids"))
    gallery = gallery_indices(protocol, **columns)
    assert sorted([*query, *gallery]) == list(range(len(columns["paths"])))
    assert (columns["modality"][query] == protocol.query_modality).all()
    assert (columns["modality"][gallery] == protocol.gallery_modality).all()
    mask = hidden_mask(protocol, **only(columns, "person_ids", "camera_ids"), query=query, gallery=gallery)
    assert mask.shape == (len(query), len(gallery))
    assert not mask.any()


def test_hiding_rules_by_hand() -> None:
    columns = {"person_ids": np.array([1, 1, 1, 2, 1, 2]), "camera_ids": np.array([3, 6, 2, 2, 3, 6])}
    query, gallery = np.array([0, 1]), np.array([2, 3, 4, 5])
    sysu = hidden_mask(protocols.SYSU_ALL, **columns, query=query, gallery=gallery)
    assert sysu.tolist() == [[True, True, False, False], [False] * 4]  # camera 2 from camera 3, whatever the identity
    llcm = hidden_mask(protocols.LLCM_VISIBLE_TO_INFRARED, **columns, query=query, gallery=gallery)
    assert llcm.tolist() == [[False, False, True, False], [False] * 4]  # own identity in own camera only


def test_every_protocol_has_one_direction_and_describes_itself() -> None:
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name
        assert protocol.query_modality != protocol.gallery_modality
        assert protocol.description.startswith(f"{name}: {protocol.query_modality.name.lower()} (")
    assert "hidden: camera 2 from camera 3" in protocols.SYSU_INDOOR.description
    with pytest.raises(FrozenInstanceError):
        protocols.SYSU_ALL.shots = 10  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gallery_modality": Modality.INFRARED}, "both INFRARED"),
        ({"sampling": "all"}, "draws nothing"),
        ({"shots": None}, "shots is None"),
        ({"shots": 0}, "shots is 0"),
        ({"num_trials": 0}, "num_trials is 0"),
        ({"hidden_cameras": ()}, "expected pairs"),
        ({"hiding": "nothing"}, "expected pairs"),
    ],
)
def test_contradictions_raise(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(protocols.SYSU_ALL, **changes)


def test_missing_images_and_trials_raise() -> None:
    columns = sysu_columns({"cam4/0001": 2})
    with pytest.raises(ValueError, match="no query among 2 images"):
        query_indices(protocols.SYSU_ALL, **only(columns, "modality", "camera_ids"))
    with pytest.raises(ValueError, match="no gallery image among 2 images"):
        gallery_indices(protocols.SYSU_INDOOR, **columns)
    with pytest.raises(ValueError, match=r"trial is 10, expected 0\.\.9"):
        gallery_indices(protocols.SYSU_ALL, **columns, trial=10)


def test_official_galleries_by_hand() -> None:
    """The first images of each row of the permutation, in its order; ten shots take all where there are fewer."""
    columns = sysu_columns({"cam1/0007": 3, "cam4/0007": 2, "cam3/0007": 1})
    order = np.array([[1, 2], [0, 0], [2, 1], [0, 1], [1, 0], [-1, -1]])  # infrared images have no place, and need none
    protocol = replace(PROTOCOLS["sysu-all-official"], num_trials=2)
    multi = replace(PROTOCOLS["sysu-all-multi-shot-official"], num_trials=2)
    assert gallery_indices(protocol, **columns, gallery_order=order, trial=0).tolist() == [1, 3]
    assert gallery_indices(protocol, **columns, gallery_order=order, trial=1).tolist() == [1, 4]
    assert gallery_indices(multi, **columns, gallery_order=order, trial=1).tolist() == [1, 2, 0, 4, 3]


def test_official_galleries_need_the_permutation() -> None:
    columns = sysu_columns({"cam1/0007": 3, "cam3/0007": 1})
    protocol = PROTOCOLS["sysu-all-official"]
    with pytest.raises(ValueError, match=r"gallery_order is None, expected 10 trials.*rand_perm_cam\.mat"):
        gallery_indices(protocol, **columns)
    with pytest.raises(ValueError, match="gallery_order is of 2 trials, expected 10"):
        gallery_indices(protocol, **columns, gallery_order=np.zeros((4, 2), int))
    with pytest.raises(ValueError, match=r"identity 7, camera 1 at \[.*\] in trial 4, expected each of 0\.\.2 once"):
        gallery_indices(protocol, **columns, gallery_order=np.full((4, 10), -1), trial=4)


def test_regdb_has_two_protocols_a_split() -> None:
    names = [protocol.name for split in range(1, 11) for protocol in protocols.regdb(split)]
    assert len(set(names)) == 20
    assert set(names) <= set(PROTOCOLS)
    assert all("; split 4" in protocol.description for protocol in protocols.regdb(4))
    for split in (0, 11):
        with pytest.raises(ValueError, match=rf"split is {split}, expected 1\.\.10"):
            protocols.regdb(split)
