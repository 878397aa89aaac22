"""sa_lab: SA-Softmax for visible-infrared person re-identification, to learn from, to analyse and to use."""

import os

__version__ = "0.5.0"

os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
"""Torch's large CPU tensors in large pages: gradients of all prototypes would else spend much of their time on page
faults. Torch reads it once, before its first tensor; 0 switches it off."""
