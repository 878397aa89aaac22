"""CMC, mAP, mINP: by hand, against the golden numbers, and against a slow implementation from the definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sa_lab.evaluation import metrics
from sa_lab.evaluation.metrics import evaluate_ranking
from sa_lab.evaluation.reports import RetrievalResult

HERE = Path(__file__).parent / "golden"


def slow_ranking(similarity, query_ids, gallery_ids, hidden, first_occurrence):
    """(valid, first rank, AP, INP) a query, written from the definitions."""
    rows = []
    for q, person in enumerate(query_ids):
        seen = [g for g in range(len(gallery_ids)) if not hidden[q][g]]
        ranking = [gallery_ids[g] for g in sorted(seen, key=lambda g: (-similarity[q][g], g))]
        ranks = [r for r, other in enumerate(ranking, start=1) if other == person]
        if not ranks:
            rows.append((False, 0, float("nan"), float("nan")))
            continue
        once = list(dict.fromkeys(ranking)) if first_occurrence else ranking
        ap = sum(n / r for n, r in enumerate(ranks, start=1)) / len(ranks)
        rows.append((True, once.index(person) + 1, ap, len(ranks) / ranks[-1]))
    return rows


def assert_equals_slow(result: RetrievalResult, rows) -> None:
    valid, first, ap, inp = (np.array(column) for column in zip(*rows, strict=True))
    np.testing.assert_array_equal(result.valid, valid)
    np.testing.assert_array_equal(result.first_rank, first)
    np.testing.assert_allclose(result.average_precision, ap, atol=1e-12)
    np.testing.assert_allclose(result.inverse_negative_penalty, inp, atol=1e-12)


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(HERE / name) as file:
        return dict(file)


def run_golden(data, hidden, first_occurrence, device) -> RetrievalResult:
    return evaluate_ranking(
        -torch.from_numpy(data["distance"]).to(device),
        torch.from_numpy(data["query_ids"]),
        torch.from_numpy(data["gallery_ids"]),
        torch.from_numpy(hidden),
        first_occurrence=first_occurrence,
    )


def assert_golden(result: RetrievalResult, cmc, mean_ap, mean_inp) -> None:
    np.testing.assert_allclose(result.cmc(20), cmc, atol=1e-6)
    assert result.mean_ap == pytest.approx(float(mean_ap), abs=1e-6)
    assert result.mean_inp == pytest.approx(float(mean_inp), abs=1e-6)


@pytest.mark.parametrize("number", range(6))
def test_golden_sysu_and_regdb(number: int, device: str) -> None:
    data = golden(f"metrics_{number}.npz")
    hidden = (data["query_cameras"][:, None] == 3) & (data["gallery_cameras"] == 2)
    sysu = run_golden(data, hidden, first_occurrence=True, device=device)
    assert_golden(sysu, data["sysu_cmc"], data["sysu_map"], data["sysu_minp"])
    regdb = run_golden(data, np.zeros_like(hidden), first_occurrence=False, device=device)
    assert_golden(regdb, data["regdb_cmc"], data["regdb_map"], data["regdb_minp"])


@pytest.mark.parametrize("number", range(2))
def test_golden_llcm(number: int, device: str) -> None:
    data = golden(f"metrics_llcm_{number}.npz")
    hidden = data["query_ids"][:, None] == data["gallery_ids"]
    hidden &= data["query_cameras"][:, None] == data["gallery_cameras"]
    assert_golden(
        run_golden(data, hidden, first_occurrence=True, device=device), data["cmc"], data["mean_ap"], data["mean_inp"]
    )


@st.composite
def retrievals(draw):
    """Small problems full of ties, hidden entries, single images and negative or huge ids."""
    num_queries, num_gallery = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    ids = st.sampled_from([-3, 0, 1, 2, 10**12])
    query_ids = draw(st.lists(ids, min_size=num_queries, max_size=num_queries))
    gallery_ids = draw(st.lists(ids, min_size=num_gallery, max_size=num_gallery))
    row = st.lists(st.sampled_from([-1.0, -0.0, 0.0, 0.5, 2.0]), min_size=num_gallery, max_size=num_gallery)
    similarity = draw(st.lists(row, min_size=num_queries, max_size=num_queries))
    hide = st.lists(st.booleans(), min_size=num_gallery, max_size=num_gallery)
    hidden = draw(st.lists(hide, min_size=num_queries, max_size=num_queries))
    return similarity, query_ids, gallery_ids, hidden


@settings(deadline=None, max_examples=300)
@given(retrievals(), st.booleans(), st.sampled_from([1, 12, 1 << 17]))
def test_equals_the_definitions(problem, first_occurrence: bool, entries_per_chunk: int) -> None:
    similarity, query_ids, gallery_ids, hidden = problem
    rows = slow_ranking(similarity, query_ids, gallery_ids, hidden, first_occurrence)
    arguments = (
        torch.tensor(similarity), torch.tensor(query_ids), torch.tensor(gallery_ids), torch.tensor(hidden)
    )  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "_ENTRIES_PER_CHUNK", (entries_per_chunk,) * 2)
        if not any(row[0] for row in rows):
            with pytest.raises(ValueError, match="no query is valid"):
                evaluate_ranking(*arguments, first_occurrence=first_occurrence)
            return
        result = evaluate_ranking(*arguments, first_occurrence=first_occurrence)
    assert_equals_slow(result, rows)
    cmc = result.cmc(20)
    assert (np.diff(cmc) >= 0).all()
    assert cmc[-1] == 1
    assert 0 < result.mean_inp <= 1
    assert 0 < result.mean_ap <= 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("first_occurrence", [True, False])
def test_every_precision_equals_the_definitions(dtype: torch.dtype, first_occurrence: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    similarity = torch.randn(40, 150, generator=generator).to(dtype)
    query_ids = torch.randint(0, 33, (40,), generator=generator)
    gallery_ids = torch.randint(0, 30, (150,), generator=generator)
    hidden = torch.rand(40, 150, generator=generator) < 0.3
    result = evaluate_ranking(similarity, query_ids, gallery_ids, hidden, first_occurrence=first_occurrence)
    rows = slow_ranking(*(x.tolist() for x in (similarity, query_ids, gallery_ids, hidden)), first_occurrence)
    assert_equals_slow(result, rows)
    assert 0 < result.num_valid < 40


def test_by_hand() -> None:
    """Ranking 8 8 7 9 7 for query 7: matches at entries 3 and 5, second identity seen."""
    similarity, gallery_ids = torch.tensor([[0.1, 0.9, 0.8, 0.7, 0.3]]), torch.tensor([7, 8, 8, 7, 9])
    once = evaluate_ranking(similarity, torch.tensor([7]), gallery_ids, first_occurrence=True)
    plain = evaluate_ranking(similarity, torch.tensor([7]), gallery_ids, first_occurrence=False)
    assert (once.first_rank[0], plain.first_rank[0]) == (2, 3)
    assert once.cmc(4).tolist() == [0, 1, 1, 1]
    assert plain.cmc(4).tolist() == [0, 0, 1, 1]
    for result in (once, plain):
        assert result.mean_ap == pytest.approx((1 / 3 + 2 / 5) / 2)
        assert result.mean_inp == pytest.approx(2 / 5)


def test_ties_go_to_the_lower_gallery_index() -> None:
    similarity = torch.zeros(2, 3000)  # long enough for the parallel and blocked paths of the sort
    gallery_ids = torch.arange(3000)
    result = evaluate_ranking(similarity, torch.tensor([0, 2999]), gallery_ids, first_occurrence=False)
    assert result.first_rank.tolist() == [1, 3000]
    negative_zero = torch.tensor([[-0.0, 0.0]])
    result = evaluate_ranking(negative_zero, torch.tensor([5]), torch.tensor([5, 6]), first_occurrence=False)
    assert result.first_rank.tolist() == [1]


def test_queries_without_match_are_skipped_and_small_galleries_padded() -> None:
    similarity = torch.tensor([[0.2, 0.9, 0.1], [0.5, 0.4, 0.3], [0.3, 0.2, 0.1]])
    query_ids, gallery_ids = torch.tensor([1, 4, 3]), torch.tensor([1, 2, 3])
    hidden = torch.zeros(3, 3, dtype=torch.bool)
    hidden[2, 2] = True  # query 2's only match; query 1's identity is not in the gallery at all
    result = evaluate_ranking(similarity, query_ids, gallery_ids, hidden, first_occurrence=True)
    assert result.valid.tolist() == [True, False, False]
    assert result.num_valid == 1
    assert result.first_rank.tolist() == [2, 0, 0]
    assert np.isnan(result.average_precision[1:]).all()
    assert np.isnan(result.inverse_negative_penalty[1:]).all()
    assert result.cmc().tolist() == [0.0] + [1.0] * 19
    assert result.mean_ap == result.mean_inp == 0.5


def test_no_valid_query_raises() -> None:
    with pytest.raises(ValueError, match="none of the 2 queries has a match"):
        evaluate_ranking(torch.zeros(2, 1), torch.tensor([1, 2]), torch.tensor([3]), first_occurrence=True)


def test_faults_are_named() -> None:
    one, two = torch.tensor([1]), torch.tensor([1, 2])
    hidden = torch.zeros(2, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="NaN"):
        evaluate_ranking(torch.tensor([[float("nan")]]), one, one, first_occurrence=True)
    with pytest.raises(ValueError, match="expected at least one each"):
        evaluate_ranking(torch.zeros(1, 0), one, one[:0], first_occurrence=True)
    with pytest.raises(ValueError, match="max_rank is 0"):
        evaluate_ranking(torch.zeros(1, 1), one, one, first_occurrence=True).cmc(0)
    unchecked = getattr(metrics._check_inputs, "__wrapped__", metrics._check_inputs)
    with pytest.raises(ValueError, match=r"similarity has shape \(1, 1\), expected \(Q,G\) = \(2, 1\)"):
        unchecked(torch.zeros(1, 1), two, one, None)
    with pytest.raises(ValueError, match=r"hidden has shape \(2, 2\)"):
        unchecked(torch.zeros(2, 1), two, one, hidden)


def test_permuting_queries_permutes_the_result() -> None:
    generator = torch.Generator().manual_seed(1)
    similarity, order = torch.randn(20, 30, generator=generator), torch.randperm(20, generator=generator)
    query_ids, gallery_ids = torch.arange(20) % 7, torch.arange(30) % 7
    straight = evaluate_ranking(similarity, query_ids, gallery_ids, first_occurrence=True)
    permuted = evaluate_ranking(similarity[order], query_ids[order], gallery_ids, first_occurrence=True)
    np.testing.assert_array_equal(permuted.average_precision, straight.average_precision[order.numpy()])
    np.testing.assert_array_equal(permuted.first_rank, straight.first_rank[order.numpy()])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_device_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(2)
    similarity = torch.randint(-5, 5, (50, 4000), generator=generator).float() * 0.1  # full of ties
    query_ids, gallery_ids = torch.arange(50) % 11, torch.arange(4000) % 11
    here = evaluate_ranking(similarity, query_ids, gallery_ids, first_occurrence=True)
    there = evaluate_ranking(similarity.cuda(), query_ids, gallery_ids, first_occurrence=True)
    np.testing.assert_array_equal(there.first_rank, here.first_rank)
    np.testing.assert_allclose(there.average_precision, here.average_precision, atol=1e-12)
