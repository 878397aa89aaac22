"""Run a reader's function without trusting it, compare its answer, and put into words what is wrong."""

from __future__ import annotations

import copy
import functools
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

Function = Callable[..., Any]
Case = Mapping[str, Any]
"""Arguments by name, in the order in which the function takes them."""
Mistakes = Mapping[str, Function]
"""What to tell the reader, and the function that makes this mistake."""

_SYMBOLS = {"open": "○", "wrong": "✗", "right": "✓"}
_KINDS = {"b": "booleans", "i": "integers", "f": "floating-point numbers"}


@dataclass(frozen=True)
class Verdict:
    """What a checker has to say.

    Attributes:
        exercise: chapter and number, as "01.2".
        status: open (nothing written yet), wrong or right.
        message: Markdown, one or two sentences.
    """

    exercise: str
    status: Literal["open", "wrong", "right"]
    message: str

    def __str__(self) -> str:
        return f"{_SYMBOLS[self.status]} Exercise {self.exercise}: {self.message}"

    def _repr_markdown_(self) -> str:
        return f"{_SYMBOLS[self.status]} **Exercise {self.exercise}** · {self.message}"


class Wrong(Exception):
    """The reader's function is wrong; the text says in what."""


class Open(Exception):
    """The reader's function is still the template."""


def exercise(number: str) -> Callable[[Callable[[Any], str]], Callable[[Any], Verdict]]:
    """Make a checker of a function that returns what to say of a right answer, or raises `Wrong` or `Open`."""

    def decorate(check: Callable[[Any], str]) -> Callable[[Any], Verdict]:
        @functools.wraps(check, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
        def checker(function: Any) -> Verdict:
            try:
                if not callable(function):
                    raise Wrong(f"Hand over the function itself, without calling it; this is a {_type(function)}.")
                return Verdict(number, "right", check(function))
            except Open:
                return Verdict(number, "open", "open. Write the body of the function and run the cell again.")
            except Wrong as wrong:
                return Verdict(number, "wrong", str(wrong))
            except Exception as error:  # a checker survives any answer
                reason = f"{type(error).__name__}: {error}".split("\n")[0]
                return Verdict(number, "wrong", f"This answer cannot be checked: it leads to {_code(reason)}.")

        del checker.__wrapped__  # help() shows the checker's own signature
        return checker

    return decorate


@contextmanager
def situation(words: str) -> Iterator[None]:
    """Say in front of each complaint in which situation it arose."""
    try:
        yield
    except Wrong as wrong:
        raise Wrong(f"{words}: {wrong}") from None


def call(function: Function, case: Case) -> tuple[Any, dict[str, Any]]:
    """The answer, and the copies of the arguments that the function was given.

    Raises:
        Open: the answer is `...`.
        Wrong: the function raised, returned nothing, or changed an argument.
    """
    arguments = {name: copy.deepcopy(value) for name, value in case.items()}
    try:
        with torch.enable_grad():
            answer = function(*arguments.values())
    except (Exception, SystemExit) as error:
        raise Wrong(_told(error, function, case)) from None
    if answer is ...:
        raise Open
    for name, value in case.items():
        changed = isinstance(value, Tensor) and not _same(arguments[name], value)
        if changed or (isinstance(value, np.ndarray) and not np.array_equal(arguments[name], value)):
            raise Wrong(f"Your function changes its argument `{name}` in place; work on a copy of it.")
        if isinstance(value, Tensor) and value.is_leaf and arguments[name].requires_grad != value.requires_grad:
            raise Wrong(f"Your function switches the gradient of its argument `{name}`; use `detach()`, which copies.")
    if answer is None:
        raise Wrong("Your function returns `None`: is the `return` missing?")
    return answer, arguments


def _same(after: Tensor, before: Tensor) -> bool:
    return after.shape == before.shape and after.dtype == before.dtype and torch.equal(after, before)


def _told(error: BaseException, function: Function, case: Case) -> str:
    """An exception of the reader's function in one line, with the line of the code where it is known."""
    text = _code(traceback.format_exception_only(error)[0].strip().split("\n")[0])
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if lines:
        source = f", {_code(lines[-1].line)}" if lines[-1].line else ""
        return f"Your function stops with {text} in line {lines[-1].lineno}{source}."
    taken = f" It is called as {_code('f(' + ', '.join(case) + ')')}." if isinstance(error, TypeError) else ""
    return f"Your function stops with {text}.{taken}"


def _code(text: str) -> str:
    return "`" + text.replace("`", "'")[:200] + "`"


def _type(answer: Any) -> str:
    return f"`{type(answer).__name__}`"


def array(answer: Any, asked: str) -> np.ndarray:
    """An answer as an array: tensors, arrays, numbers and lists of numbers are all welcome.

    Args:
        answer: what the reader's function returned.
        asked: what was asked for, in words, for the complaint.
    """
    try:
        value = answer.detach().cpu().numpy() if isinstance(answer, Tensor) else np.asarray(answer)
    except Exception:
        raise Wrong(f"Your function returns a {_type(answer)} that is no table of numbers, expected {asked}.") from None
    if value.dtype.kind not in "biuf":
        raise Wrong(f"Your function returns a {_type(answer)}, expected {asked}.")
    return value


def fits(value: np.ndarray, shape: tuple[int, ...], kind: str, asked: str) -> None:
    """Raise `Wrong` unless the shape and the kind of numbers (b, i or f; whole numbers pass as f) are as asked."""
    if value.shape != shape:
        got = f"of shape `{value.shape}`" if value.ndim else "a single number"
        expected = f"`{shape}`" if shape else "a single number"
        raise Wrong(f"The answer is {got}, expected {expected}: {asked}.")
    if value.dtype.kind not in {"b": "b", "i": "iu", "f": "iuf"}[kind]:
        raise Wrong(f"The answer is of type `{value.dtype}`, expected {_KINDS[kind]}: {asked}.")
    if kind == "f" and np.isnan(value).any():
        raise Wrong("The answer holds NaN.")


def check_cases(function: Function, cases: Sequence[Case], reference: Function, asked: str, mistakes: Mistakes) -> None:
    """Raise `Wrong` unless the function answers as the reference on every case.

    Args:
        function: the reader's.
        cases: several sizes, so that wrong answers differ from right ones.
        reference: the right answer, mostly from the library.
        asked: shape and meaning of the answer, for complaints.
        mistakes: answers that are wrong in a known way, the most likely first. One is named if it explains the
            reader's answer on every case (but those on which the function raised).
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
        known = {**mistakes, "The sign is the wrong way round.": lambda *arguments: -1.0 * reference(*arguments)}
        for words, mistake in known.items():
            if all(_makes(mistake, case, value) for case, value, _ in answered):
                raise Wrong(words)
    if failed or complaints:
        raise (failed + complaints)[0]


def _makes(mistake: Function, case: Case, value: np.ndarray) -> bool:
    """Whether the mistake leads to this value; where shapes do not allow the mistake, it does not."""
    try:
        return _close(value, array(mistake(*copy.deepcopy(list(case.values()))), ""))
    except Exception:
        return False


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
    off = ~np.isclose(value, expected, rtol=1e-4, atol=1e-5)
    place = tuple(int(i) for i in np.argwhere(off)[0])
    where = f" at `{list(place)}`" if place else ""
    count = f" ({int(off.sum())} of {off.size} entries are off)" if place else ""
    given = ", ".join(_described(name, argument) for name, argument in case.items())
    return Wrong(
        f"With {given} your function gives {_shown(value[place])}{where}, expected {_shown(expected[place])}{count}."
    )


def _shown(number: Any) -> str:
    return str(number) if number.dtype.kind == "b" else f"{number:.4g}"


def _described(name: str, argument: Any) -> str:
    return f"`{name} {tuple(argument.shape)}`" if hasattr(argument, "shape") else f"`{name} = {argument}`"


def compare_gradients(
    function: Function, cases: Sequence[Case], reference: Function, blocked: Mapping[str, str]
) -> None:
    """Raise `Wrong` unless the same gradient as from the reference reaches each argument that asks for one.

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
                raise Wrong(f"The value is right, but no gradient reaches `{name}`: it must not be detached.")
            if not torch.allclose(reached[name], wanted, rtol=1e-3, atol=1e-5):
                raise Wrong(f"The value is right, but part of the gradient on `{name}` is lost: what is detached?")


def gradients(loss: Any, arguments: Mapping[str, Any]) -> dict[str, Tensor]:
    """The gradient of a loss on each argument that asks for one; zeros where none arrives."""
    if not isinstance(loss, Tensor) or not loss.requires_grad:
        raise Wrong("The answer carries no gradient: is it a plain number, or is everything detached?")
    leaves = {name: value for name, value in arguments.items() if isinstance(value, Tensor) and value.requires_grad}
    try:
        found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
    except Exception as error:
        raise Wrong(f"The gradient cannot be computed: {_code(str(error).split(chr(10))[0])}.") from None
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }
