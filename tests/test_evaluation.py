"""Descriptors, scores and reports against plain computations and numbers by hand."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sa_lab import evaluation, transforms
from sa_lab.data.store import ImageStore
from sa_lab.evaluation import LeakageError, embed, evaluate, similarity
from sa_lab.model import TwoStreamNet, build_model
from sa_lab.protocols import INFRARED_TO_VISIBLE, SYSU_ALL, VISIBLE_TO_INFRARED
from sa_lab.schema import DataError, Embeddings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def network() -> TwoStreamNet:
    """A random network whose neck does something, in double precision."""
    net = build_model(3, "mobilenet_v2", 2, "random", 0).double()
    generator = torch.Generator().manual_seed(1)
    norm = net.neck.norm
    norm.running_mean.copy_(0.01 * torch.randn(norm.running_mean.shape, generator=generator))
    norm.running_var.copy_(1e-3 * (1 + torch.rand(norm.running_var.shape, generator=generator)))
    return net


def embeddings_of(
    vectors: list[list[float]], person_ids: list[int], modality: list[int], camera_ids: list[int] | None = None
) -> Embeddings:
    """Descriptor A from unit vectors (one part), descriptor B all zero: the score is the dot product."""
    features = np.array(vectors)[:, None]
    cameras = np.array(camera_ids) if camera_ids else np.array(modality) + 1
    paths = tuple(f"{i:03}" for i in range(len(vectors)))
    return Embeddings(features, np.zeros_like(features), np.array(person_ids), cameras, np.array(modality), paths)


def drawn(seed: int, people: int = 12, per_person: int = 3, noise: float = 1.0) -> Embeddings:
    """Noisy people in both spectra; six cameras as in SYSU-MM01."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), 6 * per_person)
    camera = np.tile(np.repeat(np.arange(1, 7), per_person), people)
    features, normed = (
        rng.normal(size=(people, 2, 5))[person] + noise * rng.normal(size=(len(person), 2, 5)) for _ in range(2)
    )
    modality = np.isin(camera, (3, 6)).astype(int)
    paths = tuple(f"cam{c}/{p:04}/{i:04}.jpg" for i, (c, p) in enumerate(zip(camera, person, strict=True)))
    return Embeddings(features, normed, person, camera, modality, paths)


def test_descriptors_are_those_of_a_plain_computation(micro_store: ImageStore, network: TwoStreamNet) -> None:
    index = np.flatnonzero(~micro_store.is_train)[[0, 7, 3, 12, 4]]
    result = embed(network, micro_store, index, CPU, batch_size=2, progress=False)
    assert not network.training
    expected = {"part_features": [], "embeddings": []}
    for i in index:
        image = (micro_store.images[i].double() / 255)[None]
        modality = torch.tensor([int(micro_store.modality[i])])
        totals = dict.fromkeys(expected, 0)
        for view in (image, torch.flip(image, [3])):
            with torch.no_grad():
                features = network(transforms.normalize(view), modality)
            for name in expected:
                parts = [part / np.linalg.norm(part) for part in getattr(features, name)[0].numpy()]
                whole = np.concatenate(parts)
                totals[name] = totals[name] + (whole / np.linalg.norm(whole)).reshape(len(parts), -1)
        for name, total in totals.items():
            expected[name].append(total)
    for name, rows in expected.items():
        np.testing.assert_allclose(getattr(result, name), np.stack(rows), atol=1e-12)
    for name in ("person_ids", "camera_ids", "modality"):
        np.testing.assert_array_equal(getattr(result, name), getattr(micro_store, name)[index])
    assert result.paths == tuple(micro_store.paths[i] for i in index)
    assert result.prototypes is None


def test_each_image_goes_through_its_own_stem(micro_store: ImageStore, network: TwoStreamNet) -> None:
    index = np.arange(6)
    turned = replace(micro_store, modality=1 - micro_store.modality)
    ours, others = (embed(network, store, index, CPU, progress=False) for store in (micro_store, turned))
    difference = np.abs(ours.part_features - others.part_features).max((1, 2))
    assert (difference > 1e-6).all()


def test_descriptors_do_not_depend_on_the_flip_or_the_batch(micro_store: ImageStore, network: TwoStreamNet) -> None:
    index = np.arange(5)
    mirrored = replace(micro_store, images=micro_store.images.flip(3))
    ours, theirs = (embed(network, store, index, CPU, progress=False) for store in (micro_store, mirrored))
    np.testing.assert_allclose(ours.part_features, theirs.part_features, atol=1e-12)
    norms = np.linalg.norm(ours.part_features.reshape(5, -1), axis=1)
    assert (norms <= 2 + 1e-12).all()
    assert (norms > 1).all()


def test_prototypes_travel_with_the_descriptors(micro_store: ImageStore, network: TwoStreamNet, tmp_path: Path) -> None:
    prototypes = torch.randn(2, 6, network.embedding_dim, requires_grad=True)
    index = np.flatnonzero(~micro_store.is_train)[:3]
    result = embed(network, micro_store, index, CPU, prototypes, np.array([2, 4, 6]), progress=False)
    np.testing.assert_array_equal(result.prototypes, prototypes.detach().numpy())
    result.save(tmp_path / "deep" / "embeddings.npz")
    loaded = Embeddings.load(tmp_path / "deep" / "embeddings.npz")
    assert loaded.paths == result.paths
    for name in ("person_ids", "camera_ids", "modality", "prototype_ids"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(result, name))
    for name in ("part_features", "embeddings", "prototypes"):
        np.testing.assert_allclose(getattr(loaded, name), getattr(result, name), rtol=1e-3, atol=1e-7)
        assert getattr(loaded, name).dtype == np.float32
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["embeddings.npz"]


def test_similarity_sums_both_descriptors() -> None:
    ones = np.ones((2, 1, 2))
    first = Embeddings(
        np.array([[[1.0, 2.0]], [[0.0, 1.0]]]), 3 * ones, np.arange(2), np.ones(2, int), np.zeros(2, int), ("a", "b")
    )
    second = Embeddings(np.array([[[4.0, 5.0]]]), ones[:1], np.arange(1), np.ones(1, int), np.ones(1, int), ("c",))
    assert similarity(first, second).tolist() == [[14 + 6], [5 + 6]]
    big = drawn(0)
    scores = similarity(big.subset(np.arange(4)), big.subset(np.arange(4, 9)))
    for q in range(4):
        for g in range(5):
            plain = (big.part_features[q] * big.part_features[4 + g]).sum()
            plain += (big.embeddings[q] * big.embeddings[4 + g]).sum()
            assert scores[q, g].item() == pytest.approx(plain)


def test_measures_by_hand() -> None:
    """Two infrared queries, four visible images.

    Query of person 1 ranks the gallery 1 2 1 2: AP = (1/1 + 2/3)/2 = 5/6, INP = 2/3. Query of person 2 ranks it
    1 1 2 2: first match at rank 3, AP = (1/3 + 2/4)/2 = 5/12, INP = 2/4.
    """
    gallery = np.eye(4).tolist()
    queries = [[0.9, 0.8, 0.7, 0.6], [0.9, 0.7, 0.8, 0.6]]
    report = evaluate(embeddings_of(gallery + queries, [1, 2, 1, 2, 1, 2], [0, 0, 0, 0, 1, 1]), INFRARED_TO_VISIBLE)
    means = {name: measure.mean for name, measure in report.measures.items()}
    assert means == pytest.approx(
        {
            "rank_1": 0.5,
            "rank_5": 1,
            "rank_10": 1,
            "rank_20": 1,
            "mean_ap": (5 / 6 + 5 / 12) / 2,
            "mean_inp": (2 / 3 + 1 / 2) / 2,
        }
    )
    assert (report.num_queries, report.num_identities) == (2, 2)
    assert [row["first_rank"] for row in report.queries] == [1, 3]
    assert [row["average_precision"] for row in report.queries] == pytest.approx([5 / 6, 5 / 12])
    assert [row["inverse_negative_penalty"] for row in report.queries] == pytest.approx([2 / 3, 1 / 2])
    assert [row["path"] for row in report.queries] == ["004", "005"]
    measure = report.measures["rank_1"]
    assert (measure.std, measure.low, measure.high) == (0, 0, 1)


def test_direction_of_the_search() -> None:
    vectors = [[1.0, 0], [0, 1.0], [1.0, 0], [0.6, 0.5]]
    data = embeddings_of(vectors, [1, 2, 1, 2], [0, 0, 1, 1])
    assert evaluate(data, INFRARED_TO_VISIBLE).measures["rank_1"].mean == 0.5
    assert evaluate(data, VISIBLE_TO_INFRARED).measures["rank_1"].mean == 1.0
    assert evaluate(data, VISIBLE_TO_INFRARED).protocol["query_modality"] == 0


def test_queries_without_a_match_do_not_count() -> None:
    vectors = [[1.0, 0], [0, 1.0], [1.0, 0], [0.6, 0.5], [0.1, 0.9]]
    report = evaluate(embeddings_of(vectors, [1, 2, 1, 2, 3], [0, 0, 1, 1, 1]), INFRARED_TO_VISIBLE)
    assert (report.num_queries, report.num_identities) == (2, 2)
    assert report.measures["rank_1"].mean == 0.5
    assert report.queries[2]["first_rank"] == 0


def test_trials_are_averaged() -> None:
    """Every measure is the mean over the ten galleries, and each gallery is one of the protocol's own draws."""
    data = drawn(3)
    report = evaluate(data, SYSU_ALL)
    assert {row["trial"] for row in report.queries} == set(range(10))
    first_ranks = np.array([row["first_rank"] for row in report.queries]).reshape(10, -1)
    assert report.num_queries == first_ranks.shape[1] == 12 * 2 * 3
    trials = {
        "rank_1": (first_ranks == 1).mean(1),
        "rank_5": (first_ranks <= 5).mean(1),
        "mean_ap": np.array([row["average_precision"] for row in report.queries]).reshape(10, -1).mean(1),
        "mean_inp": np.array([row["inverse_negative_penalty"] for row in report.queries]).reshape(10, -1).mean(1),
    }
    for name, values in trials.items():
        assert report.measures[name].mean == pytest.approx(values.mean())
        assert report.measures[name].std == pytest.approx(values.std())
        assert values.std() > 0


@pytest.mark.parametrize("seed", range(5))
def test_intervals_hold_the_mean_and_narrow_with_more_people(seed: int) -> None:
    few, many = (evaluate(drawn(seed, people, noise=2.0), SYSU_ALL, draws=400) for people in (8, 48))
    for report in (few, many):
        for name, measure in report.measures.items():
            assert 0 <= measure.low <= measure.mean <= measure.high <= 1, name
    width = [report.measures["mean_ap"].high - report.measures["mean_ap"].low for report in (few, many)]
    assert width[1] < width[0]


def test_perfect_descriptors_are_perfect() -> None:
    report = evaluate(drawn(0, noise=0.0), SYSU_ALL, draws=50)
    assert all((m.mean, m.std, m.low, m.high) == (1, 0, 1, 1) for m in report.measures.values())


def test_the_seed_decides_the_interval_and_nothing_else() -> None:
    first, again, other = (evaluate(drawn(1), SYSU_ALL, seed=seed, draws=100) for seed in (0, 0, 1))
    assert first == again
    assert first.queries == other.queries
    assert first.measures["mean_ap"].mean == other.measures["mean_ap"].mean
    assert first.measures["mean_ap"] != other.measures["mean_ap"]


def test_the_order_of_the_images_is_irrelevant() -> None:
    data = drawn(2)
    shuffled = data.subset(np.random.default_rng(0).permutation(len(data)))
    ours, theirs = evaluate(data, SYSU_ALL, draws=50), evaluate(shuffled, SYSU_ALL, draws=50)
    for name, measure in ours.measures.items():
        assert theirs.measures[name].mean == pytest.approx(measure.mean)


def test_identities_of_the_training_are_refused() -> None:
    data = replace(drawn(0), prototypes=np.zeros((2, 6, 5)), prototype_ids=np.array([4, 7, 100]))
    with pytest.raises(LeakageError, match=r"identities \[4, 7\] were trained on"):
        evaluate(data, SYSU_ALL)
    clean = data.subset(~np.isin(data.person_ids, [4, 7]))
    assert evaluate(clean, SYSU_ALL, draws=10).num_identities == 10


def test_one_spectrum_alone_cannot_be_searched() -> None:
    data = drawn(0)
    with pytest.raises(ValueError, match="no query among"):
        evaluate(data.subset(data.modality == 0), SYSU_ALL)
    with pytest.raises(ValueError, match="no gallery image among"):
        evaluate(data.subset(data.modality == 1), SYSU_ALL)


def test_report_files(tmp_path: Path) -> None:
    report = evaluate(drawn(0, people=4), SYSU_ALL, draws=20)
    report.save(tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"report.json", "queries.csv"}
    summary = json.loads((tmp_path / "run" / "report.json").read_text())
    assert summary["protocol"]["name"] == "sysu-all"
    assert summary["protocol"]["description"] == SYSU_ALL.description
    assert set(summary["measures"]) == {*(f"rank_{k}" for k in evaluation.RANKS), "mean_ap", "mean_inp"}
    assert summary["measures"]["mean_ap"]["low"] == report.measures["mean_ap"].low
    assert "queries" not in summary
    with (tmp_path / "run" / "queries.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report.queries) == 10 * 4 * 2 * 3
    assert float(rows[5]["average_precision"]) == report.queries[5]["average_precision"]


def test_embeddings_are_checked_when_they_are_made(tmp_path: Path) -> None:
    data = drawn(0, people=2, per_person=1)
    spoiled = data.part_features.copy()
    spoiled[0] = np.nan
    for wrong, message in (
        ({"part_features": spoiled}, "part_features holds NaN or infinity"),
        ({"modality": data.modality + 1}, r"modality holds \[2\]"),
        ({"paths": ("a",)}, "paths has 1 entries, expected 12"),
        ({"prototypes": np.zeros((2, 4, 5))}, "come together or not at all"),
        ({"prototypes": np.zeros((2, 4, 5)), "prototype_ids": np.arange(3)}, r"expected \(P, 2\*3, D\)"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(data, **wrong)
    np.savez(tmp_path / "other.npz", embeddings=data.embeddings)
    with pytest.raises(DataError, match=r"other\.npz: no camera_ids, modality, part_features, paths, person_ids"):
        Embeddings.load(tmp_path / "other.npz")
    np.testing.assert_array_equal(data.subset(data.modality == 1).camera_ids, [3, 6, 3, 6])


def test_rounding_of_saved_descriptors_changes_no_measure(tmp_path: Path) -> None:
    data = drawn(5)
    data.save(tmp_path / "embeddings.npz")
    saved = evaluate(Embeddings.load(tmp_path / "embeddings.npz"), SYSU_ALL, draws=10)
    for name, measure in evaluate(data, SYSU_ALL, draws=10).measures.items():
        assert saved.measures[name].mean == pytest.approx(measure.mean, abs=2e-3)
