"""Shapes in signatures are checked while the tests run; runs and caches go to a folder that is thrown away."""

from __future__ import annotations

import os
import tempfile

import jaxtyping
import pytest

jaxtyping.install_import_hook("sa_lab", "beartype.beartype")

os.environ["SA_LAB_HOME"] = tempfile.mkdtemp(prefix="sa-lab-test-")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Tiny tensors are several times faster on one thread, and bit-identical."""
    import torch

    torch.set_num_threads(1)
