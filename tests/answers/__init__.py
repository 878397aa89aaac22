"""For each exercise: answers that are right, in different styles, and wrong ones with words that name the mistake."""

from __future__ import annotations

from answers import benchmark, comparison, data, derivation, design, overlap, start, training

TABLE = {
    name: answers
    for chapter in (start, derivation, data, training, overlap, benchmark, design, comparison)
    for name, answers in chapter.ANSWERS.items()
}
"""By the name of the checker, without its `check_`."""
