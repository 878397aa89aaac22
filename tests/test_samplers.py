"""The sampler: layout, balance, determinism, shards and a position that resumes."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sa_lab.samplers import CrossModalityIdentitySampler

many = settings(deadline=None, max_examples=60)


def columns(pools: list[tuple[int, int]], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(person_ids, modality) of identities 10, 20, .. with so many visible and infrared images each, shuffled."""
    rows = [(10 * (i + 1), m) for i, pair in enumerate(pools) for m, count in enumerate(pair) for _ in range(count)]
    shuffled = np.random.default_rng(seed).permutation(np.array(rows))
    return shuffled[:, 0], shuffled[:, 1]


pool_sizes = st.lists(st.tuples(st.integers(1, 7), st.integers(1, 7)), min_size=1, max_size=7)


@st.composite
def settings_of_a_sampler(draw):
    pools = draw(pool_sizes)
    return pools, draw(st.integers(1, len(pools))), draw(st.integers(1, 5)), draw(st.integers(1, 9))


@many
@given(settings_of_a_sampler(), st.integers(0, 99))
def test_layout_balance_and_repeats(drawn, seed: int) -> None:
    pools, ids_per_batch, images_per_id, steps = drawn
    person, modality = columns(pools, seed)
    sampler = CrossModalityIdentitySampler(person, modality, ids_per_batch, images_per_id, seed, steps)
    batches = list(sampler)
    assert len(batches) == len(sampler) == steps
    order = []
    for batch in batches:
        grid = batch.reshape(2, ids_per_batch, images_per_id)
        assert (modality[grid[0]] == 0).all()
        assert (modality[grid[1]] == 1).all()
        identities = person[grid[0, :, 0]]
        assert (person[grid] == identities[None, :, None]).all()
        assert len(set(identities.tolist())) == ids_per_batch
        order += identities.tolist()
        for m in (0, 1):
            for identity, images in zip(identities, grid[m], strict=True):
                available = pools[identity // 10 - 1][m]
                counts = Counter(images.tolist())
                assert len(counts) == min(available, images_per_id)
                assert max(counts.values()) <= -(-images_per_id // available)
    for start in range(0, len(order) - len(pools) + 1, len(pools)):
        assert len(set(order[start : start + len(pools)])) == len(pools), "every identity once a round"


def test_exact_length_of_an_epoch() -> None:
    person, modality = columns([(5, 9)] * 4)  # 20 visible, 36 infrared
    assert len(CrossModalityIdentitySampler(person, modality, 2, 3, 0)) == 36 // 6
    assert len(CrossModalityIdentitySampler(person, modality, 4, 8, 0)) == 1
    assert len(CrossModalityIdentitySampler(person, modality, 4, 16, 0)) == 1  # never none
    for steps in (1, 7):
        sampler = CrossModalityIdentitySampler(person, modality, 2, 3, 0, steps)
        assert [len(list(sampler)) for _ in range(2)] == [steps, steps]


def test_all_images_are_drawn_alike() -> None:
    person, modality = columns([(4, 4)] * 3)
    sampler = CrossModalityIdentitySampler(person, modality, 3, 2, 0, 600)
    counts = np.bincount(np.concatenate(list(sampler)), minlength=24)
    assert counts.sum() == 600 * 12
    assert abs(counts - 300).max() < 60  # 300 expected, deviation sqrt(600/4) = 12


def test_seed_and_epoch_decide_the_batches() -> None:
    person, modality = columns([(4, 5)] * 6)

    def epochs(seed: int) -> list[np.ndarray]:
        sampler = CrossModalityIdentitySampler(person, modality, 3, 2, seed, 5)
        return [np.stack(list(sampler)) for _ in range(2)]

    np.testing.assert_array_equal(epochs(7), epochs(7))
    assert not np.array_equal(epochs(7), epochs(8))
    assert not np.array_equal(*epochs(7))
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    epochs(7)
    np.testing.assert_array_equal(state, np.random.get_state()[1])  # noqa: NPY002


@many
@given(st.integers(0, 99), st.sampled_from([1, 2, 3, 6]))
def test_shards_together_are_the_whole_batch(seed: int, num_ranks: int) -> None:
    person, modality = columns([(3, 5), (2, 2), (4, 1), (6, 6), (5, 5), (3, 3), (1, 2)], seed)
    whole = list(CrossModalityIdentitySampler(person, modality, 6, 2, seed, 4))
    shards = [
        list(CrossModalityIdentitySampler(person, modality, 6, 2, seed, 4, rank, num_ranks))
        for rank in range(num_ranks)
    ]
    for step, batch in enumerate(whole):
        pieces = [shard[step].reshape(2, -1) for shard in shards]
        np.testing.assert_array_equal(np.concatenate(pieces, axis=1).ravel(), batch)


@many
@given(st.integers(0, 12), st.integers(0, 99))
def test_resuming_goes_on_as_if_never_stopped(given_batches: int, seed: int) -> None:
    """Three epochs of four batches, stopped after any batch, epoch borders included."""
    person, modality = columns([(3, 5), (2, 2), (4, 4)], seed)

    def fresh() -> CrossModalityIdentitySampler:
        return CrossModalityIdentitySampler(person, modality, 2, 2, seed, 4)

    def until_epoch_3(sampler: CrossModalityIdentitySampler):
        while sampler.epoch < 3:
            for batch in sampler:
                yield batch, sampler.state_dict()

    reference = list(until_epoch_3(fresh()))
    assert len(reference) == 12
    state = reference[given_batches - 1][1] if given_batches else fresh().state_dict()
    resumed = fresh()
    resumed.load_state_dict(state)
    rest = list(until_epoch_3(resumed))
    assert len(rest) == 12 - given_batches
    for (batch, position), (expected, expected_position) in zip(rest, reference[given_batches:], strict=True):
        np.testing.assert_array_equal(batch, expected)
        assert position == expected_position


def test_errors_name_the_argument() -> None:
    person, modality = columns([(2, 2)] * 4)
    cases = [
        ({"ids_per_batch": 5}, "ids_per_batch is 5, expected 1..4"),
        ({"ids_per_batch": 0}, "ids_per_batch is 0"),
        ({"images_per_id": 0}, "images_per_id is 0"),
        ({"steps_per_epoch": 0}, "steps_per_epoch is 0"),
        ({"ids_per_batch": 3, "num_ranks": 2}, "rank 0 of 2 .* ids_per_batch 3"),
        ({"rank": 2, "num_ranks": 2}, "rank 2 of 2"),
        ({"rank": -1}, "rank -1 of 1"),
        ({"num_ranks": 0}, "rank 0 of 0"),
    ]
    for wrong, message in cases:
        with pytest.raises(ValueError, match=message):
            CrossModalityIdentitySampler(
                person, modality, **{"ids_per_batch": 2, "images_per_id": 2, "seed": 0, **wrong}
            )
    with pytest.raises(ValueError, match=r"identities \[20\] have no image of modality 1"):
        CrossModalityIdentitySampler(np.array([10, 10, 20]), np.array([0, 1, 0]), 1, 1, 0)
