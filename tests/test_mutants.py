"""Deliberate faults in the library: for each, a test of `make check` fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAULTS = {
    "mask sign": ("losses.py", "logits.gather(2, own) - mask_value", "logits.gather(2, own) + mask_value", "losses"),
    "own for cross": (
        "losses.py", "cross_entropy(masked, cross_prototype(", "cross_entropy(masked, own_prototype(", "losses"
    ),
    "wrong half": ("losses.py", "modality.long() * num_identities", "(1 - modality.long()) * num_identities", "losses"),
    "prototypes not detached": ("losses.py", "else self._shared().detach()", "else self._shared()", "losses"),
    "camera rule off": (
        "evaluation/galleries.py", "mask |= (query_cameras == query_camera)", "mask |= (query_cameras < 0)", "protocols"
    ),
    "descriptors without flip": ("evaluation/embedding.py", "normalised.flip(3)", "normalised", "evaluation"),
    "bilinear for Lanczos": ("data/store.py", "Image.Resampling[resize.upper()]", "Image.Resampling.BILINEAR", "store"),
    "beta shared": (
        "transforms.py", "torch.rand(len(active), 3, 1, 1,", "torch.rand(len(active), 1, 1, 1,", "transforms"
    ),
    "resume without sampler": (
        "training/loop.py", 'self.sampler.load_state_dict(state["sampler"])', "pass", "train"
    ),
    "closeness for an own loss": ("course/exercises/design.py", "if min(alike) > 1 - 1e-5:", "if False:", "exercises"),
    "nothing on the last edge": (
        "course/exercises/histograms.py", "first[-8:] = second[-9:] = edges[-1]", "pass", "exercises"
    ),
    "solved exercises forgotten": ("course/exercises/checking.py", "progress.note(number)", "pass", "learning"),
    "gap without strangers": ("analysis/gap.py", "/ max(1, 2 * (len(people) - 1))", "/ 1", "analysis"),
}  # fmt: skip
"""File, what stands there, what is put there, and the file of tests that has to notice."""


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_noticed(fault: str, tmp_path: Path) -> None:
    file, right, wrong, tests = FAULTS[fault]
    for folder in ("sa_lab", "tests"):
        # with what is compiled, but for what is being compiled
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.pyc.*"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "data").mkdir()
    changed = tmp_path / "sa_lab" / file
    source = changed.read_text(encoding="utf-8")
    assert source.count(right) == 1, "the place of the fault"
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider"]
    changed.write_text(source.replace(right, wrong), encoding="utf-8")
    done = subprocess.run(
        [*command, f"tests/test_{tests}.py"], cwd=tmp_path, capture_output=True, text=True, encoding="utf-8",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert done.returncode == 1, done.stdout[-2000:] + done.stderr[-500:]
    assert "1 failed" in done.stdout, done.stdout[-2000:]
