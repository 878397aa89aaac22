"""Deliberate faults in the library: each is noticed by a test of `make check`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
GOLDEN = "losses.py::test_golden_values_and_gradients"
ANSWERS = "exercises.py::test_right_answers_pass_and_wrong_ones_are_told_their_mistake"
FAULTS = {
    "mask sign": ("losses.py", "logits.gather(2, own) - mask_value", "logits.gather(2, own) + mask_value", GOLDEN),
    "own for cross": (
        "losses.py", "cross_entropy(masked, cross_prototype(", "cross_entropy(masked, own_prototype(", GOLDEN
    ),
    "wrong half": ("losses.py", "modality.long() * num_identities", "(1 - modality.long()) * num_identities", GOLDEN),
    "prototypes not detached": ("losses.py", "else self._shared().detach()", "else self._shared()", GOLDEN),
    "camera rule off": (
        "evaluation/galleries.py", "mask |= (query_cameras == query_camera)", "mask |= (query_cameras < 0)",
        "protocols.py::test_hiding_rules_by_hand",
    ),
    "descriptors without flip": (
        "evaluation/embedding.py", "normalised.flip(3)", "normalised",
        "evaluation.py::test_descriptors_are_those_of_a_plain_computation",
    ),
    "bilinear for Lanczos": (
        "data/store.py", "Image.Resampling[resize.upper()]", "Image.Resampling.BILINEAR",
        "store.py::test_the_filter_is_lanczos_named_and_another_one_is_another_store",
    ),
    "beta shared": (
        "transforms.py", "torch.rand(len(active), 3, 1, 1,", "torch.rand(len(active), 1, 1, 1,",
        "transforms.py::test_random_linear_equals_its_definition",
    ),
    "resume without sampler": (
        "training/loop.py", 'self.sampler.load_state_dict(state["sampler"])', "pass",
        "train.py::test_stopped_and_resumed_is_as_never_stopped",
    ),
    "closeness for an own loss": (
        "course/exercises/design.py", "if min(alike) > 1 - 1e-5:", "if False:", ANSWERS + "[design]"
    ),
    "nothing on the last edge": (
        "course/exercises/histograms.py", "first[-8:] = second[-9:] = edges[-1]", "pass", ANSWERS + "[overlap]"
    ),
    "solved exercises forgotten": (
        "course/exercises/checking.py", "progress.note(number)", "pass",
        "learning.py::test_a_solved_exercise_is_kept_once_and_a_wrong_one_is_not",
    ),
    "gap without strangers": (
        "analysis/gap.py", "/ max(1, 2 * (len(people) - 1))", "/ 1", "analysis.py::test_modality_gap_by_hand"
    ),
}  # fmt: skip
"""File, what stands there, what is put there, and the test that has to notice."""
WARM = """
import os, sys
import beartype, lightning_fabric, nbformat, plotly.io, pytest, scipy.io, scipy.stats, sklearn.manifold, torchvision
for line in sys.stdin:
    folder, test = line.split()
    if not (child := os.fork()):
        os.chdir(folder)
        sys.path.insert(0, folder)
        os.environ["PYTHONPATH"] = folder
        os.dup2(os.open("said", os.O_WRONLY | os.O_CREAT), 1)
        code = pytest.main(["-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", test])
        sys.stdout.flush()
        os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Forks for each test from a process that has imported all but the library: the imports take longer than the tests."""


@pytest.fixture(scope="module")
def warm() -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", WARM]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault: str, warm: subprocess.Popen[str], tmp_path: Path) -> None:
    file, right, wrong, test = FAULTS[fault]
    for folder in ("sa_lab", "tests"):
        # with what is compiled, but for what is being compiled
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.pyc.*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "data").mkdir()
    changed = tmp_path / "sa_lab" / file
    source = changed.read_text(encoding="utf-8")
    assert source.count(right) == 1, "the place of the fault"
    changed.write_text(source.replace(right, wrong), encoding="utf-8")
    assert warm.stdin
    assert warm.stdout
    warm.stdin.write(f"{tmp_path} tests/test_{test}\n")
    warm.stdin.flush()
    code, said = int(warm.stdout.readline()), (tmp_path / "said").read_text(encoding="utf-8")
    assert code == 1, said[-2000:]
    assert "1 failed" in said, said[-2000:]
