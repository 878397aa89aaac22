"""Benchmarks: the plain way computes what ours computes, and a comparison says what it has measured."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import benchmarks
import numpy as np
import pytest
import torch
from benchmarks import extraction, heads, inputs, iteration, loading, sizes, stages, summary, timing  # fmt: skip
from torch.utils.flop_counter import FlopCounterMode

from sa_lab.config import ExperimentConfig
from sa_lab.course import plain
from sa_lab.data.store import ImageStore
from sa_lab.reporting import tables
from sa_lab.study import measures
from sa_lab.training import loop, steps
from sa_lab.training.learner import Batch

CPU = torch.device("cpu")


@pytest.fixture
def micro() -> tuple[ExperimentConfig, ImageStore]:
    """8 identities of 3 images in each spectrum, 32x16 pixels, in batches of 4 x 2 x 2."""
    config = sizes.config_of("tiny", CPU, {"ids_per_batch": 4, "images_per_id": 2, "threads": 1})
    config = replace(
        config,
        data=replace(config.data, height=32, width=16),
        model=replace(config.model, backbone="resnet18", num_parts=2),
        train=replace(config.train, optimizer="sgd", backbone_lr=0.001),
    )
    return config, sizes.store_of(config, 8, 3)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_both_iterations_have_the_same_losses(micro: tuple[ExperimentConfig, ImageStore], precision: str) -> None:
    config, store = micro
    iteration.check_equal(replace(config, train=replace(config.train, precision=precision)), store)


def test_other_losses_are_noticed(micro: tuple[ExperimentConfig, ImageStore], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sa_lab.course.plain.one_hot_mask", lambda own, rows, _: torch.zeros(len(own), rows))
    with pytest.raises(AssertionError, match="sa_softmax of iteration 0"):
        iteration.check_equal(*micro)


def test_both_networks_say_the_same(micro: tuple[ExperimentConfig, ImageStore]) -> None:
    net = loop.start(*micro).network.double()  # float32 differs by processor: batch norm of few images
    copy = plain.PlainNet(net).double()
    images = torch.randn(6, 3, 32, 16, dtype=torch.float64)
    ours, theirs = net(images, torch.tensor([0, 0, 0, 1, 1, 1])), copy(images[:3], images[3:])
    for mine, parts in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, torch.stack(parts, 1))
    ours = net.eval()(images, torch.ones(6, dtype=torch.long))
    torch.testing.assert_close(ours.embeddings, torch.stack(copy.eval()(None, images)[1], 1))


def test_plain_training_moves_no_weight_of_ours(micro: tuple[ExperimentConfig, ImageStore]) -> None:
    training = loop.start(*micro)
    before = training.criterion.prototypes.detach().clone()
    theirs = plain.training_of(training)
    (batch,) = loading.loader_of(training, [next(iter(training.sampler))], 0)
    plain.plain_iteration(theirs, *batch)
    assert torch.equal(training.criterion.prototypes, before)
    assert not torch.equal(theirs.prototypes[0], before[0])


def test_heads_and_losses_agree_with_their_gradients() -> None:
    shape = (8, 2, 16, 5)
    heads.check_equal(heads.Ours(shape, CPU), heads.Plain(shape, CPU))


def test_products_at_the_papers_size() -> None:
    assert heads.product_flops((128, 12, 2048, 395)) == pytest.approx(27.3e9, rel=2e-3)
    assert heads.product_flops((1, 1, 1, 1)) == 22


def test_inputs_agree_without_augmentation(micro: tuple[ExperimentConfig, ImageStore]) -> None:
    config, store = micro
    inputs.check_equal(loop.start(replace(config, train=replace(config.train, augmentation="none")), store))


@pytest.mark.parametrize("recipe", ["light", "channel_mix", "random_linear"])
def test_plain_images_are_augmented_and_keep_their_size(
    micro: tuple[ExperimentConfig, ImageStore], recipe: str
) -> None:
    _, store = micro
    images = loading.PlainImages(store, store.person_ids, recipe)
    image, label, modality = images[5]
    assert image.shape == (3, 32, 16)
    assert (label, modality, len(images)) == (store.person_ids[5], store.modality[5], len(store))
    assert any(not torch.equal(images[5][0], image) for _ in range(20))


def test_both_ways_of_input_make_the_same_batches(
    micro: tuple[ExperimentConfig, ImageStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, store = micro
    config = replace(config, train=replace(config.train, augmentation="none"))
    draw, load, ours, theirs = loop.draw_batch, loading.loader_of, [], []

    def drawn(training: loop.Training, index: np.ndarray) -> Batch:
        ours.append(draw(training, index))
        return ours[-1]

    def loaded(training: loop.Training, batches: list[np.ndarray], workers: int) -> Iterator[list[torch.Tensor]]:
        for batch in load(training, batches, 0):
            theirs.append(batch)
            yield batch

    monkeypatch.setattr(inputs, "BATCHES", 2)
    monkeypatch.setattr(loop, "draw_batch", drawn)
    monkeypatch.setattr(loading, "loader_of", loaded)
    for way in ("plain", "ours"):
        inputs._way(way, config, store)()
    assert len(ours) == len(theirs) == 2
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.images, other[0])


def test_both_extractions_give_the_same_descriptors(micro: tuple[ExperimentConfig, ImageStore]) -> None:
    training = loop.start(*micro)
    training.config = replace(training.config, train=replace(training.config.train, augmentation="none"))
    pairs = extraction.plain_descriptors(plain.PlainNet(training.network), extraction.loaders_of(training, 0), CPU)
    for mine, theirs in zip(extraction.our_descriptors(training), pairs, strict=True):
        assert mine.shape == (48, 2, 512)
        np.testing.assert_allclose(mine, theirs, atol=1e-5)


def test_compare_alternates_and_takes_medians_of_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    now, called = [0.0], []
    monkeypatch.setattr(timing, "perf_counter", lambda: now[0])

    def taking(name: str, times: list[float]) -> Callable[[], None]:
        left = iter(times)

        def call() -> None:
            called.append(name)
            now[0] += next(left)

        return call

    found = timing.compare_in_turn(
        taking("plain", [9.0, 2.0, 4.0, 9.0]), taking("ours", [9.0, 1.0, 1.0, 3.0]), 3, 1, CPU, count=2
    )
    assert called == ["plain", "ours"] * 4
    expected = {"ratio": 3.0, "low": 2.0, "high": 4.0, "plain_ms": 2000.0, "ours_ms": 500.0, "rounds": 3}
    assert found == pytest.approx(expected)


def _hold(megabytes: int) -> int:
    return int(np.ones(megabytes * 1_000_000 // 8).sum()) * 8


def test_memory_is_that_of_a_fresh_process() -> None:
    much = np.ones(100_000_000)  # 0.8 GB that the other process does not have
    result, peak = timing.in_own_process(_hold, 400)
    assert result == 400_000_000
    assert 0.4 < peak < timing.peak()
    assert timing.peak() > much.nbytes / 1e9


def test_stages_add_up_to_the_iteration(micro: tuple[ExperimentConfig, ImageStore]) -> None:
    iterations = loop.iterate(loop.start(*micro))
    next(iterations)
    shares = stages.stage_times(iterations, 2, CPU)
    assert sum(shares[stage] for stage in stages.STAGES) == pytest.approx(1)
    assert all(0 < shares[stage] < 1 for stage in stages.STAGES)
    assert shares["ms"] > 0


def test_operations_are_told_from_the_slowest_on() -> None:
    left, right = torch.ones(300, 300), torch.ones(300, 300)
    found = stages.operations(lambda: (left @ right, left + right), CPU, most=2)
    assert next(iter(found)) == "mm"
    assert len(found) == 2
    assert sum(found.values()) <= 1


def test_operations_of_the_stages_are_those_of_the_network_and_the_heads(
    micro: tuple[ExperimentConfig, ImageStore],
) -> None:
    training = loop.start(*micro)
    flops = stages.stage_flops(training)
    batch, (parts, rows, channels) = 16, training.criterion.prototypes.shape
    product = 2 * batch * parts * rows * channels
    assert flops["losses"] == product
    assert flops["prototype step"] == 2 * product
    assert flops["forward"] - flops["second forward"] == product / 2, "the classifier has half as many rows"
    with FlopCounterMode(display=False) as counter:  # right for a network without grouped convolutions
        steps.iteration(
            training, loop.draw_batch(training, next(iter(training.sampler))), training.config.loss, 0
        ).row()
    assert sum(flops.values()) == counter.get_total_flops()
    assert flops["input"] == flops["rest"] == flops["network step"] == 0


def _fake(ratio: float, ms: float) -> dict[str, float]:
    return {"ratio": ratio, "low": 0.5, "high": 40.0, "plain_ms": ratio * ms, "ours_ms": ms, "rounds": 3}


RUN = {"run": {"device": "x86_64 CPU"}}
RESULT = {
    "iteration": {
        **RUN,
        "ratios": {"iteration, tiny": {**_fake(1.5, 300.0), "plain_gb": 1.25, "ours_gb": 1.0}},
        "stages": {"tiny": {**dict.fromkeys(stages.STAGES, 0.125), "ms": 400.0}},
        "flops": {"tiny": dict.fromkeys(stages.STAGES, 2e9)},
        "rates": {"tiny": 1e11},
        "operations": {"iteration, tiny": {"convolution": 0.7, "mm": 0.1}},
    },
    "heads": {
        **RUN,
        "ratios": {"heads and losses, paper": _fake(1.4, 200.0)},
        "floors": {"heads and losses, paper": {"gflop": 27.34, "gflop_s": 150.0, "ms": 180.0}},
    },
    "ranking": {**RUN, "ratios": {"ranking": _fake(19.0, 2000.0)}, "full_size": {"seconds": 20.0, "peak_gb": 1.9}},
    "extraction": {**RUN, "ratios": {"extraction, tiny": _fake(2.0, 100.0)}},
    "paper": {**RUN, "stages": {"paper, bfloat16": {**dict.fromkeys(stages.STAGES, 0.125), "ms": 80.0}}},
}


def test_tables_say_what_was_measured_and_whether_it_is_enough() -> None:
    text = " ".join(summary.show(RESULT | summary.ready(RESULT)).split())
    assert "| iteration, tiny | 450 | 300 | 1.50 [0.50, 40.00] | 1.25 | 1.00 | 1.3 | yes |" in text
    assert "| extraction, tiny | 200 | 100 | 2.00 [0.50, 40.00] | - | - | - | - |" in text
    assert "| ranking | 38,000 | 2,000 | 19.00 [0.50, 40.00] | - | - | 20 | no |" in text
    assert "| heads and losses, paper | 27.3 | 150 | 180 | 64 | 90 |" in text
    assert "| tiny | 12.5 | 12.5 |" in text
    assert "| memory of a whole evaluation at full size, GB | 1.9 | 4 | yes |" in text
    assert "| input of an iteration, paper, bfloat16, % | 12.5 | 3 | no |" in text
    assert "overlap measures of" not in text, "not measured"
    assert "| iteration, tiny | convolution 70, mm 10 |" in text
    assert "| tiny | backward | 50 | 2.0 | 20 | 40 | 30 |" in text
    assert "| tiny | iteration | 300 | 16.0 | 160 | 53 | 140 |" in text
    assert "27.3 GFLOP, would take 180 ms" in heads.sentence(RESULT["heads"])


def test_targets_of_a_gpu_are_those_of_the_right_rows() -> None:
    names = ("iteration, paper", "iteration, paper, bfloat16", "iteration, paper, bfloat16 against float32")
    rows = {name: _fake(3.0, 50.0) for name in (*names, "iteration, paper, bfloat16, features reused")}
    text = " ".join(
        tables.render(summary.ratios({"paper": {"run": {"device": "NVIDIA H200"}, "ratios": rows}}), "markdown").split()
    )
    found = {name: text.split(f"| {name} |")[1].split("|")[5:7] for name in rows}
    assert [[cell.strip() for cell in cells] for cells in found.values()] == [
        ["-", "-"], ["2", "yes"], ["4", "no"], ["-", "-"]
    ]  # fmt: skip


def test_a_benchmark_does_not_run_out_of_iterations(micro: tuple[ExperimentConfig, ImageStore]) -> None:
    config, store = micro
    most = max(3 * rounds + 2 for rounds in iteration.ROUNDS.values()) * 10
    assert loop.start(config, store).num_steps > 10 * most, "on a GPU ours is timed against several others"


def test_the_best_rate_is_at_least_that_of_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "seconds", lambda call, device: 1.0)
    monkeypatch.setattr(timing, "matmul_rate", lambda device, dtype, side: 5.0)
    assert timing.best_rate(CPU) == 2 * 32 * 256 * 256 * 9 * 16 * 16
    monkeypatch.setattr(timing, "matmul_rate", lambda device, dtype, side: 1e12)
    assert timing.best_rate(CPU) == 1e12


def test_a_part_replaces_its_own_result_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        benchmarks, "PARTS", {"heads": lambda device: {"new": device.type}, "ranking": None, "paper": 1}
    )
    out = tmp_path / "bench.json"
    out.write_text(json.dumps({"ranking": {"old": 1}, "heads": {"old": 1}}))
    result = benchmarks.run_all(CPU, ["heads", "paper"], out)
    assert json.loads(out.read_text()) == result
    assert result["ranking"] == {"old": 1}
    assert result["heads"].pop("run").keys() > {"date", "commit", "library", "device", "threads", "torch", "python"}
    assert result["heads"] == {"new": "cpu"}
    assert "paper" not in result
    assert "paper is left out: it is measured on cuda alone" in capsys.readouterr().out
    nothing = benchmarks.run_all(CPU, ["paper"], tmp_path / "none.json")
    assert nothing == {"tables": {}}
    assert summary.show(nothing) == ""
    with pytest.raises(ValueError, match=r"only is speed, expected names among heads"):
        benchmarks.run_all(CPU, ["speed"], out)


def test_a_library_that_has_changed_since_its_commit_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    status = ""
    monkeypatch.setattr(measures, "_git", lambda *arguments: "abc1234" if arguments[0] == "rev-parse" else status)
    assert measures.conditions()["commit"] == "abc1234"
    status = " M sa_lab/losses.py"
    assert measures.conditions()["commit"] == "abc1234, changed"
    monkeypatch.setattr(measures, "_git", lambda *arguments: "")
    assert measures.conditions()["commit"] is None
