"""The checkers of the course: right answers pass, templates stay open, and each mistake is named."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from answers import TABLE
from answers.design import contrastive, sa_softmax

from sa_lab import losses
from sa_lab.course import exercises
from sa_lab.course.exercises import Verdict
from sa_lab.evaluation import protocols

NAMES = [name.removeprefix("check_") for name in exercises.__all__ if name.startswith("check_")]


def of(name: str) -> Callable[[Any], Verdict]:
    checker: Callable[[Any], Verdict] = getattr(exercises, f"check_{name}")
    return checker


def test_the_table_has_every_exercise() -> None:
    assert sorted(TABLE) == sorted(NAMES)
    for name, answers in TABLE.items():
        assert len(answers.right) >= 3, name
        assert len(answers.wrong) >= 10, name


@pytest.mark.parametrize("name", NAMES)
def test_right_answers_pass_and_wrong_ones_are_told_their_mistake(name: str) -> None:
    for i, answer in enumerate(TABLE[name].right):
        verdict = of(name)(answer)
        assert verdict.status == "right", (i, str(verdict))
    for words, answer in TABLE[name].wrong:
        verdict = of(name)(answer)
        assert verdict.status == "wrong", words
        assert "stops with" not in verdict.message, (words, verdict.message)  # it would quote the table
        assert words in verdict.message, (words, verdict.message)


@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_function_does_there_is_a_verdict(name: str) -> None:
    def template(*arguments):
        return ...

    def fails(*arguments):
        raise KeyError("no such key")

    assert of(name)(template).status == "open"
    told = of(name)(fails)
    assert told.status == "wrong"
    assert "KeyError: 'no such key'" in told.message
    assert '`raise KeyError("no such key")`' in told.message
    assert of(name)(lambda *a: None).message == "Your function returns `None`: is the `return` missing?"
    for odd in (
        "text",
        {},
        object(),
        [1, [2]],
        (),
        [[]],
        torch.ones(2, 3, 4, 5),
        True,
        1j,
        float("nan"),
        len,
        Exception,
    ):
        assert of(name)(lambda *a, odd=odd: odd).status == "wrong", odd
    for no_function in (None, 3, torch.ones(3)):
        assert "without calling it" in of(name)(no_function).message


def refuses_to_be_told(*arguments):
    class Mute(Exception):
        def __str__(self) -> str:
            raise ValueError

    raise Mute


@pytest.mark.parametrize("name", NAMES)
def test_nothing_escapes(name: str) -> None:
    assert "Mute" in of(name)(refuses_to_be_told).message
    assert "SystemExit" in of(name)(lambda *a: exit()).message
    assert "RecursionError" in of(name)(lambda *a: (f := lambda: f())()).message
    assert "It is called as `f(" in of(name)(lambda: 0).message


def test_the_line_of_the_error_is_told() -> None:
    def broken(labels, modality, num_identities):
        offset = 1 - modality
        return labels + offset @ num_identities

    message = exercises.check_cross_prototype(broken).message
    line = broken.__code__.co_firstlineno + 2
    assert f"in line {line}, `return labels + offset @ num_identities`" in message
    assert "TypeError" in message


def test_an_unknown_mistake_is_told_in_numbers() -> None:
    right = TABLE["cosine"].right[0]
    message = exercises.check_cosine(lambda a, b: right(a, b) + (torch.arange(len(a)) == 1)).message
    assert message.startswith("With `a (4, 3)`, `b (4, 3)` your function gives ")
    assert "at `[1]`" in message
    assert "1 of 4 entries" in message
    message = exercises.check_hidden(lambda q, g: (q[:, None] == 3) & (g == 4)).message
    assert "your function gives True" in message or "your function gives False" in message
    assert "`k = 1`" in exercises.check_rank_k(lambda s, q, g, k: 0.3 + k / 100).message
    assert "gives 0.5 whatever" in exercises.check_rank_k(lambda *a: 0.5).message


def test_a_failure_on_some_sizes_only() -> None:
    def one_part(embeddings, prototypes):
        assert embeddings.shape[1] != 3, "three parts"
        return losses.prototype_logits(embeddings, prototypes)

    assert "AssertionError: three parts" in exercises.check_logits(one_part).message


def test_a_verdict_is_shown() -> None:
    verdict = Verdict("01.1", "wrong", "This is the own prototype.")
    assert str(verdict) == "✗ Exercise 01.1: This is the own prototype."
    assert verdict._repr_markdown_() == "✗ **Exercise 01.1** · This is the own prototype."
    assert exercises.check_cosine(TABLE["cosine"].right[0])._repr_markdown_().startswith("✓ **Exercise 00.2** · right.")
    assert str(exercises.check_cosine(lambda a, b: ...)).startswith("○ Exercise 00.2: ")


def test_numbers_are_told_where_spectra_come_together() -> None:
    message = exercises.check_pulls_together(sa_softmax).message
    own, own_after, strangers, strangers_after = map(float, re.findall(r"\b(\d+\.\d\d)\b", message))
    assert own_after < own
    assert own_after / own < strangers_after / strangers


def test_negatives_within_the_batch_are_remarked_on() -> None:
    assert "compares samples within the batch" in exercises.check_design(contrastive).message


def test_the_hidden_cameras_are_the_protocols() -> None:
    assert protocols.SYSU_ALL.hidden_cameras == ((3, 2),)


class Odd:
    """Answers to everything, mostly in the wrong way."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = None
    shape = dtype = 3


def switched(arguments, on):
    for argument in arguments:
        if isinstance(argument, torch.Tensor) and argument.is_leaf and argument.is_floating_point():
            argument.requires_grad_(on)
    return arguments[0].sum()


def grows(*arguments):
    for argument in arguments:
        if isinstance(argument, torch.Tensor) and argument.is_leaf:
            argument.resize_(0) if not argument.requires_grad else None
    return arguments[0]


def raises(error):
    def function(*arguments):
        raise error

    return function


HOSTILE = {
    "gradient off": lambda *a: switched(a, False),
    "gradient on": lambda *a: switched(a, True),
    "detached in place": lambda *a: [x.detach_() for x in a if isinstance(x, torch.Tensor)],
    "emptied": lambda *a: [x.zero_() for x in a if isinstance(x, torch.Tensor) and not x.requires_grad],
    "backward": lambda *a: a[0].float().sum().backward(),
    "argument": lambda *a: a[0],
    "all arguments": lambda *a: a,
    "resized": grows,
    "nothing": lambda *a: None,
    "not a number": lambda *a: float("nan"),
    "infinity": lambda *a: float("inf"),
    "text": lambda *a: "0.5",
    "bytes": lambda *a: b"1",
    "object": lambda *a: Odd(),
    "class": lambda *a: Odd,
    "generator": lambda *a: (x for x in a),
    "ragged": lambda *a: [[1], [1, 2]],
    "nested": lambda *a: [[[[a]]]],
    "dictionary": lambda *a: {"loss": 1},
    "complex": lambda *a: torch.tensor(1j),
    "sparse": lambda *a: torch.eye(3).to_sparse(),
    "meta": lambda *a: torch.zeros(3, device="meta"),
    "empty": lambda *a: torch.zeros(0),
    "huge": lambda *a: torch.zeros(1).expand(10**9),
    "big number": lambda *a: 10**400,
    "half": lambda *a: torch.tensor(0.5, dtype=torch.bfloat16),
    "array of objects": lambda *a: np.array([None, 1]),
    "dates": lambda *a: np.array(["2020-01-01"], dtype="datetime64[D]"),
    "parameter": lambda *a: torch.nn.Parameter(torch.ones(())),
    "detached": lambda *a: torch.ones(()),
    "exit": raises(SystemExit(3)),
    "error without words": raises(Exception()),
    "error with many lines": raises(ValueError("`a`\n|b|\n<c>")),
    "stop": raises(StopIteration()),
    "recursion": lambda *a: HOSTILE["recursion"](*a),
    "memory": raises(MemoryError()),
    "no arguments": lambda: 1,
    "one argument": lambda a: a,
    "keywords": lambda *, x: x,
}
CHECKERS = [name for name in exercises.__all__ if name.startswith("check_")]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("checker", CHECKERS)
def test_a_checker_survives_any_answer(checker: str) -> None:
    for name, function in HOSTILE.items():
        verdict = getattr(exercises, checker)(function)
        assert verdict.status in ("wrong", "open", "right"), name
        assert "\n" not in verdict.message, (name, verdict.message)
        assert (verdict.status != "right") or name in ("argument",), (name, verdict.message)
    for value in (None, 3, "text", Odd(), Odd):
        assert getattr(exercises, checker)(value).status == "wrong"
