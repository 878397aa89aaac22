"""Descriptors, scores and reports against plain computations and numbers by hand."""

from __future__ import annotations

import csv
import json
import random
import re
from dataclasses import replace
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat

from sa_lab import transforms
from sa_lab.data.store import ImageStore
from sa_lab.evaluation import search as searching
from sa_lab.evaluation.embedding import embed
from sa_lab.evaluation.protocols import INFRARED_TO_VISIBLE, PROTOCOLS, SYSU_ALL, VISIBLE_TO_INFRARED, Protocol, regdb
from sa_lab.evaluation.reports import RANKS, Report
from sa_lab.evaluation.rerank import KReciprocal
from sa_lab.evaluation.search import evaluate, evaluate_all, search, similarity
from sa_lab.model import TwoStreamNet, build_model
from sa_lab.schema import DataError, Embeddings, LeakageError

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parent / "golden"


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
    ones = np.ones((3, 1, 2))
    features = np.array([[[1.0, 2.0]], [[0.0, 1.0]], [[4.0, 5.0]]])
    data = Embeddings(features, ones, np.arange(3), np.ones(3, int), np.array([0, 0, 1]), ("a", "b", "c"))
    assert similarity(data, np.array([0, 1]), np.array([2])).tolist() == [[14 + 2], [5 + 2]]
    single = replace(data, part_features=None)
    assert similarity(single, np.array([0, 1]), np.array([2])).tolist() == [[2], [2]]


def test_similarity_in_blocks_equals_a_plain_product(monkeypatch: pytest.MonkeyPatch) -> None:
    big, rng = drawn(0), np.random.default_rng(0)
    query, gallery = rng.permutation(len(big))[:23], rng.permutation(len(big))[:31]
    flat = {name: values.reshape(len(big), -1) for name, values in big.descriptors.items()}
    plain = sum(values[query] @ values[gallery].T for values in flat.values())
    for rows in (1, 7, 1024):
        monkeypatch.setattr(searching, "_ROWS", rows)
        np.testing.assert_allclose(similarity(big, query, gallery), plain, atol=1e-12)


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
    assert report.queries["first_rank"].tolist() == [1, 3]
    assert report.queries["average_precision"].tolist() == pytest.approx([5 / 6, 5 / 12])
    assert report.queries["inverse_negative_penalty"].tolist() == pytest.approx([2 / 3, 1 / 2])
    assert report.queries["path"].tolist() == ["004", "005"]
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
    assert report.queries["first_rank"][2] == 0


def test_trials_are_averaged() -> None:
    """Every measure is the mean over the ten galleries, and each gallery is one of the protocol's own draws."""
    data = drawn(3)
    report = evaluate(data, SYSU_ALL)
    assert set(report.queries["trial"].tolist()) == set(range(10))
    first_ranks = report.queries["first_rank"].reshape(10, -1)
    assert report.num_queries == first_ranks.shape[1] == 12 * 2 * 3
    trials = {
        "rank_1": (first_ranks == 1).mean(1),
        "rank_5": (first_ranks <= 5).mean(1),
        "mean_ap": report.queries["average_precision"].reshape(10, -1).mean(1),
        "mean_inp": report.queries["inverse_negative_penalty"].reshape(10, -1).mean(1),
    }
    for name, values in trials.items():
        assert report.measures[name].mean == pytest.approx(values.mean())
        assert report.measures[name].std == pytest.approx(values.std(ddof=1))
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
    assert first.measures == again.measures
    for name, column in first.queries.items():
        np.testing.assert_array_equal(column, other.queries[name])
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


def test_identities_seen_in_selection_and_other_splits_are_refused() -> None:
    data = drawn(0)
    with pytest.raises(LeakageError, match=r"identities \[3\] were trained on"):
        evaluate(replace(data, seen_ids=np.array([3, 99])), SYSU_ALL)
    with pytest.raises(LeakageError, match="for test images of split 2, but these descriptors are of split 1"):
        evaluate(replace(data, split=1), regdb(2)[0])
    with pytest.raises(LeakageError, match="name none: add split to their file"):
        evaluate(data, regdb(2)[0])
    for protocol in regdb(2):
        assert evaluate(replace(data, split=2), protocol, draws=5).protocol["split"] == 2


def test_a_protocol_belongs_to_its_data_set() -> None:
    data = drawn(0)
    for dataset in ("llcm", "regdb-generated"):
        with pytest.raises(ValueError, match="sysu-all is a protocol of sysu, but these descriptors are of"):
            evaluate(replace(data, dataset=dataset), SYSU_ALL)
        assert evaluate(replace(data, dataset=dataset), INFRARED_TO_VISIBLE, draws=5).dataset == dataset
    for dataset in ("sysu", "sysu-generated", "synthetic", ""):
        assert evaluate(replace(data, dataset=dataset), SYSU_ALL, draws=5).dataset == dataset


def test_several_protocols_at_once_equal_each_alone() -> None:
    data = drawn(4)
    rules = [PROTOCOLS["sysu-indoor"], VISIBLE_TO_INFRARED, SYSU_ALL, PROTOCOLS["sysu-all-multi-shot"]]
    for together, protocol in zip(evaluate_all(data, rules, draws=20), rules, strict=True):
        alone = evaluate(data, protocol, draws=20)
        assert together.measures == alone.measures
        assert together.protocol["name"] == protocol.name


@pytest.mark.parametrize("images", ["all", "indoor"])
@pytest.mark.parametrize("shots", [1, 10])
def test_golden_official_protocol(images: str, shots: int) -> None:
    """The data set's own permutation file; rank, mAP are means over its ten trials, similarity is the cosine."""
    with np.load(GOLDEN / "sysu_official.npz") as file:
        names, features, results = file["names"].tolist(), file["features"], json.loads(str(file["results"]))
        tested = file["test_ids"]
    cameras = np.array([int(name[3]) for name in names])
    persons = np.array([int(name.split("/")[1]) for name in names])
    assert set(persons.tolist()) == set(tested.tolist())
    permutation = loadmat(GOLDEN / "sysu_official_rand_perm_cam.mat")["rand_perm_cam"]
    order = np.full((len(names), 10), -1)
    for folder in {(c, p) for c, p in zip(cameras, persons, strict=True)}:
        here = np.flatnonzero((cameras == folder[0]) & (persons == folder[1]))
        order[here] = np.argsort(permutation[folder[0] - 1, 0][folder[1] - 1, 0].astype(int) - 1, axis=1).T
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    data = Embeddings(
        None, units[:, None], persons, cameras, np.isin(cameras, (3, 6)).astype(int), tuple(names), gallery_order=order
    )
    name = f"sysu-{images}" + ("-multi-shot" if shots == 10 else "") + "-official"
    measures, expected = evaluate(data, PROTOCOLS[name], draws=5).measures, results[f"{images}/{shots}"]
    assert measures["mean_ap"].mean == pytest.approx(expected["mean_ap"], abs=1e-6)
    for k in RANKS:
        assert measures[f"rank_{k}"].mean == pytest.approx(expected[f"rank{k}"], abs=1e-6)


def plain_evaluation(data: Embeddings, protocol: Protocol, trial: int) -> tuple[list[int], list[float], list[float]]:
    """First rank, AP and INP of the valid queries, image by image, from what each rule says."""
    images = range(len(data))
    asked = [i for i in images if data.modality[i] == protocol.query_modality]
    asked = [i for i in asked if protocol.query_cameras is None or data.camera_ids[i] in protocol.query_cameras]
    folders: dict[tuple[int, int], list[int]] = {}
    for i in sorted(images, key=lambda i: data.paths[i]):
        if data.modality[i] == protocol.gallery_modality and (
            protocol.gallery_cameras is None or data.camera_ids[i] in protocol.gallery_cameras
        ):
            folders.setdefault((data.person_ids[i], data.camera_ids[i]), []).append(i)
    draw = random.Random(trial)
    gallery: list[int] = []
    for _, files in sorted(folders.items()):
        if protocol.sampling == "all":
            gallery += files
        else:
            gallery += [draw.choice(files)] if protocol.shots == 1 else draw.sample(files, min(10, len(files)))
    first, precisions, penalties = [], [], []
    for q in asked:
        seen = []
        for g in gallery:
            if "sysu" in protocol.name and (data.camera_ids[q], data.camera_ids[g]) == (3, 2):
                continue
            if "llcm" in protocol.name and all(c[q] == c[g] for c in (data.camera_ids, data.person_ids)):
                continue
            seen.append(g)
        score = {g: float((data.embeddings[q] * data.embeddings[g]).sum()) for g in seen}
        ranking = [data.person_ids[g] for g in sorted(seen, key=lambda g: -score[g])]
        places = [rank for rank, person in enumerate(ranking, start=1) if person == data.person_ids[q]]
        if places:
            distinct = list(dict.fromkeys(ranking)) if protocol.first_occurrence else ranking
            first.append(distinct.index(data.person_ids[q]) + 1)
            precisions.append(np.mean([n / place for n, place in enumerate(places, start=1)]))
            penalties.append(len(places) / places[-1])
    return first, precisions, penalties


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 10**6), people=st.integers(1, 6), images=st.integers(8, 60),
    name=st.sampled_from([n for n, p in PROTOCOLS.items() if p.sampling != "official" and p.split in (None, 3)]),
)  # fmt: skip
def test_every_rule_equals_a_plain_implementation(seed: int, people: int, images: int, name: str) -> None:
    """Any number of images a person and camera, none among them; small integers, so that scores tie."""
    rng = np.random.default_rng(seed)
    modality, protocol = rng.integers(0, 2, images), PROTOCOLS[name]
    camera = np.where(modality == 0, rng.choice([1, 2, 4, 5], images), rng.choice([3, 6], images))
    if "sysu" not in name:
        camera = rng.integers(1, 4, images)
    data = Embeddings(
        None, rng.integers(-2, 3, (images, 1, 2)).astype(np.float32), rng.integers(1, people + 1, images), camera,
        modality, tuple(f"{i:03}" for i in rng.permutation(images)), split=protocol.split,
    )  # fmt: skip
    try:
        report = evaluate(data, protocol, draws=5)
    except ValueError as error:
        if not re.search("no query|no gallery image", str(error)):
            raise
        return
    for trial in (0, protocol.num_trials - 1):
        chosen = (report.queries["trial"] == trial) & (report.queries["first_rank"] > 0)
        columns = (
            report.queries[key][chosen] for key in ("first_rank", "average_precision", "inverse_negative_penalty")
        )
        for ours, theirs in zip(columns, plain_evaluation(data, protocol, trial), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-12)


def test_a_search_shows_who_is_found() -> None:
    data = drawn(1)
    found = search(data, SYSU_ALL, trial=3)
    report = evaluate(data, SYSU_ALL, draws=5)
    first = report.queries["first_rank"].reshape(10, -1)[3]
    for row in range(0, len(found.query), 7):
        best = found.best(row, 5)
        assert len(best) == 5
        assert not set(best.tolist()) & set(found.gallery[found.hidden[row]].tolist())
        assert (data.person_ids[best[0]] == data.person_ids[found.query[row]]) == (first[row] == 1)


def test_the_direction_is_the_protocols_alone() -> None:
    """Whatever the caller does, queries come from the protocol's query spectrum and the gallery from the other."""
    data = drawn(1)
    for protocol in (SYSU_ALL, INFRARED_TO_VISIBLE, VISIBLE_TO_INFRARED, *PROTOCOLS.values()):
        if protocol.sampling == "official" or protocol.split:
            continue
        found = search(data, protocol)
        assert (data.modality[found.query] == protocol.query_modality).all()
        assert (data.modality[found.gallery] == protocol.gallery_modality).all()
    for function in (evaluate, evaluate_all, search):
        assert not {"query", "gallery", "similarity", "modality", "hidden"} & set(signature(function).parameters)


def test_reranking_is_named_and_changes_the_ranking() -> None:
    data = drawn(2, noise=1.5)
    plain, reranked = (evaluate(data, SYSU_ALL, rerank=r, draws=20) for r in (None, KReciprocal(k1=6, k2=3)))
    assert "no re-ranking" in plain.title
    assert "k1 6, k2 3" in reranked.title
    assert plain.measures["mean_ap"] != reranked.measures["mean_ap"]


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
    assert set(summary["measures"]) == {*(f"rank_{k}" for k in RANKS), "mean_ap", "mean_inp"}
    assert summary["measures"]["mean_ap"]["low"] == report.measures["mean_ap"].low
    assert "queries" not in summary
    with (tmp_path / "run" / "queries.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(report.queries["path"]) == 10 * 4 * 2 * 3
    loaded = Report.load(tmp_path / "run")
    assert loaded.measures == report.measures
    assert loaded.title == report.title
    for name, column in report.queries.items():
        np.testing.assert_array_equal(loaded.queries[name], column)
    with pytest.raises(DataError, match=r"no whole report-other\.json"):
        Report.load(tmp_path / "run", "-other")
    assert float(rows[5]["average_precision"]) == report.queries["average_precision"][5]


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
    with pytest.raises(DataError, match=r"other\.npz: no camera_ids, modality, paths, person_ids"):
        Embeddings.load(tmp_path / "other.npz")
    np.testing.assert_array_equal(data.subset(data.modality == 1).camera_ids, [3, 6, 3, 6])


def test_rounding_of_saved_descriptors_changes_no_measure(tmp_path: Path) -> None:
    data = drawn(5)
    data.save(tmp_path / "embeddings.npz")
    saved = evaluate(Embeddings.load(tmp_path / "embeddings.npz"), SYSU_ALL, draws=10)
    for name, measure in evaluate(data, SYSU_ALL, draws=10).measures.items():
        assert saved.measures[name].mean == pytest.approx(measure.mean, abs=2e-3)


def test_descriptors_may_stay_on_disk(micro_store: ImageStore, network: TwoStreamNet, tmp_path: Path) -> None:
    index = np.flatnonzero(~micro_store.is_train)
    whole = embed(network, micro_store, index, CPU, progress=False)
    mapped = embed(
        network, micro_store, index, CPU, progress=False, out=tmp_path / "e.npz", dtype=np.float32, batch_size=5
    )
    assert isinstance(mapped.embeddings, np.memmap)
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]
    np.testing.assert_allclose(mapped.embeddings, whole.embeddings, atol=1e-6)
    ours, theirs = (evaluate(data, INFRARED_TO_VISIBLE, draws=5) for data in (whole, mapped))
    assert ours.measures["mean_ap"].mean == pytest.approx(theirs.measures["mean_ap"].mean)
    assert theirs.dataset == "micro"


def external(tmp_path: Path, **changes: object) -> Path:
    """A file as anybody could write it."""
    data = drawn(0)
    columns = {
        "features": data.embeddings.reshape(len(data), -1).astype(np.float16), "person_ids": data.person_ids,
        "camera_ids": data.camera_ids, "modality": data.modality, "paths": np.array(data.paths),
    }  # fmt: skip
    columns |= changes
    np.savez(tmp_path / "theirs.npz", **{name: values for name, values in columns.items() if values is not None})
    return tmp_path / "theirs.npz"


def test_anybodys_descriptors_can_be_scored(tmp_path: Path) -> None:
    loaded, data = Embeddings.load(external(tmp_path), mapped=True), drawn(0)
    np.testing.assert_allclose(np.linalg.norm(loaded.embeddings, axis=2), 1, rtol=1e-5)
    unit = data.embeddings.reshape(len(data), 1, -1)
    unit = unit / np.linalg.norm(unit, axis=2, keepdims=True)
    ours = evaluate(replace(data, part_features=None, embeddings=unit), SYSU_ALL, draws=5)
    assert evaluate(loaded, SYSU_ALL, draws=5).measures["mean_ap"].mean == pytest.approx(
        ours.measures["mean_ap"].mean, abs=2e-3
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paths": None}, r"theirs\.npz: no paths in this file"),
        ({"features": None}, "no embeddings in this file"),
        ({"surprise": np.ones(3)}, "unknown surprise"),
        ({"person_ids": np.array(["a"] * 216)}, "person_ids is of type"),
        ({"person_ids": np.ones(3, int)}, "has 3 entries|entries, expected 3"),
        ({"person_ids": np.ones((216, 1), int)}, r"person_ids has shape \(216, 1\), expected 1 dimensions"),
        ({"gallery_order": np.zeros(216, int)}, r"gallery_order has shape \(216,\), expected 2"),
        ({"features": np.ones((216, 2, 2), np.float32)}, r"features has shape \(216, 2, 2\), expected \(N,D\)"),
        ({"paths": np.array(["a"] * 216)}, "some are alike"),
        ({"paths": np.arange(216)}, "paths are not texts"),
        ({"paths": np.array([{}], dtype=object)}, "no .npz of plain arrays"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_faulty_descriptor_files_are_refused(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Embeddings.load(external(tmp_path, **changes))
