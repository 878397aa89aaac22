"""Run a reader's function without trusting it, and put into words what is wrong with what it returns."""

from __future__ import annotations

import copy
import functools
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sa_lab.course import progress

Function = Callable[..., Any]
Case = Mapping[str, Any]
"""Arguments by name, in the order in which the function takes them."""

_MOST = 10**7  # numbers that are compared
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
    """The reader's function is wrong; the text says how."""


class Open(Exception):
    """The reader's function is still the template."""


def exercise(number: str) -> Callable[[Callable[[Any], str]], Callable[[Any], Verdict]]:
    """Turn a function into a checker; it returns what to say about a right answer, or raises `Wrong` or `Open`.

    A right answer is noted in `sa_lab.course.progress`.
    """

    def decorate(check: Callable[[Any], str]) -> Callable[[Any], Verdict]:
        @functools.wraps(check, assigned=("__module__", "__name__", "__qualname__", "__doc__"))
        def checker(function: Any) -> Verdict:
            try:
                if not callable(function):
                    raise Wrong(f"Hand over the function itself, without calling it; this is a {_type(function)}.")
                verdict = Verdict(number, "right", check(function))
                progress.note(number)
                return verdict
            except Open:
                return Verdict(number, "open", "open. Write the body of the function and run the cell again.")
            except Wrong as wrong:
                return Verdict(number, "wrong", str(wrong))
            except Exception as error:  # a checker survives any answer
                reason = f"{type(error).__name__}: {error}".split("\n")[0]
                return Verdict(number, "wrong", f"This answer cannot be checked: it leads to {code(reason)}.")

        del checker.__wrapped__  # help() shows the checker's own signature
        return checker

    return decorate


@contextmanager
def situation(words: str) -> Iterator[None]:
    """Prefix each complaint with the situation in which it arose."""
    try:
        yield
    except Wrong as wrong:
        raise Wrong(f"{words}: {wrong}") from None


def call(function: Function, case: Case, known: Mapping[str, str] | None = None) -> tuple[Any, dict[str, Any]]:
    """The answer, and the copies of the arguments that the function was given.

    Args:
        function: the reader's.
        case: its arguments.
        known: what to say where the text of an exception matches a pattern, by pattern.

    Raises:
        Open: the answer is `...`.
        Wrong: the function raised, returned nothing, or changed an argument.
    """
    arguments = {name: copy.deepcopy(value) for name, value in case.items()}
    try:
        with torch.enable_grad():
            answer = function(*arguments.values())
    except (Exception, SystemExit) as error:
        raise Wrong(_known(error, known or {}) or _told(error, function, case)) from None
    if answer is ...:
        raise Open
    for name, value in case.items():
        changed = isinstance(value, Tensor) and not _same(arguments[name], value)
        if changed or (isinstance(value, np.ndarray) and not np.array_equal(arguments[name], value)):
            raise Wrong(f"Your function changes its argument `{name}` in place; work on a copy of it.")
        if isinstance(value, Tensor) and value.is_leaf and arguments[name].requires_grad != value.requires_grad:
            raise Wrong(
                f"Your function switches the gradient of its argument `{name}` on or off; use `detach()`, which copies."
            )
    if answer is None:
        raise Wrong("Your function returns `None`: is the `return` missing?")
    return answer, arguments


def _same(after: Tensor, before: Tensor) -> bool:
    return after.shape == before.shape and after.dtype == before.dtype and torch.equal(after, before)


def _known(error: BaseException, known: Mapping[str, str]) -> str:
    """What to say of an exception whose text matches a pattern, or nothing."""
    with suppress(Exception):  # it may refuse to be told
        return next((words for pattern, words in known.items() if re.search(pattern, str(error))), "")
    return ""


def _told(error: BaseException, function: Function, case: Case) -> str:
    """An exception of the reader's function in one line, with the line of the code where it is known."""
    text = code(traceback.format_exception_only(error)[0].strip().split("\n")[0])
    file = getattr(getattr(function, "__code__", None), "co_filename", None)
    lines = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    if lines:
        source = f", {code(lines[-1].line)}" if lines[-1].line else ""
        return f"Your function stops with {text} in line {lines[-1].lineno}{source}."
    taken = f" It is called as {code('f(' + ', '.join(case) + ')')}." if isinstance(error, TypeError) else ""
    return f"Your function stops with {text}.{taken}"


def code(text: str) -> str:
    return "`" + text.replace("`", "'")[:200] + "`"


def _type(answer: Any) -> str:
    return f"`{type(answer).__name__}`"


def array(answer: Any, asked: str) -> np.ndarray:
    """An answer as an array: tensors, arrays, numbers and lists of numbers are all welcome.

    Args:
        answer: what the reader's function returned.
        asked: what the exercise asks for, in words, for the complaint.
    """
    if isinstance(answer, Iterator):
        raise Wrong(f"Your function returns a {_type(answer)}, which holds no numbers yet: return a list, {asked}.")
    try:
        value = answer.detach().cpu().numpy() if isinstance(answer, Tensor) else np.asarray(answer)
    except Exception:
        raise Wrong(f"Your function returns a {_type(answer)} that is no table of numbers, expected {asked}.") from None
    if value.dtype.kind not in "biuf":
        raise Wrong(f"Your function returns a {_type(answer)}, expected {asked}.")
    if value.size > _MOST:
        raise Wrong(f"Your function returns {value.size} numbers, expected {asked}.")
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
        raise Wrong(
            "The answer holds NaN: do not divide 0 by 0, or take the mean of nothing or the root of a negative number."
        )
