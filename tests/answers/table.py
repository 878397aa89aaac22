"""What a chapter says of each of its exercises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Answer = Callable[..., Any]


@dataclass(frozen=True)
class Answers:
    """Functions as readers hand them over; beside a wrong one a part of what its verdict has to say."""

    right: Sequence[Answer]
    wrong: Sequence[tuple[str, Answer]]
