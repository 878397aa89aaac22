"""Compare a reader's answers and gradients with right ones, and find the mistake that explains the difference."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sa_lab.course.exercises.checking import Case, Function, Wrong, array, call, code, fits

Mistakes = Mapping[str, Function]
"""What to tell the reader, and the function that makes this mistake."""
_Answers = Sequence[tuple[Case, np.ndarray, np.ndarray]]
"""Arguments, the reader's answer and the right one."""


def check_cases(function: Function, cases: Sequence[Case], reference: Function, asked: str, mistakes: Mistakes) -> None:
    """Raise `Wrong` unless the function answers as the reference on every case.

    Args:
        function: the reader's.
        cases: several sizes, so that wrong answers differ from right ones.
        reference: the right answer, mostly from the library.
        asked: shape and meaning of the answer, for complaints.
        mistakes: answers that are wrong in a known way, the most likely first. One is named if it explains the reader's
            answer on every case (except those where the function raised).
    """
    answered: list[tuple[Case, np.ndarray, np.ndarray]] = []
    failed: list[Wrong] = []
    for case in cases:
        try:
            value = array(call(function, case)[0], asked)
        except Wrong as wrong:
            failed.append(wrong)
        else:
            answered.append((case, value, array(reference(*case.values()), "a right answer")))
    complaints = [wrong for wrong in (_complaint(*each, asked) for each in answered) if wrong]
    if complaints:
        for words, mistake in mistakes.items():
            if all(_makes(mistake, case, value) for case, value, _ in answered):
                raise Wrong(words)
        if known := _general(answered):
            raise Wrong(known)
    if failed or complaints:
        raise (failed + complaints)[0]


def total(values: Tensor) -> Tensor:
    """The mean over the batch of losses (B,P), summed over the parts."""
    return values.mean(0).sum()


def reductions(each: Function) -> dict[str, Function]:
    """The mistakes of a mean over the batch and a sum over the parts; `each` gives the (B,P) losses."""
    return {
        "Take the mean over the batch, not the sum.": lambda *a: each(*a).sum(),
        "Add the parts up, do not average them.": lambda *a: each(*a).mean(),
        "Sum and mean are exchanged: take the mean over the batch and the sum over the parts.": (
            lambda *a: each(*a).sum(0).mean()
        ),
        "Your function returns one loss for each sample: take their mean.": lambda *a: each(*a).sum(1),
        "Your function returns one loss for each part: add them up.": lambda *a: each(*a).mean(0),
        "Your function returns one loss for each sample and part: take the mean over the samples, and add the parts "
        "up.": each,
        "Only the first part counts in your answer: add up the losses of all parts.": lambda *a: each(*a)[:, 0].mean(),
        "Only the first sample counts in your answer: take the mean over the batch.": lambda *a: each(*a)[0].sum(),
    }


def _makes(mistake: Function, case: Case, value: np.ndarray) -> bool:
    """Whether the mistake leads to this value; where shapes do not allow the mistake, it does not."""
    try:
        with np.errstate(all="ignore"):
            return _close(value, array(mistake(*copy.deepcopy(list(case.values()))), ""))
    except Exception:
        return False


_OF_NUMBERS: dict[str, Callable[[np.ndarray], Any]] = {
    "The sign is wrong: turn it round.": np.negative,
    "Your logarithm has base 2: take the natural one, `log`.": lambda right: right / np.log(2),
    "Your logarithm has base 10: take the natural one, `log`.": lambda right: right / np.log(10),
    "This is in percent: return a share in [0,1].": lambda right: 100 * right,
    "This is twice the right answer.": lambda right: 2 * right,
    "This is half the right answer.": lambda right: right / 2,
    "This is the square of the right answer: leave it out, or take the root.": np.square,
    "This is the root of the right answer: leave it out.": np.sqrt,
    "This is the exponential of the right answer: take the logarithm.": np.exp,
    "This is the logarithm of the right answer: leave it out.": np.log,
    "This is 1 minus the right answer.": lambda right: 1 - right,
    "This is 1 over the right answer: turn the fraction round.": np.reciprocal,
    "The signs are lost: do not take absolute values.": np.abs,
    "Your answer is rounded: return the number as it is.": np.round,
    "Your answer is cut off at the decimal point: return the number as it is.": np.trunc,
}
_OF_TABLES: dict[str, Callable[[np.ndarray], Any]] = {
    "True and False are exchanged.": np.logical_not,
    "The order is reversed along the first axis.": lambda right: right[::-1],
    "The axes are in the wrong order: transpose the answer.": np.transpose,
}
"""Mistakes that can occur in any exercise, made from the right answer."""


def _general(answered: _Answers) -> str | None:
    """The words for a mistake that any exercise knows, if one explains every answer."""
    values, rights = [value for _, value, _ in answered], [right for _, _, right in answered]
    pairs = list(zip(values, rights, strict=True))
    if all(_close(*pair) for pair in pairs):
        return None  # the type alone is wrong
    known = _OF_TABLES if rights[0].dtype.kind == "b" else _OF_NUMBERS | _OF_TABLES
    for words, mistake in known.items():
        if all(_makes(mistake, {"right": right}, value) for value, right in pairs):
            return words
    if all(value.ndim > right.ndim and _makes(np.ravel, {"value": value}, right.ravel()) for value, right in pairs):
        return "Your answer has an axis of length 1 too many: leave it out."
    for words, reduce in (("Take the mean over", np.mean), ("Add up", np.sum)):
        for axis in range(values[0].ndim):
            reduced = partial(reduce, axis=axis)
            if all(_makes(reduced, {"value": value}, right) for value, right in pairs):
                return f"{words} axis {axis} of what you return."
    constant, varied = (all(np.array_equal(one, many[0]) for one in many) for many in (values, rights))
    if constant and not varied and values[0].size == 1:
        return f"Your function gives {_shown(values[0].item())} whatever it is called with: use its arguments."
    return None


def _close(first: np.ndarray, second: np.ndarray) -> bool:
    same_kind = (first.dtype.kind == "b") == (second.dtype.kind == "b")
    return same_kind and first.shape == second.shape and bool(np.allclose(first, second, rtol=1e-4, atol=1e-5))


def _complaint(case: Case, value: np.ndarray, expected: np.ndarray, asked: str) -> Wrong | None:
    """What is wrong with an answer when nothing more is known about the mistake."""
    try:
        fits(value, expected.shape, expected.dtype.kind, asked)
    except Wrong as wrong:
        return wrong
    if _close(value, expected):
        return None
    if np.isinf(value).any():
        return Wrong("The answer holds an infinite number: do not divide by 0 or take the logarithm of 0.")
    off = ~np.isclose(value, expected, rtol=1e-4, atol=1e-5)
    place = tuple(int(i) for i in np.argwhere(off)[0])
    where = f" at `{list(place)}`" if place else ""
    count = f" ({int(off.sum())} of {off.size} entries are off)" if place else ""
    given = ", ".join(_described(name, argument) for name, argument in case.items())
    return Wrong(
        f"With {given} your function gives {_shown(value[place])}{where}, expected {_shown(expected[place])}{count}."
    )


def _shown(number: Any) -> str:
    return str(number) if isinstance(number, bool | np.bool_) else f"{number:.4g}"


def _described(name: str, argument: Any) -> str:
    return f"`{name} {tuple(argument.shape)}`" if hasattr(argument, "shape") else f"`{name} = {argument}`"


def compare_gradients(
    function: Function, cases: Sequence[Case], reference: Function, blocked: Mapping[str, str]
) -> None:
    """Raise `Wrong` unless each argument that requires a gradient gets the same one as from the reference.

    Args:
        function: the reader's; its values are right already.
        cases: with tensors that require a gradient.
        reference: a differentiable loss that detaches what is to be held fixed.
        blocked: what to say when a gradient reaches an argument that must get none.
    """
    for case in cases:
        answer, arguments = call(function, case)
        reached = gradients(answer, arguments)
        copies = copy.deepcopy(dict(case))
        for name, wanted in gradients(reference(*copies.values()), copies).items():
            if not wanted.any() and reached[name].any():
                raise Wrong(blocked[name])
            if wanted.any() and not reached[name].any():
                raise Wrong(f"The value is right, but no gradient reaches `{name}`: do not detach it.")
            if not torch.allclose(reached[name], wanted, rtol=1e-3, atol=1e-5):
                raise Wrong(f"The value is right, but part of the gradient on `{name}` is lost: detach less.")


def gradients(loss: Any, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """The gradient of a loss on each argument that requires one; zeros where none arrives."""
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise Wrong("The answer carries no gradient: return a tensor, and do not detach every argument.")
    leaves = {name: value for name, value in arguments.items() if isinstance(value, Tensor) and value.requires_grad}
    try:
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    except Exception as error:
        raise Wrong(f"The gradient cannot be computed: {code(str(error).split(chr(10))[0])}.") from None
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }
