"""Rows of numbers, checked, before anything is computed from them."""

from __future__ import annotations

import numpy as np


def as_points(points: np.ndarray, name: str) -> np.ndarray:
    """Finite, in float32 or better."""
    if not np.isfinite(points).all():
        raise ValueError(f"{name} holds NaN or infinity, expected finite numbers")
    return points.astype(np.result_type(points.dtype, np.float32), copy=False)


def unit_rows(points: np.ndarray, name: str) -> np.ndarray:
    points = as_points(points, name)
    length = np.linalg.norm(points, axis=1, keepdims=True)
    if not length.all():
        raise ValueError(f"{name}: {int((length == 0).sum())} rows are all zero, expected vectors with a direction")
    unit: np.ndarray = points / length
    return unit
